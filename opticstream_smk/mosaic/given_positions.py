"""Positions from another program: which of them are to be believed, and where the others lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import QualityError
from opticstream_smk.mosaic.checks import checked_cells
from opticstream_smk.mosaic.grid import nominal_positions
from opticstream_smk.mosaic.positions import EDGE_DTYPE, TilePositions
from opticstream_smk.mosaic.positions import _neighbours as neighbours
from opticstream_smk.mosaic.positions import _search_range as search_range
from opticstream_smk.mosaic.resolve import connected_islands, resolve_positions
from opticstream_smk.mosaic.stage_model import StageModel, fit_stage_model

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Regularity of a stage where no two neighbours agree; and how regular it is taken for at most.
_STAGE_SCATTER_PX = 2.0
_MIN_SCATTER_PX = 0.1
# Offsets that are given are kept; far below any scatter, and above what costs digits.
_GIVEN_SIGMA_PX = 0.01
# Of the neighbours that both have a place, so many must lie as neighbours do. Below, the file is of
# another grid; programs that fail to link tiles leave more than that.
_MIN_PLAUSIBLE_SHARE = 0.5


def adopt_positions(
    given_px: ArrayLike,
    cells: ArrayLike,
    tile_shape: tuple[int, int],
    *,
    overlap_percent: float,
    source: str,
) -> TilePositions:
    """Take positions over from another program, as far as they can be.

    Fiji prints tiles that it could not link at (0.0, 0.0), like any other position, and every group
    of tiles that hang together only among themselves relative to its own first tile, which is at
    (0.0, 0.0) as well. So a position is believed for what it says about neighbours: two of them
    that lie about a nominal step apart (to within the range that `solve_positions` searches) are
    linked. Linked tiles keep their given offsets to the last digit. Groups that are not linked to
    each other, and tiles that are linked to none, are placed by the stage model that the linked
    ones suggest, relative to their neighbours.

    Parameters
    ----------
    given_px
        (N, 2) y, x of each tile's first pixel, px; NaN for tiles without a position.
    cells
        (N, 2) int row, column of each tile, as from `snake_order`.
    tile_shape
        (ny, nx) px of a tile.
    overlap_percent
        Nominal overlap of neighbours, percent of the tile on each axis, 0 to below 100.
    source
        Where the positions are from; named in errors.

    Returns
    -------
    TilePositions
        As from `solve_positions`; of the edges, ``dy``, ``dx`` are given offsets, ``ncc`` is not
        known (0), and ``residual`` is what resolving changed.

    Raises
    ------
    QualityError
        Most neighbours do not lie as neighbours do: the positions are those of another grid.
    ValueError
        If the shapes do not fit together, or two tiles have the same cell.
    """
    given = np.asarray(given_px, dtype=np.float64)
    grid = checked_cells(cells, len(given))
    if given.shape != (len(grid), 2):
        raise ValueError(f"positions of shape {given.shape}: expected ({len(grid)}, 2), y and x.")
    step = nominal_positions([[1, 1]], tile_shape, overlap_percent)[0]
    overlap = np.asarray(tile_shape) - step
    pairs = neighbours(grid)
    offsets = given[pairs[:, 1]] - given[pairs[:, 0]]
    nominal = (grid[pairs[:, 1]] - grid[pairs[:, 0]]) * step
    # NaN compares as False.
    is_linked = (np.abs(offsets - nominal) <= search_range(overlap)).all(axis=1)
    _check_share(given, pairs, nominal, is_linked, source)

    stage = _fit_stage(grid, pairs[is_linked], offsets[is_linked], step, overlap)
    resolution = resolve_positions(
        stage.positions(grid),
        pairs,
        stage.scatter,
        pairs[is_linked],
        offsets[is_linked],
        np.broadcast_to(np.eye(2) * _GIVEN_SIGMA_PX**2, (int(is_linked.sum()), 2, 2)),
    )
    labels, sizes = connected_islands(len(grid), pairs[is_linked])
    is_anchored = sizes > 1
    positions = resolution.positions.copy()
    for label in np.unique(labels[is_anchored]):
        own = labels == label
        positions[own] = given[own] + np.mean(positions[own] - given[own], axis=0)
    positions -= positions.min(axis=0)

    edges = np.zeros(len(pairs), dtype=EDGE_DTYPE)
    edges["tile_a"], edges["tile_b"] = pairs.T
    edges["dy"], edges["dx"] = offsets.T
    edges["used"] = is_linked
    edges["weight"] = np.where(is_linked, _GIVEN_SIGMA_PX**-2, 0.0)
    change = offsets - (positions[pairs[:, 1]] - positions[pairs[:, 0]])
    edges["residual"] = np.hypot(change[:, 0], change[:, 1])
    return TilePositions(
        positions_px=positions,
        is_anchored=is_anchored,
        island=np.where(is_anchored, labels, -1),
        is_stranger=np.zeros(len(grid), dtype=np.bool_),
        edges=edges,
        stage=stage,
    )


def _check_share(
    given: NDArray[np.float64],
    pairs: NDArray[np.int64],
    nominal: NDArray[np.float64],
    is_linked: NDArray[np.bool_],
    source: str,
) -> None:
    # What was not linked says nothing about the grid.
    is_placed = np.isfinite(given).all(axis=1) & np.any(given != 0, axis=1)
    is_telling = is_placed[pairs].all(axis=1)
    # Each direction by itself: upside down, a grid still has its rows.
    for direction, axis in (("below", 0), ("beside", 1)):
        own = is_telling & (nominal[:, axis] > 0)
        plausible, count = int(is_linked[own].sum()), int(own.sum())
        if plausible < _MIN_PLAUSIBLE_SHARE * count:
            raise QualityError(
                f"{source}: {plausible} of {count} pairs of tiles that are one {direction} the "
                "other lie about a nominal step apart, expected most of them. It was made for "
                "another grid, order, tile size or overlap. Correct acquisition.grid_order, "
                "grid_type or tile_overlap_percent, take the file of this acquisition, or set "
                "mosaic.method: native."
            )


def _fit_stage(
    grid: NDArray[np.int64],
    pairs: NDArray[np.int64],
    offsets: NDArray[np.float64],
    step: NDArray[np.float64],
    overlap: NDArray[np.float64],
) -> StageModel:
    model = fit_stage_model(
        grid[pairs[:, 0]],
        grid[pairs[:, 1]],
        offsets,
        nominal_step=step,
        step_sigma=np.maximum(overlap / 12, 1.0),
        prior_scatter_px=_STAGE_SCATTER_PX,
    )
    return StageModel(model.coefficients, np.maximum(model.scatter, _MIN_SCATTER_PX))
