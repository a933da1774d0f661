import numpy as np
import pytest

from opticstream_smk.simulate.compare import (
    compare_aip,
    compare_axis,
    compare_dn,
    compare_focus,
    compare_inplane_axis,
    compare_orientation,
    compare_positions,
    compare_surface,
    truth_patch,
)

NAN = np.nan


def test_surface_is_a_median_over_the_tissue():
    truth = np.array([[100.0, 101.0, NAN], [102.0, 100.0, NAN]])
    found = np.array([[101.0, 104.0, 5.0], [103.0, 101.0, 5.0]])
    result = compare_surface(found, truth)
    assert (result.value, result.unit, result.passed) == (1.0, "px", True)
    assert not compare_surface(found + 2, truth).passed


def test_orientation_is_axial():
    result = compare_orientation(np.array([[-89.0, 10.0, 0.0]]), np.array([[89.0, 12.0, NAN]]))
    assert result.value == pytest.approx(2.0)
    assert not compare_orientation(np.array([[45.0]]), np.array([[-45.0]])).passed


def test_dn_is_relative():
    assert compare_dn(np.array([4e-4]), np.array([5e-4])).value == pytest.approx(20)


def test_nothing_to_compare_does_not_pass():
    nothing = np.full((3, 3), NAN)
    assert not compare_orientation(np.zeros((3, 3)), nothing).passed
    assert not compare_aip(nothing, np.zeros(2), np.zeros((9, 9))).passed
    assert not compare_positions(np.full((2, 2), NAN), np.zeros((2, 2))).passed


def test_patch_lies_where_the_tile_is():
    truth = np.arange(20.0).reshape(4, 5)
    patch = truth_patch(truth, np.array([1.2, 2.9]), (2, 3))
    np.testing.assert_array_equal(patch, [[8, 9, NAN], [13, 14, NAN]])


def test_aip_correlates_at_its_place():
    truth = np.random.default_rng(0).normal(60, 3, (40, 50))
    image = truth[5:25, 10:40] + 2
    assert compare_aip(image, np.array([5, 10]), truth).value == pytest.approx(1)
    assert abs(compare_aip(image, np.array([9, 3]), truth).value) < 0.2
    mask = np.zeros(image.shape, bool)
    mask[:4] = True
    image[10:] = 0
    assert compare_aip(image, np.array([5, 10]), truth, mask=mask).passed


def test_positions_ignore_a_common_shift():
    truth = np.array([[0.0, 0.0], [0.0, 30.0], [30.0, 0.0], [30.0, 30.0], [60.0, 0.0]])
    assert compare_positions(truth + np.array([7.3, -2.0]), truth).value == pytest.approx(
        0, abs=1e-9
    )
    solved = truth.copy()
    solved[1, 0] += 3
    assert not compare_positions(solved, truth).passed
    assert compare_positions(solved, truth, use=np.arange(5) != 1).passed


def test_axes_have_no_sign():
    axis = np.array([[[0.6, 0.0, 0.8], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    truth = np.array([[[-0.6, 0.0, -0.8], [1.0, 0.0, 0.0], [NAN, NAN, NAN]]])
    assert compare_inplane_axis(3 * axis, truth).value == pytest.approx(0, abs=1e-9)
    assert compare_axis(3 * axis, truth).value == pytest.approx(0, abs=1e-5)


def test_axis_errors_in_and_out_of_the_plane():
    turn = np.deg2rad(30)
    truth = np.array([[[1.0, 0.0, 0.0]]])
    raised = np.array([[[np.cos(turn), np.sin(turn), 0.0]]])
    turned = np.array([[[np.cos(turn), 0.0, np.sin(turn)]]])
    assert compare_inplane_axis(raised, truth).value == pytest.approx(0, abs=1e-9)
    assert compare_axis(raised, truth).value == pytest.approx(30)
    assert compare_inplane_axis(turned, truth).value == pytest.approx(30)


def test_a_focus_plane_may_lie_at_any_depth():
    truth = np.outer(np.linspace(-1, 1, 20) ** 2, np.ones(30))
    assert compare_focus(truth + 7, truth).value == pytest.approx(0, abs=1e-12)
    tilted = compare_focus(truth + np.linspace(-2, 2, 30), truth)
    assert not tilted.passed
    assert tilted.value == pytest.approx(4 / np.sqrt(12), rel=0.05)
