"""Rows and columns from positions alone, and what covers what."""

import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.mosaic import blend, nominal_positions, snake_order
from opticstream_smk.mosaic.regions import Box, canvas_box, tile_boxes, tiles_of_region
from opticstream_smk.mosaic.tile_grid import cells_of_positions

SHAPE = (350, 200)


def stage(rows, columns, *, jitter_px=3.0, shear=(0.0, 0.0), seed=0):
    cells = snake_order(rows, columns, grid_type="snake-by-rows", order="down-left")
    positions = nominal_positions(cells, SHAPE, 20)
    positions += cells @ [[0, shear[1]], [shear[0], 0]]
    return cells, positions + np.random.default_rng(seed).normal(0, jitter_px, positions.shape)


def numbers(cells):
    return range(1, len(cells) + 1)


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (6, 1), (2, 2), (16, 22)])
def test_cells_are_those_of_the_grid(grid):
    cells, positions = stage(*grid)
    np.testing.assert_array_equal(cells_of_positions(positions, numbers(cells)), cells)


def test_a_stage_that_shears_by_steps():
    cells, positions = stage(12, 20, shear=(30.0, -25.0))  # two rows over the mosaic
    np.testing.assert_array_equal(cells_of_positions(positions, numbers(cells)), cells)


def test_gaps_count():
    cells, positions = stage(8, 9)
    row, column = cells.T
    keep = ~np.isin(row, (3, 4)) & (column != 6) & ~((row == 0) & (column == 0))
    found = cells_of_positions(positions[keep], numbers(cells[keep]))
    np.testing.assert_array_equal(found, cells[keep])


def test_two_tiles_in_one_place_are_named():
    _, positions = stage(4, 4)
    positions[3] = positions[9] + 2
    with pytest.raises(CorruptInputError, match=r"tiles 14, 20 lie in one cell of the grid"):
        cells_of_positions(positions, range(11, 27))


def test_a_region_is_made_of_the_parts_that_are_named():
    """Cut out of the stitched image, or put together from the tiles: the same pixels."""
    _, positions = stage(3, 3)
    positions -= 77.3  # the frame of the positions is not that of the canvas
    images = [np.full(SHAPE, number, np.float32) for number in range(9)]
    canvas, _ = blend(images, positions, overlap_percent=0)
    region = Box(300, 150, 90, 120)
    parts = tiles_of_region(positions, SHAPE, region)
    areas = [part.in_mosaic.height * part.in_mosaic.width for part in parts]
    assert areas == sorted(areas, reverse=True)
    covering = np.zeros((90, 120, 9), bool)
    boxes = list(tile_boxes(positions, SHAPE))
    for part in parts:
        y, x = part.in_mosaic.y - region.y, part.in_mosaic.x - region.x
        covering[y : y + part.in_mosaic.height, x : x + part.in_mosaic.width, part.index] = True
        place = boxes[part.index]
        assert part.in_tile.y == part.in_mosaic.y - place.y
        assert part.in_tile.x == part.in_mosaic.x - place.x
    sums = (covering * np.arange(9)).sum(axis=2) / np.maximum(covering.sum(axis=2), 1)
    seen = canvas[300:390, 150:270]
    np.testing.assert_array_equal(np.isfinite(seen), covering.any(axis=2))
    np.testing.assert_allclose(sums[covering.any(axis=2)], seen[np.isfinite(seen)], rtol=1e-6)
    assert canvas_box(positions, SHAPE) == Box(0, 0, *canvas.shape)
