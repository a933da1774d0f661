"""What snakemake keeps of a stage's job, named as the rules name it: log and benchmark."""

from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.places import Place


def job_stem(place: Place, state: str = "") -> str:
    """Name of a job's files without suffix; of the volumes of a mosaic, each has its own."""
    stem = _place_stem(place)
    return (
        f"{stem}_{state.removeprefix(naming.VOLUME)}" if state.startswith(naming.VOLUME) else stem
    )


def _place_stem(place: Place) -> str:
    if place.level in ("tilemap", "focus"):
        return place.acquisition or ""
    if place.level == "slice":
        return naming.slice_stem(place.slice or 0)
    mosaic = naming.mosaic_folder(place.mosaic or 0)
    return f"{mosaic}_{naming.batch_stem(place.batch or 0)}" if place.level == "batch" else mosaic


def stage_log(layout: ProjectLayout, stage: str, place: Place, state: str = "") -> Path:
    """Log of a stage that writes a flag; it is there once snakemake has run the stage."""
    return layout.logs / stage / f"{job_stem(place, state)}.log"


def stage_benchmark(layout: ProjectLayout, stage: str, place: Place, state: str = "") -> Path:
    """Time and memory of such a stage; snakemake writes it when the job has succeeded."""
    return layout.root / "benchmarks" / stage / f"{job_stem(place, state)}.tsv"
