"""JPEG and TIFF files of (y, x) images."""

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
    low, high = np.percentile(image[counted], percentiles)
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
    step = -(-max(pixels.shape[:2]) // JPEG_LONGEST_SIDE)
    image = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    write_with(path, lambda temporary: image.save(temporary, quality=quality))


def write_tiff(path: Path, pixels: NDArray[Any], *, pixel_mm: tuple[float, float]) -> None:
    """Write (y, x) or (y, x, 3) values as they are, with the pixel size (x, y) in mm."""
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    write_with(
        path,
        lambda temporary: tifffile.imwrite(
            temporary,
            pixels,
            photometric=photometric,
            resolution=(10 / pixel_mm[0], 10 / pixel_mm[1]),
            resolutionunit="CENTIMETER",
            bigtiff=pixels.nbytes > 2**31,
        ),
    )


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (y, x) grey or (y, x, 3) RGB atomically, as the suffix of `path` says, full size."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    write_with(path, image.save)
