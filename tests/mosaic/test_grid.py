import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError
from opticstream_smk.mosaic import nominal_positions, snake_order
from opticstream_smk.mosaic.grid import GRID_TYPES

ORDERS = ("up-right", "up-left", "down-right", "down-left")
sizes = st.integers(1, 9)
grid_types = st.sampled_from(GRID_TYPES)
orders = st.sampled_from(ORDERS)


def numbering(**kwargs):
    """Tile numbers as they lie on the stage."""
    cells = snake_order(2, 3, **kwargs)
    picture = np.zeros((2, 3), dtype=int)
    picture[cells[:, 0], cells[:, 1]] = np.arange(1, 7)
    return picture.tolist()


@pytest.mark.parametrize(
    ("grid_type", "order", "expected"),
    [
        ("snake-by-columns", "up-right", [[2, 3, 6], [1, 4, 5]]),
        ("snake-by-columns", "down-left", [[5, 4, 1], [6, 3, 2]]),
        ("snake-by-rows", "right-down", [[1, 2, 3], [6, 5, 4]]),
        ("snake-by-rows", "left-up", [[4, 5, 6], [3, 2, 1]]),
        ("row-by-row", "right-down", [[1, 2, 3], [4, 5, 6]]),
        ("row-by-row", "left-up", [[6, 5, 4], [3, 2, 1]]),
        ("column-by-column", "down-right", [[1, 3, 5], [2, 4, 6]]),
        ("column-by-column", "up-left", [[6, 4, 2], [5, 3, 1]]),
    ],
)
def test_numbering_of_fijis_grids(grid_type, order, expected):
    assert numbering(grid_type=grid_type, order=order) == expected


def test_default_is_the_microscopes_grid():
    assert numbering() == [[2, 3, 6], [1, 4, 5]]


@given(sizes, sizes, grid_types, orders)
def test_every_cell_once(rows, columns, grid_type, order):
    cells = snake_order(rows, columns, grid_type=grid_type, order=order)
    assert {tuple(cell) for cell in cells.tolist()} == {
        (r, c) for r in range(rows) for c in range(columns)
    }
    assert len(cells) == rows * columns


@given(sizes, sizes, st.sampled_from([t for t in GRID_TYPES if t.startswith("snake")]), orders)
def test_a_snake_moves_one_cell_at_a_time(rows, columns, grid_type, order):
    cells = snake_order(rows, columns, grid_type=grid_type, order=order)
    assert (np.abs(np.diff(cells, axis=0)).sum(axis=1) == 1).all()


@given(sizes, sizes, grid_types, orders)
def test_starts_in_the_corner_opposite_to_its_direction(rows, columns, grid_type, order):
    row, column = snake_order(rows, columns, grid_type=grid_type, order=order)[0]
    assert row == (rows - 1 if "up" in order else 0)
    assert column == (columns - 1 if "left" in order else 0)


@given(sizes, sizes, grid_types, orders)
def test_words_of_the_order_may_be_swapped(rows, columns, grid_type, order):
    swapped = "-".join(reversed(order.split("-")))
    one = snake_order(rows, columns, grid_type=grid_type, order=order)
    other = snake_order(rows, columns, grid_type=grid_type, order=swapped)
    assert (one == other).all()


@given(sizes, sizes)
def test_batch_is_a_column(rows, columns):
    cells = snake_order(rows, columns)
    batch = np.arange(rows * columns) // rows
    assert (cells[:, 1] == batch).all()


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"grid_type": "spiral"}, "spiral"),
        ({"order": "up"}, "'up'"),
        ({"order": "up-down"}, "up-down"),
        ({"order": "up-right-left"}, "up-right-left"),
    ],
)
def test_refuses_unknown_grids(kwargs, named):
    with pytest.raises(ConfigError, match=named):
        snake_order(2, 3, **kwargs)


def test_refuses_an_empty_grid():
    with pytest.raises(ConfigError, match="0 rows x 3 columns"):
        snake_order(0, 3)


def test_nominal_positions_of_the_specification():
    # 350 px at 20 % step by 280 px.
    positions = nominal_positions([[0, 0], [0, 1], [2, 0]], (350, 350), 20)
    assert positions.tolist() == [[0, 0], [0, 280], [560, 0]]


def test_nominal_positions_of_tiles_that_are_not_square():
    assert nominal_positions([[1, 1]], (350, 200), 20).tolist() == [[280, 160]]


@pytest.mark.parametrize("overlap", [-1, 100, float("nan")])
def test_refuses_an_impossible_overlap(overlap):
    with pytest.raises(ConfigError, match="overlap"):
        nominal_positions([[0, 0]], (10, 10), overlap)
