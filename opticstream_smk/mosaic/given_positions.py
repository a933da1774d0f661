"""Positions from another program: which of them are to be believed, and where the others lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.errors import QualityError
from opticstream_smk.mosaic.checks import checked_cells, checked_images
from opticstream_smk.mosaic.expected import Geometry, fit_lattice
from opticstream_smk.mosaic.pairs import Pair, match_pair, neighbours, search_range
from opticstream_smk.mosaic.positions import EDGE_DTYPE, TilePositions
from opticstream_smk.mosaic.prefilter import filter_tile
from opticstream_smk.mosaic.quality import find_strangers, overlaps_with_content
from opticstream_smk.mosaic.resolve import connected_islands, resolve_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile
    from opticstream_smk.mosaic.stage_model import StageModel

# Offsets that are given are kept; far below any scatter, and above what costs digits.
_GIVEN_SIGMA_PX = 0.01
# How far a program may be off where it is right, for the check of its offsets.
_CHECK_SIGMA_PX = 2.0
# Of the neighbours that both have a place, so many must lie as neighbours do. Below, the file is of
# another grid; programs that fail to link tiles leave more than that.
_MIN_PLAUSIBLE_SHARE = 0.5


def adopt_positions(
    tiles: ArrayLike | Sequence[NDArray[Any]],
    given_px: ArrayLike,
    cells: ArrayLike,
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

    The images do not move any tile; they tell how good the given offsets are.

    Parameters
    ----------
    tiles
        (N, ny, nx) images, as `solve_positions` takes them.
    given_px
        (N, 2) y, x of each tile's first pixel, px; NaN for tiles without a position.
    cells
        (N, 2) int row, column of each tile, as from `snake_order`.
    overlap_percent
        Nominal overlap of neighbours, percent of the tile on each axis, 0 to below 100.
    source
        Where the positions are from; named in errors.

    Returns
    -------
    TilePositions
        As from `solve_positions`. ``is_anchored`` and ``island`` are those of the given positions.
        Of the edges, ``dy``, ``dx``, ``ncc`` are what the images say near the given offset of
        linked neighbours, and ``residual`` how far the given one is off from that.

    Raises
    ------
    QualityError
        Most neighbours do not lie as neighbours do: the positions are those of another grid.
    ValueError
        If the shapes do not fit together, or two tiles have the same cell.
    """
    grid = checked_cells(cells, len(tiles))  # type: ignore[arg-type]
    given = np.asarray(given_px, dtype=np.float64)
    if given.shape != (len(grid), 2):
        raise ValueError(f"positions of shape {given.shape}: expected ({len(grid)}, 2), y and x.")
    filtered = [filter_tile(image) for image in checked_images(tiles)]
    geometry = Geometry.of(grid, filtered[0].band.shape, overlap_percent)
    pairs = neighbours(grid)
    offsets = given[pairs[:, 1]] - given[pairs[:, 0]]
    nominal = geometry.nominal[pairs[:, 1]] - geometry.nominal[pairs[:, 0]]
    # NaN compares as False.
    within = np.abs(offsets - nominal) <= search_range(geometry.overlap)
    is_linked = np.asarray(within.all(axis=1), dtype=np.bool_)
    _check_share(given, pairs, nominal, is_linked, source)

    stage = fit_lattice(geometry, pairs[is_linked], offsets[is_linked])
    labels, sizes = connected_islands(len(grid), pairs[is_linked])
    positions = _complete(given, stage, geometry, pairs, is_linked, labels)
    edges = _measure(filtered, pairs, positions, is_linked, search_range(geometry.overlap))
    edges["has_content"] = overlaps_with_content(filtered, positions, pairs, edges["used"])
    is_anchored = sizes > 1
    return TilePositions(
        positions_px=positions - positions.min(axis=0),
        is_anchored=is_anchored,
        island=np.where(is_anchored, labels, -1),
        # A tile that was not linked has not been compared with its neighbours.
        is_stranger=is_anchored
        & find_strangers(len(grid), pairs, edges["has_content"], edges["used"]),
        # Places are compared with those of neighbours only, as they were given.
        exchanged_with=np.full(len(grid), -1),
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


def _complete(
    given: NDArray[np.float64],
    stage: StageModel,
    geometry: Geometry,
    pairs: NDArray[np.int64],
    is_linked: NDArray[np.bool_],
    labels: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Positions of all tiles; those of a group differ from the given ones by a shift only."""
    offsets = given[pairs[is_linked, 1]] - given[pairs[is_linked, 0]]
    resolution = resolve_positions(
        stage.positions(geometry.cells),
        pairs,
        stage.scatter,
        pairs[is_linked],
        offsets,
        np.broadcast_to(np.eye(2) * _GIVEN_SIGMA_PX**2, (len(offsets), 2, 2)),
    )
    positions = resolution.positions.copy()
    for label in np.unique(labels[pairs[is_linked, 0]]):
        own = labels == label
        positions[own] = given[own] + np.mean(positions[own] - given[own], axis=0)
    return positions


def _measure(
    filtered: Sequence[FilteredTile],
    pairs: NDArray[np.int64],
    positions: NDArray[np.float64],
    is_linked: NDArray[np.bool_],
    search: tuple[int, int],
) -> NDArray[Any]:
    """What the images say about the offsets of linked neighbours."""
    sigma = np.full(2, _CHECK_SIGMA_PX)
    edges = np.zeros(len(pairs), dtype=EDGE_DTYPE)
    edges["tile_a"], edges["tile_b"] = pairs.T
    for name in ("dy", "dx", "residual"):
        edges[name] = np.nan
    for edge, (a, b), linked in zip(edges, pairs.tolist(), is_linked, strict=True):
        if not (linked and filtered[a].has_structure and filtered[b].has_structure):
            continue
        offset = positions[b] - positions[a]
        found = match_pair(filtered, Pair(a, b), offset, search, sigma=sigma)
        if found.peak is None or found.offset is None:
            continue
        edge["dy"], edge["dx"] = found.offset.shift
        edge["ncc"] = found.peak.ncc
        edge["residual"] = np.hypot(*(found.offset.shift - offset))
        edge["weight"] = 2 / np.trace(found.covariance(sigma))
        edge["used"] = True
    return edges
