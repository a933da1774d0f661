"""One set of positions from several mosaics that the same stage went through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.mosaic.checks import checked_cells, checked_images, checked_signal
from opticstream_smk.mosaic.expected import Geometry, expect, fit_lattice
from opticstream_smk.mosaic.matching import Matched, Offsets, match_mosaic, resolve_offsets
from opticstream_smk.mosaic.pairs import accepted, neighbours
from opticstream_smk.mosaic.positions import Oddities, TilePositions, assemble, find_oddities
from opticstream_smk.mosaic.prefilter import filter_tile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

# Offsets of one pair that are farther than this from each other, in standard deviations, are of
# different places.
_OUTLIER_SIGMAS = 4.0
_ITERATIONS = 10
# Median absolute deviation of a normal distribution, in standard deviations.
_MAD_OF_NORMAL = 0.6745


def solve_jointly(
    mosaics: Iterable[ArrayLike | Sequence[NDArray[Any]]],
    cells: ArrayLike,
    *,
    overlap_percent: float,
    signal: ArrayLike | None = None,
) -> TilePositions:
    """Positions of the tiles of a stage from several mosaics (slices) together.

    Each mosaic is matched by itself. The offsets of a pair over all mosaics are then combined
    robustly: where one shows nothing another may, and a wrong match is outvoted. How well the stage
    comes back to a place from mosaic to mosaic is measured, and limits the weight of each offset.
    The combined offsets are resolved as those of one mosaic are.

    Parameters
    ----------
    mosaics
        Each as the `tiles` of `solve_positions`: N images in the order of `cells`, all NaN for
        one that is missing. Taken one by one: memory is that of one mosaic.
    cells
        (N, 2) int row, column of each tile.
    overlap_percent
        Nominal overlap of neighbours, percent of the tile on each axis, 0 to below 100.
    signal
        (N,) bool, or (M, N) for M mosaics: tiles with enough signal to be matched.

    Returns
    -------
    TilePositions
        A tile is anchored if any mosaic links it, a stranger if it is one in any mosaic; ``ncc`` of
        an edge is the mean over the mosaics that show it.

    Raises
    ------
    ConfigError
        If the overlap is out of range.
    ValueError
        If the shapes do not fit together, two tiles have the same cell, or there is no mosaic.
    """
    grid = np.asarray(cells)
    grid = checked_cells(cells, len(grid))
    pairs = neighbours(grid)
    has_content = np.zeros(len(pairs), dtype=bool)
    is_stranger = np.zeros(len(grid), dtype=bool)
    exchanged_with = np.full(len(grid), -1)
    each: list[Offsets] = []
    geometry: Geometry | None = None
    for number, tiles in enumerate(mosaics):
        filtered = [filter_tile(image) for image in checked_images(tiles)]
        checked_cells(grid, len(filtered))
        shape = filtered[0].band.shape
        geometry = geometry or Geometry.of(grid, shape, overlap_percent)
        if shape != geometry.tile_shape:
            raise ValueError(
                f"mosaic {number} has tiles of {shape}: expected {geometry.tile_shape} like "
                "the first mosaic. Solve them apart."
            )
        usable = _signal_of(signal, number, len(grid))
        usable &= np.array([tile.has_structure for tile in filtered])
        found = match_mosaic(filtered, usable, geometry, pairs, None)
        odd = find_oddities(filtered, pairs, geometry, found)
        is_stranger |= odd.is_stranger
        has_content |= odd.has_content
        exchanged_with = np.maximum(exchanged_with, odd.exchanged_with)
        each.append(found.measured)
    if geometry is None:
        raise ValueError("no mosaics: at least one is needed.")
    found = _resolve(geometry, pairs, combine_offsets(each))
    return assemble(pairs, found, Oddities(has_content, is_stranger, exchanged_with))


def combine_offsets(each: Sequence[Offsets]) -> Offsets:
    """One offset for each pair from those of M mosaics.

    A weighted median, then the mean of those that agree with it. Evidence is the sum of theirs,
    less that of those that disagree, less the logarithm of the number of mosaics: the more are
    tried, the more match by chance.
    """
    shift = np.stack([one.shift for one in each])
    evidence = np.stack([one.evidence for one in each])
    covariance = np.stack([one.covariance for one in each])
    covariance = covariance + np.diag(_repeatability(shift, covariance) ** 2)
    ncc = np.stack([one.ncc for one in each])
    sure = np.isfinite(shift[:, :, 0])
    combined = Offsets.nowhere(shift.shape[1])
    for pair in np.flatnonzero(sure.any(axis=0)):
        use = sure[:, pair]
        shifts, information = shift[use, pair], np.linalg.inv(covariance[use, pair])
        agree = _agreeing(shifts, information, evidence[use, pair])
        total = np.linalg.inv(information[agree].sum(axis=0))
        combined.shift[pair] = total @ np.einsum("mij,mj->i", information[agree], shifts[agree])
        combined.covariance[pair] = total
        combined.ncc[pair] = ncc[use, pair][agree].mean()
        votes = (evidence[use, pair] * np.where(agree, 1, -1)).sum()
        combined.evidence[pair] = votes - np.log(len(each))
    return combined


def _signal_of(signal: ArrayLike | None, number: int, n_tiles: int) -> NDArray[np.bool_]:
    if signal is None or np.ndim(signal) < 2:
        return checked_signal(signal, n_tiles)
    rows = np.asarray(signal)
    if number >= len(rows):
        raise ValueError(f"signal has {len(rows)} rows: there is a mosaic {number}.")
    return checked_signal(rows[number], n_tiles)


def _repeatability(
    shift: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(2,) px: scatter of the offset of a pair from mosaic to mosaic, beside what matching adds."""
    steps, noise = [], []
    for pair in range(shift.shape[1]):
        seen = np.flatnonzero(np.isfinite(shift[:, pair, 0]))
        steps.append(np.diff(shift[seen, pair], axis=0))
        variance = np.diagonal(covariance[seen, pair], axis1=1, axis2=2)
        noise.append(variance[1:] + variance[:-1])
    differences, variances = np.concatenate(steps), np.concatenate(noise)
    if not len(differences):
        return np.zeros(2)
    total = (np.median(np.abs(differences), axis=0) / _MAD_OF_NORMAL) ** 2
    excess: NDArray[np.float64] = np.maximum(total - np.median(variances, axis=0), 0)
    return np.sqrt(excess / 2)


def _agreeing(
    shifts: NDArray[np.float64], information: NDArray[np.float64], evidence: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(M,) which offsets of one pair are of the same place."""
    centre = np.array([_weighted_median(shifts[:, axis], evidence) for axis in range(2)])
    agree = np.zeros(len(shifts), dtype=bool)
    for _ in range(_ITERATIONS):
        off = shifts - centre
        previous = agree
        agree = np.einsum("mi,mij,mj->m", off, information, off) < _OUTLIER_SIGMAS**2
        if not agree.any():
            agree = np.arange(len(shifts)) == np.argmax(evidence)
        if (agree == previous).all():
            break
        total = information[agree].sum(axis=0)
        centre = np.linalg.solve(total, np.einsum("mij,mj->i", information[agree], shifts[agree]))
    return agree


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def _resolve(geometry: Geometry, pairs: NDArray[np.int64], measured: Offsets) -> Matched:
    # Two mosaics that contradict each other are no evidence.
    measured.shift[measured.evidence <= 0] = np.nan
    ok = accepted(pairs, measured.is_sure, measured.evidence)
    stage = fit_lattice(geometry, pairs[ok], measured.shift[ok])
    expectation = expect(stage, None, geometry, pairs, pairs[ok], measured.shift[ok])
    return resolve_offsets(pairs, measured, expectation, stage)
