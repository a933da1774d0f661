"""One mosaic matched: its pairs, what is expected of them, and the positions that fit both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.mosaic.expected import Expectation, Geometry, Prior, expect, fit_lattice
from opticstream_smk.mosaic.pairs import (
    Pair,
    accepted,
    match_pair,
    outweighs,
    search_range,
    sure_offsets,
    together_outweigh,
)
from opticstream_smk.mosaic.resolve import Resolution, resolve_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile
    from opticstream_smk.mosaic.stage_model import StageModel

# An offset predicted from the other matches is not trusted to better than this.
_RESOLVED_SIGMA_FLOOR_PX = 0.5


@dataclass(frozen=True)
class Offsets:
    """Measured offsets of P pairs, of those that are sure; NaN (`ncc`, `evidence`: 0) elsewhere.

    Attributes
    ----------
    shift
        (P, 2) (y, x) of the second tile from the first, px.
    covariance
        (P, 2, 2) px^2.
    ncc
        (P,) correlation of the overlap.
    evidence
        (P,) nats, see `Peak.evidence`.
    """

    shift: NDArray[np.float64]
    covariance: NDArray[np.float64]
    ncc: NDArray[np.float64]
    evidence: NDArray[np.float64]

    @classmethod
    def nowhere(cls, n_pairs: int) -> Offsets:
        """Nothing measured yet."""
        return cls(
            np.full((n_pairs, 2), np.nan),
            np.full((n_pairs, 2, 2), np.nan),
            np.zeros(n_pairs),
            np.zeros(n_pairs),
        )

    @property
    def is_sure(self) -> NDArray[np.bool_]:
        """(P,) where there is one."""
        return np.isfinite(self.shift[:, 0])


@dataclass(frozen=True)
class Matched:
    """What the images of one mosaic say.

    Attributes
    ----------
    measured
        What the overlap of each pair of neighbours says, P of them.
    weights
        (P,) robust weight of each offset, 0 (not accepted, or contradicted by others) to 1.
    resolution
        All positions.
    stage
        The fitted lattice.
    """

    measured: Offsets
    weights: NDArray[np.float64]
    resolution: Resolution
    stage: StageModel


def match_mosaic(
    filtered: Sequence[FilteredTile],
    usable: NDArray[np.bool_],
    geometry: Geometry,
    neighbours: NDArray[np.int64],
    prior: Prior | None,
) -> Matched:
    """Match all neighbours, first far and wide, then near what the sure ones lead to expect.

    Parameters
    ----------
    filtered
        N prepared tiles.
    usable
        (N,) tiles to be matched.
    geometry
        The grid.
    neighbours
        (P, 2) pairs of tiles.
    prior
        An earlier solution to go by instead of the lattice.
    """
    search = search_range(geometry.overlap)
    start = geometry.nominal if prior is None else prior.positions
    pairs = []
    for tile_a, tile_b in neighbours:
        pair = Pair(int(tile_a), int(tile_b))
        if usable[tile_a] and usable[tile_b]:
            pair = match_pair(filtered, pair, start[tile_b] - start[tile_a], search)
        pairs.append(pair)

    expectation, stage = _expect(pairs, geometry, neighbours, prior)
    offset = _between(expectation.positions, neighbours)
    clear = [outweighs(*given) for given in zip(pairs, offset, expectation.scatter, strict=True)]
    clear = together_outweigh(pairs, clear, offset, expectation.scatter)
    sure = [pair for pair, is_clear in zip(pairs, clear, strict=True) if is_clear]
    expectation, stage = _expect(sure, geometry, neighbours, prior)
    offset = _between(expectation.positions, neighbours)
    for index, pair in enumerate(pairs):
        if pair.peak is not None and not clear[index]:
            sigma = expectation.scatter[index]
            pairs[index] = match_pair(filtered, pair, offset[index], search, sigma=sigma)
    measured = _offsets(pairs, expectation)
    matched = resolve_offsets(neighbours, measured, expectation, stage)

    # Round a loop of the graph an offset is known better than it is expected.
    resolution = matched.resolution
    offset = _between(resolution.positions, neighbours)
    for index, pair in enumerate(pairs):
        if pair.peak is None or matched.weights[index] > 0:
            continue
        sigma = resolution.offset_sigma(pair.tile_a, pair.tile_b) + _RESOLVED_SIGMA_FLOOR_PX
        pairs[index] = match_pair(filtered, pair, offset[index], search, sigma=sigma)
    return resolve_offsets(neighbours, _offsets(pairs, expectation), expectation, stage)


def resolve_offsets(
    pairs: NDArray[np.int64], measured: Offsets, expectation: Expectation, stage: StageModel
) -> Matched:
    """Solve for the positions, from the offsets of `pairs` (P, 2) that are supported."""
    ok = accepted(pairs, measured.is_sure, measured.evidence)
    resolution = resolve_positions(
        expectation.positions,
        pairs,
        expectation.scatter,
        pairs[ok],
        measured.shift[ok],
        measured.covariance[ok],
    )
    weights = np.zeros(len(pairs))
    weights[ok] = resolution.weights
    return Matched(measured, weights, resolution, stage)


def _expect(
    sure: Sequence[Pair],
    geometry: Geometry,
    neighbours: NDArray[np.int64],
    prior: Prior | None,
) -> tuple[Expectation, StageModel]:
    ends, offsets = sure_offsets(sure)
    stage = fit_lattice(geometry, ends, offsets)
    return expect(stage, prior, geometry, neighbours, ends, offsets), stage


def _between(positions: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    offset: NDArray[np.float64] = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    return offset


def _offsets(pairs: Sequence[Pair], expectation: Expectation) -> Offsets:
    measured = Offsets.nowhere(len(pairs))
    for index, pair in enumerate(pairs):
        if pair.peak is not None and pair.offset is not None:
            measured.shift[index] = pair.offset.shift
            measured.covariance[index] = pair.covariance(expectation.scatter[index])
            measured.ncc[index] = pair.peak.ncc
            measured.evidence[index] = pair.support
    return measured
