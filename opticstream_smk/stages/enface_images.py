"""One modality of a mosaic to files: masked and not, in three formats, some rows at a time.

In memory are the rows at hand, a bit a pixel (which have a value), and the JPEG: 1 byte a pixel, 4
in colour. The files that are written are read again for the masked image and the pictures.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import QualityError
from opticstream_smk.io import nifti
from opticstream_smk.io.image_rows import BAND_ROWS, ImageRows, RowBits
from opticstream_smk.io.pictures import JpegRows, orientation_to_rgb, scale_to_uint8

SUFFIXES = (".nii", ".jpg", ".tiff")
Rows = tuple[int, NDArray[np.float32]]
RowReader = Callable[[int, int], NDArray[np.float32]]
# Pixels that the window of a picture is chosen from.
_WINDOW_PIXELS = 4_000_000


@dataclass(frozen=True, eq=False)
class Frame:
    """What all images of a mosaic share.

    Attributes
    ----------
    mosaic
        Number of the mosaic, for messages.
    covered
        (y, x) bool, where tiles lie.
    path
        File of an image (`aip_nomask`, ...) with a suffix.
    """

    config: Config
    mosaic: int
    covered: NDArray[np.bool_]
    geometry: nifti.Geometry
    path: Callable[[str, str], Path]

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) of the canvas."""
        height, width = self.covered.shape
        return height, width

    def open(
        self, name: str, dtype: type[np.generic] = np.float32, *, description: str = ""
    ) -> ImageRows:
        """Open the NIfTI and the TIFF file of an image for writing."""
        nii, tiff = self.path(name, ".nii"), self.path(name, ".tiff")
        return ImageRows(nii, tiff, self.shape, dtype, self.geometry, description=description)


@contextmanager
def write_whole(frame: Frame, modality: str, parts: Iterable[Rows]) -> Iterator[RowReader]:
    """Write ``{modality}_nomask``, and give what reads its rows, NaN where they have no value.

    The files get their names when the context is left.

    Parameters
    ----------
    parts
        The blended image from the top, NaN where it has no value; see `blend_rows`.

    Raises
    ------
    QualityError
        Too few pixels of the image have a value.
    """
    known = RowBits(frame.shape)
    with frame.open(f"{modality}_nomask") as file:
        _write(frame, modality, file, f"{modality}_nomask", parts, frame.covered, known)
        yield partial(_read, file, known)


def write_masked(frame: Frame, modality: str, read: RowReader, mask: NDArray[np.bool_]) -> None:
    """Write ``{modality}``, which has no value outside the mask; see `write_whole`."""
    height = frame.shape[0]
    parts = (
        (start, read(start, min(start + BAND_ROWS, height)))
        for start in range(0, height, BAND_ROWS)
    )
    with frame.open(modality) as file:
        region = frame.covered & mask
        _write(frame, modality, file, modality, parts, region, RowBits(frame.shape))


def write_mask(frame: Frame, mask: NDArray[np.bool_]) -> None:
    """Write ``mask``, 0 or 255."""
    picture = JpegRows(frame.shape, colour=False)
    with frame.open("mask", np.uint8, description="tissue mask, 0 or 255") as file:
        for start in range(0, len(mask), BAND_ROWS):
            rows = np.where(mask[start : start + BAND_ROWS], np.uint8(255), np.uint8(0))
            file.write(start, rows)
            picture.add(start, rows)
    picture.save(frame.path("mask", ".jpg"))


def _read(file: ImageRows, known: RowBits, start: int, stop: int) -> NDArray[np.float32]:
    return np.where(known.get(start, stop), file.read(start, stop), np.float32(np.nan))


def _write(
    frame: Frame,
    modality: str,
    file: ImageRows,
    name: str,
    parts: Iterable[Rows],
    region: NDArray[np.bool_],
    known: RowBits,
) -> None:
    """Write an image within a region; `known` becomes where it has a value."""
    fill = np.float32(frame.config.mosaic.fill_value)
    samples = _Samples(frame.shape)
    count = 0
    for start, rows in parts:
        # Where every tile that covers a pixel has NaN there, the pixel has no value either.
        has_value = region[start : start + len(rows)] & np.isfinite(rows)
        known.set(start, has_value)
        count += int(has_value.sum())
        file.write(start, np.where(has_value, rows, fill))
        samples.add(start, rows, has_value)
    wanted = int(region.sum())
    if wanted:  # else there is no tissue, which is no fault of the image
        _check_share(frame, modality, name, count / wanted)
    is_axial = modality in naming.AXIAL_MODALITIES
    window = samples.window(frame.config.mosaic.jpeg_window_percentiles)
    picture = JpegRows(frame.shape, colour=is_axial)
    for start, rows in file.bands():
        has_value = known.get(start, start + len(rows))
        picture.add(
            start,
            orientation_to_rgb(rows, has_value)
            if is_axial
            else scale_to_uint8(rows, has_value, window),
        )
    picture.save(frame.path(name, ".jpg"))


def _check_share(frame: Frame, modality: str, name: str, share: float) -> None:
    least = frame.config.processing.validation.min_finite_share
    # The attenuation has no value where there is no signal.
    if share < least and modality != "mus":
        raise QualityError(
            f"mosaic {frame.mosaic:03d}: only {100 * share:.1f} % of {name} is finite, expected "
            f"{100 * least:g} %. Look at the tiles' {modality} maps; "
            "processing.validation.min_finite_share is the limit."
        )


class _Samples:
    """Values of an image at up to four million places, evenly spread."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._step = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / _WINDOW_PIXELS))))
        self._parts: list[NDArray[np.float32]] = []

    def add(self, start: int, rows: NDArray[np.float32], has_value: NDArray[np.bool_]) -> None:
        places = (slice(-start % self._step, None, self._step), slice(None, None, self._step))
        self._parts.append(rows[places][has_value[places]])

    def window(self, percentiles: tuple[float, float]) -> NDArray[Any]:
        values = np.concatenate(self._parts)
        return np.percentile(values, percentiles) if len(values) else np.zeros(2)
