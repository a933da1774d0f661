"""Tile positions from the content of the overlaps: pairs, then stage model, then graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.mosaic.checks import checked_cells, checked_images, checked_signal
from opticstream_smk.mosaic.expected import Geometry, checked_prior
from opticstream_smk.mosaic.matching import Matched, match_mosaic
from opticstream_smk.mosaic.pairs import neighbours, search_range
from opticstream_smk.mosaic.prefilter import filter_tile
from opticstream_smk.mosaic.quality import find_exchanged, find_strangers, overlaps_with_content
from opticstream_smk.mosaic.resolve import connected_islands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from opticstream_smk.mosaic.prefilter import FilteredTile
    from opticstream_smk.mosaic.stage_model import StageModel

EDGE_DTYPE = np.dtype(
    [
        ("tile_a", np.int64),
        ("tile_b", np.int64),
        ("dy", np.float64),
        ("dx", np.float64),
        ("ncc", np.float64),
        ("weight", np.float64),
        ("residual", np.float64),
        ("used", np.bool_),
        ("has_content", np.bool_),
    ]
)

# Evidence, nats, of matches that show that two tiles are neighbours. Tissue has hundreds; less may
# be chance close to where the tile is expected, which does no harm to its position.
_FIRM_EVIDENCE = 12.0
# Overlaps of some hundred pixels never have as much: then so many times the median of all matches.
_FIRM_SHARE = 0.25


@dataclass(frozen=True)
class TilePositions:
    """Result of `solve_positions`.

    Attributes
    ----------
    positions_px
        (N, 2) float64, (y, x) of each tile's first pixel in px; the minimum of each axis is 0.
    is_anchored
        (N,) bool. True: linked to at least one neighbour by image content. False: placed by the
        fitted stage model (or the prior) relative to its neighbours.
    island
        (N,) int. Tiles of one island are linked to each other by content, 0 is the largest
        island. Different islands, and tiles that are not anchored (-1), are related to each other
        by the stage model only.
    is_stranger
        (N,) bool. True: the tile shows tissue towards at least two neighbours that show some as
        well, and matches none of them, or was exchanged with another. Its file is most likely that
        of another place.
    exchanged_with
        (N,) int. Index of the tile whose place this one takes and that takes its place: each
        matches the neighbours of the other, and nothing where it is. -1 for all others.
    edges
        Structured array of `EDGE_DTYPE`, one entry per pair of neighbours in the grid:
        ``tile_a``, ``tile_b`` (0-based index into the tiles), ``dy``, ``dx`` (measured offset of b
        from a, px; NaN if not measured), ``ncc`` (correlation of the overlap, 0 if not measured),
        ``weight`` (1 / px^2: inverse variance of the offset times its robust weight, 0 if
        unused), ``residual`` (px between measured and resolved offset, NaN if not measured),
        ``used``, ``has_content`` (both tiles show as much in the overlap as most of those that
        matched: a match was to be expected).
    stage
        The fitted stage model: steps, backlash, scatter.
    """

    positions_px: NDArray[np.float64]
    is_anchored: NDArray[np.bool_]
    island: NDArray[np.int64]
    is_stranger: NDArray[np.bool_]
    exchanged_with: NDArray[np.int64]
    edges: NDArray[Any]
    stage: StageModel


def solve_positions(
    tiles: ArrayLike | Sequence[NDArray[Any]],
    cells: ArrayLike,
    *,
    overlap_percent: float,
    signal: ArrayLike | None = None,
    prior_px: ArrayLike | None = None,
    prior_sigma_px: float | ArrayLike | None = None,
) -> TilePositions:
    """Positions of the tiles of one mosaic from the content of their overlaps.

    Neighbours in the grid are matched by overlap-normalised cross-correlation of band-passed
    tiles and refined below the pixel; a stage model (steps, shear, serpentine backlash) is fitted
    to the sure matches; doubtful pairs are searched again near that model; all offsets are then
    resolved together, robustly, with the stage model as prior. A tile without content is placed
    by the model relative to its neighbours and reported in `is_anchored`; none is lost.

    Parameters
    ----------
    tiles
        (N, ny, nx) images, or a sequence of N images of one shape (read one by one); y first. NaN
        is missing. Two filtered float32 copies of all of them are held in memory.
    cells
        (N, 2) int row, column of each tile, row 0 at the top, as from `snake_order`. Any subset of
        a grid will do, in any order.
    overlap_percent
        Nominal overlap of neighbours, percent of the tile on each axis, 0 to below 100.
        The search reaches 60 % of the overlap, at most 40 px, and at least 12 px as far as the
        overlap allows.
    signal
        (N,) bool: tiles with enough signal to be matched; the others are placed by the stage
        model. None matches every tile and leaves it to the evidence to reject empty ones.
    prior_px
        (N, 2) (y, x) in px: an earlier solution of the same grid, such as a template, up to a
        translation; NaN for tiles that it lacks, which then lie like their nearest neighbour
        there. It takes the place of the stage model: pairs are searched around it, and tiles
        without content follow it. Content that is clear overrules it, as far as the search goes.
    prior_sigma_px
        How far tiles are off from `prior_px` on each axis, px: one number, (N,) or (N, 2). None
        measures it on the tiles with content. It weighs the prior where content is weak.

    Returns
    -------
    TilePositions

    Raises
    ------
    ConfigError
        If the overlap is out of range.
    ValueError
        If the shapes do not fit together, or two tiles have the same cell.
    """
    grid = checked_cells(cells, len(tiles))  # type: ignore[arg-type]
    usable = checked_signal(signal, len(grid))
    filtered = [filter_tile(image) for image in checked_images(tiles)]
    usable &= np.array([tile.has_structure for tile in filtered])
    geometry = Geometry.of(grid, filtered[0].band.shape, overlap_percent)
    pairs = neighbours(grid)
    prior = None
    if prior_px is not None:
        prior = checked_prior(geometry, pairs, prior_px, prior_sigma_px)

    found = match_mosaic(filtered, usable, geometry, pairs, prior)
    oddities = find_oddities(filtered, pairs, geometry, found)
    return assemble(pairs, found, oddities)


@dataclass(frozen=True)
class Oddities:
    """What is odd about a mosaic, see `TilePositions` and `EDGE_DTYPE`."""

    has_content: NDArray[np.bool_]
    is_stranger: NDArray[np.bool_]
    exchanged_with: NDArray[np.int64]


def find_oddities(
    filtered: Sequence[FilteredTile],
    pairs: NDArray[np.int64],
    geometry: Geometry,
    found: Matched,
) -> Oddities:
    """Look for overlaps and tiles that should match and do not."""
    is_used, evidence = found.weights > 0, found.measured.evidence
    usual = float(np.median(evidence[is_used])) if is_used.any() else 0.0
    is_firm = is_used & (evidence >= min(_FIRM_EVIDENCE, _FIRM_SHARE * usual))
    has_content = overlaps_with_content(filtered, found.resolution.positions, pairs, is_firm)
    is_held = np.isin(np.arange(len(filtered)), pairs[is_firm])
    exchanged_with = find_exchanged(
        filtered, pairs, search_range(geometry.overlap), found.resolution, is_held
    )
    is_stranger = find_strangers(len(filtered), pairs, has_content, is_firm)
    return Oddities(has_content, is_stranger | (exchanged_with >= 0), exchanged_with)


def assemble(
    pairs: NDArray[np.int64],
    found: Matched,
    oddities: Oddities,
) -> TilePositions:
    """The result of what was found for `pairs` (P, 2)."""
    positions = found.resolution.positions
    edges = np.zeros(len(pairs), dtype=EDGE_DTYPE)
    edges["tile_a"], edges["tile_b"] = pairs.T
    edges["dy"], edges["dx"] = found.measured.shift.T
    edges["ncc"] = found.measured.ncc
    residual = found.measured.shift - (positions[pairs[:, 1]] - positions[pairs[:, 0]])
    edges["residual"] = np.hypot(residual[:, 0], residual[:, 1])
    edges["used"] = found.weights > 0
    variance = np.trace(found.measured.covariance, axis1=1, axis2=2) / 2
    edges["weight"] = np.where(edges["used"], found.weights / variance, 0)
    edges["has_content"] = oddities.has_content

    labels, sizes = connected_islands(len(positions), pairs[edges["used"]])
    is_anchored = sizes > 1
    return TilePositions(
        positions_px=positions - positions.min(axis=0),
        is_anchored=is_anchored,
        island=np.where(is_anchored, labels, -1),
        is_stranger=oddities.is_stranger,
        exchanged_with=oddities.exchanged_with,
        edges=edges,
        stage=found.stage,
    )
