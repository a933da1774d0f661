from pathlib import Path

import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError, IncompleteInputError, QualityError
from opticstream_smk.mosaic import (
    fit_focus_plane,
    nominal_positions,
    snake_order,
    solve_focus_plane,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "mosaic"
TILE = (60, 70)


def true_plane(shape=TILE):
    y, x = (np.linspace(-1, 1, n) for n in shape)
    y, x = np.meshgrid(y, x, indexing="ij")
    plane = 4 * x - 3 * y + 5 * x**2 + 2 * y**2 - 2.5 * x * y
    return plane - plane.min()


def make_surfaces(rows=3, columns=4, *, seed=0, noise=0.8, wrong=0.02, sample=5.0):
    """A wavy sample under a grid of tiles, the plane on each, whole depth indices."""
    rng = np.random.default_rng(seed)
    positions = nominal_positions(snake_order(rows, columns), TILE, 25)
    positions = np.rint(positions + rng.uniform(-2, 2, positions.shape))
    plane = true_plane()
    surfaces = []
    for top, left in positions:
        y, x = np.mgrid[top : top + TILE[0], left : left + TILE[1]]
        surface = 40 + sample * np.sin(x / 60 + y / 90) + plane
        surface += noise * rng.standard_normal(TILE)
        bad = rng.random(TILE) < wrong
        surface[bad] = rng.uniform(1, 120, bad.sum())
        surfaces.append(np.rint(surface))
    return np.array(surfaces), positions


def error_px(found, plane):
    difference = found - plane
    return float(np.sqrt(np.mean((difference - difference.mean()) ** 2)))


def test_golden_plane():
    with np.load(GOLDEN / "enface_surf.npz") as golden:
        found = solve_focus_plane(golden["surf"], golden["true"], usable=~golden["weak"])
        plane = golden["plane"]
    # Measured: 0.0097 px rms; the plane spans 10 px.
    assert error_px(found.plane_px, plane - plane.min()) < 0.02
    assert found.agreeing_share > 0.95
    assert found.residual_px < 1.3 < 4 < found.before_px


@pytest.mark.parametrize("seed", range(3))
def test_plane_of_rounded_noisy_surfaces(seed):
    surfaces, positions = make_surfaces(seed=seed)
    found = fit_focus_plane(surfaces, positions, crop_x_px=5)
    assert found.shape == TILE
    assert found.dtype == np.float32
    assert found.min() == 0
    assert error_px(found, true_plane()) < 0.04


def test_exact_without_noise():
    surfaces, positions = make_surfaces(noise=0, wrong=0, sample=0)
    plane = true_plane()
    surfaces = np.broadcast_to(40 + plane, surfaces.shape)
    assert np.allclose(fit_focus_plane(surfaces, positions), plane, atol=1e-4)


def test_no_tilt_is_a_flat_plane():
    surfaces = np.full((4, *TILE), 37.0)
    plane = fit_focus_plane(surfaces, nominal_positions(snake_order(2, 2), TILE, 25))
    assert np.abs(plane).max() < 1e-5


def test_a_third_of_wild_surfaces_does_no_harm():
    surfaces, positions = make_surfaces(wrong=0.18)  # a third of the pairs of pixels
    assert error_px(fit_focus_plane(surfaces, positions), true_plane()) < 0.06


def test_cropped_columns_are_not_used_and_are_extrapolated():
    surfaces, positions = make_surfaces()
    surfaces[:, :, :15] += 30
    assert error_px(fit_focus_plane(surfaces, positions, crop_x_px=15), true_plane()) < 0.05
    assert error_px(fit_focus_plane(surfaces, positions, crop_x_px=0), true_plane()) > 0.3


def test_unusable_tiles_are_not_used():
    surfaces, positions = make_surfaces()
    usable = np.ones(len(surfaces), bool)
    usable[[0, 7]] = False
    clean = fit_focus_plane(surfaces, positions, usable=usable)
    surfaces[~usable] = np.random.default_rng(0).uniform(1, 120, (2, *TILE))
    assert np.array_equal(fit_focus_plane(surfaces, positions, usable=usable), clean)


def test_pixels_that_are_not_finite_are_not_used():
    surfaces, positions = make_surfaces()
    surfaces[3, 10:30] = np.nan
    surfaces[5] = np.nan
    surfaces[6, :, 40] = np.inf
    assert error_px(fit_focus_plane(surfaces, positions), true_plane()) < 0.05


def test_many_overlaps_are_thinned_out(monkeypatch):
    surfaces, positions = make_surfaces()
    every = solve_focus_plane(surfaces, positions)
    monkeypatch.setattr("opticstream_smk.mosaic.focus._MOST_SAMPLES", every.samples // 3)
    fewer = solve_focus_plane(surfaces, positions)
    assert fewer.samples < every.samples / 2
    assert error_px(fewer.plane_px, true_plane()) < 0.08


def test_tiles_far_apart():
    surfaces, positions = make_surfaces()
    with pytest.raises(IncompleteInputError, match="no two of 12 usable tiles overlap"):
        fit_focus_plane(surfaces, positions * 3)


def test_overlap_of_cropped_columns_only():
    surfaces = np.full((2, *TILE), 40.0)
    with pytest.raises(IncompleteInputError, match="overlap"):
        fit_focus_plane(surfaces, [[0, 0], [0, 60]], crop_x_px=15)


@pytest.mark.parametrize(("rows", "columns", "axis"), [(1, 4, "y"), (4, 1, "x")])
def test_one_line_of_tiles_says_nothing_across(rows, columns, axis):
    surfaces, positions = make_surfaces(rows, columns)
    with pytest.raises(IncompleteInputError, match=f"no usable tiles are neighbours along {axis}"):
        fit_focus_plane(surfaces, positions)


def test_no_usable_tile():
    surfaces, positions = make_surfaces()
    with pytest.raises(IncompleteInputError, match="none of 12 tiles is usable"):
        fit_focus_plane(surfaces, positions, usable=np.zeros(12, bool))


def test_surfaces_without_any_value():
    surfaces, positions = make_surfaces()
    with pytest.raises(CorruptInputError, match="12 usable tiles hold no finite value"):
        fit_focus_plane(np.full_like(surfaces, np.nan), positions)


def test_overlaps_without_any_value():
    surfaces, positions = make_surfaces()
    for surface in surfaces:
        surface[:20], surface[-20:], surface[:, :22], surface[:, -22:] = (np.nan,) * 4
    with pytest.raises(CorruptInputError, match="no pixel where both are finite"):
        fit_focus_plane(surfaces, positions)


def test_surfaces_that_do_not_agree():
    surfaces, positions = make_surfaces(wrong=0.9)
    with pytest.raises(QualityError, match=r"pairs of tiles differ by \d+ depth samples"):
        fit_focus_plane(surfaces, positions)


def test_position_that_is_not_finite():
    surfaces, positions = make_surfaces()
    positions[4, 0] = np.nan
    with pytest.raises(CorruptInputError, match="position of tile 4"):
        fit_focus_plane(surfaces, positions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, p: (s[:3], p, None, 15), "12 positions"),
        (lambda s, p: (s, p, np.ones(3, bool), 15), "usable of shape"),
        (lambda s, p: (s, p, None, 70), "crop of 70"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    surfaces, positions, usable, crop = change(*make_surfaces())
    with pytest.raises(ValueError, match=message):
        fit_focus_plane(surfaces, positions, usable=usable, crop_x_px=crop)
