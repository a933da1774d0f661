"""How much a project reads and writes: sizes from the configuration alone, no file is looked at.

The watcher asks before it starts work, ``preflight`` before anything is acquired. Arrays count to
the byte; pictures and compressed files by what they take per pixel, on the high side of what was
measured, so that a disk that is large enough by these numbers is large enough.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opticstream_smk import naming
from opticstream_smk.plan import makes_archive, makes_complex, makes_tile_qc

if TYPE_CHECKING:
    from opticstream_smk.config import Config

_NIFTI_HEADER = 352  # 348 B NIfTI-1 header + 4 B extension flag
_TIFF_HEADER = 256
# A grey JPEG of quality 90 takes 0.3 to 0.7 bytes per pixel of speckle, an RGB one no more.
_JPEG_BYTES_PER_PIXEL = 0.7
_JPEG_HEADER = 1000
_JPEG_LONGEST_SIDE = 16384  # io.pictures writes every second, third ... pixel of larger images
# Float64 maps in the MATLAB file shrink by a quarter; angles hardly do.
_MAT_BYTES_PER_PIXEL = 8 * 8 * 0.8
# A contact sheet takes 0.35 MB for each tile, an overview of a mosaic or slice up to 0.5 MB.
_SHEET_BYTES_PER_TILE = 350_000
_OVERVIEW_BYTES = 500_000
# Receipts, flags, logs, benchmarks and snakemake's own record of what it made.
_RECORDS_PER_TILE = 6_000
_RECORDS_PER_STAGE = 10_000
# Compressed counts in 16 bits took 0.74 of their size; packed counts and floats hardly shrink.
_COUNTS_RATIO = 0.8
# A checksum file and its block, a line of the list.
_RECORDS_PER_FILE = 5_000
# LZ4 took the intensity of tissue to 0.85 of its size, retardance and orientation hardly down.
_VOLUME_RATIO = 1.0
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True)
class Amount:
    """Space on a disk.

    Attributes
    ----------
    bytes
        Sum of the sizes of the files.
    files
        Files, links and records: what takes an inode.
    """

    bytes: int = 0
    files: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.bytes + other.bytes, self.files + other.files)

    def __mul__(self, count: int) -> "Amount":
        return Amount(self.bytes * count, self.files * count)


# ------------------------------------------------------------------------------------ bytes
def batch_product_bytes(config: "Config", acquisition: str) -> int:
    """Bytes that the stages of one batch write: complex tiles, volumes, maps, contact sheet.

    Tiles and maps that the acquisition host made are linked and take no space.
    """
    return batch_products(config, acquisition).bytes


def batch_archive_bytes(config: "Config", acquisition: str) -> int:
    """Bytes that archiving one batch writes, checksums and list included; 0 without an archive.

    Where three illuminations are interleaved, the one file of three tiles is counted whole.
    """
    if not makes_archive(config):
        return 0
    scan = config.acquisition
    kinds = ["spectral"] if scan.saves_spectra else ["complex"]
    if scan.complex_is_input and config.archive.complex and scan.saves_spectra:
        kinds.append("complex")
    return scan.rows(acquisition) * sum(
        int(scan.raw_tile_bytes(acquisition, kind) * _archive_ratio(config, kind))
        + _RECORDS_PER_FILE
        for kind in kinds
    )


def run_archive_bytes(config: "Config", slices: int) -> int:
    """Bytes that archiving a whole run writes, files that hold three illuminations once."""
    scan = config.acquisition
    labels = scan.labels[:1] if scan.illuminations > 1 else scan.labels
    return slices * sum(
        batch_archive_bytes(config, label) * scan.columns(label) for label in labels
    )


def mosaic_product_bytes(config: "Config", acquisition: str) -> int:
    """Bytes that stitching one mosaic writes, its batches not counted."""
    return mosaic_products(config, acquisition).bytes


def volume_bytes(config: "Config", acquisition: str) -> int:
    """Bytes of one stitched volume with its pyramid, as if all of it were tissue."""
    return volume_products(config, acquisition).bytes


def slice_product_bytes(config: "Config") -> int:
    """Bytes that registering one slice writes, its mosaics not counted; 0 when it is disabled."""
    return slice_products(config).bytes


def run_product_bytes(config: "Config", slices: int) -> int:
    """Bytes that a whole run of so many slices writes: batches, mosaics, volumes and slices."""
    return run_products(config, slices).bytes


def raw_tile_bytes(config: "Config", acquisition: str) -> int:
    """Bytes of the raw file that a tile is made from.

    Where three illuminations are interleaved, the one file of three tiles is counted whole. Where
    the host saves maps, its volume, surface and maps are meant.
    """
    scan = config.acquisition
    if scan.maps_are_input:
        maps, volumes = len(config.processing.modalities), len(scan.given_volumes)
        pixels = scan.alines(acquisition) * scan.tile_size_y
        # float32; the surface is float64.
        values = maps + 2 + volumes * scan.depth_samples
        return (maps + 1 + volumes) * _NIFTI_HEADER + 4 * pixels * values
    return scan.raw_tile_bytes(acquisition, scan.main_file)


def raw_mosaic_bytes(config: "Config", acquisition: str) -> int:
    """Bytes of the raw files of one mosaic; see :func:`raw_tile_bytes`."""
    return tiles_of_mosaic(config, acquisition) * raw_tile_bytes(config, acquisition)


def raw_slice_bytes(config: "Config") -> int:
    """Bytes of the raw files of one slice, files that hold three illuminations counted once."""
    scan = config.acquisition
    labels = scan.labels[:1] if scan.illuminations > 1 else scan.labels
    return sum(raw_mosaic_bytes(config, label) for label in labels)


def format_bytes(count: float) -> str:
    """Size for people, in decimal units as disks are sold: 312 GB."""
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = f"{value:.0f}" if unit == 0 or abs(value) >= 99.95 else f"{value:.3g}"
    return f"{digits} {_UNITS[unit]}"


# ---------------------------------------------------------------------------------- amounts
def tiles_of_mosaic(config: "Config", acquisition: str) -> int:
    """Tiles of a mosaic's grid."""
    scan = config.acquisition
    return scan.columns(acquisition) * scan.rows(acquisition)


def batch_products(config: "Config", acquisition: str) -> Amount:
    """What the stages of one batch write; see :func:`batch_product_bytes`."""
    scan, processing = config.acquisition, config.processing
    pixels = scan.alines(acquisition) * scan.tile_size_y
    voxels = pixels * scan.depth_samples
    tile = Amount(_RECORDS_PER_TILE, 1)
    if makes_complex(config):
        # Four components, float32; a link where the host saved them.
        own = 0 if scan.complex_is_input else _array(voxels * 4)
        tile += Amount(own + _RECORDS_PER_TILE, 2)
    names = ("surf", *processing.modalities)
    if scan.maps_are_input:
        tile += Amount(0, len(scan.given_volumes) + len(names))
    else:
        volumes = len(naming.VOLUME_MODALITIES) if processing.save_volume_outputs else 0
        tile += Amount(_array(voxels), 1) * volumes
        tile += Amount(_array(pixels), 1) * len(processing.modalities)
        tile += Amount(_array(pixels, bytes_per_value=8), 1)
    stages = 1 + makes_complex(config) + makes_tile_qc(config)
    batch = tile * scan.rows(acquisition) + _stages(stages)
    if makes_tile_qc(config):
        batch += Amount(_SHEET_BYTES_PER_TILE * scan.rows(acquisition), 1)
    return batch


def mosaic_products(config: "Config", acquisition: str) -> Amount:
    """What stitching one mosaic writes; see :func:`mosaic_product_bytes`.

    The canvas is that of the nominal grid; the measured one differs by a few pixels.
    """
    height, width = canvas_shape(config, acquisition)
    images = 2 * len(config.mosaic.modalities)  # masked and not
    image = Amount(_array(height * width) + _TIFF_HEADER + height * width * 4, 2)
    mask = Amount(_array(height * width, bytes_per_value=1) + _TIFF_HEADER + height * width, 2)
    picture = Amount(_jpeg(height, width), 1)
    # A template and two lines of a table for each tile, and the same once more in the project.
    template = Amount(2 * 350 * tiles_of_mosaic(config, acquisition), 4)
    overview = Amount(_OVERVIEW_BYTES, 1) * 2  # and that of the coordinates
    return image * images + mask + picture * (images + 1) + template + overview + _stages(3)


def volume_products(config: "Config", acquisition: str) -> Amount:
    """What one volume of a mosaic takes; see :func:`volume_bytes`."""
    from opticstream_smk.mosaic.volume_store import pyramid_layout

    options = config.volume.zarr_options()
    shape = (config.volume.depth_px, *canvas_shape(config, acquisition))
    files = 0
    for layout in pyramid_layout(shape, options).levels:
        files += math.prod(
            -(-length // size)
            for length, size in zip(layout.shape, layout.shard or layout.chunk, strict=True)
        )
    # A level has an eighth of the voxels of the one above.
    n_bytes = int(4 * math.prod(shape) * 8 / 7 * _VOLUME_RATIO)
    return Amount(n_bytes, files + 2) + _stages(1)


def slice_products(config: "Config") -> Amount:
    """What registering one slice writes; see :func:`slice_product_bytes`."""
    if not config.registration.enabled:
        return Amount()
    height, width = canvas_shape(config, naming.NORMAL)
    pixels = height * width
    axes = Amount(_array(3 * pixels), 1) * 2
    colours = Amount(_TIFF_HEADER + 3 * pixels, 1) * 2
    pictures = Amount(_jpeg(height, width), 1) * 3
    variables = Amount(int(pixels * _MAT_BYTES_PER_PIXEL), 1)
    rest = Amount(_array(pixels), 2)  # birefringence; the transform is a few hundred bytes
    return axes + colours + pictures + variables + rest + Amount(_OVERVIEW_BYTES, 1) + _stages(1)


def run_products(config: "Config", slices: int) -> Amount:
    """What a whole run of so many slices writes."""
    one = slice_products(config)
    for label in config.acquisition.labels:
        one += batch_products(config, label) * config.acquisition.columns(label)
        one += mosaic_products(config, label)
        one += volume_products(config, label) * len(config.volume_modalities)
    return one * slices


def canvas_shape(config: "Config", acquisition: str) -> tuple[int, int]:
    """(y, x) px of a mosaic whose tiles lie on the nominal grid."""
    scan = config.acquisition
    step = 1 - scan.tile_overlap_percent / 100
    height, width = (
        round((count - 1) * size * step) + size
        for count, size in (
            (scan.rows(acquisition), scan.tile_size_y),
            (scan.columns(acquisition), scan.alines(acquisition)),
        )
    )
    return height, width


def _archive_ratio(config: "Config", kind: str) -> float:
    packed = config.acquisition.tile_saving_type == "spectral_12bit"
    return _COUNTS_RATIO if kind == "spectral" and not packed else 1.0


def _array(values: int, *, bytes_per_value: int = 4) -> int:
    return _NIFTI_HEADER + values * bytes_per_value


def _jpeg(height: int, width: int) -> int:
    step = -(-max(height, width) // _JPEG_LONGEST_SIDE)
    return _JPEG_HEADER + int(height * width / step**2 * _JPEG_BYTES_PER_PIXEL)


def _stages(count: int) -> Amount:
    # A flag, a log, a benchmark, a lock and snakemake's record each.
    return Amount(_RECORDS_PER_STAGE, 5) * count
