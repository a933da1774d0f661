"""Neighbours in the grid, and how well their images tell the offset of one from the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.mosaic.correlate import Peak, find_peak
from opticstream_smk.mosaic.subpixel import Offset, refine_offset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile

# Farthest that a stage is looked for from where it should be.
_MAX_SEARCH_PX = 40
_SEARCH_SHARE_OF_OVERLAP = 0.6
# A thin overlap (small tiles) is searched at least this far, as long as some overlap remains.
_MIN_SEARCH_PX = 12
_MIN_REMAINING_OVERLAP_PX = 3
# Log likelihood ratio, in nats, above which a match is believed: e^6 = 400, so that a mosaic of
# a few hundred empty pairs yields about one false match.
_MIN_EVIDENCE = 6.0
# The best place must be e^5 = 150 times as likely as any other.
_MIN_MARGIN = 5.0
# The same for a match near the expected offset, which is itself evidence: a false match can
# then be off by little, and its uncertainty enters its weight.
_MIN_EVIDENCE_NEAR_EXPECTED = 3.0
_MIN_MARGIN_NEAR_EXPECTED = 3.0
# A match found far and wide with less to spare than this is not kept as it is.
_CLEAR_MARGIN = 10.0
# Tissue that two tiles share fixes their offset to better than this, chance seldom does. What is
# vaguer needs so many nats of evidence and margin together, unless it is expected to better than
# `_NEAR_PX`: it then does little harm. On phantoms that leaves 6 wrong matches in 8000 instead of
# 25, all of tiles with next to no tissue, and none at the rim of the search.
_SHARP_SIGMA_PX = 0.45
_MIN_FOR_VAGUE = 20.0
_FULL_OVERLAP_PX = 1e4
_NEAR_PX = 2.0
# How steeply departures from the expected offset become unlikely: Student's t of four degrees of
# freedom in two dimensions, (nu + 2) / 2 log(1 + r^2 / nu). Stages do slip, if seldom.
_FREEDOM = 4.0
# Systematic error of a subpixel offset (interpolation, vignetting), added to its noise.
_OFFSET_FLOOR_PX = 0.02
# Doubtful pairs are searched again up to this many standard deviations from the expected offset.
_REACH_SIGMAS = 4.0
# Correlation below which noise is stronger than fine structure.
_NOISY_NCC = 0.6


@dataclass(frozen=True)
class Pair:
    """Two neighbours in the grid and what their overlap says.

    Attributes
    ----------
    tile_a, tile_b
        Index of the tiles; the second lies below or to the right.
    peak
        Where they match best, None where there is nothing to match.
    offset
        Offset below the pixel, of a convincing match only.
    """

    tile_a: int
    tile_b: int
    peak: Peak | None = None
    offset: Offset | None = None

    @property
    def is_sure(self) -> bool:
        """Whether the match is believed."""
        return self.offset is not None

    @property
    def sigma(self) -> float:
        """Uncertainty of the offset in px, infinite if there is none."""
        return (
            np.inf if self.offset is None else float(np.sqrt(np.trace(self.offset.covariance) / 2))
        )

    @property
    def support(self) -> float:
        """Evidence, nats, that this is where the tiles lie to each other.

        That of the parts of the overlap (`Peak.evidence`) is small where only a few show tissue.
        A match that is sharp and has no rival then still counts in full.
        """
        if self.peak is None or self.offset is None:
            return 0.0
        is_clear = self.peak.margin >= _CLEAR_MARGIN and self.sigma <= _SHARP_SIGMA_PX
        return max(self.peak.evidence, _MIN_EVIDENCE) if is_clear else self.peak.evidence

    @property
    def doubt(self) -> float:
        """Probability that the match is a wrong place or no match at all."""
        if self.peak is None:
            return 1.0
        return float(np.exp(-self.peak.margin) + np.exp(-self.peak.evidence))

    def covariance(self, scatter: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, 2) px^2 of a sure offset, which the stage keeps to within `scatter` (2,) px."""
        assert self.offset is not None
        # A match that may be wrong is as uncertain as the places where the right one may be.
        floor = np.diag(_OFFSET_FLOOR_PX**2 + self.doubt * scatter**2)
        return self.offset.covariance + floor


def neighbours(grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P, 2) tiles one row or one column apart; the second lies below or to the right."""
    index_of = {(int(row), int(column)): index for index, (row, column) in enumerate(grid)}
    found = []
    for (row, column), index in index_of.items():
        for cell in ((row + 1, column), (row, column + 1)):
            if cell in index_of:
                found.append((index, index_of[cell]))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def search_range(overlap: NDArray[np.float64]) -> tuple[int, int]:
    """Half width (y, x), px, of the first search, for an overlap of so many px on each axis."""
    wanted = np.minimum(_SEARCH_SHARE_OF_OVERLAP * overlap, _MAX_SEARCH_PX)
    least = np.minimum(_MIN_SEARCH_PX, overlap - _MIN_REMAINING_OVERLAP_PX)
    reach = np.ceil(np.maximum(np.maximum(wanted, least), 1)).astype(int)
    return int(reach[0]), int(reach[1])


def match_pair(
    filtered: Sequence[FilteredTile],
    pair: Pair,
    expected: NDArray[np.float64],
    search: tuple[int, int],
    *,
    sigma: NDArray[np.float64] | None = None,
) -> Pair:
    """Match the images of a pair around an expected offset.

    Parameters
    ----------
    filtered
        All tiles, prepared.
    pair
        The pair; what it holds of an earlier match is dropped.
    expected
        (2,) offset (y, x) in px.
    search
        Half width (y, x) in px.
    sigma
        (2,) standard deviation (y, x) in px with which the offset is expected there. The search
        then ends at a few of them, and less evidence is asked for.
    """
    a, b = filtered[pair.tile_a], filtered[pair.tile_b]
    prior = None
    if sigma is not None:
        reach = np.minimum(np.ceil(_REACH_SIGMAS * sigma + 1), search).astype(int)
        search = int(reach[0]), int(reach[1])
        prior = float(sigma[0]), float(sigma[1])
    peak = find_peak(
        a.band,
        b.band,
        (float(expected[0]), float(expected[1])),
        search,
        coarse=(a.coarse, b.coarse),
        prior_sigma=prior,
    )
    if peak is None:
        return Pair(pair.tile_a, pair.tile_b)
    found = Pair(pair.tile_a, pair.tile_b, peak)
    if not _is_convincing(peak, is_near_expected=sigma is not None):
        return found
    offset = refine_offset(a, b, (peak.dy, peak.dx), is_noisy=peak.ncc < _NOISY_NCC)
    refined = Pair(pair.tile_a, pair.tile_b, peak, offset)
    if sigma is not None and sigma.max() > _NEAR_PX and _is_vague(refined, a.band.shape):
        return found
    return refined


def outweighs(pair: Pair, expected: NDArray[np.float64], sigma: NDArray[np.float64]) -> bool:
    """Whether a match is sure and stays so given where it should be, `expected` +- `sigma` px.

    Chance matches lie anywhere in the search range, most of them far from where the stage went;
    real ones that are so weak seldom do.
    """
    if pair.peak is None or pair.offset is None:
        return False
    unlikely = _unlikeliness(pair.offset.shift - expected, sigma)
    return bool(
        pair.peak.evidence - unlikely >= _MIN_EVIDENCE
        and pair.peak.margin - unlikely >= _CLEAR_MARGIN
    )


def together_outweigh(
    pairs: Sequence[Pair],
    is_clear: Sequence[bool],
    expected: NDArray[np.float64],
    sigma: NDArray[np.float64],
) -> list[bool]:
    """Which matches are clear, each by itself or with others that say that a tile slipped.

    When the stage slips at a tile, all of its matches depart from what is expected by the same
    shift, which chance ones do not: that it is unlikely then counts once for all of them.

    Parameters
    ----------
    pairs
        P pairs.
    is_clear
        (P,) as `outweighs` says.
    expected, sigma
        (P, 2) offsets and their standard deviations, px.
    """
    clear = list(is_clear)
    doubtful: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
    for index, pair in enumerate(pairs):
        if pair.offset is not None and not is_clear[index]:
            departure = pair.offset.shift - expected[index]
            doubtful.setdefault(pair.tile_a, []).append((index, -departure))
            doubtful.setdefault(pair.tile_b, []).append((index, departure))
    for matches in doubtful.values():
        slip = np.median([departure for _, departure in matches], axis=0)
        agreeing = [i for i, departure in matches if np.abs(departure - slip).max() <= _NEAR_PX]
        if len(agreeing) < 2:
            continue
        peaks = [peak for i in agreeing if (peak := pairs[i].peak) is not None]
        unlikely = _unlikeliness(slip, sigma[agreeing].mean(axis=0))
        evidence = sum(peak.evidence for peak in peaks) - unlikely
        margin = sum(peak.margin for peak in peaks) - unlikely
        if evidence >= _MIN_EVIDENCE and margin >= _CLEAR_MARGIN:
            for i in agreeing:
                clear[i] = True
    return clear


def _unlikeliness(departure: NDArray[np.float64], sigma: NDArray[np.float64]) -> float:
    """How unlikely, in nats, the stage was to depart by (y, x) px from where it should be."""
    squared = float(((departure / sigma) ** 2).sum())
    return float((_FREEDOM + 2) / 2 * np.log1p(squared / _FREEDOM))


def is_clear_match(pair: Pair) -> bool:
    """Whether a match is beyond doubt by itself."""
    if pair.peak is None or pair.offset is None:
        return False
    return pair.peak.evidence >= _MIN_EVIDENCE and pair.peak.margin >= _CLEAR_MARGIN


def accepted(
    pairs: NDArray[np.int64], is_sure: NDArray[np.bool_], evidence: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(P,) which pairs are sure, alone or together with the others of their tiles.

    Among many empty pairs, some match near the expected offset by chance. Such a match is accepted
    only if all matches of each of its two tiles have together the evidence that one match far
    from it needs, so that no tile hangs on it alone.
    """
    is_accepted = is_sure
    while is_accepted.any():
        of_tile = np.zeros(pairs.max() + 1)
        np.add.at(of_tile, pairs[is_accepted], evidence[is_accepted, None])
        supported = is_accepted & (of_tile[pairs] >= _MIN_EVIDENCE).all(axis=1)
        if (supported == is_accepted).all():
            break
        is_accepted = supported
    return is_accepted


def sure_offsets(pairs: Sequence[Pair]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(E, 2) tiles and (E, 2) offsets (y, x), px, of the sure pairs."""
    sure = [(pair, pair.offset.shift) for pair in pairs if pair.offset is not None]
    offsets = np.array([shift for _, shift in sure], dtype=np.float64)
    return tile_indices([pair for pair, _ in sure]), offsets.reshape(-1, 2)


def tile_indices(pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """(P, 2) both tiles of each pair."""
    return np.array([(pair.tile_a, pair.tile_b) for pair in pairs], dtype=np.int64).reshape(-1, 2)


def _is_convincing(peak: Peak, *, is_near_expected: bool) -> bool:
    least, margin = _MIN_EVIDENCE, _MIN_MARGIN
    if is_near_expected:
        least, margin = _MIN_EVIDENCE_NEAR_EXPECTED, _MIN_MARGIN_NEAR_EXPECTED
    return peak.evidence >= least and peak.margin >= margin


def _is_vague(pair: Pair, shape: tuple[int, ...]) -> bool:
    assert pair.peak is not None
    shift = (pair.peak.dy, pair.peak.dx)
    overlap_px = np.prod([n - abs(d) for n, d in zip(shape, shift, strict=True)])
    # Less overlap tells less, of tissue too.
    sharp_px = _SHARP_SIGMA_PX * max(1.0, float(np.sqrt(_FULL_OVERLAP_PX / overlap_px)))
    return pair.sigma > sharp_px and pair.peak.evidence + pair.peak.margin < _MIN_FOR_VAGUE
