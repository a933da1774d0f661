"""Raw spectral tiles to complex tiles (``complex: keep``)."""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from opticstream_smk.config import Config
from opticstream_smk.io import nifti
from opticstream_smk.io.atomic import link_file
from opticstream_smk.io.raw_files import unchanged_raw
from opticstream_smk.stages.inputs import load_calibration, raw_blines, raw_params
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tile_files import TileFiles
from opticstream_smk.stages.tiles import (
    Finish,
    TileWork,
    nothing_left,
    ready_tiles,
    run_tiles,
)


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    return {
        **raw_params(config, acquisition),
        "toolbox_quirks": config.processing.toolbox_quirks,
    }


def products(context: StageContext) -> list[Path]:
    """Complex tiles of the batch."""
    return [context.layout.complex_tile(context.mosaic, image) for image in context.images]


def compute(context: StageContext) -> Outcome:
    """Write ``complex/*_complex.nii``: float32 [Re J1; Im J1; Re J2; Im J2] along X, raw depth."""
    from opticstream_smk.psoct.calibration import depth_samples
    from opticstream_smk.psoct.engine import ComplexEngine, SpectraShape

    config, layout, mosaic = context.config, context.layout, context.mosaic
    scan = config.acquisition
    if scan.complex_is_input:
        return _link(context)
    calibration = load_calibration(config)
    raw = ready_tiles(context)
    geometry = nifti.Geometry(scan.scan_resolution_3d_mm)
    description = "Re J1, Im J1, Re J2, Im J2 along x; depth as transformed"

    @lru_cache(maxsize=1)
    def engine(shape: SpectraShape) -> ComplexEngine:
        quirks = config.processing.toolbox_quirks
        return ComplexEngine(calibration, shape, toolbox_quirks=quirks, threads=context.threads)

    def make(image: int, path: Path) -> Finish:
        unchanged_raw(raw[image])
        source, shape = raw_blines(config, context.acquisition, path)
        paths = {"complex": layout.complex_tile(mosaic, image)}
        size = (4 * shape[2], shape[0], depth_samples(shape[3]))
        with TileFiles(paths, size, geometry, description=description) as files:
            written = engine(shape).start(source, partial(files.write, "complex"))
            unchanged_raw(raw[image])  # also not while it was read
            kept = files.keep()

        def finish() -> dict[str, float]:
            with kept:
                written()
            return {}

        return finish

    outcome = run_tiles(
        context,
        TileWork(
            kind="complex",
            source=lambda image: raw[image],
            products=lambda image: [layout.complex_tile(mosaic, image)],
            make=make,
        ),
    )
    return Outcome(outcome.inputs, outcome.outputs, outcome.tiles, extra={"z_order": "raw"})


def _link(context: StageContext) -> Outcome:
    """Link the complex tiles that the host saved: they are never copied."""
    raw = ready_tiles(context)

    def make(image: int, source: Path) -> Finish:
        unchanged_raw(raw[image])
        link_file(source, context.layout.complex_tile(context.mosaic, image))
        return nothing_left

    outcome = run_tiles(
        context,
        TileWork(
            kind="complex",
            source=raw.__getitem__,
            products=lambda image: [context.layout.complex_tile(context.mosaic, image)],
            make=make,
        ),
    )
    z_order = context.config.acquisition.complex_z_order
    return Outcome(outcome.inputs, outcome.outputs, outcome.tiles, extra={"z_order": z_order})


STAGE = Stage("convert_complex", "batch", "complex", params, products, compute)
