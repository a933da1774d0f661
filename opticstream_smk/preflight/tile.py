"""One tile through the real engine: how long it takes, what comes out, and its picture."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.io import nifti
from opticstream_smk.io.pictures import write_jpeg
from opticstream_smk.plan import makes_complex
from opticstream_smk.qc.contact_sheet import batch_contact_sheet
from opticstream_smk.qc.tile_numbers import NumberLimits, measure_tile
from opticstream_smk.qc.tiles import tile_panels
from opticstream_smk.stages.inputs import load_calibration, raw_blines, read_raw
from opticstream_smk.stages.process_tiles import tile_settings

# CPU time of a tile that is computed once only; its first run then counts, compiling included.
_LONGEST_REPEATED_S = 60.0

Products = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class DecodedTile:
    """A tile as the stages would make it.

    Attributes
    ----------
    name
        For people: ``mosaic 001 image 0001``.
    label
        Its acquisition.
    products
        Volumes and maps by modality, (X, Y[, Z]).
    raw
        (Y, 2, X, N) counts; None where no spectra are read.
    wall_s, cpu_s
        From the file to the products, with threads as configured.
    is_warm
        Whether the times are those of a second run, without compiling and with cached files.
    """

    name: str
    label: str
    products: Products
    raw: NDArray[Any] | None
    wall_s: float
    cpu_s: float
    is_warm: bool


def decode_tile(config: Config, label: str, name: str, files: Mapping[str, Path]) -> DecodedTile:
    """Read and process a tile with the settings of the project; nothing is written.

    Parameters
    ----------
    files
        Files of the tile by modality.

    Raises
    ------
    OpticStreamError
        The tile or the calibration cannot be used.
    """
    (products, raw), wall_s, cpu_s = _timed(config, label, files)
    is_warm = cpu_s < _LONGEST_REPEATED_S
    if is_warm:
        del products, raw  # two tiles at once may be more than the memory
        (products, raw), wall_s, cpu_s = _timed(config, label, files)
    return DecodedTile(name, label, products, raw, wall_s, cpu_s, is_warm)


def _timed(
    config: Config, label: str, files: Mapping[str, Path]
) -> tuple[tuple[Products, NDArray[Any] | None], float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    made = _make(config, label, files)
    return made, time.perf_counter() - wall, time.process_time() - cpu


def _make(
    config: Config, label: str, files: Mapping[str, Path]
) -> tuple[Products, NDArray[Any] | None]:
    from opticstream_smk.psoct import process_jones, process_spectral, unstack_jones
    from opticstream_smk.psoct.engine import ComplexEngine

    scan = config.acquisition
    if scan.maps_are_input:
        return {modality: nifti.read_array(path) for modality, path in files.items()}, None
    settings, raw = tile_settings(config), None
    if scan.complex_is_input:
        shape = (4 * scan.alines(label), scan.tile_size_y, scan.depth_samples)
        tile = process_jones(
            *unstack_jones(nifti.read_array(files["complex"], shape=shape)), settings
        )
    else:
        raw = read_raw(config, label, files["spectral"])
        calibration = load_calibration(config)
        if makes_complex(config):
            # The products are the same; the complex tile takes its time all the same.
            source, spectra_shape = raw_blines(config, label, files["spectral"])
            ComplexEngine(
                calibration,
                spectra_shape,
                toolbox_quirks=config.processing.toolbox_quirks,
                threads=config.run.tile_threads,
            ).run(source, lambda *_: None)
        tile = process_spectral(raw, calibration, settings, threads=config.run.tile_threads)
    volumes = {"dBI": tile.volumes.dbi, "R3D": tile.volumes.r3d, "O3D": tile.volumes.o3d}
    return {**volumes, "surf": tile.surface, **tile.enface}, raw


def faults(config: Config, tile: DecodedTile) -> list[str]:
    """Why the tile stage would refuse these products."""
    from opticstream_smk.qc.validate import ProductLimits, validate_products

    scan = config.acquisition
    limits = ProductLimits(
        **config.processing.validation.model_dump(),
        constant_surface=True,
        toolbox_quirks=config.processing.toolbox_quirks,
    )
    shape = (scan.alines(tile.label), scan.tile_size_y, scan.depth_samples)
    return validate_products(tile.products, shape=shape, limits=limits)


def measure(config: Config, tile: DecodedTile) -> dict[str, float]:
    """Numbers of the contact sheet; none where the acquisition host made the maps."""
    if not set(naming.VOLUME_MODALITIES) <= set(tile.products):
        return {}
    processing = config.processing
    return measure_tile(
        tile.products,
        offset_px=processing.offset_px,
        depth_px=processing.depth_px,
        raw=tile.raw,
        saturation_count=processing.qc_limits.saturation_count,
    )


def draw(config: Config, tile: DecodedTile, numbers: Mapping[str, float], path: Path) -> None:
    """Write the picture: B-lines with the surface, maps and numbers."""
    processing = config.processing
    pictures = tile_panels(
        tile.name,
        tile.products,
        numbers,
        offset_px=processing.offset_px,
        depth_px=processing.depth_px,
    )
    limits = NumberLimits(**processing.qc_limits.model_dump(exclude={"saturation_count"}))
    title = f"{config.project.name}: {tile.name}, {tile.label}, before the run"
    write_jpeg(path, batch_contact_sheet([pictures], title, limits=limits))
