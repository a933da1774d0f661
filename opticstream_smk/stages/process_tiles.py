"""Complex or raw tiles to volumes, surface and en-face maps."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError, QualityError
from opticstream_smk.io import nifti
from opticstream_smk.io.atomic import link_file
from opticstream_smk.io.raw_files import unchanged_raw
from opticstream_smk.matlab.toolbox import toolbox_sha256
from opticstream_smk.plan import makes_complex, runs_matlab
from opticstream_smk.stages.inputs import (
    content_sha256,
    load_calibration,
    raw_blines,
    raw_params,
)
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tile_files import TileFiles
from opticstream_smk.stages.tiles import (
    Finish,
    TileWork,
    nothing_left,
    ready_files,
    ready_tiles,
    run_tiles,
)
from opticstream_smk.state.flags import InputFile, file_input

if TYPE_CHECKING:
    from opticstream_smk.psoct import TileProducts, TileSettings
    from opticstream_smk.psoct.engine import BlineSource, TileEngine, VolumeBlock


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    unread = {"engine", "matlab", "complex", "validation", "tile_qc", "qc_limits"}
    processing = config.processing.model_dump(mode="json", exclude=unread)
    return {
        "complex": config.processing.complex,
        **processing,
        "surface": _surface_identity(config.processing.surface),
        "dz_mm": config.acquisition.scan_resolution_3d_mm[2],
        "wavelength_um": config.acquisition.wavelength_um,
        # With complex tiles on disk, calibration and raw format enter through those files.
        **({} if makes_complex(config) else raw_params(config, acquisition)),
        "complex_z_order": config.acquisition.complex_z_order,
        **({"toolbox_sha256": toolbox_sha256(config)} if runs_matlab(config) else {}),
    }


def _surface_identity(surface: str) -> str:
    """What makes two surfaces the same: the method, or the content of the file."""
    name = surface.strip()
    if name.endswith((".nii", ".nii.gz")):
        return content_sha256(Path(name), "processing.surface")
    return "gradient" if name == "find" else name


def tile_products(context: StageContext, image: int) -> list[Path]:
    """Volumes and maps of a tile."""
    processing = context.config.processing
    volumes: tuple[str, ...] = naming.VOLUME_MODALITIES if processing.save_volume_outputs else ()
    if context.config.acquisition.maps_are_input:
        volumes = context.config.acquisition.given_volumes
    names = (*volumes, "surf", *processing.modalities)
    return [context.layout.processed_tile(context.mosaic, image, name) for name in names]


def products(context: StageContext) -> list[Path]:
    """Volumes and maps of the batch."""
    return [path for image in context.images for path in tile_products(context, image)]


def compute(context: StageContext) -> Outcome:
    """Write ``processed/*_{dBI,R3D,O3D,surf,aip,...}.nii`` of a batch."""
    scan = context.config.acquisition
    if scan.maps_are_input:
        work = _linked(context)
    elif makes_complex(context.config) or scan.complex_is_input:
        work = _from_complex(context)
    else:
        work = _from_raw(context)
    if runs_matlab(context.config):
        from opticstream_smk.stages.matlab_tiles import run_batch

        outcome = run_batch(context, work, _write)
    else:
        outcome = run_tiles(context, work)
    z_order = "flipped" if context.config.processing.flip_z else "raw"
    engine = {} if scan.maps_are_input else {"engine": context.config.processing.engine}
    return replace(outcome, extra={"z_order": z_order, **engine, **outcome.extra})


def _from_raw(context: StageContext) -> TileWork:
    from opticstream_smk.psoct.engine import SpectraShape, TileEngine

    config = context.config
    calibration = load_calibration(config)
    raw = ready_tiles(context)
    settings = tile_settings(config)

    @lru_cache(maxsize=1)
    def engine(shape: SpectraShape) -> TileEngine:
        return TileEngine.of_spectra(calibration, shape, settings, threads=context.threads)

    def make(image: int, path: Path) -> Finish:
        unchanged_raw(raw[image])
        source, shape = raw_blines(config, context.acquisition, path)
        # Also not while it was read.
        return _make(context, image, engine(shape), source, lambda: unchanged_raw(raw[image]))

    return TileWork("processed", raw.__getitem__, partial(tile_products, context), make)


def _from_complex(context: StageContext) -> TileWork:
    from opticstream_smk.psoct.engine import TileEngine

    config, layout, mosaic = context.config, context.layout, context.mosaic
    scan = config.acquisition
    shape = (4 * scan.alines(context.acquisition), scan.tile_size_y, scan.depth_samples)

    settings = tile_settings(config)

    @lru_cache(maxsize=1)
    def engine() -> TileEngine:
        return TileEngine.of_stacks(shape, settings, threads=context.threads)

    def source(image: int) -> InputFile:
        path = layout.complex_tile(mosaic, image)
        try:
            found = file_input(path)
        except OSError as error:
            raise IncompleteInputError(
                f"complex tile {path} is missing ({error.strerror}); `optic-trigger doctor --fix` "
                "has it made again"
            ) from error
        # Relative, so that a project folder that was moved keeps its receipts.
        return found.model_copy(update={"path": layout.relative(path)})

    def make(image: int, path: Path) -> Finish:
        return _make(context, image, engine(), nifti.StackReader(path, shape))

    if makes_complex(config):
        return TileWork("processed", source, partial(tile_products, context), make)
    raw = ready_tiles(context)

    def make_given(image: int, path: Path) -> Finish:
        unchanged_raw(raw[image])
        reader = nifti.StackReader(path, shape)
        return _make(context, image, engine(), reader, lambda: unchanged_raw(raw[image]))

    return TileWork("processed", raw.__getitem__, partial(tile_products, context), make_given)


def _linked(context: StageContext) -> TileWork:
    """Maps that the host computed: checked and linked."""
    files = ready_files(context)
    layout = context.layout

    def make(image: int, _path: Path) -> Finish:
        sources = {
            modality: Path(unchanged_raw(raw).path)
            for modality, raw in files[image].items()
            if modality != "spectral"  # only archived
        }
        _validate(context, image, sources, "map")
        for modality, source in sources.items():
            link_file(source, layout.processed_tile(context.mosaic, image, modality))
        return nothing_left

    return TileWork(
        "processed", ready_tiles(context).__getitem__, partial(tile_products, context), make
    )


def tile_settings(config: Config) -> "TileSettings":
    """Settings of the tile engine."""
    from opticstream_smk.psoct import TileSettings

    processing, scan = config.processing, config.acquisition
    return TileSettings(
        flip_phase=processing.flip_phase,
        phase_offset_deg=processing.phase_offset_deg,
        flip_z=processing.flip_z,
        surface_spec=processing.surface,
        surface_args=processing.surface_args,
        # Complex tiles of our own making are as transformed.
        complex_z_order=scan.complex_z_order if scan.complex_is_input else "raw",
        offset_px=processing.offset_px,
        depth_px=processing.depth_px,
        modalities=processing.modalities,
        ori_method=processing.ori_method,
        biref_method=processing.biref_method,
        dz_um=config.acquisition.scan_resolution_3d_mm[2] * 1000,
        wavelength_um=config.acquisition.wavelength_um,
        toolbox_quirks=processing.toolbox_quirks,
    )


def _make(
    context: StageContext,
    image: int,
    engine: "TileEngine",
    source: "BlineSource",
    check: Callable[[], object] = lambda: None,
) -> Finish:
    """Make the products of a tile; `check` is asked after all was read."""
    from opticstream_smk.qc.validate import Content

    scan, layout = context.config.acquisition, context.layout
    shape = (scan.alines(context.acquisition), scan.tile_size_y, scan.depth_samples)
    names = naming.VOLUME_MODALITIES
    written = names if context.config.processing.save_volume_outputs else ()
    contents = [
        {name: Content(shape, np.dtype(np.float32)) for name in names}
        for _ in range(context.threads)
    ]

    def look(thread: int, volumes: "VolumeBlock", row: int) -> None:
        for content, volume in zip(contents[thread].values(), volumes, strict=True):
            content.add(volume[:, row])

    def write(start: int, stop: int, volumes: "VolumeBlock") -> None:
        for name, volume in zip(names, volumes, strict=True):
            if name in written:
                files.write(name, start, stop, volume)

    paths = {name: layout.processed_tile(context.mosaic, image, name) for name in written}
    geometry = nifti.Geometry(scan.scan_resolution_3d_mm)
    with TileFiles(paths, shape, geometry) as files:
        computed = engine.start(source, write, look)
        check()
        kept = files.keep()

    def finish() -> dict[str, float]:
        with kept:
            made = computed()
            maps: dict[str, NDArray[np.floating]] = {"surf": made.surface, **made.enface}
            for others in contents[1:]:
                for name, content in others.items():
                    contents[0][name].merge(content)
            _validate(context, image, {**contents[0], **maps})
        return _write_maps(context, image, maps)

    return finish


def _write(context: StageContext, image: int, tile: "TileProducts") -> dict[str, float]:
    """Check and write the products of a tile that are all there."""
    volumes = {"dBI": tile.volumes.dbi, "R3D": tile.volumes.r3d, "O3D": tile.volumes.o3d}
    maps: dict[str, NDArray[np.floating]] = {"surf": tile.surface, **tile.enface}
    _validate(context, image, {**volumes, **maps})
    geometry = nifti.Geometry(context.config.acquisition.scan_resolution_3d_mm)
    if context.config.processing.save_volume_outputs:
        for name, array in volumes.items():
            path = context.layout.processed_tile(context.mosaic, image, name)
            nifti.write_array(path, array, geometry)
    return _write_maps(context, image, maps)


def _write_maps(
    context: StageContext, image: int, maps: Mapping[str, NDArray[np.floating]]
) -> dict[str, float]:
    """Write surface and en-face maps; returns their means."""
    scan = context.config.acquisition
    x, y, _ = scan.scan_resolution_3d_mm
    # A map stands for the whole cut: its third voxel size is the thickness.
    geometry = nifti.Geometry((x, y, scan.slice_thickness_um / 1000))
    for name, array in maps.items():
        nifti.write_array(
            context.layout.processed_tile(context.mosaic, image, name),
            array,
            geometry,
            description="1-based depth index" if name == "surf" else "",
        )
    return {
        f"{name}_mean": round(float(np.nanmean(array)), 8)
        for name, array in maps.items()
        if name != "ori" and np.isfinite(array).any()
    }


def _validate(
    context: StageContext, image: int, made: Mapping[str, Any], culprit: str = "raw tile"
) -> None:
    """Refuse products that cannot be right, before anything is written.

    `culprit` is what people should look at.
    """
    from opticstream_smk.qc.validate import ProductLimits, validate_products

    config = context.config
    scan = config.acquisition
    limits = ProductLimits(
        **config.processing.validation.model_dump(),
        # A surface that is given may be flat, and a tile without any signal has index 1 everywhere.
        constant_surface=True,
        toolbox_quirks=config.processing.tiles_have_quirks,
    )
    shape = (scan.alines(context.acquisition), scan.tile_size_y, scan.depth_samples)
    faults = validate_products(made, shape=shape, limits=limits)
    if faults:
        raise QualityError(
            f"image {image:04d} of mosaic {context.mosaic:03d} gives products that cannot be "
            f"right: {'; '.join(faults)}. Look at the {culprit}: replace it, or move it out of the "
            f"source folder and `optic-trigger close --mosaic {context.mosaic} --missing {image}`. "
            "If it is as it should be, processing.validation holds the limits."
        )


STAGE = Stage(
    "process_tiles",
    "batch",
    "processed",
    params,
    products,
    compute,
    starts_level=lambda config: not makes_complex(config),
)
