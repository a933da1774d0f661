"""What `solve_positions` is given: refused where it does not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray


def checked_cells(cells: ArrayLike, n_tiles: int) -> NDArray[np.int64]:
    """(N, 2) cells as integers, one for each tile, no two alike."""
    given = np.asarray(cells)
    if given.shape != (n_tiles, 2):
        raise ValueError(
            f"cells of shape {given.shape} for {n_tiles} tiles: expected ({n_tiles}, 2), "
            "row and column of each tile."
        )
    if n_tiles == 0:
        raise ValueError("no tiles: at least one is needed.")
    grid = given.astype(np.int64)
    if not np.array_equal(grid, given):
        raise ValueError("cells must be whole numbers: row and column of each tile.")
    unique, counts = np.unique(grid, axis=0, return_counts=True)
    if (counts > 1).any():
        row, column = unique[counts > 1][0]
        same = np.flatnonzero((grid == (row, column)).all(axis=1)).tolist()
        raise ValueError(f"tiles {same} are all in cell (row {row}, column {column}).")
    return grid


def checked_signal(signal: ArrayLike | None, n_tiles: int) -> NDArray[np.bool_]:
    """(N,) bool, True everywhere if none is given."""
    if signal is None:
        return np.ones(n_tiles, dtype=bool)
    usable = np.array(signal)
    if usable.shape != (n_tiles,) or usable.dtype != np.bool_:
        raise ValueError(
            f"signal of shape {usable.shape} and type {usable.dtype}: expected ({n_tiles},) bool, "
            "True for tiles with enough signal; compare the mean signal with the threshold first."
        )
    return usable


def checked_images(tiles: ArrayLike | Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The tiles one by one; all must have the shape of the first."""
    shape: tuple[int, ...] = ()
    for index, tile in enumerate(tiles):  # type: ignore[arg-type]
        image = np.asarray(tile)
        shape = shape or image.shape
        if image.ndim != 2 or image.shape != shape or 0 in shape:
            raise ValueError(
                f"tile {index} has shape {image.shape}: expected (ny, nx) like the first tile, "
                f"{shape}."
            )
        yield image
