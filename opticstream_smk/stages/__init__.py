"""The stages: what ``optic-stage`` runs and rules call."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opticstream_smk.stages.stage import Stage

NAMES = (
    "convert_complex",
    "process_tiles",
    "qc_tiles",
    "archive_batch",
    "solve_coordinates",
    "stitch_enface",
    "register_slice",
)


def find_stage(name: str) -> "Stage":
    """The stage of that name; its module is imported only now."""
    assert name in NAMES
    stage: Stage = importlib.import_module(f"opticstream_smk.stages.{name}").STAGE
    return stage


def stage_of_flag(level: str, flag: str) -> "Stage | None":
    """The stage that writes a flag; None for flags that no stage writes."""
    stages = map(find_stage, NAMES)
    return next((s for s in stages if (s.level, s.flag) == (level, flag)), None)
