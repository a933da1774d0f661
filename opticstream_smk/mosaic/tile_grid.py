"""Rows and columns of tiles that are known by their positions only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import CorruptInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# A grid has at most so many closer neighbours along one axis before one along the other comes.
_NEIGHBOURS = 24
# A neighbour is a step away, to within this share of it. Half a step would be ambiguous.
_TOLERANCE = 0.35


def cells_of_positions(positions_px: ArrayLike, numbers: Sequence[int]) -> NDArray[np.int64]:
    """Row and column of each tile from where it lies, whatever its number.

    The step along each axis is the median distance of neighbours. Cells follow from neighbour to
    neighbour, so a stage that shears or drifts by more than a step over the mosaic does no harm,
    and across gaps by the number of steps that fit in.

    Parameters
    ----------
    positions_px
        (N, 2) y, x of each tile's first pixel, px.
    numbers
        Number of each tile, for messages.

    Returns
    -------
    numpy.ndarray
        (N, 2) int: row, column; the topmost is row 0, the leftmost column 0. Rows and columns
        without tiles count.

    Raises
    ------
    CorruptInputError
        Two tiles lie in the same cell.
    """
    from scipy.spatial import cKDTree

    positions = np.asarray(positions_px, dtype=np.float64).reshape(-1, 2)
    count = len(positions)
    cells = np.zeros((count, 2), dtype=np.int64)
    if count > 1:
        _, found = cKDTree(positions).query(positions, k=min(_NEIGHBOURS + 1, count))
        near = np.asarray(found, dtype=np.int64)
        step = np.array([_step(positions, near, axis) for axis in (0, 1)])
        _walk(positions, near, step, cells)
    cells -= cells.min(axis=0, initial=0)
    _, first, counts = np.unique(cells, axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        cell = cells[first[counts > 1][0]]
        same = [numbers[i] for i in np.flatnonzero((cells == cell).all(axis=1)).tolist()]
        raise CorruptInputError(
            f"tiles {', '.join(map(str, same))} lie in one cell of the grid (row {cell[0] + 1}, "
            f"column {cell[1] + 1}), expected one tile in each. Correct their positions, or tell "
            "the grid by --config."
        )
    return cells


def _step(positions: NDArray[np.float64], near: NDArray[np.int64], axis: int) -> float:
    """Median distance of the nearest neighbour along an axis; infinite for a single line."""
    offsets = np.abs(positions[near[:, 1:]] - positions[:, None])
    along, across = offsets[..., axis], offsets[..., 1 - axis]
    nearest = np.where(along > 2 * across, along, np.inf).min(axis=1)
    found = nearest[np.isfinite(nearest)]
    return float(np.median(found)) if len(found) else np.inf


def _walk(
    positions: NDArray[np.float64],
    near: NDArray[np.int64],
    step: NDArray[np.float64],
    cells: NDArray[np.int64],
) -> None:
    """Fill in cells from tile 0 on."""
    is_known = np.zeros(len(positions), dtype=bool)
    is_known[0] = True
    queue = [0]
    while not is_known.all():
        if not queue:  # across a gap: the tile that is nearest to any known one
            unknown, known = np.flatnonzero(~is_known), np.flatnonzero(is_known)
            distances = (np.abs(positions[unknown, None] - positions[known]) / step).max(axis=2)
            nearest, origin = divmod(int(np.argmin(distances)), len(known))
            other = int(unknown[nearest])
            _place(positions, step, cells, int(known[origin]), other)
            is_known[other] = True
            queue.append(other)
        tile = queue.pop()
        for other in near[tile, 1:].tolist():
            if is_known[other]:
                continue
            steps = (positions[other] - positions[tile]) / step
            whole = np.rint(steps)
            if np.abs(whole).sum() == 1 and np.abs(steps - whole).max() < _TOLERANCE:
                _place(positions, step, cells, tile, other)
                is_known[other] = True
                queue.append(other)


def _place(
    positions: NDArray[np.float64],
    step: NDArray[np.float64],
    cells: NDArray[np.int64],
    tile: int,
    other: int,
) -> None:
    cells[other] = cells[tile] + np.rint((positions[other] - positions[tile]) / step)
