"""Positions of another program: the linked are kept, the others are flagged and placed."""

import numpy as np
import pytest

from opticstream_smk.errors import QualityError
from opticstream_smk.mosaic import nominal_positions, snake_order
from opticstream_smk.mosaic.given_positions import adopt_positions
from tests.mosaic.phantom import position_errors, rms

SHAPE, OVERLAP = (350, 200), 20  # y, x: per-axis sizes


def stage(rows, columns, *, jitter_px, seed=0, **order):
    """Cells and positions of a stage with step error, shear, backlash and jitter."""
    rng = np.random.default_rng(seed)
    cells = snake_order(rows, columns, **order)
    steps = np.array([[-3.0, 1.5], [2.0, 1.0]])
    true = nominal_positions(cells, SHAPE, OVERLAP) + cells @ steps
    true[:, 0] += 4.0 * (cells[:, 1] % 2)
    return cells, true + rng.normal(0, jitter_px, true.shape)


def adopt(given, cells):
    return adopt_positions(given, cells, SHAPE, overlap_percent=OVERLAP, source="some/file")


def test_linked_positions_are_kept_to_the_last_digit():
    cells, true = stage(6, 8, jitter_px=2.5)
    solved = adopt(true - true[20], cells)
    assert solved.is_anchored.all()
    assert (solved.island == 0).all()
    assert position_errors(solved.positions_px, true).max() < 1e-9
    np.testing.assert_allclose(solved.positions_px.min(axis=0), 0)
    assert solved.edges["used"].all()
    assert len(solved.edges) == 5 * 8 + 6 * 7


@pytest.mark.parametrize("jitter_px", [0.3, 2.5])
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
    rejected = np.isfinite(solved.edges["dy"]) & ~solved.edges["used"]
    touched = np.isin(solved.edges["tile_a"], unlinked) | np.isin(solved.edges["tile_b"], unlinked)
    np.testing.assert_array_equal(rejected, touched)


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
    assert np.isnan(solved.edges["dy"]).sum() == 2 + 4  # a corner and an inner tile


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
    with pytest.raises(ValueError, match=r"expected \(3, 2\)"):
        adopt(true[:3], cells)


def test_one_tile():
    solved = adopt([[0.0, 0.0]], [[0, 0]])
    np.testing.assert_array_equal(solved.positions_px, [[0, 0]])
    assert len(solved.edges) == 0
