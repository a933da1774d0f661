"""The tissue surface in a volume of any size: the steepest rise along depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Read = Callable[[slice, slice], NDArray[np.float32]]

# Voxels of a block that is searched at a time; with its smoothed copies some 16 bytes each.
_BLOCK_VOXELS = 2**25
# Blocks begin at whole chunks of the usual volumes, so that few chunks are decoded twice.
_ALIGNED_PX = 64
# SciPy's Gaussian ends there.
_REACH_SIGMAS = 4.0


def find_rise(
    read: Read,
    shape: tuple[int, int, int],
    *,
    sigma_px: float = 0.0,
    median_px: int = 1,
    top_px: int = 0,
    top_threshold: float = math.inf,
) -> NDArray[np.float32]:
    """Find the steepest rise of every A-line, block by block.

    The volume may be of any size: memory is that of a block of about 2**25 voxels, and of the map.

    Parameters
    ----------
    read
        Gives (z, y, x) float32 for some rows and columns; NaN is missing.
    shape
        z, y, x of the volume.
    sigma_px
        Gaussian smoothing of the volume before the search, voxels on each axis. Missing voxels, and
        A-lines of one value (masked, or not covered), have no weight in it.
    median_px
        Side of a median filter of the map, odd; 1 for none. A-lines without a surface stay so.
    top_px, top_threshold
        Where the mean of the first `top_px` voxels exceeds `top_threshold`, there is no surface in
        the volume: tissue begins above it.

    Returns
    -------
    numpy.ndarray
        (y, x) float32: 1-based index of the first voxel after the steepest rise; 0 where nothing
        rises (also where all is missing or of one value) and where the top is bright.

    Raises
    ------
    ConfigError
        A number is out of range.
    """
    _check(shape, sigma_px, median_px, top_px)
    depth, height, width = shape
    halo = math.ceil(_REACH_SIGMAS * sigma_px)
    surface = np.zeros((height, width), np.float32)
    for rows, columns in _blocks(depth, height, width, halo):
        outer_y, inner_y = _with_halo(rows, halo, height)
        outer_x, inner_x = _with_halo(columns, halo, width)
        block = _without_flat(read(outer_y, outer_x))
        top = _is_bright(block, top_px, top_threshold)
        found = np.where(top, np.float32(0), _rise(_smooth(block, sigma_px)))
        surface[rows, columns] = found[inner_y, inner_x]
    if median_px > 1:
        from scipy.ndimage import median_filter

        filtered = median_filter(surface, size=median_px, mode="reflect")
        surface = np.where(surface > 0, filtered, np.float32(0))
    return surface


def _check(shape: tuple[int, int, int], sigma_px: float, median_px: int, top_px: int) -> None:
    if shape[0] < 2:
        raise ConfigError(f"a volume of {shape[0]} voxels along z has no rise; expected 2 or more")
    if not 0 <= sigma_px <= 100:
        raise ConfigError(f"sigma of {sigma_px:g} voxels: expected 0 to 100")
    if not (median_px >= 1 and median_px % 2):
        raise ConfigError(f"median filter of {median_px} px: expected an odd number, 1 for none")
    if not 0 <= top_px <= shape[0]:
        raise ConfigError(f"the first {top_px} voxels: expected 0 to {shape[0]}, all along z")


def _blocks(depth: int, height: int, width: int, halo: int) -> Iterator[tuple[slice, slice]]:
    side = math.isqrt(_BLOCK_VOXELS // depth) - 2 * halo
    side = max(side // _ALIGNED_PX, 1) * _ALIGNED_PX
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield slice(y, min(y + side, height)), slice(x, min(x + side, width))


def _with_halo(inner: slice, halo: int, length: int) -> tuple[slice, slice]:
    """What is read, and the part of it that counts."""
    first = max(inner.start - halo, 0)
    outer = slice(first, min(inner.stop + halo, length))
    return outer, slice(inner.start - first, inner.stop - first)


def _without_flat(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """A-lines of one value are filled: they would lend their neighbours an edge, and take one."""
    # Both pass over NaN, and are NaN where there is nothing else.
    is_flat = ~(np.fmax.reduce(block, axis=0) > np.fmin.reduce(block, axis=0))
    return np.where(is_flat, np.float32(np.nan), block) if is_flat.any() else block


def _smooth(block: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    if sigma_px == 0:
        return block
    from scipy.ndimage import gaussian_filter

    is_known = np.isfinite(block)
    if is_known.all():
        smooth: NDArray[np.float32] = gaussian_filter(block, sigma_px, mode="nearest")
        return smooth
    total = gaussian_filter(np.where(is_known, block, np.float32(0)), sigma_px, mode="nearest")
    weight = gaussian_filter(is_known.astype(np.float32), sigma_px, mode="nearest")
    unknown = np.full(block.shape, np.nan, np.float32)
    np.divide(total, weight, out=unknown, where=is_known)
    return unknown


def _is_bright(block: NDArray[np.float32], top_px: int, threshold: float) -> NDArray[np.bool_]:
    if top_px == 0:
        return np.zeros(block.shape[1:], np.bool_)
    top = block[:top_px]
    known = np.isfinite(top)
    count = known.sum(axis=0)
    total = np.where(known, top, 0).sum(axis=0, dtype=np.float64)
    return np.asarray((total > threshold * np.maximum(count, 1)) & (count > 0))


def _rise(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """(y, x) 1-based index after the largest difference; 0 where none is positive."""
    difference = np.diff(block, axis=0)
    # Infinite values have no difference either.
    np.copyto(difference, np.float32(0), where=~np.isfinite(difference))
    best = difference.argmax(axis=0)
    rises = np.take_along_axis(difference, best[None], axis=0)[0] > 0
    return np.where(rises, best + 2, 0).astype(np.float32)
