"""Log files of stages, by place."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from opticstream_smk import naming
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.places import Place

# Level and state of a flag to the stage that writes it.
STAGE_OF_FLAG: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("batch", "complex"): "convert_complex",
        ("batch", "processed"): "process_tiles",
        ("batch", "qc"): "qc_tiles",
        ("mosaic", "stitched"): "stitch_enface",
        ("slice", "registered"): "register_slice",
        ("tilemap", "solved"): "solve_coordinates",
    }
)


def log_stem(place: Place) -> str:
    """Name of a stage's log without suffix, as the rules spell it."""
    if place.level == "tilemap":
        return place.acquisition or ""
    if place.level == "slice":
        return naming.slice_stem(place.slice or 0)
    mosaic = naming.mosaic_folder(place.mosaic or 0)
    return f"{mosaic}_{naming.batch_stem(place.batch or 0)}" if place.level == "batch" else mosaic


def stage_log(layout: ProjectLayout, stage: str, place: Place) -> Path:
    """Log of a stage at a place; it is there once snakemake has run the stage."""
    return layout.logs / stage / f"{log_stem(place)}.log"
