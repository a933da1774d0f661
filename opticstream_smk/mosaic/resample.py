"""A tile moved by a part of a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Half of what whole pixels weigh: below it, what is known lies on one side only.
_LEAST_WEIGHT = 0.5


def shift_image(image: NDArray[np.float32], fraction: tuple[float, float]) -> NDArray[np.float32]:
    """Move an image by up to half a pixel along each axis, by cubic convolution.

    Pixel (y, x) of the result is the image at (y, x) - `fraction`. Cubic convolution (Keys, IEEE
    Trans. ASSP 29, 1153, 1981) looks at four pixels along an axis, so that a pixel without a value
    stays a local matter, and passes structure of four pixels and more nearly unchanged.

    Parameters
    ----------
    image
        (ny, nx). Beyond its rim the outermost pixels go on: the result covers the same pixels.
    fraction
        y, x in px, -0.5 to 0.5.

    Returns
    -------
    numpy.ndarray
        (ny, nx) float32. NaN exactly where the image is not finite; what pixels beside it had to
        do with it is shared among their other neighbours.
    """
    known = np.isfinite(image)
    if known.all():
        return _convolve(image, fraction)
    values = _convolve(np.where(known, image, np.float32(0)), fraction)
    weight = _convolve(known.astype(np.float32), fraction)
    enough = known & (weight >= _LEAST_WEIGHT)
    shifted = np.divide(values, weight, out=image.astype(np.float32), where=enough)
    shifted[~known] = np.nan
    return shifted


def _convolve(image: NDArray[np.float32], fraction: tuple[float, float]) -> NDArray[np.float32]:
    for axis, share in enumerate(fraction):
        if share == 0:
            continue
        pad = [(2, 2) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(image, pad, mode="edge")
        image = np.zeros(image.shape, np.float32)
        for step in range(-2, 3):
            weight = _keys(step + share)
            if weight != 0:
                start = 2 + step
                part = (slice(start, start + image.shape[axis]),)
                image += np.float32(weight) * padded[(slice(None),) * axis + part]
    return image


def _keys(distance: float) -> float:
    """Keys' kernel with a = -1/2, the one that is exact for quadratic structure."""
    x = abs(distance)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x < 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0
