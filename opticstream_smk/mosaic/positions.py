"""Tile positions from the content of the overlaps: pairs, then stage model, then graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.mosaic.checks import checked_cells, checked_images, checked_signal
from opticstream_smk.mosaic.correlate import Peak, find_peak
from opticstream_smk.mosaic.grid import nominal_positions
from opticstream_smk.mosaic.prefilter import FilteredTile, filter_tile
from opticstream_smk.mosaic.quality import find_strangers
from opticstream_smk.mosaic.resolve import Resolution, connected_islands, resolve_positions
from opticstream_smk.mosaic.stage_model import StageModel, fit_stage_model
from opticstream_smk.mosaic.subpixel import Offset, refine_offset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

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
    ]
)

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
# The same for a match near the fitted stage model, which is itself evidence: a false match can
# then be off by little, and its uncertainty enters its weight.
_MIN_EVIDENCE_NEAR_MODEL = 3.0
_MIN_MARGIN_NEAR_MODEL = 3.0
# Regularity of a stage as long as nothing has been measured.
_PRIOR_SCATTER_PX = 2.0
# No stage is trusted beyond this, or the lattice would overrule good content.
_MIN_SCATTER_PX = 0.1
# Systematic error of a subpixel offset (interpolation, vignetting), added to its noise.
_OFFSET_FLOOR_PX = 0.02
# Doubtful pairs are searched again up to this many standard deviations from the expected offset.
_PRIOR_REACH_SIGMAS = 4.0
# An offset predicted from the other matches is not trusted to better than this.
_RESOLVED_SIGMA_FLOOR_PX = 0.5
# Correlation below which noise is stronger than fine structure.
_NOISY_NCC = 0.6


@dataclass(frozen=True)
class TilePositions:
    """Result of `solve_positions`.

    Attributes
    ----------
    positions_px
        (N, 2) float64, (y, x) of each tile's first pixel in px; the minimum of each axis is 0.
    is_anchored
        (N,) bool. True: linked to at least one neighbour by image content. False: placed by the
        fitted stage model relative to its neighbours, good to about `stage.scatter`.
    island
        (N,) int. Tiles of one island are linked to each other by content, 0 is the largest
        island. Different islands, and tiles that are not anchored (-1), are related to each other
        by the stage model only.
    is_stranger
        (N,) bool. True: the tile shows tissue towards at least two neighbours that show some as
        well, and matches none of them. Its file is most likely that of another place.
    edges
        Structured array of `EDGE_DTYPE`, one entry per pair of neighbours in the grid:
        ``tile_a``, ``tile_b`` (0-based index into the tiles), ``dy``, ``dx`` (measured offset of b
        from a, px; NaN if not measured), ``ncc`` (correlation of the overlap, 0 if not measured),
        ``weight`` (1 / px^2: inverse variance of the offset times its robust weight, 0 if
        unused), ``residual`` (px between measured and resolved offset, NaN if not measured),
        ``used``.
    stage
        The fitted stage model: steps, backlash, scatter.
    """

    positions_px: NDArray[np.float64]
    is_anchored: NDArray[np.bool_]
    island: NDArray[np.int64]
    is_stranger: NDArray[np.bool_]
    edges: NDArray[Any]
    stage: StageModel


@dataclass(frozen=True)
class _Pair:
    """Two neighbours in the grid and how well their images tell the offset."""

    tile_a: int
    tile_b: int
    peak: Peak | None = None
    offset: Offset | None = None

    @property
    def is_sure(self) -> bool:
        return self.offset is not None

    @property
    def doubt(self) -> float:
        """Probability that the match is a wrong place or no match at all."""
        if self.peak is None:
            return 1.0
        return float(np.exp(-self.peak.margin) + np.exp(-self.peak.evidence))


def solve_positions(
    tiles: ArrayLike | Sequence[NDArray[Any]],
    cells: ArrayLike,
    *,
    overlap_percent: float,
    signal: ArrayLike | None = None,
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
    ny, nx = tile_shape = filtered[0].band.shape
    nominal = nominal_positions(grid, (ny, nx), overlap_percent)
    step = nominal_positions([[1, 1]], (ny, nx), overlap_percent)[0]
    overlap = np.asarray(tile_shape) - step

    neighbours = _neighbours(grid)
    search = _search_range(overlap)
    pairs = []
    for tile_a, tile_b in neighbours:
        pair = _Pair(int(tile_a), int(tile_b))
        if usable[tile_a] and usable[tile_b]:
            pair = _measure(filtered, pair, nominal[tile_b] - nominal[tile_a], search)
        pairs.append(pair)

    stage = _fit_stage(grid, pairs, step, overlap)
    expected = stage.positions(grid)
    pairs = [
        pair
        if pair.peak is None or pair.is_sure
        else _measure_near(filtered, pair, expected, stage.scatter, search)
        for pair in pairs
    ]
    resolution = _resolve(expected, pairs, stage)

    # Round a loop of the graph an offset is known better than from the stage model.
    weights = _weights_of_pairs(pairs, resolution)
    for index, pair in enumerate(pairs):
        if pair.peak is None or weights[index] > 0:
            continue
        sigma = resolution.offset_sigma(pair.tile_a, pair.tile_b) + _RESOLVED_SIGMA_FLOOR_PX
        pairs[index] = _measure_near(filtered, pair, resolution.positions, sigma, search)
    resolution = _resolve(expected, pairs, stage)
    return _collect(filtered, pairs, resolution, stage)


def _measure_near(
    filtered: Sequence[FilteredTile],
    pair: _Pair,
    positions: NDArray[np.float64],
    sigma: NDArray[np.float64],
    search: tuple[int, int],
) -> _Pair:
    reach = np.minimum(np.ceil(_PRIOR_REACH_SIGMAS * sigma + 1), search).astype(int)
    expected = positions[pair.tile_b] - positions[pair.tile_a]
    return _measure(filtered, pair, expected, (int(reach[0]), int(reach[1])), prior_sigma=sigma)


def _measure(
    filtered: Sequence[FilteredTile],
    pair: _Pair,
    expected: NDArray[np.float64],
    search: tuple[int, int],
    *,
    prior_sigma: NDArray[np.float64] | None = None,
) -> _Pair:
    a, b = filtered[pair.tile_a], filtered[pair.tile_b]
    prior = None if prior_sigma is None else (float(prior_sigma[0]), float(prior_sigma[1]))
    peak = find_peak(
        a.band,
        b.band,
        (float(expected[0]), float(expected[1])),
        search,
        coarse=(a.coarse, b.coarse),
        prior_sigma=prior,
    )
    if peak is None:
        return _Pair(pair.tile_a, pair.tile_b)
    offset = None
    if _is_convincing(peak, is_near_model=prior is not None):
        offset = refine_offset(a, b, (peak.dy, peak.dx), is_noisy=peak.ncc < _NOISY_NCC)
    return _Pair(pair.tile_a, pair.tile_b, peak, offset)


def _is_convincing(peak: Peak, *, is_near_model: bool) -> bool:
    if is_near_model:
        return peak.evidence >= _MIN_EVIDENCE_NEAR_MODEL and peak.margin >= _MIN_MARGIN_NEAR_MODEL
    return peak.evidence >= _MIN_EVIDENCE and peak.margin >= _MIN_MARGIN


def _fit_stage(
    grid: NDArray[np.int64],
    pairs: Sequence[_Pair],
    step: NDArray[np.float64],
    overlap: NDArray[np.float64],
) -> StageModel:
    sure = [pair for pair in pairs if pair.is_sure]
    offsets = [pair.offset.shift for pair in sure if pair.offset is not None]
    model = fit_stage_model(
        grid[[pair.tile_a for pair in sure]],
        grid[[pair.tile_b for pair in sure]],
        np.array(offsets).reshape(-1, 2),
        nominal_step=step,
        # Stages are off by a few percent of the overlap; more would be a grid in a wrong order.
        step_sigma=np.maximum(overlap / 12, 1.0),
        prior_scatter_px=_PRIOR_SCATTER_PX,
    )
    return StageModel(model.coefficients, np.maximum(model.scatter, _MIN_SCATTER_PX))


def _resolve(
    expected: NDArray[np.float64], pairs: Sequence[_Pair], stage: StageModel
) -> Resolution:
    sure = [pair for pair, ok in zip(pairs, _accepted(pairs), strict=True) if ok and pair.offset]
    return resolve_positions(
        expected,
        _tile_indices(pairs),
        stage.scatter,
        _tile_indices(sure),
        np.array([pair.offset.shift for pair in sure if pair.offset]).reshape(-1, 2),
        np.array([_covariance(pair, stage) for pair in sure]).reshape(-1, 2, 2),
    )


def _accepted(pairs: Sequence[_Pair]) -> NDArray[np.bool_]:
    """Which pairs are sure, alone or together with the others of their tiles.

    Among many empty pairs, some match near the stage model by chance. Such a match is accepted
    only if all matches of each of its two tiles have together the evidence that one match far
    from the model needs, so that no tile hangs on it alone.
    """
    ends = _tile_indices(pairs)
    evidence = np.array([pair.peak.evidence if pair.peak else 0.0 for pair in pairs])
    accepted = np.array([pair.is_sure for pair in pairs], dtype=bool)
    while accepted.any():
        of_tile = np.zeros(ends.max() + 1)
        np.add.at(of_tile, ends[accepted], evidence[accepted, None])
        supported = accepted & (of_tile[ends] >= _MIN_EVIDENCE).all(axis=1)
        if (supported == accepted).all():
            break
        accepted = supported
    return accepted


def _weights_of_pairs(pairs: Sequence[_Pair], resolution: Resolution) -> NDArray[np.float64]:
    """Robust weight of every pair, 0 for those that were not accepted."""
    weights = np.zeros(len(pairs))
    weights[_accepted(pairs)] = resolution.weights
    return weights


def _covariance(pair: _Pair, stage: StageModel) -> NDArray[np.float64]:
    assert pair.offset is not None
    # A match that may be wrong is as uncertain as the places where the right one may be.
    floor = np.diag(_OFFSET_FLOOR_PX**2 + pair.doubt * stage.scatter**2)
    return pair.offset.covariance + floor


def _tile_indices(pairs: Sequence[_Pair]) -> NDArray[np.int64]:
    return np.array([(pair.tile_a, pair.tile_b) for pair in pairs], dtype=np.int64).reshape(-1, 2)


def _collect(
    filtered: Sequence[FilteredTile],
    pairs: Sequence[_Pair],
    resolution: Resolution,
    stage: StageModel,
) -> TilePositions:
    positions = resolution.positions
    edges = np.zeros(len(pairs), dtype=EDGE_DTYPE)
    for name in ("dy", "dx", "residual"):
        edges[name] = np.nan
    weights = _weights_of_pairs(pairs, resolution)
    for edge, pair, weight in zip(edges, pairs, weights, strict=True):
        edge["tile_a"], edge["tile_b"] = pair.tile_a, pair.tile_b
        if pair.peak is None or pair.offset is None:
            continue
        residual = pair.offset.shift - (positions[pair.tile_b] - positions[pair.tile_a])
        edge["dy"], edge["dx"] = pair.offset.shift
        edge["ncc"] = pair.peak.ncc
        edge["residual"] = np.hypot(residual[0], residual[1])
        edge["weight"] = weight / (np.trace(_covariance(pair, stage)) / 2)
        edge["used"] = weight > 0

    labels, sizes = connected_islands(len(positions), _tile_indices(pairs)[edges["used"]])
    is_anchored = sizes > 1
    return TilePositions(
        positions_px=positions - positions.min(axis=0),
        is_anchored=is_anchored,
        island=np.where(is_anchored, labels, -1),
        is_stranger=find_strangers(filtered, positions, _tile_indices(pairs), edges["used"]),
        edges=edges,
        stage=stage,
    )


def _neighbours(grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P, 2) tiles one row or one column apart; the second lies below or to the right."""
    index_of = {(int(row), int(column)): index for index, (row, column) in enumerate(grid)}
    found = []
    for (row, column), index in index_of.items():
        for cell in ((row + 1, column), (row, column + 1)):
            if cell in index_of:
                found.append((index, index_of[cell]))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _search_range(overlap: NDArray[np.float64]) -> tuple[int, int]:
    wanted = np.minimum(_SEARCH_SHARE_OF_OVERLAP * overlap, _MAX_SEARCH_PX)
    least = np.minimum(_MIN_SEARCH_PX, overlap - _MIN_REMAINING_OVERLAP_PX)
    reach = np.ceil(np.maximum(np.maximum(wanted, least), 1)).astype(int)
    return int(reach[0]), int(reach[1])
