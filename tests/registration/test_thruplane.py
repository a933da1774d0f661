import numpy as np
import pytest
from scipy import io, optimize

from opticstream_smk.errors import ConfigError, CorruptInputError, QualityError
from opticstream_smk.registration import (
    Affine,
    inplane_angle_deg,
    thruplane,
    to_mat,
)
from opticstream_smk.registration.fibre_solver import solve_fibres
from opticstream_smk.registration.view_maps import physical_angle, warp_axial
from tests.registration.phantom import (
    angle_between_deg,
    as_stored_axis,
    axial_difference_deg,
    directions,
    pair,
    target_error,
    two_views,
)

GAMMA_DEG = -15.0
# Smoothing reaches 6 px: the centre of a patch this large sees its own birefringence only.
PATCH_PX = 13


def fit(direction, biref, gamma_deg=GAMMA_DEG, **options):
    ori_n, ori_x, biref_n, biref_x = two_views(direction, biref, gamma_deg)
    angles = physical_angle(ori_n), physical_angle(ori_x)
    return solve_fibres(*angles, biref_n, biref_x, gamma_rad=np.deg2rad(gamma_deg), **options)


def elevation_deg(direction):
    return np.rad2deg(np.arcsin(np.abs(direction[..., 2])))


@pytest.mark.parametrize("gamma_deg", [-15.0, 15.0])
def test_the_solver_recovers_random_fibres(gamma_deg):
    direction = directions(20_000, 1)
    biref = np.random.default_rng(2).uniform(1e-4, 1e-3, len(direction))
    vector, _ = fit(direction, biref, gamma_deg)
    found = np.linalg.norm(vector, axis=-1)
    off = angle_between_deg(vector / found[:, np.newaxis], direction)
    flat = elevation_deg(direction) < 65
    assert off[flat].max() < 1e-3
    assert np.abs(found / biref - 1)[flat].max() < 1e-4
    # Steep fibres in the plane of the tilt: two solutions fit almost equally well.
    assert (off > 2e-3).mean() < 5e-4


def test_one_sign_alone_loses_steep_fibres():
    direction = directions(20_000, 1)
    biref = np.full(len(direction), 5e-4)
    vector, _ = fit(direction, biref, try_both_signs=False)
    unit = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    lost = angle_between_deg(unit, direction) > 0.1
    assert 0.005 < lost.mean() < 0.02
    assert elevation_deg(direction)[lost].min() > 65


def patches(side, gamma_deg=GAMMA_DEG, seed=3):
    """Maps of side x side constant patches, and truth and slice at their centres."""
    direction = directions(side * side, seed).reshape(side, side, 3)
    biref = np.random.default_rng(seed).uniform(2e-4, 9e-4, (side, side))
    views = two_views(direction, biref, gamma_deg)
    maps = [np.kron(view, np.ones((PATCH_PX, PATCH_PX))) for view in views]
    centre = slice(PATCH_PX // 2, None, PATCH_PX)
    return maps, direction, biref, (centre, centre)


def test_maps_of_random_fibres_give_theta_birefringence_and_axis_everywhere():
    (ori_n, ori_x, biref_n, biref_x), direction, biref, centres = patches(12)
    result = thruplane(ori_n, ori_x, biref_n, biref_x, affine=Affine.identity())
    second_branch = result.phi_n[centres] > np.pi / 4
    assert second_branch.sum() > 20
    off = angle_between_deg(result.axis[centres], as_stored_axis(direction))
    assert off.max() < 1e-3
    true_theta = np.rad2deg(np.arctan2(direction[..., 1], direction[..., 0]))
    clear = elevation_deg(direction) < 80  # theta of a steep fibre is a lever without an arm
    theta = np.rad2deg(result.theta_rad[centres])
    assert axial_difference_deg(theta, true_theta)[clear].max() < 1e-3
    from_axis = inplane_angle_deg(result.axis)[centres]
    assert axial_difference_deg(from_axis, true_theta)[clear].max() < 1e-3
    np.testing.assert_allclose(result.biref[centres], biref, rtol=1e-4)
    np.testing.assert_allclose(
        np.cos(2 * result.psi_rad), -np.cos(2 * result.alpha_rad), atol=1e-12
    )


def test_the_toolbox_gets_the_sign_of_alpha_wrong_between_45_and_90_degrees():
    (ori_n, ori_x, biref_n, biref_x), _, _, centres = patches(12)
    views = (ori_n, ori_x, biref_n, biref_x)
    right = thruplane(*views, affine=Affine.identity())
    toolbox = thruplane(*views, affine=Affine.identity(), toolbox_quirks=True)
    turned = right.phi_n[centres] > np.pi / 4
    alpha, kept = right.alpha_rad[centres], toolbox.alpha_rad[centres]
    np.testing.assert_allclose(kept[turned], -alpha[turned], atol=1e-6)
    safe = ~turned & (np.abs(alpha) < np.deg2rad(65))
    np.testing.assert_allclose(kept[safe], alpha[safe], atol=1e-6)


def test_the_solver_is_the_nelder_mead_of_scipy():
    rng = np.random.default_rng(4)
    gamma = np.deg2rad(GAMMA_DEG)
    count = 12
    # Inconsistent views, as noise makes them.
    phi_n = rng.uniform(-0.7, 0.7, count)
    phi_x = rng.uniform(-1.5, 1.5, count)
    biref_n, biref_x = rng.uniform(1e-4, 1e-3, (2, count))
    found, misfit = solve_fibres(
        phi_n, phi_x, biref_n, biref_x, gamma_rad=gamma, try_both_signs=False
    )
    tilted = np.array([np.sin(gamma), 0.0, np.cos(gamma)])
    across = np.array([np.cos(gamma), 0.0, -np.sin(gamma)])
    for i in range(count):
        first = biref_n[i] * np.array([np.cos(phi_n[i]), np.sin(phi_n[i]), 0.0])
        second = biref_x[i] * (np.cos(phi_x[i]) * across + np.sin(phi_x[i]) * np.eye(3)[1])

        def objective(x, first=first, second=second):
            total = 0.0
            for seen, view in ((first, np.array([0.0, 0.0, 1.0])), (second, tilted)):
                with np.errstate(invalid="ignore"):
                    sine = np.sqrt(1 - (view @ x) ** 2 / (x @ x))
                total += np.sum((seen - (x - (view @ x) * view) * sine) ** 2)
            return total

        with np.errstate(invalid="ignore"):
            reference = optimize.minimize(
                objective,
                np.zeros(3),
                method="Nelder-Mead",
                options={"xatol": 1e-4, "fatol": 1e-20, "maxiter": 6000, "maxfev": 6000},
            )
        np.testing.assert_allclose(found[i], reference.x, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(misfit[i], reference.fun, rtol=1e-9)


def test_threads_do_not_change_the_result():
    direction = directions(10_000, 5)
    biref = np.full(len(direction), 5e-4)
    one, many = fit(direction, biref, threads=1), fit(direction, biref, threads=4)
    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_array_equal(one[1], many[1])


def test_a_moving_mosaic_of_another_size_and_place():
    (ori_n, ori_x, biref_n, biref_x), direction, _, centres = patches(6)
    first = np.array([5, 20])
    shifted = Affine(np.eye(2), -first.astype(float))
    result = thruplane(
        ori_n,
        ori_x[first[0] :, first[1] :],
        biref_n,
        biref_x[first[0] :, first[1] :],
        affine=shifted,
    )
    assert result.axis.shape == (*ori_n.shape, 3)
    assert not result.covered[: first[0]].any()
    assert not result.covered[:, : first[1]].any()
    assert result.covered[first[0] :, first[1] :].all()
    assert (result.biref_x[~result.covered] == 0).all()
    off = angle_between_deg(result.axis[centres], as_stored_axis(direction))
    # The cut edge changes the smoothing of the moving map up to 6 px from it.
    assert off[1:, 3:].max() < 1e-3


def test_without_an_affine_the_views_are_registered_on_birefringence():
    fixed, moving, true, inside = pair(1)
    angles = np.zeros(fixed.shape)
    result = thruplane(angles, angles, fixed * 1e-6, moving * 1e-6, mask=inside)
    assert target_error(result.affine, true, inside).mean() < 0.3


def test_views_of_different_tissue_are_refused():
    fixed, moving = pair(1)[0], pair(60)[1]
    angles = np.zeros(fixed.shape)
    with pytest.raises(QualityError):
        thruplane(angles, angles, fixed * 1e-6, moving * 1e-6)


def test_masked_pixels_are_nan_and_their_axis_zero():
    (ori_n, ori_x, biref_n, biref_x), *_ = patches(3)
    mask = np.zeros(ori_n.shape)
    mask[10:20, 5:30] = 1
    inside = mask > 0
    for quirks in (False, True):
        result = thruplane(
            ori_n,
            ori_x,
            biref_n,
            biref_x,
            affine=Affine.identity(),
            mask=mask,
            toolbox_quirks=quirks,
        )
        for name in ("theta_rad", "psi_rad", "alpha_rad", "biref", "misfit"):
            values = getattr(result, name)
            assert np.isnan(values[~inside]).all()
            assert np.isfinite(values[inside]).all()
        assert (result.axis[~inside] == 0).all()
        assert np.isnan(result.axis_raw[~inside]).all()
        assert np.isnan(result.inplane_rgb[~inside]).all()
    np.testing.assert_allclose(np.linalg.norm(result.axis_raw[inside], axis=-1).max(), 1)


def test_nothing_inside_the_mask_gives_nan_without_a_warning():
    (ori_n, ori_x, biref_n, biref_x), *_ = patches(2)
    result = thruplane(
        ori_n,
        ori_x,
        biref_n,
        biref_x,
        affine=Affine.identity(),
        mask=np.zeros(ori_n.shape, bool),
    )
    assert np.isnan(result.theta_rad).all()
    assert (result.axis == 0).all()
    assert np.isnan(result.axis_raw).all()
    assert np.isnan(result.alpha_rgb).all()


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("value", [0.0, np.nan, -1e-4])
def test_maps_without_birefringence_do_not_break_it(value, quirks):
    shape = (20, 24)
    empty = np.full(shape, value)
    result = thruplane(
        np.full(shape, np.nan),
        np.zeros(shape),
        empty,
        empty,
        affine=Affine.identity(),
        toolbox_quirks=quirks,
    )
    assert (result.biref < 1e-6).all()
    assert np.isfinite(result.axis).all()
    assert result.inplane_rgb.shape == (*shape, 3)
    assert set(to_mat(result)) >= {"psi", "Psi_ObsLSQ"}


def test_a_hole_in_the_birefringence_spreads_only_in_the_toolbox():
    (ori_n, ori_x, biref_n, biref_x), direction, _, centres = patches(3)
    biref_n[4, 6] = np.nan
    views = (ori_n, ori_x, biref_n, biref_x)
    clean = thruplane(*views, affine=Affine.identity())
    toolbox = thruplane(*views, affine=Affine.identity(), toolbox_quirks=True)
    off = angle_between_deg(clean.axis[centres], as_stored_axis(direction))
    assert off.max() < 1e-3
    assert clean.biref_n[4, 6] == 1e-9
    assert (clean.biref_n == 1e-9).sum() == 1
    assert (toolbox.biref_n[:11, :13] == 1e-9).all()
    assert toolbox.biref_n[11, 6] > 1e-5


def test_unknown_moving_pixels_are_not_covered():
    (ori_n, ori_x, biref_n, biref_x), *_ = patches(2)
    ori_x[8, 9] = np.nan
    biref_x[15, 3] = np.nan
    result = thruplane(ori_n, ori_x, biref_n, biref_x, affine=Affine.identity())
    assert not result.covered[8, 9]
    assert not result.covered[15, 3]
    assert result.covered.sum() == result.covered.size - 2


def test_axial_angles_are_not_averaged_across_90_degrees():
    angles = np.deg2rad(np.array([[89.0, -89.0], [89.0, -89.0]]))
    half = warp_axial(angles, Affine(np.eye(2), np.array([0.0, 0.5])), (2, 1))
    np.testing.assert_allclose(np.abs(np.rad2deg(half)), 90, atol=1e-9)
    outside = warp_axial(angles, Affine(np.eye(2), np.array([0.0, 5.0])), (2, 1))
    np.testing.assert_allclose(outside, np.pi / 2)


def test_angles_turn_their_sign_and_are_axial():
    degrees = np.array([[30.0, -90, 90, 150, -100, 460, np.nan]])
    found = np.rad2deg(physical_angle(degrees))
    np.testing.assert_allclose(found, [[-30, 90, -90, 30, -80, 80, 1e-9]], atol=1e-12)


def test_the_mat_file_has_the_toolbox_names(tmp_path):
    maps, *_ = patches(2)
    result = thruplane(*maps, affine=Affine.identity())
    io.savemat(tmp_path / "data.mat", to_mat(result))
    content = io.loadmat(tmp_path / "data.mat")
    names = {"dneff_n", "dneff_x", "phi_n", "phi_x", "psi"}
    names |= {"Psi_ObsLSQ", "Theta_ObsLSQ", "biref_ObsLSQ"}
    assert {name for name in content if not name.startswith("__")} == names
    np.testing.assert_array_equal(content["Theta_ObsLSQ"], result.theta_rad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixed_ori_deg": np.zeros((9, 8))}, r"fixed orientation .*\(9, 8\).*\(9, 9\)"),
        ({"moving_biref": np.zeros((2, 9, 9))}, r"moving .*\(9, 9\).*\(2, 9, 9\)"),
        ({"mask": np.ones((3, 3))}, r"\(3, 3\).*\(9, 9\)"),
    ],
)
def test_maps_that_do_not_fit_are_named(change, message):
    maps = {
        name: np.zeros((9, 9))
        for name in ("fixed_ori_deg", "moving_ori_deg", "fixed_biref", "moving_biref")
    }
    with pytest.raises(CorruptInputError, match=message):
        thruplane(**(maps | {"affine": Affine.identity()} | change))


@pytest.mark.parametrize("gamma_deg", [0.0, 90.0, np.nan])
def test_a_tilt_that_says_nothing_is_refused(gamma_deg):
    with pytest.raises(ConfigError, match="gamma_deg"):
        thruplane(*np.zeros((4, 9, 9)), affine=Affine.identity(), gamma_deg=gamma_deg)
