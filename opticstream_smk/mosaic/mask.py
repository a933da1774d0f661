"""Which part of a mosaic is tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage as ndi

from opticstream_smk.mosaic.threshold import find_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

Keep = Literal["largest", "all_above"]

_CONNECTED_BY_CORNERS = np.ones((3, 3), dtype=bool)
_TRUNCATE = 4.0  # standard deviations at which the Gaussian ends
_BAND_ROWS = 128
# Pixels that say what background and tissue are: more do not say it better.
_SAMPLES = 2_000_000


def make_mask(
    image: ArrayLike,
    threshold: float | Literal["auto"],
    *,
    sigma_px: float = 1.0,
    keep: Keep = "largest",
    min_piece_px: int = 0,
    fill_holes: bool = True,
    max_hole_px: int | None = None,
    unseen: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Connected regions above a threshold, with their holes filled.

    Parameters
    ----------
    image
        (y, x), usually the unmasked AIP mosaic in dB. Pixels that are not finite are background:
        they take no part in the smoothing, so that tissue next to them is not dimmed, and are
        True only inside a hole that is filled.
    threshold
        In the unit of `image`; a smoothed pixel above it is foreground. 60 (normal) and 55 (tilted
        illumination) are used for AIP. "auto": see `find_threshold`.
    sigma_px
        Standard deviation of the Gaussian that smooths `image` first; 0 does not smooth.
    keep, min_piece_px, fill_holes, max_hole_px, unseen
        See `tissue_regions`.

    Returns
    -------
    numpy.ndarray
        (y, x) bool.

    Raises
    ------
    ValueError
        If `image` is not two-dimensional.
    QualityError
        If the threshold is "auto" and there are no two classes of pixels.
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim != 2:
        raise ValueError(f"image of shape {pixels.shape}: expected (y, x).")

    def read(start: int, stop: int) -> NDArray[np.float32]:
        return pixels[start:stop]

    shape = (pixels.shape[0], pixels.shape[1])
    if threshold == "auto":
        threshold = find_threshold(sample_smoothed(read, shape, sigma_px)).threshold
    return tissue_regions(
        find_foreground(read, shape, threshold, sigma_px),
        keep=keep,
        min_piece_px=min_piece_px,
        fill_holes=fill_holes,
        max_hole_px=max_hole_px,
        unseen=unseen,
    )


def find_foreground(
    read: Callable[[int, int], NDArray[np.float32]],
    shape: tuple[int, int],
    threshold: float,
    sigma_px: float,
) -> NDArray[np.bool_]:
    """Where the smoothed image is above a threshold; only some rows of it are in memory.

    Parameters
    ----------
    read
        ``read(start, stop)`` gives these rows of the image, (n, width) float32; pixels that are not
        finite are background.
    shape
        (y, x) of the image.
    """
    foreground = np.empty(shape, np.bool_)
    for start, rows in _smoothed_bands(read, shape, sigma_px):
        foreground[start : start + len(rows)] = rows > threshold
    return foreground


def sample_smoothed(
    read: Callable[[int, int], NDArray[np.float32]], shape: tuple[int, int], sigma_px: float
) -> NDArray[np.float32]:
    """Values of the smoothed image at up to two million places, evenly spread; none without value.

    See `find_foreground` for the parameters.
    """
    step = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / _SAMPLES))))
    parts = [rows[-start % step :: step, ::step] for start, rows in
             _smoothed_bands(read, shape, sigma_px)]  # fmt: skip
    return np.concatenate([part[np.isfinite(part)] for part in parts])


def tissue_regions(
    foreground: NDArray[np.bool_],
    *,
    keep: Keep = "largest",
    min_piece_px: int = 0,
    fill_holes: bool = True,
    max_hole_px: int | None = None,
    unseen: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Connected regions of the foreground, with their holes filled.

    Foreground is connected across corners, holes are not; a hole that reaches the rim of the image
    is not one. Takes some 6 bytes a pixel beside the result.

    Parameters
    ----------
    foreground
        (y, x).
    keep
        "largest": the largest region. "all_above": every region of at least `min_piece_px`.
    min_piece_px
        Of "all_above": a smaller region is speckle or dirt.
    fill_holes
        Whether holes are filled.
    max_hole_px
        Larger holes (ventricles, tears) stay; None: all are filled.
    unseen
        (y, x) bool, where a tile is missing, so that nobody knows what is there. Tissue on either
        side of it is one region, or half a block would be lost behind a gap; the gap itself is
        not in the mask. None: everything was seen.

    Returns
    -------
    numpy.ndarray
        (y, x) bool. All False if nothing is foreground, or nothing is large enough.
    """
    if not foreground.any():
        return np.zeros(foreground.shape, np.bool_)
    bridged = foreground if unseen is None else foreground | unseen
    labels, count = _label(bridged, _CONNECTED_BY_CORNERS)
    sizes = _sizes(labels, count, foreground)
    wanted = np.zeros(count + 1, np.bool_)
    if keep == "largest":
        wanted[sizes.argmax()] = True
    else:
        wanted = (sizes >= min_piece_px) & (sizes > 0)
    wanted[0] = False
    mask = wanted[labels]
    del labels
    if fill_holes:
        _fill_holes(mask, max_hole_px)
    if unseen is not None:
        mask &= ~unseen
    return mask


def _fill_holes(mask: NDArray[np.bool_], max_hole_px: int | None) -> None:
    labels, count = _label(~mask, None)
    sizes = _sizes(labels, count)
    hole = np.ones(count + 1, np.bool_) if max_hole_px is None else sizes <= max_hole_px
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[rim] = False
    hole[0] = False
    for start in range(0, len(mask), _BAND_ROWS):
        mask[start : start + _BAND_ROWS] |= hole[labels[start : start + _BAND_ROWS]]


def _label(
    image: NDArray[np.bool_], structure: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int32], int]:
    labels = np.empty(image.shape, np.int32)
    return labels, int(ndi.label(image, structure, output=labels))


def _sizes(
    labels: NDArray[np.int32], count: int, within: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Pixels of each label; label 0 has none."""
    sizes = np.zeros(count + 1, np.int64)
    # Counting makes 8 bytes of each pixel.
    for start in range(0, len(labels), _BAND_ROWS):
        band = labels[start : start + _BAND_ROWS]
        chosen = band.ravel() if within is None else band[within[start : start + _BAND_ROWS]]
        sizes += np.bincount(chosen, minlength=count + 1)
    sizes[0] = 0
    return sizes


def _smoothed_bands(
    read: Callable[[int, int], NDArray[np.float32]], shape: tuple[int, int], sigma_px: float
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First row, and smoothed rows; as if the whole image were smoothed."""
    reach = int(_TRUNCATE * sigma_px + 0.5)
    for start in range(0, shape[0], _BAND_ROWS):
        stop = min(start + _BAND_ROWS, shape[0])
        low, high = max(start - reach, 0), min(stop + reach, shape[0])
        yield start, _smooth(read(low, high), sigma_px)[start - low : stop - low]


def _smooth(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Gaussian average of the finite pixels; -inf where a pixel is not finite."""
    valid = np.isfinite(image)
    if valid.all():
        return np.asarray(ndi.gaussian_filter(image, sigma_px, truncate=_TRUNCATE), np.float32)
    known = np.where(valid, image, np.float32(0))
    share = ndi.gaussian_filter(valid.astype(np.float32), sigma_px, truncate=_TRUNCATE)
    smooth = ndi.gaussian_filter(known, sigma_px, truncate=_TRUNCATE)
    # A finite pixel is part of its own average, so the share is never small there.
    out = np.full(image.shape, -np.inf, dtype=np.float32)
    np.divide(smooth, share, out=out, where=valid)
    return out
