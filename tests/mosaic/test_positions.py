from pathlib import Path

import numpy as np
import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.mosaic import solve_positions
from tests.mosaic.phantom import make_phantom, position_errors, rms

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "mosaic"


def golden(name):
    given = np.load(GOLDEN / f"mosaic_{name}.input.npz")
    truth = np.load(GOLDEN / f"mosaic_{name}.truth.npz")
    tiles = given["aip"].astype(np.float32) / given["scale"] + given["offset"]
    return tiles, given["rc"], float(given["overlap_percent"]), truth["true"], truth["weak"]


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 4, (120, 100), 25, seed=1, step_error_px=(-2, 1.5), backlash_px=2)


@pytest.fixture(scope="module")
def solved(phantom):
    return solve_positions(phantom.tiles, phantom.cells, overlap_percent=25)


@pytest.mark.parametrize(
    ("name", "strong_rms_px", "weak_rms_px"),
    # Measured: 0.042 (no weak tiles), and 0.055 with 0.97 for the weak ones.
    [("lattice", 0.06, 0.0), ("stage", 0.07, 1.5)],
)
def test_golden_mosaics(name, strong_rms_px, weak_rms_px):
    tiles, cells, overlap, true, weak = golden(name)
    result = solve_positions(tiles, cells, overlap_percent=overlap)
    errors = position_errors(result.positions_px, true, ~weak)
    assert rms(errors[~weak]) < strong_rms_px
    assert result.is_anchored[~weak].all()
    if weak.any():
        assert rms(errors[weak]) < weak_rms_px


# 12 and 14 px of overlap, places off by up to 4.4 px. Measured on these seeds: rms 0.29-0.74 px,
# of 6 to 9 px that the nominal grid is off by between neighbours; worst tile 1.8 px.
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overlap_percent", [25, 30])
@pytest.mark.parametrize(
    "stage",
    [
        {"jitter_px": 2.0},
        {"jitter_px": 1.0, "step_error_px": (-2.0, 1.5), "backlash_px": 1.0},
    ],
    ids=["irregular", "biased"],
)
def test_small_tiles_far_off_their_places(stage, overlap_percent, seed):
    phantom = make_phantom(4, 5, (48, 48), overlap_percent, seed=seed, looks=100, **stage)
    assert position_errors(phantom.nominal, phantom.true).max() > 3.5
    result = solve_positions(phantom.tiles, phantom.cells, overlap_percent=overlap_percent)
    errors = position_errors(result.positions_px, phantom.true)
    assert rms(errors) < 1.0
    assert errors.max() < 2.2
    assert result.is_anchored.all()


def test_measured_offsets_are_close_and_their_weights_honest(phantom, solved):
    edges = solved.edges
    assert len(edges) == 3 * 3 + 2 * 4
    assert edges["used"].all()
    offsets = np.stack([edges["dy"], edges["dx"]], axis=1)
    errors = offsets - (phantom.true[edges["tile_b"]] - phantom.true[edges["tile_a"]])
    assert rms(np.hypot(*errors.T)) < 0.6
    # Standardised errors of unit variance, give or take what 34 numbers can say.
    assert 0.5 < rms(errors * np.sqrt(edges["weight"])[:, None]) < 2.5
    assert (edges["residual"] < 1.5).all()
    assert (edges["ncc"] > 0.3).all()


def test_result_is_normalised_and_names_the_stage(phantom, solved):
    assert solved.positions_px.min(axis=0).tolist() == [0, 0]
    assert (solved.island == 0).all()
    row_step, column_step = solved.stage.coefficients[:2]
    assert np.allclose(row_step, [90 - 2, 0], atol=1.5)
    assert np.allclose(column_step, [0, 75 + 1.5], atol=1.5)


def test_order_and_numbering_of_the_cells_do_not_matter(phantom, solved):
    shuffled = np.random.default_rng(0).permutation(len(phantom.cells))
    result = solve_positions(
        phantom.tiles[shuffled], phantom.cells[shuffled] + [6, 2], overlap_percent=25
    )
    assert np.allclose(result.positions_px, solved.positions_px[shuffled], atol=0.02)


def test_tiles_may_be_a_list(phantom, solved):
    result = solve_positions(list(phantom.tiles), phantom.cells, overlap_percent=25)
    assert (result.positions_px == solved.positions_px).all()


def test_missing_tiles(phantom):
    keep = np.setdiff1d(np.arange(12), [4, 9])
    result = solve_positions(phantom.tiles[keep], phantom.cells[keep], overlap_percent=25)
    assert position_errors(result.positions_px, phantom.true[keep]).max() < 1
    assert result.is_anchored.all()


def test_empty_tiles_go_where_the_stage_went(phantom):
    tiles = phantom.tiles.copy()
    tiles[5] = np.nan
    tiles[9] = 40
    result = solve_positions(tiles, phantom.cells, overlap_percent=25)
    errors = position_errors(result.positions_px, phantom.true)
    assert np.flatnonzero(~result.is_anchored).tolist() == [5, 9]
    assert (result.island[[5, 9]] == -1).all()
    # The stage is irregular by 1.5 px a tile.
    assert errors[[5, 9]].max() < 6
    assert np.delete(errors, [5, 9]).max() < 1
    touching = np.isin(result.edges["tile_a"], [5, 9]) | np.isin(result.edges["tile_b"], [5, 9])
    assert not result.edges["used"][touching].any()
    assert np.isnan(result.edges["dy"][touching]).all()


def test_partly_missing_tiles_are_still_matched(phantom):
    tiles = phantom.tiles.copy()
    tiles[5, 40:90, 10:60] = np.nan
    tiles[2, :, :12] = np.nan
    tiles[7, 3, 3] = np.inf
    result = solve_positions(tiles, phantom.cells, overlap_percent=25)
    assert result.is_anchored.all()
    assert position_errors(result.positions_px, phantom.true).max() < 1


def test_tiles_without_signal_are_not_matched(phantom):
    signal = np.ones(12, dtype=bool)
    signal[6] = False
    result = solve_positions(phantom.tiles, phantom.cells, overlap_percent=25, signal=signal)
    assert np.flatnonzero(~result.is_anchored).tolist() == [6]
    assert position_errors(result.positions_px, phantom.true).max() < 6


def test_background_is_not_matched_by_chance():
    phantom = make_phantom(5, 6, (80, 80), 25, seed=3, tissue_share=0.5)
    result = solve_positions(phantom.tiles, phantom.cells, overlap_percent=25)
    use = phantom.has_tissue
    assert 10 <= use.sum() <= 20
    assert result.is_anchored[use].all()
    assert position_errors(result.positions_px, phantom.true, use)[use].max() < 1.5
    assert not result.is_anchored[phantom.cells[:, 1] == 5].any()
    assert position_errors(result.positions_px, phantom.true, use).max() < 10


@pytest.mark.parametrize("tile_shape", [(100, 100), (48, 48)])
def test_pure_noise_is_the_nominal_grid(tile_shape):
    phantom = make_phantom(4, 5, tile_shape, 25, seed=0, tissue_share=0.0)
    result = solve_positions(phantom.tiles, phantom.cells, overlap_percent=25)
    assert not result.is_anchored.any()
    assert np.allclose(result.positions_px, phantom.nominal - phantom.nominal.min(axis=0))


def test_two_islands():
    phantom = make_phantom(3, 7, (80, 80), 25, seed=4)
    tiles = phantom.tiles.copy()
    tiles[phantom.cells[:, 1] == 4] = np.nan
    result = solve_positions(tiles, phantom.cells, overlap_percent=25)
    column = phantom.cells[:, 1]
    assert (result.island[column < 4] == 0).all()
    assert (result.island[column == 4] == -1).all()
    assert (result.island[column > 4] == 1).all()
    for label in (0, 1):
        use = result.island == label
        assert position_errors(result.positions_px, phantom.true, use)[use].max() < 1
    assert position_errors(result.positions_px, phantom.true).max() < 10


def test_one_tile():
    result = solve_positions(np.ones((1, 20, 30)), [[4, 2]], overlap_percent=20)
    assert result.positions_px.tolist() == [[0, 0]]
    assert result.is_anchored.tolist() == [False]
    assert len(result.edges) == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_one_line(phantom, axis):
    use = phantom.cells[:, axis] == 1
    result = solve_positions(phantom.tiles[use], phantom.cells[use], overlap_percent=25)
    assert position_errors(result.positions_px, phantom.true[use]).max() < 1
    assert result.is_anchored.all()


def test_tiles_that_are_not_neighbours(phantom):
    result = solve_positions(phantom.tiles[[0, 9]], phantom.cells[[0, 9]], overlap_percent=25)
    cells = phantom.cells[[0, 9]] * [90, 75]
    assert np.allclose(result.positions_px, cells - cells.min(axis=0))


def test_a_wrong_tile_does_not_spoil_the_others(phantom):
    tiles = phantom.tiles.copy()
    tiles[5] = tiles[10]  # a file written twice
    result = solve_positions(tiles, phantom.cells, overlap_percent=25)
    assert np.delete(position_errors(result.positions_px, phantom.true), 5).max() < 1.5


@pytest.mark.parametrize("overlap", [0, 1, 99])
def test_extreme_overlaps_give_finite_positions(phantom, overlap):
    result = solve_positions(phantom.tiles[:, :40, :40], phantom.cells, overlap_percent=overlap)
    assert np.isfinite(result.positions_px).all()


@pytest.mark.parametrize(
    ("tiles", "cells", "signal", "message"),
    [
        (np.ones((2, 4, 4)), [[0, 0]], None, r"expected \(2, 2\)"),
        (np.ones((2, 4, 4)), [[0, 0], [0, 0]], None, r"tiles \[0, 1\] are all in cell"),
        (np.ones((2, 4, 4)), [[0, 0], [0.5, 0]], None, "whole numbers"),
        (np.ones((2, 4, 4)), [[0, 0], [0, 1]], [60.0, 20.0], "bool"),
        ([np.ones((4, 4)), np.ones((4, 5))], [[0, 0], [0, 1]], None, r"tile 1 has shape \(4, 5\)"),
        (np.ones((0, 4, 4)), np.ones((0, 2)), None, "no tiles"),
    ],
)
def test_inputs_that_do_not_fit(tiles, cells, signal, message):
    with pytest.raises(ValueError, match=message):
        solve_positions(tiles, cells, overlap_percent=20, signal=signal)


def test_overlap_out_of_range():
    with pytest.raises(ConfigError, match="overlap"):
        solve_positions(np.ones((1, 4, 4)), [[0, 0]], overlap_percent=100)


@pytest.mark.parametrize("tile_shape", [(200, 350), (350, 200)])
def test_tilted_tiles_have_another_size_on_each_axis(tile_shape):
    phantom = make_phantom(3, 3, tile_shape, 20, seed=6, step_error_px=(-3, 2), backlash_px=2)
    tiles = phantom.tiles.copy()
    tiles[4] = np.nan
    result = solve_positions(tiles, phantom.cells, overlap_percent=20)
    assert np.flatnonzero(~result.is_anchored).tolist() == [4]
    errors = position_errors(result.positions_px, phantom.true)
    assert np.delete(errors, 4).max() < 0.2
    assert errors[4] < 5
    step = np.diag(result.stage.coefficients[:2])
    assert np.allclose(step, 0.8 * np.array(tile_shape) + [-3, 2], atol=1.5)
