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
    "fit_focus",
    "stitch_volume",
    "register_slice",
)


# What a stage does at a second level, and the module of that.
_SECOND_LEVEL = {"solve_coordinates": "mosaic_coordinates"}


def find_stages(name: str) -> tuple["Stage", ...]:
    """The stage of that name for each of its flags; modules are imported only now.

    It may work at two levels, or make something of its own for each modality.
    """
    assert name in NAMES
    names = [name, *([_SECOND_LEVEL[name]] if name in _SECOND_LEVEL else [])]
    modules = [importlib.import_module(f"opticstream_smk.stages.{module}") for module in names]
    return tuple(
        stage
        for module in modules
        for stage in (module.STAGES if hasattr(module, "STAGES") else (module.STAGE,))
    )


def find_stage(name: str, level: str | None = None, modality: str | None = None) -> "Stage":
    """The stage of that name, at that level and for that modality where there are several."""
    return next(
        stage
        for stage in find_stages(name)
        if level in (None, stage.level) and stage.modality == modality
    )


def stage_of_flag(level: str, flag: str) -> "Stage | None":
    """The stage that writes a flag; None for flags that no stage writes."""
    stages = [stage for name in NAMES for stage in find_stages(name)]
    return next((s for s in stages if (s.level, s.flag) == (level, flag)), None)
