"""Raw spectral tiles to complex tiles (``complex: keep``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opticstream_smk.config import Config
from opticstream_smk.io import nifti
from opticstream_smk.io.atomic import link_file
from opticstream_smk.stages.inputs import load_calibration, raw_params, read_raw
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tiles import TileWork, ready_tiles, run_tiles, unchanged_raw


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
    import scipy.fft

    from opticstream_smk.psoct import spectral_to_jones, stack_jones

    config, layout, mosaic = context.config, context.layout, context.mosaic
    if config.acquisition.complex_is_input:
        return _link(context)
    calibration = load_calibration(config)
    raw = ready_tiles(context)
    geometry = nifti.Geometry(config.acquisition.scan_resolution_3d_mm)

    def make(image: int, source: Path) -> dict[str, float]:
        unchanged_raw(raw[image])
        spectra = read_raw(config, context.acquisition, source)
        unchanged_raw(raw[image])  # also not while it was read
        with scipy.fft.set_workers(context.threads):
            jones = spectral_to_jones(
                spectra, calibration, toolbox_quirks=config.processing.toolbox_quirks
            )
        nifti.write_array(
            layout.complex_tile(mosaic, image),
            stack_jones(*jones),
            geometry,
            description="Re J1, Im J1, Re J2, Im J2 along x; depth as transformed",
        )
        return {}

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

    def make(image: int, source: Path) -> dict[str, float]:
        unchanged_raw(raw[image])
        link_file(source, context.layout.complex_tile(context.mosaic, image))
        return {}

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
