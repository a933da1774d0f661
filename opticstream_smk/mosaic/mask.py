"""Which part of a mosaic is tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_CONNECTED_BY_CORNERS = np.ones((3, 3), dtype=bool)


def make_mask(
    image: ArrayLike,
    threshold: float,
    *,
    sigma_px: float = 1.0,
    unseen: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
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
    unseen
        (y, x) bool, where a tile is missing, so that nobody knows what is there. Tissue on either
        side of it is one region, or half a block would be lost behind a gap; the gap itself is
        not in the mask. None: everything was seen.

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
    bridged = foreground if unseen is None else foreground | unseen
    labels, _ = ndi.label(bridged, structure=_CONNECTED_BY_CORNERS)
    if not foreground.any():
        return foreground
    sizes = np.bincount(labels[foreground])
    filled = ndi.binary_fill_holes(labels == int(sizes.argmax()))
    mask = np.asarray(filled, dtype=np.bool_)
    return mask if unseen is None else mask & ~unseen


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
