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


# What a stage does at a second level, and the module of that.
_SECOND_LEVEL = {"solve_coordinates": "mosaic_coordinates"}


def find_stages(name: str) -> tuple["Stage", ...]:
    """The stage of that name at each level that it works at; modules are imported only now."""
    assert name in NAMES
    modules = [name, *([_SECOND_LEVEL[name]] if name in _SECOND_LEVEL else [])]
    return tuple(importlib.import_module(f"opticstream_smk.stages.{m}").STAGE for m in modules)


def find_stage(name: str, level: str | None = None) -> "Stage":
    """The stage of that name, at that level where it works at two."""
    return next(stage for stage in find_stages(name) if level in (None, stage.level))


def stage_of_flag(level: str, flag: str) -> "Stage | None":
    """The stage that writes a flag; None for flags that no stage writes."""
    stages = [stage for name in NAMES for stage in find_stages(name)]
    return next((s for s in stages if (s.level, s.flag) == (level, flag)), None)
