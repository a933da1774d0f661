"""What snakemake keeps of a stage's job, named as the rules name it: log and benchmark."""

from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.places import Place


def job_stem(place: Place) -> str:
    """Name of a job's files without suffix."""
    if place.level == "tilemap":
        return place.acquisition or ""
    if place.level == "slice":
        return naming.slice_stem(place.slice or 0)
    mosaic = naming.mosaic_folder(place.mosaic or 0)
    return f"{mosaic}_{naming.batch_stem(place.batch or 0)}" if place.level == "batch" else mosaic


def stage_log(layout: ProjectLayout, stage: str, place: Place) -> Path:
    """Log of a stage at a place; it is there once snakemake has run the stage."""
    return layout.logs / stage / f"{job_stem(place)}.log"


def stage_benchmark(layout: ProjectLayout, stage: str, place: Place) -> Path:
    """Time and memory of a stage at a place; snakemake writes it when the job has succeeded."""
    return layout.root / "benchmarks" / stage / f"{job_stem(place)}.tsv"
