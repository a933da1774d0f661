"""Order in which the stage visits the cells of a grid, and where they nominally lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

GridType = Literal["row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"]
GRID_TYPES = ("row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns")


def snake_order(
    rows: int,
    columns: int,
    *,
    grid_type: str = "snake-by-columns",
    order: str = "up-right",
) -> NDArray[np.int64]:
    """Grid cell of every tile, in the order in which the tiles were acquired.

    With the default, tile 1 is the bottom-left cell, column 0 is travelled upward, column 1
    downward, and so on to the right: 2 rows x 3 columns are numbered ``2 3 6 / 1 4 5``. Tiles of
    one column are then consecutive: batch b (1-based, `rows` tiles each) is column b - 1.

    Parameters
    ----------
    rows, columns
        Size of the grid, at least 1 each.
    grid_type
        One of `GRID_TYPES`, named as in Fiji's "Grid/Collection stitching". The "snake" types
        turn round at the end of every line; the others return to its start.
    order
        Directions of travel, one vertical (``up``, ``down``) and one horizontal (``left``,
        ``right``) word. The grid type says which of them comes first, so ``up-right`` and
        ``right-up`` are the same.

    Returns
    -------
    numpy.ndarray
        (rows * columns, 2) int: row, column of tile 1, 2, ...; row 0 is the top, column 0 the left.

    Raises
    ------
    ConfigError
        If a size, the grid type or the order is not one of the above.
    """
    if rows < 1 or columns < 1:
        raise ConfigError(
            f"grid of {rows} rows x {columns} columns: expected at least 1 x 1. "
            "Check the grid size of the acquisition."
        )
    if grid_type not in GRID_TYPES:
        raise ConfigError(f"grid type {grid_type!r}: expected one of {', '.join(GRID_TYPES)}.")
    words = set(order.split("-"))
    if len(words) != 2 or len(words & {"up", "down"}) != 1 or len(words & {"left", "right"}) != 1:
        raise ConfigError(
            f"grid order {order!r}: expected one of up, down and one of left, right, "
            "as in 'up-right'."
        )

    row_travel = np.arange(rows)[::-1] if "up" in words else np.arange(rows)
    column_travel = np.arange(columns)[::-1] if "left" in words else np.arange(columns)
    by_columns = grid_type in ("column-by-column", "snake-by-columns")
    lines, along = (column_travel, row_travel) if by_columns else (row_travel, column_travel)
    turn_round = grid_type.startswith("snake")

    cells = np.empty((len(lines), len(along), 2), dtype=np.int64)
    line_axis, along_axis = (1, 0) if by_columns else (0, 1)
    cells[:, :, line_axis] = lines[:, None]
    cells[:, :, along_axis] = along[None, :]
    if turn_round:
        cells[1::2] = cells[1::2, ::-1]
    return cells.reshape(-1, 2)


def nominal_positions(
    cells: ArrayLike, tile_shape: tuple[int, int], overlap_percent: float
) -> NDArray[np.float64]:
    """Positions of a perfect stage: the step is the tile less the overlap, on each axis.

    Parameters
    ----------
    cells
        (N, 2) row, column of each tile, see `snake_order`.
    tile_shape
        (ny, nx) of a tile in px; the axes may differ (tilted tiles are 200 x 350).
    overlap_percent
        Overlap of neighbours in percent of the tile, 0 <= p < 100, the same on both axes.

    Returns
    -------
    numpy.ndarray
        (N, 2) float (y, x) in px; cell (0, 0) lies at (0, 0).

    Raises
    ------
    ConfigError
        If the overlap is out of range.
    """
    check_overlap(overlap_percent)
    step = np.asarray(tile_shape, dtype=np.float64) * (1 - overlap_percent / 100)
    positions: NDArray[np.float64] = np.asarray(cells, dtype=np.float64) * step
    return positions


def check_overlap(overlap_percent: float) -> None:
    """Refuse an overlap outside 0 <= p < 100 percent (NaN included) with a `ConfigError`."""
    if not 0 <= overlap_percent < 100:
        raise ConfigError(
            f"tile overlap of {overlap_percent} %: expected 0 to below 100, in percent of the "
            "tile. Check tile_overlap_percent."
        )
