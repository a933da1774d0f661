"""JPEG and TIFF files of (y, x) images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from opticstream_smk.io.atomic import write_with

JPEG_LONGEST_SIDE = 16384  # a JPEG ends at 65,535 px; viewers give up long before


def window_to_uint8(
    image: NDArray[Any],
    covered: NDArray[np.bool_],
    percentiles: tuple[float, float],
    *,
    reference: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Map percentiles of the finite pixels to black and white; what is not covered is black.

    Parameters
    ----------
    reference
        Pixels whose percentiles count; all covered ones by default.
    """
    usable = covered & np.isfinite(image)
    counted = usable if reference is None else usable & reference
    if not counted.any():
        return np.zeros(image.shape, np.uint8)
    return scale_to_uint8(image, usable, np.percentile(image[counted], percentiles))


def scale_to_uint8(
    image: NDArray[Any], usable: NDArray[np.bool_], window: Sequence[float] | NDArray[Any]
) -> NDArray[np.uint8]:
    """Map two values to black and white; what is not usable is black."""
    low, high = window
    scaled = (np.where(usable, image, low) - low) / max(high - low, np.finfo(np.float32).tiny)
    return np.where(usable, np.clip(scaled * 255, 0, 255), 0).astype(np.uint8)


def orientation_to_rgb(degrees: NDArray[Any], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Colour wheel of an axial angle: hue goes once round in 180 degrees; uncovered is black."""
    usable = covered & np.isfinite(degrees)
    hue = np.where(usable, (np.where(usable, degrees, 0.0) + 90.0) / 180.0 % 1.0, 0.0)
    hsv = np.stack(
        [hue * 255, np.full(hue.shape, 255.0), np.where(usable, 255.0, 0.0)], axis=-1
    ).astype(np.uint8)
    rgb: NDArray[np.uint8] = np.asarray(Image.fromarray(hsv, mode="HSV").convert("RGB"))
    return rgb


def write_jpeg(path: Path, pixels: NDArray[np.uint8], *, quality: int = 90) -> None:
    """Write (y, x) grey or (y, x, 3) RGB atomically, reduced by whole steps when too large."""
    picture = JpegRows((pixels.shape[0], pixels.shape[1]), colour=pixels.ndim == 3)
    picture.add(0, pixels)
    picture.save(path, quality=quality)


class JpegRows:
    """A picture that is put together some rows at a time, reduced by whole steps when too large.

    Takes 1 byte a pixel, 4 in colour, of at most 16384 x 16384.

    Parameters
    ----------
    shape
        (y, x) of what comes in.
    colour
        Whether the rows are (n, x, 3) RGB or (n, x) grey.
    """

    def __init__(self, shape: tuple[int, int], *, colour: bool) -> None:
        self._step = -(-max(shape) // JPEG_LONGEST_SIDE)
        height, width = (-(-length // self._step) for length in shape)
        self._image = Image.new("RGB" if colour else "L", (width, height))

    def add(self, start: int, rows: NDArray[np.uint8]) -> None:
        """Add rows whose first one is `start`."""
        step = self._step
        kept = rows[-start % step :: step, ::step]
        if len(kept):
            self._image.paste(Image.fromarray(np.ascontiguousarray(kept)), (0, -(-start // step)))

    def save(self, path: Path, *, quality: int = 90) -> None:
        """Write the picture atomically."""
        write_with(path, lambda temporary: self._image.save(temporary, quality=quality))


def create_tiff(
    path: Path, shape: tuple[int, int], dtype: np.dtype[Any], *, pixel_mm: tuple[float, float]
) -> int:
    """Create a file for the values of a (y, x) image, and say where they begin, row by row."""
    size = shape[0] * shape[1] * dtype.itemsize
    tifffile.imwrite(path, shape=shape, dtype=dtype, **_tiff_tags("minisblack", pixel_mm, size))
    with tifffile.TiffFile(path) as file:
        return int(file.pages.first.dataoffsets[0])


def write_tiff(path: Path, pixels: NDArray[Any], *, pixel_mm: tuple[float, float]) -> None:
    """Write (y, x) or (y, x, 3) values as they are, with the pixel size (x, y) in mm."""
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    write_with(
        path,
        lambda temporary: tifffile.imwrite(
            temporary, pixels, **_tiff_tags(photometric, pixel_mm, pixels.nbytes)
        ),
    )


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (y, x) grey or (y, x, 3) RGB atomically, as the suffix of `path` says, full size."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    write_with(path, image.save)


def _tiff_tags(photometric: str, pixel_mm: tuple[float, float], size: int) -> dict[str, Any]:
    return {
        "photometric": photometric,
        "resolution": (10 / pixel_mm[0], 10 / pixel_mm[1]),
        "resolutionunit": "CENTIMETER",
        "bigtiff": size > 2**31,
    }
