"""Offset of two tiles below one pixel, and how well it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from opticstream_smk.mosaic.correlate import overlap_slices
from opticstream_smk.mosaic.prefilter import SMOOTHING_SIGMA_PX, gaussian_taps, smooth
from opticstream_smk.mosaic.subpixel_kernels import (
    QUANTITIES,
    block_products,
    subtract_background,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile

_ITERATIONS = 10
# Each step leaves less than a tenth of itself.
_CONVERGED_PX = 0.02
# A refinement that leaves its pixel by more than this has lost the peak.
_MAX_CORRECTION_PX = 1.6
# How far the start may plausibly be off. Where the content says nothing (along an edge of tissue)
# the offset stays there instead of following the noise.
_START_SIGMA_PX = 1.0
# Standard deviation given to an offset of which the content says nothing.
_NO_CONTENT_PX = 100.0
# Pixels along the rim of the overlap whose spline reads coefficients beyond it.
_MARGIN_PX = 2
# The high-pass of each overlap, a running mean over this many pixels, three times (sigma 6.5 px).
# It is applied to the two overlaps, not to the tiles: what the filter makes up beyond the rim is
# then the same for both. With a high-pass of whole tiles the rim of one tile meets the inside of
# the other, which costs a factor of 2 to 4 in accuracy on phantoms. A wider one (sigma 15 px) gains
# 5 % where tiles are noisy, and moves a soft outline of tissue by 0.7 px: there vignetting, which
# differs between the tiles, passes for a shift.
_BACKGROUND_BOX_PX = 15
# Where noise is stronger than tissue, smoothing further costs less tissue than noise.
_NOISY_SIGMA_PX = 1.0
_NOISY_TAPS = gaussian_taps(_NOISY_SIGMA_PX)
# Size below which the four unknowns are not worth solving.
_MIN_OVERLAP_PX = 5
# The noise of the estimate is counted over blocks of this many pixels, beyond which the noise of
# the images is not correlated.
_BLOCK_PX = 12
# Weight of the noise that the residual would have if it were the same everywhere, in blocks:
# a few blocks alone do not tell a variance.
_BLOCKS_OF_MODEL = 8.0

_VALUE_A, _VALUE_B, _ONE = 0, 3, 6
_SLOPE_A, _SLOPE_B = slice(1, 3), slice(4, 6)


@dataclass(frozen=True)
class Offset:
    """Offset of the second tile from the first.

    Attributes
    ----------
    shift
        (2,) float64, (y, x) in px.
    covariance
        (2, 2) of `shift`, px^2. Not a multiple of the identity where the content has one
        dominant direction: along an edge the offset is poorly known.
    """

    shift: NDArray[np.float64]
    covariance: NDArray[np.float64]


def refine_offset(
    a: FilteredTile,
    b: FilteredTile,
    start: tuple[int, int],
    *,
    is_noisy: bool = False,
) -> Offset | None:
    """Least-squares offset of tile `b` from tile `a`, starting at the right pixel.

    Newton steps (after Lucas & Kanade 1981) with gain and level as further unknowns. Both tiles
    are moved by half the offset, in opposite directions, so that interpolation blurs both alike,
    and the gradient is that of their mean: the noise of a sum is independent of that of a
    difference. What the content says about the offset is taken from the products of the gradients
    of one tile with those of the other: only what both show is content. (The squares of the mean
    gradient hold the noise as well, which then passes for detail: two tiles of nothing but speckle
    would be matched to 0.07 px.) The covariance is the scatter of the contributions of blocks of
    pixels ("sandwich" of White 1980, clustered), so it holds for noise that is correlated or
    stronger in some places than in others.

    Parameters
    ----------
    a, b
        Prepared tiles of one shape (ny, nx); missing pixels are not used.
    start
        (dy, dx) in whole px, within a pixel of the truth.
    is_noisy
        Whether noise is stronger than fine structure. The tiles are then smoothed more.

    Returns
    -------
    Offset or None
        None if the overlap is too small or without structure, or the solution runs away.
    """
    overlap = _overlap(a, b, start, is_noisy=is_noisy)
    if overlap is None:
        return None
    noise_area_px = 4 * np.pi * (SMOOTHING_SIGMA_PX**2 + (_NOISY_SIGMA_PX**2 if is_noisy else 0))
    shift = np.zeros(2)
    noise = inverse = np.zeros((2, 2))
    for _ in range(_ITERATIONS):
        products = _products(overlap, shift)
        fit = _fit(products, noise_area_px, shift)
        if fit is None:
            return None
        shift = shift + fit.step
        if not np.abs(shift).max() <= _MAX_CORRECTION_PX:
            return None
        noise, inverse = _score_noise(products, fit), fit.inverse
        if np.abs(fit.step).max() < _CONVERGED_PX:
            break
    covariance: NDArray[np.float64] = inverse @ noise @ inverse
    return Offset(np.asarray(start, dtype=np.float64) + shift, covariance)


@dataclass(frozen=True)
class _Overlap:
    """What both tiles show of the same ground, as spline coefficients; weight of each pixel."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class _Fit:
    """One step: where to go, and what is needed to tell how sure that is.

    `inverse` (2, 2) is that of the second derivative of the misfit, `model_noise` (2, 2) the
    variance of its first derivative if the noise were the same everywhere.
    """

    step: NDArray[np.float64]
    inverse: NDArray[np.float64]
    model_noise: NDArray[np.float64]
    gain: float
    level: float


def _overlap(
    a: FilteredTile, b: FilteredTile, start: tuple[int, int], *, is_noisy: bool
) -> _Overlap | None:
    rows_a, rows_b = overlap_slices(a.spline.shape[0], start[0])
    columns_a, columns_b = overlap_slices(a.spline.shape[1], start[1])
    parts = [a.spline[rows_a, columns_a], b.spline[rows_b, columns_b]]
    if min(parts[0].shape) < _MIN_OVERLAP_PX:
        return None
    weight = np.ones(parts[0].shape, np.float32)
    valid = [
        tile.valid[place]
        for tile, place in ((a, (rows_a, columns_a)), (b, (rows_b, columns_b)))
        if tile.valid is not None
    ]
    if valid:
        # Pixels whose interpolation reads valid pixels only.
        both = np.logical_and.reduce(valid)
        weight[~ndi.binary_erosion(both, np.ones((5, 5), dtype=bool), border_value=1)] = 0
    core = (slice(_MARGIN_PX, -_MARGIN_PX),) * 2
    if weight[core].sum() < _MIN_OVERLAP_PX**2:
        return None
    box = min(_BACKGROUND_BOX_PX, 2 * (min(weight.shape) // 2) - 1)
    for k, part in enumerate(parts):
        parts[k] = smooth(part, _NOISY_TAPS) if is_noisy else part.copy()
        subtract_background(parts[k], box, 0.0)
    return _Overlap(parts[0], parts[1], weight)


def _products(overlap: _Overlap, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """(blocks, 7, 7) sums of products of values, gradients and 1, see `block_products`."""
    packed = block_products(
        overlap.a,
        overlap.b,
        overlap.weight,
        _taps(shift / 2),
        _taps(-shift / 2),
        _MARGIN_PX,
        _BLOCK_PX,
    )
    packed = packed.reshape(-1, packed.shape[2])
    products = np.zeros((len(packed), QUANTITIES, QUANTITIES))
    i, j = np.triu_indices(QUANTITIES)
    products[:, i, j] = packed
    products[:, j, i] = packed
    return products


def _fit(
    products: NDArray[np.float64], noise_area_px: float, shift: NDArray[np.float64]
) -> _Fit | None:
    total = products.sum(axis=0)
    pixels = total[_ONE, _ONE]
    # Less the means, which takes the level out.
    spread = total - np.outer(total[:, _ONE], total[:, _ONE]) / pixels
    if not (spread[_VALUE_A, _VALUE_A] > 0 and spread[_VALUE_B, _VALUE_B] > 0):
        return None
    # As strong in one tile as in the other. (A fit of one to the other would be short by the
    # noise.) An extreme gain means that the tiles do not show the same thing.
    gain = float(np.sqrt(spread[_VALUE_A, _VALUE_A] / spread[_VALUE_B, _VALUE_B]))
    gain = min(max(gain, 0.5), 2.0)
    gradient = np.zeros((2, QUANTITIES))
    gradient[:, _SLOPE_A] = np.eye(2) / 2
    gradient[:, _SLOPE_B] = gain * np.eye(2) / 2
    residual = np.zeros(QUANTITIES)
    residual[_VALUE_A], residual[_VALUE_B] = 1, -gain

    variance = max(float(residual @ spread @ residual) / pixels, 1e-30) * noise_area_px
    model_noise = variance * (gradient @ spread @ gradient.T)
    common = gain * spread[_SLOPE_A, _SLOPE_B]
    curvature, axes = np.linalg.eigh((common + common.T) / 2)
    noise = np.einsum("ik,ij,jk->k", axes, model_noise, axes)
    # Along each axis the best linear estimate of an offset that is known to be near the start.
    curvature = np.maximum(curvature, np.sqrt(noise) / _NO_CONTENT_PX)
    gain_of_score = curvature / (curvature**2 + noise / _START_SIGMA_PX**2)
    score = axes.T @ (gradient @ spread @ residual)
    wanted = gain_of_score * (curvature * (axes.T @ shift) - score)
    return _Fit(
        step=axes @ wanted - shift,
        inverse=(axes / curvature) @ axes.T,
        model_noise=model_noise,
        gain=gain,
        level=float(total[_ONE] @ residual) / pixels,
    )


def _score_noise(products: NDArray[np.float64], fit: _Fit) -> NDArray[np.float64]:
    """(2, 2) variance of the first derivative of the misfit, from its scatter over the blocks."""
    slopes = (products[:, _SLOPE_A] + fit.gain * products[:, _SLOPE_B]) / 2
    scores = slopes[:, :, _VALUE_A] - fit.gain * slopes[:, :, _VALUE_B]
    scores -= fit.level * slopes[:, :, _ONE]
    blocks = len(scores)
    scores -= scores.mean(axis=0)
    noise: NDArray[np.float64] = scores.T @ scores * (blocks / max(blocks - 1, 1))
    return (blocks * noise + _BLOCKS_OF_MODEL * fit.model_noise) / (blocks + _BLOCKS_OF_MODEL)


def _taps(shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """(2, 2, 5): for both axes, weights of value and slope of a cubic B-spline at -2 ... 2."""
    distance = shift[:, None] - np.arange(-2, 3)
    size = np.abs(distance)
    near, far = np.minimum(size, 1.0), np.clip(size, 1.0, 2.0)
    value = np.where(size < 1, 2 / 3 - near**2 + near**3 / 2, (2 - far) ** 3 / 6)
    slope = np.where(size < 1, -2 * near + 1.5 * near**2, -((2 - far) ** 2) / 2)
    return np.stack([value, slope * np.sign(distance)], axis=1).astype(np.float32)
