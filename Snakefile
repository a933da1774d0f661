# Config -> validated model -> targets. Science is in opticstream_smk, one rule per stage in rules/.
from opticstream_smk.workflow import set_up

PROJECT = set_up(workflow, config)
PLAN = PROJECT.plan


workdir: PROJECT.layout.root


include: "rules/common.smk"
include: "rules/tiles.smk"
include: "rules/coordinates.smk"
include: "rules/stitch.smk"
include: "rules/volume.smk"
include: "rules/register.smk"


rule all:
    default_target: True
    input:
        all_targets,
