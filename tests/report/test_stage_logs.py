import re

import pytest

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.report.stage_logs import STAGE_OF_FLAG
from opticstream_smk.stages import NAMES, find_stages
from opticstream_smk.state.job_files import stage_benchmark, stage_log
from opticstream_smk.state.places import (
    batch_place,
    focus_place,
    mosaic_place,
    slice_place,
    tilemap_place,
)

PLACES = {
    "batch": batch_place(12, 3),
    "mosaic": mosaic_place(12),
    "slice": slice_place(6),
    "tilemap": tilemap_place("tilted"),
    "focus": focus_place("tilted"),
}
WILDCARDS = {"mosaic": "12", "batch": "003", "slice": "06", "acquisition": "tilted"}


def test_every_stage_is_known_by_its_flag():
    stages = [stage for name in NAMES for stage in find_stages(name)]
    assert {(s.level, s.flag): s.name for s in stages} == dict(STAGE_OF_FLAG)


@pytest.mark.parametrize(
    ("files", "suffix", "of_stage"),
    [("logs", "log", stage_log), ("benchmarks", "tsv", stage_benchmark)],
)
def test_files_of_jobs_are_where_the_rules_write_them(repo, tmp_path, files, suffix, of_stage):
    rules = "".join(path.read_text() for path in (repo / "rules").glob("*.smk"))
    written = re.findall(rf'"({files}/(\w+)/[^"]*\.{suffix})"', rules)
    layout = ProjectLayout(tmp_path)
    for (level, state), stage in STAGE_OF_FLAG.items():
        wildcards = {**WILDCARDS, "modality": state.removeprefix("volume_")}
        made = [pattern.format(**wildcards) for pattern, name in written if name == stage]
        assert layout.relative(of_stage(layout, stage, PLACES[level], state)) in made
