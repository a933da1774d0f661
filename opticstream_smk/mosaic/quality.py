"""Which tiles do not belong where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.mosaic.correlate import overlap_slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile

# An overlap should match if both tiles are as strong there as all but this share of those that did.
_WEAKEST_SHARE = 0.05
# Overlaps that should match and do not, before a tile is called a stranger. At the outline of the
# tissue one may fail by itself.
_MIN_MISMATCHES = 2
# With fewer matches it is not known how strong an overlap has to be.
_MIN_MATCHES = 4


def find_strangers(
    tiles: Sequence[FilteredTile],
    positions: NDArray[np.float64],
    pairs: NDArray[np.int64],
    is_used: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Find tiles that match no neighbour although both show tissue where they overlap.

    Two files that were swapped look like this, or a tile that was acquired elsewhere; a tile of
    background does not, for it is weak where it overlaps with others.

    Parameters
    ----------
    tiles
        N prepared tiles.
    positions
        (N, 2) resolved positions, px.
    pairs
        (P, 2) neighbours in the grid.
    is_used
        (P,) whether the offset of the pair was measured and agrees with the others.

    Returns
    -------
    numpy.ndarray
        (N,) bool.
    """
    strangers = np.zeros(len(tiles), dtype=bool)
    if is_used.sum() < _MIN_MATCHES:
        return strangers
    strength = np.array([_strength(tiles, positions, int(a), int(b)) for a, b in pairs])
    should_match = strength >= np.quantile(strength[is_used], _WEAKEST_SHARE)
    for tile in range(len(tiles)):
        own = (pairs == tile).any(axis=1)
        mismatches = (own & should_match & ~is_used).sum()
        strangers[tile] = mismatches >= _MIN_MISMATCHES and not (own & is_used).any()
    return strangers


def _strength(
    tiles: Sequence[FilteredTile], positions: NDArray[np.float64], a: int, b: int
) -> float:
    """Variance of the weaker of two band-passed tiles where they overlap."""
    dy, dx = np.rint(positions[b] - positions[a]).astype(int)
    shape = tiles[a].band.shape
    rows, columns = overlap_slices(shape[0], int(dy)), overlap_slices(shape[1], int(dx))
    parts = tiles[a].band[rows[0], columns[0]], tiles[b].band[rows[1], columns[1]]
    return min(float(np.mean(part**2)) if part.size else 0.0 for part in parts)
