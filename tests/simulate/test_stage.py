import numpy as np
import pytest

from opticstream_smk.mosaic import snake_order
from opticstream_smk.simulate import AcquisitionSettings
from opticstream_smk.simulate.stage import (
    field_plane,
    illumination,
    nominal_positions,
    stage_positions,
    view_geometry,
)

LARGE = AcquisitionSettings(grid_columns=8, grid_rows=6)


def test_snake_runs_up_and_right():
    grid = np.zeros((2, 3), int)
    for number, cell in enumerate(snake_order(2, 3), start=1):
        grid[tuple(cell)] = number
    assert grid.tolist() == [[2, 3, 6], [1, 4, 5]]


def test_nominal_step_follows_the_overlap():
    settings = AcquisitionSettings(alines=50, blines=40, tile_overlap_percent=30)
    positions = nominal_positions(settings, "normal")
    assert np.unique(positions[:, 1]) == pytest.approx([0, 35, 70])
    assert np.unique(positions[:, 0]) == pytest.approx([0, 28, 56])


def test_jitter_and_lattice_error():
    error = stage_positions(LARGE, "normal", 1) - nominal_positions(LARGE, "normal")
    cells = np.column_stack([snake_order(6, 8), np.ones(48)])
    lattice, *_ = np.linalg.lstsq(cells, error, rcond=None)
    assert (error - cells @ lattice).std() == pytest.approx(2.0, abs=0.25)
    # 1.2 % of the step of 33.6 px, both ways; the fit sees it through the jitter.
    assert np.abs(np.diag(lattice)) == pytest.approx(0.40, abs=0.25)


def test_stage_error_repeats_on_every_slice():
    slices = np.stack([stage_positions(LARGE, "normal", s) for s in range(1, 6)])
    assert (slices - slices.mean(axis=0)).std(ddof=0) == pytest.approx(
        0.2 * np.sqrt(4 / 5), rel=0.1
    )


def test_views_err_independently():
    normal, tilted = (stage_positions(LARGE, view, 1) for view in ("normal", "tilted"))
    assert np.abs(normal[:18] - tilted[:18]).max() > 1


def test_tilted_view_shrinks_x_and_turns_a_little():
    geometry = view_geometry(LARGE, "tilted")
    lengths = np.linalg.norm(geometry.matrix, axis=0)
    assert lengths == pytest.approx([1, np.cos(np.deg2rad(15))])
    point = np.array([[12.0, 90.0]])
    seen = point @ geometry.matrix.T + geometry.shift
    assert geometry.to_tissue(seen) == pytest.approx(point)


def test_illumination_and_plane_within_a_tile():
    light = illumination(LARGE, "normal")
    assert light[0, 0] == pytest.approx(0.75)
    assert light[24, 24] == pytest.approx(1, abs=1e-3)
    plane = field_plane(LARGE, "tilted", *np.indices((48, 48)).astype(float))
    assert plane[0, -1] - plane[0, 0] == pytest.approx(LARGE.view_slope_px)
