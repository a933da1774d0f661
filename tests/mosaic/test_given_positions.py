"""Positions of another program: the linked are kept, the others are flagged and placed."""

import numpy as np
import pytest

from opticstream_smk.errors import QualityError
from opticstream_smk.mosaic import judge_positions, nominal_positions, snake_order
from opticstream_smk.mosaic.given_positions import adopt_positions
from tests.mosaic.phantom import make_phantom, position_errors, rms

SHAPE, OVERLAP = (70, 40), 20  # y, x: per-axis sizes


def stage(rows, columns, *, jitter_px, seed=0, **order):
    """Cells and positions of a stage with step error, shear, backlash and jitter."""
    rng = np.random.default_rng(seed)
    cells = snake_order(rows, columns, **order)
    steps = np.array([[-1.0, 0.5], [0.6, 0.4]])
    true = nominal_positions(cells, SHAPE, OVERLAP) + cells @ steps
    true[:, 0] += 1.0 * (cells[:, 1] % 2)
    return cells, true + rng.normal(0, jitter_px, true.shape)


def adopt(given, cells):
    """Without any content in the images: they do not move tiles."""
    tiles = np.zeros((len(cells), *SHAPE), np.float32)
    return adopt_positions(tiles, given, cells, overlap_percent=OVERLAP, source="some/file")


def test_linked_positions_are_kept_to_the_last_digit():
    cells, true = stage(6, 8, jitter_px=1.5)
    solved = adopt(true - true[20], cells)
    assert solved.is_anchored.all()
    assert (solved.island == 0).all()
    assert position_errors(solved.positions_px, true).max() < 1e-9
    np.testing.assert_allclose(solved.positions_px.min(axis=0), 0)
    assert len(solved.edges) == 5 * 8 + 6 * 7
    assert not solved.edges["used"].any()


@pytest.mark.parametrize("jitter_px", [0.3, 1.5])
def test_tiles_at_zero_are_flagged_and_placed_by_the_stage(jitter_px):
    """The origin of the graph is at (0, 0) as well, and is right there."""
    cells, true = stage(6, 8, jitter_px=jitter_px)
    origin, unlinked = 20, [0, 1, 7, 13, 30, 47]
    given = true - true[origin]
    given[unlinked] = 0
    solved = adopt(given, cells)
    assert np.flatnonzero(~solved.is_anchored).tolist() == unlinked
    assert solved.island[unlinked].tolist() == [-1] * len(unlinked)
    errors = position_errors(solved.positions_px, true, solved.is_anchored)
    assert errors[solved.is_anchored].max() < 1e-9
    assert rms(errors[unlinked]) < 4 * jitter_px  # of two axes, relative to jittering neighbours


def test_a_single_zero_that_is_not_plausible():
    cells, true = stage(4, 5, jitter_px=0.5)
    given = true + 1234.5
    given[11] = 0
    solved = adopt(given, cells)
    assert np.flatnonzero(~solved.is_anchored).tolist() == [11]
    assert position_errors(solved.positions_px, true)[11] < 2.5


def test_islands_have_frames_of_their_own():
    """Fiji lays every group of tiles out from (0, 0)."""
    cells, true = stage(6, 8, jitter_px=0.5)
    column = cells[:, 1]
    given = true - true[0]
    far = np.flatnonzero(column >= 6)
    given[far] = true[far] - true[far[0]]
    given[column == 5] = 0
    solved = adopt(given, cells)
    assert set(solved.island[column < 5]) == {0}
    assert set(solved.island[far]) == {1}
    assert not solved.is_anchored[column == 5].any()
    errors = position_errors(solved.positions_px, true, solved.island == 0)
    assert errors[solved.island == 0].max() < 1e-9
    assert position_errors(solved.positions_px, true, far)[far].max() < 1e-9
    assert errors.max() < 3


def test_tiles_without_a_position_are_placed():
    cells, true = stage(4, 5, jitter_px=0.3)
    given = true.copy()
    given[[0, 9]] = np.nan  # also the tile of cell (0, 0) may be missing
    solved = adopt(given, cells)
    assert np.flatnonzero(~solved.is_anchored).tolist() == [0, 9]
    assert np.isfinite(solved.positions_px).all()
    assert position_errors(solved.positions_px, true).max() < 1.5


def test_where_nothing_was_linked_all_is_nominal():
    cells, _ = stage(3, 4, jitter_px=0)
    solved = adopt(np.zeros((12, 2)), cells)
    assert not solved.is_anchored.any()
    nominal = nominal_positions(cells, SHAPE, OVERLAP)
    np.testing.assert_allclose(solved.positions_px, nominal - nominal.min(axis=0), atol=1e-6)


@pytest.mark.parametrize("order", ["down-right", "up-left", "down-left"])
def test_positions_of_another_order_are_refused(order):
    cells, _ = stage(6, 8, jitter_px=0.5)
    _, given = stage(6, 8, jitter_px=0.5, order=order)
    with pytest.raises(QualityError, match=r"some/file: \d+ of \d+ pairs of tiles .*grid_order"):
        adopt(given, cells)


def test_positions_of_another_overlap_are_refused():
    cells, true = stage(6, 8, jitter_px=0.5)
    with pytest.raises(QualityError, match=r"tile_overlap_percent"):
        adopt(true * 0.6, cells)


def test_shapes_that_do_not_fit():
    cells, true = stage(2, 2, jitter_px=0)
    with pytest.raises(ValueError, match=r"expected \(4, 2\)"):
        adopt(true[:3], cells)


def test_one_tile():
    solved = adopt([[0.0, 0.0]], [[0, 0]])
    np.testing.assert_array_equal(solved.positions_px, [[0, 0]])
    assert len(solved.edges) == 0


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 4, (160, 128), 25, seed=8, jitter_px=1.0)


def adopt_of(phantom, given, tiles=None):
    tiles = phantom.tiles if tiles is None else tiles
    return adopt_positions(tiles, given, phantom.cells, overlap_percent=25, source="f")


def test_the_images_tell_how_good_the_positions_are(phantom):
    rng = np.random.default_rng(0)
    right = adopt_of(phantom, phantom.true)
    assert right.edges["used"].all()
    assert rms(right.edges["residual"]) < 0.25
    off = phantom.true + rng.normal(0, 1.0, phantom.true.shape)
    wrong = adopt_of(phantom, off)
    assert position_errors(wrong.positions_px, off).max() < 1e-9
    assert wrong.edges["used"].all()
    difference = off - phantom.true
    a, b = wrong.edges["tile_a"], wrong.edges["tile_b"]
    expected = np.linalg.norm(difference[b] - difference[a], axis=1)
    np.testing.assert_allclose(wrong.edges["residual"], expected, atol=0.4)
    assert judge_positions(right).level == "ok"
    assert judge_positions(wrong).level == "warn"


def test_a_tile_that_was_linked_wrongly_is_named(phantom):
    given = phantom.true.copy()
    given[5] += (11, -9)
    solved = adopt_of(phantom, given)
    assert solved.is_anchored.all()
    assert np.flatnonzero(solved.is_stranger).tolist() == [5]
    assert "tiles 6 show tissue" in " ".join(judge_positions(solved).reasons)


def test_tissue_that_was_not_linked_is_judged(phantom):
    given = phantom.true.copy()
    given[[0, 4, 5, 9]] = 0
    solved = adopt_of(phantom, given)
    assert not solved.is_stranger.any()  # they were compared with nothing
    verdict = judge_positions(solved)
    assert verdict.level == "warn"
    assert "4 of 12 tiles with tissue are not linked by content (1, 5, 6, 10)" in verdict.reasons[0]


def test_a_missing_tile(phantom):
    tiles = phantom.tiles.copy()
    tiles[5] = np.nan
    given = phantom.true.copy()
    given[5] = 0
    solved = adopt_of(phantom, given, tiles)
    assert np.flatnonzero(~solved.is_anchored).tolist() == [5]
    assert not solved.is_stranger.any()
    assert judge_positions(solved).level == "ok"
    assert position_errors(solved.positions_px, phantom.true)[5] < 4
