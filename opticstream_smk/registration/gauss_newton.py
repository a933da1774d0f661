"""Gauss-Newton refinement of an affine map on one pyramid level."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from opticstream_smk.registration.affine import Affine
from opticstream_smk.registration.pyramid import Level

# More points do not make the result better, only slower.
_MAX_SAMPLES = 400_000
_MIN_SAMPLES = 50

# Cauchy weight of a residual: half at this many robust standard deviations.
_ROBUST_SIGMAS = 1.5

# A step beyond this many level pixels is outside of what the gradients can tell.
_MAX_STEP_PX = 4.0


@dataclass(frozen=True)
class Refined:
    """What the refinement reached, in level pixels.

    Attributes
    ----------
    affine
        Fixed to moving.
    ncc
        Correlation over the overlap at ``affine``; -1 without overlap.
    overlap
        Share of the sampled fixed pixels that land on valid moving pixels.
    iterations
        Steps taken.
    last_step_px
        Largest movement of a corner in the last step.
    """

    affine: Affine
    ncc: float
    overlap: float
    iterations: int
    last_step_px: float


@dataclass(frozen=True, eq=False)
class _Samples:
    """Valid points of the fixed level: positions (n, 2), values and gradients."""

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    gradient: NDArray[np.float64]  # (n, 2)
    basis: NDArray[np.float64]  # (n, 3): 1, and y and x from the centre, at most 1
    centre: NDArray[np.float64]
    half_size: float


def _sample(level: Level) -> _Samples:
    stride = 1
    while level.valid[::stride, ::stride].sum() > _MAX_SAMPLES:
        stride += 1
    rows, columns = (stride * i for i in np.nonzero(level.valid[::stride, ::stride]))
    points = np.stack([rows, columns], axis=-1).astype(np.float64)
    centre = (np.array(level.image.shape) - 1) / 2
    half_size = float(max(level.image.shape)) / 2
    values = level.image[rows, columns]
    return _Samples(
        points=points,
        # Centred, so that gain and offset do not trade places in the normal equations.
        values=values - values.mean() if values.size else values,
        gradient=np.stack([along[rows, columns] for along in level.gradient], axis=-1),
        basis=np.column_stack([np.ones(len(points)), (points - centre) / half_size]),
        centre=centre,
        half_size=half_size,
    )


def correlation(fixed: Level, moving: Level, affine: Affine) -> float:
    """Correlate two levels over their overlap under an affine map (level pixels).

    -1 where there is no overlap or one of them is flat in it.
    """
    return _correlation(_sample(fixed), moving, affine)[0]


def _correlation(samples: _Samples, moving: Level, affine: Affine) -> tuple[float, float]:
    """Return the correlation and the share of fixed pixels that land on valid moving ones."""
    if len(samples.points) == 0:
        return -1.0, 0.0
    where = affine.apply(samples.points).T
    hit = _lands_on_valid(moving, where)
    ncc = _pearson(samples.values[hit], _interpolate(moving, where[:, hit]))
    return ncc, float(hit.mean())


def refine(
    fixed: Level, moving: Level, start: Affine, *, max_iterations: int, stop_step_px: float
) -> Refined:
    """Improve an affine map by weighted least squares on the brightness difference.

    The model is ``moving(A p + t) = gain(p) fixed(p) + offset(p)`` with gain and offset linear in
    ``p``, which takes up illumination that varies over the mosaic. Gradients are the mean of
    those of the two images, which doubles the reach, and residuals are weighted by a Cauchy
    function, because a tilted view lights up some tissue differently.

    Parameters
    ----------
    fixed, moving
        Levels of equal step.
    start
        First guess, level pixels.
    max_iterations
        Upper limit.
    stop_step_px
        The iteration ends when a step moves no corner by more than this, level pixels.

    Returns
    -------
    Refined
        ``start`` with a correlation of -1 where the overlap was lost or the map collapsed.
    """
    samples = _sample(fixed)
    linear, shift = start.A.copy(), start.t.copy()
    gain = None
    weight = np.ones(len(samples.points))
    step_px = np.inf
    iterations = 0
    while iterations < max_iterations and step_px > stop_step_px:
        where = linear @ samples.points.T + shift[:, np.newaxis]
        hit = _lands_on_valid(moving, where)
        if hit.sum() < _MIN_SAMPLES or np.linalg.matrix_rank(linear) < 2:
            return Refined(start, -1.0, 0.0, iterations, np.inf)
        where = where[:, hit]
        value = _interpolate(moving, where)
        f, basis = samples.values[hit], samples.basis[hit]
        if gain is None:
            gain = np.array([value.std() / max(f.std(), np.finfo(float).tiny), 0.0, 0.0])
        slope_m = np.stack(
            [ndimage.map_coordinates(g, where, order=1, mode="nearest") for g in moving.gradient],
            axis=-1,
        )
        # The fixed gradient as it appears in moving coordinates: A^-T, times the local gain.
        slope_f = (samples.gradient[hit] * (basis @ gain)[:, np.newaxis]) @ np.linalg.inv(linear)
        slope = 0.5 * (slope_m + slope_f)
        design = np.hstack(
            [slope[:, :1] * basis, slope[:, 1:] * basis, -f[:, np.newaxis] * basis, -basis]
        )
        solution = _solve(design, -value, weight[hit])
        residual = design[:, 6:] @ solution[6:] + value
        weight[hit] = _cauchy(residual)
        gain = solution[6:9]
        move = solution[:6].reshape(2, 3)
        step_px = float(np.abs(move).sum(axis=1).max())
        if step_px > _MAX_STEP_PX:
            move *= _MAX_STEP_PX / step_px
        turn = move[:, 1:] / samples.half_size
        linear = linear + turn
        shift = shift + move[:, 0] - turn @ samples.centre
        iterations += 1
    if not (np.isfinite(linear).all() and np.linalg.matrix_rank(linear) == 2):
        return Refined(start, -1.0, 0.0, iterations, np.inf)
    affine = Affine(linear, shift)
    ncc, overlap = _correlation(samples, moving, affine)
    return Refined(affine, ncc, overlap, iterations, step_px)


def _lands_on_valid(moving: Level, where: NDArray[np.float64]) -> NDArray[np.bool_]:
    share = ndimage.map_coordinates(
        moving.valid.astype(np.float32), where, order=1, mode="constant", cval=0.0
    )
    return np.asarray(share > 0.5)


def _interpolate(moving: Level, where: NDArray[np.float64]) -> NDArray[np.float64]:
    return ndimage.map_coordinates(moving.spline, where, order=3, mode="mirror", prefilter=False)


def _solve(
    design: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted least squares; directions that the data do not fix stay at zero."""
    weighted = design * weight[:, np.newaxis]
    normal, right = weighted.T @ design, weighted.T @ target
    scale = np.sqrt(np.maximum(np.diag(normal), np.finfo(float).tiny))
    return np.asarray(
        np.linalg.lstsq(normal / np.outer(scale, scale), right / scale, rcond=1e-10)[0] / scale
    )


def _cauchy(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    # 1.4826 turns the median absolute deviation into a standard deviation.
    sigma = 1.4826 * float(np.median(np.abs(residual)))
    if sigma == 0.0:
        return np.ones_like(residual)
    return np.asarray(1.0 / (1.0 + (residual / (_ROBUST_SIGMAS * sigma)) ** 2))


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.size < _MIN_SAMPLES or a.std() == 0 or b.std() == 0:
        return -1.0
    return float(np.corrcoef(a, b)[0, 1])
