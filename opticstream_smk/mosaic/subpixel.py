"""Offset of two tiles below one pixel, and how well it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from opticstream_smk.mosaic.correlate import overlap_slices
from opticstream_smk.mosaic.prefilter import SMOOTHING_SIGMA_PX, high_pass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile

# Noise in the gradients shortens the steps, so that few of them stop short of the optimum. That
# pulls noisy offsets a little towards the start, and more steps have a larger rms on phantoms.
_ITERATIONS = 8
_CONVERGED_PX = 2e-3
# A refinement that leaves its pixel by more than this has lost the peak.
_MAX_CORRECTION_PX = 1.6
# Spline values within this distance of the overlap's rim depend on pixels beyond it.
_MARGIN_PX = 1
# The high-pass of each overlap, a running mean over this many pixels, three times (sigma 6.5 px).
# It is applied to the two overlaps, not to the tiles: what the filter makes up beyond the rim is
# then the same for both. With a high-pass of whole tiles the rim of one tile meets the inside of
# the other, which costs a factor of 2 to 4 in accuracy on phantoms.
_BACKGROUND_BOX_PX = 15
# Size below which the four unknowns are not worth solving.
_MIN_OVERLAP_PX = 5


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
    extra_sigma_px: float = 0.0,
) -> Offset | None:
    """Least-squares offset of tile `b` from tile `a`, starting at the right pixel.

    Gauss-Newton (Lucas & Kanade 1981) with gain and level as further unknowns. Both tiles are
    moved by half the offset, in opposite directions, so that interpolation blurs both alike, and
    the gradient is that of their mean: the noise of a sum is independent of that of a difference.

    Parameters
    ----------
    a, b
        Prepared tiles of one shape (ny, nx); missing pixels are not used.
    start
        (dy, dx) in whole px, within a pixel of the truth.
    extra_sigma_px
        Further smoothing for noisy pairs, standard deviation of the Gaussian.

    Returns
    -------
    Offset or None
        None if the overlap is too small or without structure, or the solution runs away.
    """
    rows_a, rows_b = overlap_slices(a.smoothed.shape[0], start[0])
    columns_a, columns_b = overlap_slices(a.smoothed.shape[1], start[1])
    part_a, part_b = a.smoothed[rows_a, columns_a], b.smoothed[rows_b, columns_b]
    if min(part_a.shape) < _MIN_OVERLAP_PX:
        return None
    valid = np.ones(part_a.shape, dtype=bool)
    if a.valid is not None:
        valid &= a.valid[rows_a, columns_a]
    if b.valid is not None:
        valid &= b.valid[rows_b, columns_b]
    use = _inner(valid)
    if use.sum() < _MIN_OVERLAP_PX**2:
        return None
    spline_a, spline_b = _spline(part_a, extra_sigma_px), _spline(part_b, extra_sigma_px)

    shift = np.zeros(2)
    for _ in range(_ITERATIONS):
        value_a, dy_a, dx_a = (v[use] for v in _evaluate(spline_a, shift / 2))
        value_b, dy_b, dx_b = (v[use] for v in _evaluate(spline_b, -shift / 2))
        spread_b = value_b - value_b.mean()
        gain = float(_products(spread_b[None], value_a[None])[0, 0])
        gain /= max(float(_products(spread_b[None], spread_b[None])[0, 0]), 1e-30)
        # A negative or extreme gain means that the tiles do not show the same thing.
        gain = min(max(gain, 0.5), 2.0)
        # Derivatives of the residual by shift y, shift x, gain and level.
        design = np.stack(
            [
                (dy_a + gain * dy_b) / 2,
                (dx_a + gain * dx_b) / 2,
                -value_b,
                np.full_like(value_b, -1.0),
            ]
        )
        residual = value_a - gain * value_b
        try:
            inverse = np.linalg.inv(_products(design, design))
        except np.linalg.LinAlgError:
            return None
        step = -(inverse @ _products(design, residual[None])[:, 0])
        shift = shift + step[:2]
        if not np.abs(shift).max() <= _MAX_CORRECTION_PX:
            return None
        if np.abs(step[:2]).max() < _CONVERGED_PX:
            break
    left_over = residual + np.einsum("i,in->n", step, design)
    noise_area_px = 4 * np.pi * (SMOOTHING_SIGMA_PX**2 + extra_sigma_px**2)
    variance = float(np.mean(left_over**2)) * noise_area_px
    covariance: NDArray[np.float64] = np.asarray(variance * inverse[:2, :2], dtype=np.float64)
    return Offset(np.asarray(start, dtype=np.float64) + shift, covariance)


def _products(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scalar products of all rows of `left` with all rows of `right`.

    Not ``left @ right.T``: a BLAS library starts threads for it, which wait for each other when
    other jobs keep the cores busy (measured: 14 times the CPU time).
    """
    products: NDArray[np.float64] = np.einsum("in,jn->ij", left, right)
    return products


def _inner(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose interpolation reads valid pixels only."""
    if not valid.all():
        valid = ndi.binary_erosion(valid, np.ones((5, 5), dtype=bool), border_value=1)
    inner = np.zeros_like(valid)
    core = (slice(_MARGIN_PX, -_MARGIN_PX),) * 2
    inner[core] = valid[core]
    return inner


def _spline(part: NDArray[np.float32], extra_sigma_px: float) -> NDArray[np.float64]:
    """Cubic B-spline coefficients of the high-passed overlap, two more at each side (mirrored)."""
    if extra_sigma_px > 0:
        part = np.asarray(
            ndi.gaussian_filter(part, extra_sigma_px, mode="nearest"), dtype=np.float32
        )
    coefficients = ndi.spline_filter(
        high_pass(part, _BACKGROUND_BOX_PX), order=3, output=np.float64, mode="mirror"
    )
    return np.pad(coefficients, 2, mode="reflect")


def _evaluate(
    coefficients: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Value and gradient (y, x) of the spline at every pixel moved by `shift`, |shift| < 1."""
    value_y, slope_y = _weights(shift[0])
    value_x, slope_x = _weights(shift[1])
    smooth_y = _filter_rows(coefficients, value_y)
    steep_y = _filter_rows(coefficients, slope_y)
    value = _filter_rows(smooth_y.T, value_x).T
    dx = _filter_rows(smooth_y.T, slope_x).T
    dy = _filter_rows(steep_y.T, value_x).T
    return value, dy, dx


def _weights(shift: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Five taps (offsets -2 ... 2) of the cubic B-spline and of its slope at `shift`."""
    distance = shift - np.arange(-2, 3)
    size = np.abs(distance)
    near, far = np.minimum(size, 1.0), np.clip(size, 1.0, 2.0)
    value = np.where(size < 1, 2 / 3 - near**2 + near**3 / 2, (2 - far) ** 3 / 6)
    slope = np.where(size < 1, -2 * near + 1.5 * near**2, -((2 - far) ** 2) / 2)
    return value, slope * np.sign(distance)


def _filter_rows(
    coefficients: NDArray[np.float64], taps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted sum of five successive rows, four rows fewer than given."""
    rows = coefficients.shape[0] - 4
    out: NDArray[np.float64] = taps[0] * coefficients[:rows]
    for k in range(1, 5):
        out += taps[k] * coefficients[k : k + rows]
    return out
