"""Which tiles do not belong where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.mosaic.correlate import overlap_slices
from opticstream_smk.mosaic.pairs import Pair, is_clear_match, match_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile
    from opticstream_smk.mosaic.resolve import Resolution

# An overlap should match if both tiles are as strong there as all but this share of those that did.
_WEAKEST_SHARE = 0.05
# Overlaps that should match and do not, before a tile is called a stranger. At the outline of the
# tissue one may fail by itself.
_MIN_MISMATCHES = 2
# With fewer matches it is not known how strong an overlap has to be.
_MIN_MATCHES = 4

# Tiles that are tried in each other's cells, the strongest of those that match nothing.
_MAX_TRIED = 12
# They are at least this strong, beside the weakest that do match.
_TRIED_STRENGTH = 0.5
# Evidence, nats, that several weak matches need together: 6 as for any match, and
# the logarithm of the number of trials.
_MIN_TOGETHER = 11.0
# Uncertainty of a cell's place beside what the resolution says, px.
_PLACE_SIGMA_PX = 0.5


def overlaps_with_content(
    tiles: Sequence[FilteredTile],
    positions: NDArray[np.float64],
    pairs: NDArray[np.int64],
    is_firm: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Find the overlaps that should match: both tiles show as much there as those that did.

    Parameters
    ----------
    tiles
        N prepared tiles.
    positions
        (N, 2) resolved positions, px.
    pairs
        (P, 2) neighbours in the grid.
    is_firm
        (P,) whether the pair matches beyond doubt, and as the others do.

    Returns
    -------
    numpy.ndarray
        (P,) bool; those that are firm, where too few were to tell how strong one has to be.
    """
    if is_firm.sum() < _MIN_MATCHES:
        return is_firm
    strength = np.array([_strength(tiles, positions, int(a), int(b)) for a, b in pairs])
    weakest = float(np.quantile(strength[is_firm], _WEAKEST_SHARE))
    return np.asarray(is_firm | (strength >= weakest))


def find_strangers(
    n_tiles: int,
    pairs: NDArray[np.int64],
    has_content: NDArray[np.bool_],
    is_firm: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Find tiles that match no neighbour although both show tissue where they overlap.

    Two files that were swapped look like this, or a tile that was acquired elsewhere; a tile of
    background does not, for it is weak where it overlaps with others.

    Parameters
    ----------
    n_tiles
        Number of tiles, N.
    pairs
        (P, 2) neighbours in the grid.
    has_content
        (P,) as from `overlaps_with_content`.
    is_firm
        (P,) whether the pair matches beyond doubt, and as the others do.

    Returns
    -------
    numpy.ndarray
        (N,) bool.
    """
    mismatches = np.zeros(n_tiles, dtype=np.int64)
    np.add.at(mismatches, pairs[has_content & ~is_firm], 1)
    matches = np.zeros(n_tiles, dtype=np.int64)
    np.add.at(matches, pairs[is_firm], 1)
    return np.asarray((mismatches >= _MIN_MISMATCHES) & (matches == 0))


def find_exchanged(
    tiles: Sequence[FilteredTile],
    pairs: NDArray[np.int64],
    search: tuple[int, int],
    resolution: Resolution,
    is_held: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Find tiles that match nothing where they are, and do in the cells of each other.

    Every one of them that shows tissue is tried in the cells of the others. Two tiles are exchanged
    if each matches the neighbours of the other, without doubt.

    Parameters
    ----------
    tiles
        N prepared tiles.
    pairs
        (P, 2) neighbours in the grid.
    search
        Half width (y, x) of the search, px.
    resolution
        Where tiles lie.
    is_held
        (N,) tiles that match where they are.

    Returns
    -------
    numpy.ndarray
        (N,) index of the tile that each was exchanged with, -1 for most.
    """
    partner = np.full(len(tiles), -1)
    strength = np.array([float(np.mean(tile.band**2)) for tile in tiles])
    if is_held.sum() < _MIN_MATCHES:
        return partner
    weakest = _TRIED_STRENGTH * float(np.quantile(strength[is_held], _WEAKEST_SHARE))
    loose = np.flatnonzero(~is_held & (strength >= weakest))
    loose = loose[np.argsort(-strength[loose], kind="stable")][:_MAX_TRIED]
    fits = np.zeros((len(loose), len(loose)))
    for i, tile in enumerate(loose):
        for j, cell in enumerate(loose):
            if i != j:
                fits[i, j] = _matches(tiles, pairs, search, resolution, int(tile), int(cell))
    mutual = np.minimum(fits, fits.T)
    while mutual.max(initial=0.0) > 0:
        both = np.array(np.unravel_index(int(np.argmax(mutual)), mutual.shape))
        partner[loose[both]] = loose[both[::-1]]
        mutual[both] = mutual[:, both] = 0
    return partner


def _matches(
    tiles: Sequence[FilteredTile],
    pairs: NDArray[np.int64],
    search: tuple[int, int],
    resolution: Resolution,
    tile: int,
    cell: int,
) -> float:
    """Evidence, nats, that `tile` belongs to the neighbours of `cell`; 0 if it is not enough."""
    moved = {cell: tiles[tile]}
    total, is_clear = 0.0, False
    for a, b in pairs[(pairs == cell).any(axis=1)].tolist():
        if tile in (a, b):
            continue
        sigma = resolution.offset_sigma(a, b) + _PLACE_SIGMA_PX
        expected = resolution.positions[b] - resolution.positions[a]
        both = [moved.get(a, tiles[a]), moved.get(b, tiles[b])]
        found = match_pair(both, Pair(0, 1), expected, search, sigma=sigma)
        total += found.support
        is_clear |= is_clear_match(found)
    return total if is_clear or total >= _MIN_TOGETHER else 0.0


def _strength(
    tiles: Sequence[FilteredTile], positions: NDArray[np.float64], a: int, b: int
) -> float:
    """Variance of the weaker of two band-passed tiles where they overlap."""
    dy, dx = np.rint(positions[b] - positions[a]).astype(int)
    shape = tiles[a].band.shape
    rows, columns = overlap_slices(shape[0], int(dy)), overlap_slices(shape[1], int(dx))
    parts = tiles[a].band[rows[0], columns[0]], tiles[b].band[rows[1], columns[1]]
    return min(float(np.mean(part**2)) if part.size else 0.0 for part in parts)
