"""The picture of a mosaic's coordinates says where overlaps do not fit."""

import numpy as np
import pytest
from PIL import Image

from opticstream_smk.qc.coordinates import (
    _checkerboard,
    _edge_map,
    _overlap,
    _residual_colours,
    write_coordinates_picture,
)
from opticstream_smk.stages.edge_table import read_edges
from opticstream_smk.stages.tilemap import cells
from tests.stages.mosaic_project import GRID, Project, moved, phantom_of

WINDOW = (1.0, 99.0)


@pytest.fixture(scope="module")
def phantoms():
    return phantom_of(1), phantom_of(2)


@pytest.fixture
def project(make_config, phantoms):
    it = Project(make_config(**GRID, mosaic__drift_limit_px=50))
    it.add(1, phantoms[0].tiles)
    it.add(3, moved(phantoms[1], 6, (-4, 3)))
    it.solve()
    it.place(3)
    return it


def colourful(pixels):
    """(y, x) how far from grey."""
    return np.ptp(pixels.astype(int), axis=-1)


def test_the_picture_is_drawn(project):
    write_coordinates_picture(project.config, 3)
    path = project.layout.coordinates_picture(3)
    assert path.name == "mosaic-03_coordinates.jpg"
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 700
    assert pixels.shape[1] > 1500
    assert (colourful(pixels) > 60).mean() > 0.02


def test_the_map_shows_the_tile_that_slipped(project):
    edges = read_edges(project.layout.mosaic_edges(3))
    grid, tilemap = cells(project.config, "normal"), project.template
    residual = [edge.residual_px(tilemap.positions_px) for edge in edges]
    picture = _edge_map(edges, grid, tilemap, _residual_colours(residual)).astype(int)
    assert picture.shape == (4 * 8 - 3, 4 * 8 - 3, 3)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 80) & (picture[..., 2] < 80)
    row, column = grid[5] * 8
    around = np.zeros(red.shape, bool)
    around[max(row - 3, 0) : row + 8, max(column - 3, 0) : column + 8] = True
    assert red[around].sum() == 15 * sum(6 in (e.image_a, e.image_b) for e in edges)
    assert not red[~around].any()


def test_what_fits_is_grey_and_what_does_not_is_coloured(project):
    """By the right positions against by those of the template, for the same overlap."""
    edge = next(
        e for e in read_edges(project.layout.mosaic_edges(3)) if 6 in (e.image_a, e.image_b)
    )
    files = project.files(3)
    wrong = project.template
    right = project.tilemap_at(wrong.positions_px + 0)
    b = edge.image_b - 1
    right.positions_px[b] = right.positions_px[edge.image_a - 1] + edge.offset_px
    off, fits = (_overlap(files, tilemap, edge, WINDOW) for tilemap in (wrong, right))
    assert np.median(colourful(off)) > 1.5 * np.median(colourful(fits))


def test_the_checkerboard_is_grey_outside_the_overlaps(project):
    tilemap, files = project.template, project.files(3)
    picture = _checkerboard(files, cells(project.config, "normal"), tilemap, WINDOW)
    count = np.zeros(tilemap.canvas_px, int)
    for y, x in np.rint(tilemap.positions_px - tilemap.origin_px).astype(int):
        count[y : y + 96, x : x + 96] += 1
    pixels = picture[: count.shape[0], : count.shape[1]]
    assert (colourful(pixels)[count == 1] == 0).all()
    assert np.median(colourful(pixels)[count == 2]) > 0
    assert pixels[count == 1].std() > 20


def test_what_was_stitched_before_there_was_a_table(project):
    project.layout.mosaic_edges(3).unlink()
    write_coordinates_picture(project.config, 3)
    with Image.open(project.layout.coordinates_picture(3)) as picture:
        assert picture.size[0] < 600  # the checkerboard alone


def test_missing_tiles(make_config, phantoms):
    it = Project(make_config(**GRID, mosaic__allow_missing_tiles=1))
    it.add(1, phantoms[0].tiles, missing=[16])
    it.solve()
    it.history.write(it.mosaic(1), "stitched", missing=[16])
    write_coordinates_picture(it.config, 1)
    assert it.layout.coordinates_picture(1).stat().st_size > 10_000
