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


def overlaps_with_content(
    tiles: Sequence[FilteredTile],
    positions: NDArray[np.float64],
    pairs: NDArray[np.int64],
    is_used: NDArray[np.bool_],
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
    is_used
        (P,) whether the offset of the pair was measured and agrees with the others.

    Returns
    -------
    numpy.ndarray
        (P,) bool; those that were used, where too few were to tell how strong one has to be.
    """
    if is_used.sum() < _MIN_MATCHES:
        return is_used
    strength = np.array([_strength(tiles, positions, int(a), int(b)) for a, b in pairs])
    weakest = float(np.quantile(strength[is_used], _WEAKEST_SHARE))
    return np.asarray(is_used | (strength >= weakest))


def find_strangers(
    n_tiles: int,
    pairs: NDArray[np.int64],
    has_content: NDArray[np.bool_],
    is_used: NDArray[np.bool_],
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
    is_used
        (P,) whether the offset of the pair was measured and agrees with the others.

    Returns
    -------
    numpy.ndarray
        (N,) bool.
    """
    mismatches = np.zeros(n_tiles, dtype=np.int64)
    np.add.at(mismatches, pairs[has_content & ~is_used], 1)
    matches = np.zeros(n_tiles, dtype=np.int64)
    np.add.at(matches, pairs[is_used], 1)
    return np.asarray((mismatches >= _MIN_MISMATCHES) & (matches == 0))


def _strength(
    tiles: Sequence[FilteredTile], positions: NDArray[np.float64], a: int, b: int
) -> float:
    """Variance of the weaker of two band-passed tiles where they overlap."""
    dy, dx = np.rint(positions[b] - positions[a]).astype(int)
    shape = tiles[a].band.shape
    rows, columns = overlap_slices(shape[0], int(dy)), overlap_slices(shape[1], int(dx))
    parts = tiles[a].band[rows[0], columns[0]], tiles[b].band[rows[1], columns[1]]
    return min(float(np.mean(part**2)) if part.size else 0.0 for part in parts)
