"""Contact sheet and numbers of a batch's tiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.io import nifti, throttle
from opticstream_smk.io.pictures import write_jpeg
from opticstream_smk.io.raw_files import unchanged_raw
from opticstream_smk.plan import image_list
from opticstream_smk.stages.inputs import read_raw
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tiles import ready_tiles
from opticstream_smk.state.flags import file_input


def params(config: Config, _acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    processing = config.processing
    return {
        "limits": processing.qc_limits.model_dump(mode="json"),
        "offset_px": processing.offset_px,
        "depth_px": processing.depth_px,
        "modalities": processing.modalities,
    }


def products(context: StageContext) -> list[Path]:
    """The contact sheet."""
    return [context.layout.batch_picture(context.mosaic, context.place.batch or 0)]


def compute(context: StageContext) -> Outcome:
    """Write ``report/mosaic-01_batch-001.jpg``; the numbers go into the flag."""
    from opticstream_smk.qc.contact_sheet import batch_contact_sheet
    from opticstream_smk.qc.tile_numbers import NumberLimits, measure_tile
    from opticstream_smk.qc.tiles import tile_panels

    processing, layout = context.config.processing, context.layout
    window = {"offset_px": processing.offset_px, "depth_px": processing.depth_px}
    limits = NumberLimits(**processing.qc_limits.model_dump(exclude={"saturation_count"}))
    numbers: dict[str, dict[str, float]] = {}
    warnings = []
    pictures = []
    inputs = []
    tiles = context.tiles
    for image in tiles.done:
        tile: dict[str, NDArray[Any]] = {}
        for name in ("dBI", "O3D", "surf", *processing.modalities):
            path = layout.processed_tile(context.mosaic, image, name)
            tile[name] = nifti.read_array(path)
            inputs.append(file_input(path))
        found = measure_tile(
            tile,
            raw=_raw(context, image),
            saturation_count=processing.qc_limits.saturation_count,
            **window,
        )
        numbers[f"{image:04d}"] = {name: round(value, 5) for name, value in found.items()}
        outliers = limits.outliers(found)
        if outliers:
            listed = ", ".join(
                f"{name} {found[name]:.3g} ({how})" for name, how in outliers.items()
            )
            warnings.append(f"image {image:04d}: {listed}")
        pictures.append(tile_panels(f"image {image:04d}", tile, found, **window))
    title = f"{context.config.project.name}: {context.place}, {context.acquisition}"
    if tiles.missing:
        title += f"; images {image_list(tiles.missing)} missing"
    write_jpeg(products(context)[0], batch_contact_sheet(pictures, title, limits=limits))
    return Outcome(
        inputs=tuple(inputs),
        outputs=tuple(products(context)),
        tiles=tiles,
        numbers=numbers,
        warnings=tuple(warnings),
    )


def _raw(context: StageContext, image: int) -> NDArray[np.uint16] | None:
    """Spectra of the B-lines that are measured; None when the tile was archived away."""
    from opticstream_smk.qc.tile_numbers import sampled_blines

    scan = context.config.acquisition
    if scan.complex_is_input:
        return None
    try:
        path = Path(unchanged_raw(ready_tiles(context)[image]).path)
        spectra = read_raw(context.config, context.acquisition, path, in_memory=False)
    except OpticStreamError:
        return None
    sampled = []
    for y in sampled_blines(len(spectra)):
        if isinstance(spectra, np.memmap):  # is read only now
            throttle.wait_for(spectra[y].nbytes * scan.illuminations)
        sampled.append(np.array(spectra[y]))
    return np.stack(sampled)


STAGE = Stage(
    "qc_tiles", "batch", "qc", params, products, compute, starts_level=lambda _config: False
)
