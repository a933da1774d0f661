"""Which part of a mosaic is tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_CONNECTED_BY_CORNERS = np.ones((3, 3), dtype=bool)


def make_mask(image: ArrayLike, threshold: float, *, sigma_px: float = 1.0) -> NDArray[np.bool_]:
    """Largest connected region above a threshold, with its holes filled.

    Parameters
    ----------
    image
        (y, x), usually the unmasked AIP mosaic in dB. Pixels that are not finite are background:
        they take no part in the smoothing, so that tissue next to them is not dimmed, and are
        True only inside a hole that is filled.
    threshold
        In the unit of `image`; a smoothed pixel above it is foreground. 60 (normal) and 55 (tilted
        illumination) are used for AIP.
    sigma_px
        Standard deviation of the Gaussian that smooths `image` first; 0 does not smooth.

    Returns
    -------
    numpy.ndarray
        (y, x) bool. Foreground is connected across corners, holes are not; a hole that reaches the
        rim of the image is not one. All False if nothing is above the threshold.

    Raises
    ------
    ValueError
        If `image` is not two-dimensional.
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim != 2:
        raise ValueError(f"image of shape {pixels.shape}: expected (y, x).")
    foreground = _smooth(pixels, sigma_px) > threshold
    labels, count = ndi.label(foreground, structure=_CONNECTED_BY_CORNERS)
    if count == 0:
        return foreground
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    filled = ndi.binary_fill_holes(labels == int(sizes.argmax()))
    return np.asarray(filled, dtype=np.bool_)


def _smooth(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Gaussian average of the finite pixels; -inf where a pixel is not finite."""
    valid = np.isfinite(image)
    if valid.all():
        return np.asarray(ndi.gaussian_filter(image, sigma_px), dtype=np.float32)
    known = np.where(valid, image, np.float32(0))
    share = ndi.gaussian_filter(valid.astype(np.float32), sigma_px)
    smooth = ndi.gaussian_filter(known, sigma_px)
    # A finite pixel is part of its own average, so the share is never small there.
    out = np.full(image.shape, -np.inf, dtype=np.float32)
    np.divide(smooth, share, out=out, where=valid)
    return out
