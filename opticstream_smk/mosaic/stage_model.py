"""Where the stage went on average: a fitted lattice that also places tiles without content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Offsets farther from the lattice than this many times the typical scatter are wrong matches.
_OUTLIER_SIGMAS = 4.0
_ITERATIONS = 30
# Weight of the a-priori scatter, as a number of edges: with few edges it decides.
_PRIOR_EDGES = 4.0
# Median absolute deviation of a normal distribution, in standard deviations.
_MAD_OF_NORMAL = 0.6745


@dataclass(frozen=True)
class StageModel:
    """Positions as a linear function of the cell, with a term for serpentine backlash.

    ``position = row * row_step + column * column_step + (column odd) * column_backlash
    + (row odd) * row_backlash``, all (y, x) in px.

    Attributes
    ----------
    coefficients
        (4, 2): row step, column step, backlash of odd columns, backlash of odd rows.
    scatter
        (2,) standard deviation (y, x) in px of the offset of two neighbours about the model.
    """

    coefficients: NDArray[np.float64]
    scatter: NDArray[np.float64]

    def positions(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N, 2) positions of `cells` (N, 2); cell (0, 0) lies at (0, 0)."""
        positions: NDArray[np.float64] = _terms(cells) @ self.coefficients
        return positions


def fit_stage_model(
    cells_a: NDArray[np.int64],
    cells_b: NDArray[np.int64],
    offsets: NDArray[np.float64],
    *,
    nominal_step: NDArray[np.float64],
    step_sigma: NDArray[np.float64],
    prior_scatter_px: float,
) -> StageModel:
    """Fit the lattice to measured offsets of neighbours, whatever share of them is wrong (< 1/2).

    Iteratively reweighted least squares, first on absolute deviations, so that the fit is a
    median, then with the outliers left out. Terms that the offsets do not determine (one row, few
    matches) stay at the nominal step and at no backlash.

    Parameters
    ----------
    cells_a, cells_b
        (E, 2) row, column of both tiles of each pair.
    offsets
        (E, 2) measured (y, x) of the second tile from the first, px. E may be 0.
    nominal_step
        (2,) nominal step (y, x) in px.
    step_sigma
        (2,) how far (y, x) the true step may plausibly be from the nominal, px.
    prior_scatter_px
        Scatter of the stage assumed before anything is measured.
    """
    nominal = np.zeros((4, 2))
    nominal[0, 0], nominal[1, 1] = nominal_step
    design = _terms(cells_b) - _terms(cells_a)
    deviations = np.asarray(offsets, dtype=np.float64).reshape(-1, 2) - design @ nominal

    correction = np.zeros((4, 2))
    scatter = np.full(2, prior_scatter_px)
    for axis in range(2):
        # Backlash is a small fraction of what the step can be off by.
        prior = np.array([1.0, 1.0, 0.25, 0.25]) * step_sigma[axis]
        target = deviations[:, axis]
        weights = np.ones(len(target))
        sigma = prior_scatter_px
        for iteration in range(_ITERATIONS):
            ridge = np.diag((sigma / prior) ** 2)
            weighted = design * weights[:, None]
            solution = np.linalg.solve(weighted.T @ design + ridge, weighted.T @ target)
            misfit = np.abs(target - design @ solution)
            sigma = robust_sigma(misfit, prior_scatter_px)
            if iteration < _ITERATIONS // 2:
                weights = sigma / np.maximum(misfit, 0.1 * sigma)
            else:
                weights = (misfit < _OUTLIER_SIGMAS * sigma).astype(np.float64)
        correction[:, axis] = solution
        scatter[axis] = sigma
    return StageModel(nominal + correction, scatter)


def _terms(cells: NDArray[np.int64]) -> NDArray[np.float64]:
    row, column = cells[:, 0], cells[:, 1]
    return np.stack([row, column, column % 2, row % 2], axis=1).astype(np.float64)


def robust_sigma(misfit: NDArray[np.float64], prior: float) -> float:
    """Standard deviation, px, of (E,) |misfit|, from its median; of few, `prior` px has a say."""
    if not len(misfit):
        return prior
    measured = float(np.median(misfit)) / _MAD_OF_NORMAL
    share = len(misfit) / (len(misfit) + _PRIOR_EDGES)
    return float(np.sqrt(share * measured**2 + (1 - share) * prior**2))
