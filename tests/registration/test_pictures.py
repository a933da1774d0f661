import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.registration import axis_rgb, inplane_angle_deg, orientation_rgb, to_uint8
from opticstream_smk.registration.fibre_axis import (
    fibre_angles,
    normalise_axis,
    unit_axis,
    weighted_axis,
)


def test_hue_goes_round_once_in_180_degrees():
    degrees = np.array([[-90.0, -60, -30, 0, 30, 60, 90]])
    rgb = orientation_rgb(np.deg2rad(degrees), np.ones(degrees.shape))
    expected = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(rgb[0], expected, atol=1e-12)


def test_brightness_goes_from_the_1st_to_the_99th_percentile():
    biref = np.linspace(0, 1, 201).reshape(3, 67)
    for unit in (1.0, 1e-7):
        value = orientation_rgb(np.zeros(biref.shape), biref * unit).max(axis=-1).ravel()
        assert (value[:2] == 0).all()
        assert (value[-2:] == 1).all()
        assert value[100] == pytest.approx(0.5)


def test_the_toolbox_scale_is_for_millimetre_birefringence():
    biref = np.full((3, 3), 1.8e-7)
    value = orientation_rgb(np.zeros((3, 3)), biref, scale="toolbox").max(axis=-1)
    # Zeros beyond the last row and column: the corner's window has one value and three zeros.
    expected = [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0]]
    np.testing.assert_allclose(value, expected, atol=1e-12)


def test_what_is_not_known_is_nan_and_black_in_the_file():
    angle, biref = np.zeros((2, 2)), np.ones((2, 2))
    angle[0, 0] = np.nan
    biref[1, 1] = np.nan
    rgb = orientation_rgb(angle, biref)
    unknown = np.isnan(rgb).all(axis=-1)
    assert unknown.tolist() == [[True, False], [False, True]]
    assert np.isfinite(rgb[~unknown]).all()
    picture = to_uint8(rgb)
    assert picture.dtype == np.uint8
    assert (picture[unknown] == 0).all()
    assert picture.max() == 255
    assert np.isnan(orientation_rgb(angle, np.full((2, 2), np.nan))).all()


def test_eight_bit_rounds_and_clips():
    assert to_uint8([-1, 0, 0.5, 0.999, 1, 7, np.inf]).tolist() == [0, 0, 128, 255, 255, 255, 0]


def test_wrong_maps_and_scales_are_named():
    with pytest.raises(CorruptInputError, match=r"\(2, 2\).*\(3, 2\)"):
        orientation_rgb(np.zeros((2, 2)), np.zeros((3, 2)))
    with pytest.raises(ConfigError, match="'bright'"):
        orientation_rgb(np.zeros((2, 2)), np.zeros((2, 2)), scale="bright")
    for function in (axis_rgb, inplane_angle_deg):
        with pytest.raises(CorruptInputError, match=r"\(3, 4\)"):
            function(np.zeros((3, 4)))


def test_axis_pictures_show_the_size_of_each_part():
    axis = np.array([[-0.5, 0.25, 2.0], [np.nan, 0.5, -1.0], [0.0, 0.0, 0.0]])
    assert axis_rgb(axis).tolist() == [[0.5, 0.25, 1], [0, 0.5, 1], [0, 0, 0]]


def test_the_inplane_angle_follows_the_stored_order():
    # -X, Z, Y: along x, along y, 30 degrees from x towards y and steep, along z.
    axis = np.array([[-1.0, 0, 0], [0, 0, -1], [-np.cos(np.pi / 6), 3, 0.5], [0, 0, 0]])
    found = inplane_angle_deg(axis)
    np.testing.assert_allclose(found[:3], [0, 90, 30], atol=1e-12)
    assert np.isnan(found[3])


angles = st.floats(-1.5, 1.5)


@given(angles, angles, st.sampled_from([-2.0, 1.0]))
def test_angles_of_an_axis_do_not_depend_on_its_sign(theta, alpha, size):
    x, z, y = unit_axis(np.array(theta), np.array(alpha)) * [-1, 1, 1]
    found_theta, _, found_alpha = fibre_angles(size * np.array([x, y, z]))
    assert found_theta == pytest.approx(theta, abs=1e-9)
    assert found_alpha == pytest.approx(alpha, abs=1e-9)


def test_weighted_axes_follow_the_percentiles():
    biref = np.arange(1.0, 101.0)
    axis = weighted_axis(np.zeros(100), np.zeros(100), biref)
    length = np.linalg.norm(axis, axis=-1)
    # MATLAB's prctile of 1..100: P1 = 1.5, P20 = 20.5.
    np.testing.assert_allclose(length[:20], np.clip((biref[:20] - 1.5) / 20.5, 0, 1))
    assert (length[22:] == 1).all()
    unit = normalise_axis(axis)
    assert (unit[0] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(unit[1:], axis=-1), 1)


def test_weighted_axes_when_a_fifth_has_no_birefringence():
    biref = np.array([0.0] * 30 + [1.0] * 70 + [np.nan])
    length = np.linalg.norm(weighted_axis(np.zeros(101), np.zeros(101), biref), axis=-1)
    assert (length[:30] == 0).all()
    assert (length[30:100] == 1).all()
    assert np.isnan(length[100])
