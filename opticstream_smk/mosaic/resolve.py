"""One position per tile from offsets of pairs: robust weighted least squares on the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Steps on absolute deviations, and at most as many with outliers left out.
_MEDIAN_ITERATIONS = 12
_ITERATIONS = 25
# Outliers are left out more and more strictly, by this factor a step.
_TIGHTENING = 2.0
# Measured offsets that disagree with the rest by more than this are not used.
_OUTLIER_SIGMAS = 4.0
# Where neighbours stray from the stage model by this variance, its pull is halved. Six is a
# Student's t of four degrees of freedom in two dimensions.
_STRAY_VARIANCES = 6.0
# Positions that move less than this in a step are final.
_SETTLED_PX = 1e-3
# Median length of a residual of unit variance in two dimensions (Rayleigh): sqrt(2 ln 2).
_MEDIAN_OF_RAYLEIGH = 1.1774
# How firmly a tile is held where the stage model puts it. Loose enough not to bend the mosaic
# (offsets are known 10^4 times better), and enough to fix the origin of every island.
_ABSOLUTE_SIGMA_PX = 1e3


@dataclass(frozen=True)
class Resolution:
    """Result of `resolve_positions`.

    Attributes
    ----------
    positions
        (N, 2) (y, x) in px, in the frame of the stage model.
    residuals
        (E, 2) measured less resolved offset, px.
    weights
        (E,) robust weight of each measured offset, 0 (rejected) to 1.
    factor
        Factorised normal matrix, unknowns ordered y0 x0 y1 x1 ...
    """

    positions: NDArray[np.float64]
    residuals: NDArray[np.float64]
    weights: NDArray[np.float64]
    factor: sparse_linalg.SuperLU

    def offset_sigma(self, tile_a: int, tile_b: int) -> NDArray[np.float64]:
        """(2,) standard deviation (y, x), px, of the resolved offset of two tiles."""
        difference = np.zeros((2 * len(self.positions), 2))
        for axis in range(2):
            difference[2 * tile_b + axis, axis] = 1
            difference[2 * tile_a + axis, axis] = -1
        covariance = difference.T @ self.factor.solve(difference)
        sigma: NDArray[np.float64] = np.sqrt(np.diag(covariance))
        return sigma


def resolve_positions(
    expected: NDArray[np.float64],
    pairs: NDArray[np.int64],
    scatter: NDArray[np.float64],
    measured_pairs: NDArray[np.int64],
    offsets: NDArray[np.float64],
    covariances: NDArray[np.float64],
) -> Resolution:
    """Solve all positions together.

    Every pair of neighbours pulls towards its expected offset (stage model or earlier solution), as
    strongly as the stage is regular, and less where it has evidently slipped (Student's t); every
    measured offset
    pulls with its inverse covariance, as a matrix, so that an edge of tissue counts across itself
    and not along. Measured offsets that the others contradict lose their weight: first absolute
    deviations are minimised, so that several right offsets outvote a wrong one however far it
    pulls; then outliers lose their weight step by step (Geman-McClure, the scale coming down:
    graduated non-convexity), those beyond `_OUTLIER_SIGMAS` entirely.

    Parameters
    ----------
    expected
        (N, 2) positions of the stage model, or an earlier solution, px.
    pairs
        (P, 2) tiles that are neighbours in the grid, measured or not.
    scatter
        (2,) or (P, 2) standard deviation (y, x) in px of neighbours' offsets about `expected`.
    measured_pairs
        (E, 2) first and second tile of each measured offset; a pair may be measured repeatedly.
    offsets, covariances
        (E, 2) in px and (E, 2, 2) in px^2.
    """
    n_tiles = len(expected)
    scatter = np.broadcast_to(scatter, (len(pairs), 2))
    regular = scatter[:, :, None] ** -2 * np.eye(2)
    hold = sparse.identity(2 * n_tiles, format="csr") * _ABSOLUTE_SIGMA_PX**-2
    # The unknowns are the departures from the stage model, of which the lattice expects none.
    departures = offsets - (expected[measured_pairs[:, 1]] - expected[measured_pairs[:, 0]])
    information = np.linalg.inv(covariances) if len(covariances) else covariances
    freedom = _redundancy(n_tiles, measured_pairs)

    weights = np.ones(len(offsets))
    moved = np.zeros((n_tiles, 2))
    looseness = np.inf
    for iteration in range(_MEDIAN_ITERATIONS + _ITERATIONS):
        weighted = information * weights[:, None, None]
        strayed = moved[pairs[:, 1]] - moved[pairs[:, 0]]
        slack = 1 / (1 + ((strayed / scatter) ** 2).sum(axis=1) / _STRAY_VARIANCES)
        lattice = _pull(n_tiles, pairs, regular * slack[:, None, None])
        system = _pull(n_tiles, measured_pairs, weighted) + lattice + hold
        right = np.zeros((n_tiles, 2))
        force = np.einsum("eij,ej->ei", weighted, departures)
        np.add.at(right, measured_pairs[:, 1], force)
        np.subtract.at(right, measured_pairs[:, 0], force)
        previous = moved
        factor = sparse_linalg.splu(system.tocsc())
        moved = factor.solve(right.ravel()).reshape(-1, 2)
        residuals = departures - (moved[measured_pairs[:, 1]] - moved[measured_pairs[:, 0]])
        lengths = np.sqrt(np.einsum("ei,eij,ej->e", residuals, information, residuals))
        ratio = lengths / _scale(lengths, freedom)
        is_settled = np.abs(moved - previous).max(initial=0.0) < _SETTLED_PX
        if looseness == 1 and is_settled:
            break
        if np.isinf(looseness) and iteration + 1 < _MEDIAN_ITERATIONS and not is_settled:
            weights = 1 / np.maximum(ratio, 1)
            continue
        worst = float(ratio.max(initial=0.0)) / _OUTLIER_SIGMAS
        looseness = max(min(worst, looseness / _TIGHTENING), 1.0)
        weights = _robust_weights(ratio / looseness)
    return Resolution(expected + moved, residuals, weights, factor)


def connected_islands(
    n_tiles: int, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Label tiles that hang together by `pairs`: (N,) labels, and (N,) size of each tile's group.

    Labels are ordered by size: 0 is the largest group.
    """
    links = sparse.coo_matrix(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_tiles, n_tiles)
    )
    _, labels = sparse.csgraph.connected_components(links, directed=False)
    sizes = np.bincount(labels)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[labels], sizes[labels]


def _pull(
    n_tiles: int, pairs: NDArray[np.int64], information: NDArray[np.float64]
) -> sparse.csr_matrix:
    """Normal matrix of offsets between `pairs`, unknowns ordered y0 x0 y1 x1 ..."""
    first = 2 * pairs[:, 0, None] + np.arange(2)
    second = 2 * pairs[:, 1, None] + np.arange(2)
    rows, columns, values = [], [], []
    for left, right, sign in (
        (first, first, 1),
        (second, second, 1),
        (first, second, -1),
        (second, first, -1),
    ):
        rows.append(np.broadcast_to(left[:, :, None], information.shape).ravel())
        columns.append(np.broadcast_to(right[:, None, :], information.shape).ravel())
        values.append(sign * information.ravel())
    return sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(2 * n_tiles, 2 * n_tiles),
    )


def _redundancy(n_tiles: int, pairs: NDArray[np.int64]) -> float:
    """Share of the measured offsets that the others already determine (loops of the graph)."""
    if not len(pairs):
        return 1.0
    labels, _ = connected_islands(n_tiles, pairs)
    unknowns = n_tiles - (int(labels.max()) + 1)
    return max((len(pairs) - unknowns) / len(pairs), 0.05)


def _scale(lengths: NDArray[np.float64], redundancy: float) -> float:
    """Typical length of a right residual, in its own standard deviations."""
    if not len(lengths):
        return 1.0
    # A least-squares solution takes up all but the redundant share of the variance. Covariances
    # are lower bounds (texture that differs between the tiles is not in them), so the scale may
    # grow above 1 but not shrink below it.
    return max(float(np.median(lengths) / (_MEDIAN_OF_RAYLEIGH * np.sqrt(redundancy))), 1.0)


def _robust_weights(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = sigmas / _OUTLIER_SIGMAS
    return np.where(ratio < 1, (1 / (1 + ratio**2)) ** 2, 0.0)
