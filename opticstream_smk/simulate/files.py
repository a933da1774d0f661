"""Which files an acquisition consists of: names, sizes, and the order in which they appear."""

from dataclasses import dataclass

import numpy as np

from opticstream_smk.simulate.formats import nifti_bytes, spectral_bytes
from opticstream_smk.simulate.settings import AcquisitionSettings

# Maps that the host saves beside its spectra and the dBI volume; and without them.
HOST_MAPS = ("aip", "mip", "ret", "ori", "surf")
LONE_MAPS = ("aip", "mip", "ret", "ori", "biref", "surf")


@dataclass(frozen=True)
class TileFile:
    """One file of a tile.

    Attributes
    ----------
    kind
        ``spectral``, ``complex``, or what a processed file shows (``aip`` ... ``dBI``).
    name
        File name.
    size
        Bytes.
    """

    kind: str
    name: str
    size: int


@dataclass(frozen=True)
class HostTile:
    """What the host writes at one place of the stage.

    Attributes
    ----------
    mosaics
        Mosaics (1-based) whose tile this is: one, or the three of a slice.
    image
        Number of the tile in these mosaics (1-based).
    files
        In order of appearance; the first stands for the tile.
    """

    mosaics: tuple[int, ...]
    image: int
    files: tuple[TileFile, ...]


def host_tiles(settings: AcquisitionSettings) -> list[HostTile]:
    """All tiles, in order of acquisition."""
    views = len(settings.views)
    step = views if settings.is_interleaved else 1
    tiles = []
    for first in range(1, settings.n_mosaics + 1, step):
        slice_number, view = settings.slice_and_view(first)
        rows, columns = settings.grid_shape(view)
        for image in range(1, rows * columns + 1):
            if settings.is_interleaved:
                # Numbered through all slices; nothing else is in the name.
                number = (slice_number - 1) * rows * columns + image
                files: tuple[TileFile, ...] = (
                    _spectral(settings, first, f"spectral_{number:04d}"),
                )
            else:
                files = _files(settings, first, image)
            tiles.append(HostTile(tuple(range(first, first + step)), image, files))
    return tiles


def spectral_bits(settings: AcquisitionSettings) -> int:
    """Bits per count in files of spectra."""
    return 12 if settings.saving_type == "spectral_12bit" else 16


def host_alines(settings: AcquisitionSettings, mosaic: int) -> int:
    """A-lines of a B-line in the raw file of a mosaic: of all mosaics that share the file."""
    alines = settings.tile_shape(settings.slice_and_view(mosaic)[1])[1]
    return alines * (settings.mosaics_per_slice if settings.is_interleaved else 1)


def _files(settings: AcquisitionSettings, mosaic: int, image: int) -> tuple[TileFile, ...]:
    stem = f"mosaic_{mosaic:03d}_image_{image:04d}"
    blines, alines = settings.tile_shape(settings.slice_and_view(mosaic)[1])
    depth = settings.depth_px
    files = []
    if settings.saves_spectra:
        files.append(_spectral(settings, mosaic, f"{stem}_spectral_{image:04d}"))
    if settings.saves_complex:
        size = nifti_bytes((4 * alines, blines, depth), np.float32)
        files.append(TileFile("complex", f"{stem}_processed.nii", size))
    saved = {"processed": LONE_MAPS, "processed_with_spectral": HOST_MAPS}
    for kind in saved.get(settings.saving_type, ()):
        dtype = np.float64 if kind == "surf" else np.float32
        size = nifti_bytes((alines, blines, 1), dtype)
        files.append(TileFile(kind, f"{stem}_{kind}.nii", size))
    if settings.saving_type == "processed_with_spectral":
        size = nifti_bytes((alines, blines, depth), np.float32)
        files.append(TileFile("dBI", f"{stem}_dBI.nii", size))
    return tuple(files)


def _spectral(settings: AcquisitionSettings, mosaic: int, stem: str) -> TileFile:
    bits = spectral_bits(settings)
    alines = host_alines(settings, mosaic)
    size = spectral_bytes(alines, settings.blines, settings.samples, bits)
    return TileFile("spectral", f"{stem}.{'nii' if bits == 16 else 'raw'}", size)
