"""What goes wrong with a mosaic is found and said."""

import itertools

import numpy as np
import pytest

from opticstream_smk.mosaic import snake_order, solve_positions
from opticstream_smk.mosaic.grid import GRID_TYPES
from tests.mosaic.golden_presets import make_golden
from tests.mosaic.phantom import make_phantom, position_errors

ORDERS = [f"{v}-{h}" for v, h in itertools.product(("up", "down"), ("left", "right"))]


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(4, 4, (120, 100), 25, seed=5, step_error_px=(-2, 1.5), backlash_px=2)


def test_nothing_is_wrong_with_a_good_mosaic(phantom):
    result = solve_positions(phantom.tiles, phantom.cells, overlap_percent=25)
    assert not result.is_stranger.any()
    assert (result.exchanged_with == -1).all()
    assert result.edges["used"].all()


@pytest.mark.parametrize("swapped", [(5, 10), (0, 9), (5, 6)], ids=str)
def test_swapped_tiles_are_found(phantom, swapped):
    tiles = phantom.tiles.copy()
    tiles[list(swapped)] = tiles[list(swapped[::-1])]
    result = solve_positions(tiles, phantom.cells, overlap_percent=25)
    assert np.flatnonzero(result.is_stranger).tolist() == sorted(swapped)
    assert result.exchanged_with[list(swapped)].tolist() == list(swapped[::-1])
    assert (np.delete(result.exchanged_with, swapped) == -1).all()
    assert not result.is_anchored[list(swapped)].any()
    others = np.setdiff1d(np.arange(16), swapped)
    errors = position_errors(result.positions_px, phantom.true, others)
    assert errors[others].max() < 1
    # They lie where the stage went, which is irregular by 1.5 px a tile.
    assert errors.max() < 8


def test_tiles_that_were_moved_round_are_strangers_but_not_exchanged(phantom):
    tiles = phantom.tiles.copy()
    tiles[[0, 5, 10]] = tiles[[5, 10, 0]]
    result = solve_positions(tiles, phantom.cells, overlap_percent=25)
    assert np.flatnonzero(result.is_stranger).tolist() == [0, 5, 10]
    assert (result.exchanged_with == -1).all()


def test_swapped_tiles_at_the_outline_of_the_tissue_are_found():
    """Two corners, which show too little of it towards their neighbours to be strangers alone."""
    mosaic = make_golden("standard", 4, 5, seed=1005, tile_px=240)
    swapped = [19, 0]
    tiles = mosaic.tiles.copy()
    tiles[swapped] = tiles[swapped[::-1]]
    result = solve_positions(tiles, mosaic.cells, overlap_percent=20)
    assert result.exchanged_with[swapped].tolist() == swapped[::-1]
    assert np.flatnonzero(result.is_stranger).tolist() == sorted(swapped)
    intact = solve_positions(mosaic.tiles, mosaic.cells, overlap_percent=20)
    assert not intact.is_stranger.any()


def test_empty_and_missing_tiles_are_no_strangers(phantom):
    tiles = phantom.tiles.copy()
    tiles[5] = np.nan
    tiles[10] = 40.0
    tiles[15] = 30 + np.random.default_rng(0).normal(0, 1, tiles[15].shape)
    result = solve_positions(tiles, phantom.cells, overlap_percent=25)
    assert np.flatnonzero(~result.is_anchored).tolist() == [5, 10, 15]
    assert not result.is_stranger.any()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("grid_type", GRID_TYPES)
def test_every_way_through_the_grid(phantom, grid_type, order):
    """Tiles in the order in which this stage would have acquired them."""
    cells = snake_order(4, 4, grid_type=grid_type, order=order)
    index_of = {tuple(cell): i for i, cell in enumerate(phantom.cells.tolist())}
    acquired = [index_of[tuple(cell)] for cell in cells.tolist()]
    result = solve_positions(phantom.tiles[acquired], cells, overlap_percent=25)
    assert position_errors(result.positions_px, phantom.true[acquired]).max() < 1
    assert result.is_anchored.all()


def test_a_wrong_grid_order_is_found(phantom):
    """Tiles of a snake, taken for rows that all start at the left."""
    cells = snake_order(4, 4, grid_type="column-by-column")
    result = solve_positions(phantom.tiles, cells, overlap_percent=25)
    assert result.edges["used"].mean() < 0.6
    assert result.is_stranger.any() or not result.is_anchored.all() or (result.island > 0).any()


def test_backlash_of_rows_places_empty_tiles():
    """A stage that snakes by rows is off along x in every second row."""
    phantom = make_phantom(5, 6, (90, 110), 25, seed=2, backlash_px=4, jitter_px=0.2)
    tiles = phantom.tiles.transpose(0, 2, 1).copy()
    cells, true = phantom.cells[:, ::-1], phantom.true[:, ::-1]
    empty = [7, 20]
    tiles[empty] = np.nan
    result = solve_positions(tiles, cells, overlap_percent=25)
    assert result.stage.coefficients[3, 1] == pytest.approx(4, abs=0.5)
    assert position_errors(result.positions_px, true)[empty].max() < 1.5
