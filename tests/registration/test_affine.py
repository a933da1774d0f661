import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError
from opticstream_smk.registration import Affine

numbers = st.floats(-50, 50)


@st.composite
def affines(draw):
    turn = draw(st.floats(-3, 3))
    scale_y, scale_x, shear = (
        draw(st.floats(low, high)) for low, high in ((0.5, 2), (0.5, 2), (-1, 1))
    )
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ np.array([[scale_y, shear], [0.0, scale_x]])
    return Affine(linear, np.array([draw(numbers), draw(numbers)]))


@given(affines(), numbers, numbers)
def test_inverse_undoes_apply(affine, y, x):
    point = np.array([y, x])
    np.testing.assert_allclose(affine.inverse().apply(affine.apply(point)), point, atol=1e-9)
    np.testing.assert_allclose(affine.apply(affine.inverse().apply(point)), point, atol=1e-9)


@given(affines(), affines(), numbers, numbers)
def test_compose_applies_its_argument_first(second, first, y, x):
    point = np.array([y, x])
    expected = second.apply(first.apply(point))
    np.testing.assert_allclose(second.compose(first).apply(point), expected, atol=1e-9)


@given(affines(), affines(), affines())
def test_compose_is_associative(a, b, c):
    left, right = a.compose(b).compose(c), a.compose(b.compose(c))
    np.testing.assert_allclose(left.A, right.A, atol=1e-9)
    np.testing.assert_allclose(left.t, right.t, atol=1e-7)


@given(affines())
def test_matlab_and_json_round_trips(affine):
    back = Affine.from_matlab(affine.to_matlab())
    np.testing.assert_allclose(back.A, affine.A, atol=1e-9)
    np.testing.assert_allclose(back.t, affine.t, atol=1e-7)
    same = Affine.from_dict(json.loads(json.dumps(affine.to_dict())))
    assert (same.A == affine.A).all()
    assert (same.t == affine.t).all()


def test_matlab_convention_is_row_vector_one_based_x_y_moving_to_fixed():
    # imwarp with [x y 1] T: moving column 11, row 21 lands on fixed column 14, row 26.
    shift = np.array([[1.0, 0, 0], [0, 1, 0], [3, 5, 1]])
    found = Affine.from_matlab(shift).apply([25.0, 13.0])
    np.testing.assert_allclose(found, [20.0, 10.0])
    # A scale about MATLAB's origin, half a pixel before its first pixel centre less half.
    double = np.diag([2.0, 1.0, 1.0])
    np.testing.assert_allclose(Affine.from_matlab(double).apply([0.0, 1.0]), [0.0, 0.0])


def test_apply_keeps_the_shape_of_the_points():
    points = np.zeros((4, 5, 2))
    moved = Affine(np.eye(2), np.array([1.0, -2.0])).apply(points)
    assert moved.shape == (4, 5, 2)
    assert (moved == [1.0, -2.0]).all()


def test_it_cannot_be_changed():
    affine = Affine.identity()
    with pytest.raises(ValueError, match="read-only"):
        affine.A[0, 0] = 2.0


@pytest.mark.parametrize(
    ("linear", "shift", "message"),
    [
        (np.eye(3), np.zeros(2), r"\(3, 3\)"),
        (np.eye(2), np.zeros(3), r"\(3,\)"),
        (np.full((2, 2), np.nan), np.zeros(2), "finite"),
        (np.ones((2, 2)), np.zeros(2), "invertible"),
    ],
)
def test_what_is_not_an_affine_map_is_refused(linear, shift, message):
    with pytest.raises(ConfigError, match=message):
        Affine(linear, shift)


def test_missing_keys_and_wrong_matlab_shapes_are_named():
    with pytest.raises(ConfigError, match="'t'"):
        Affine.from_dict({"A": [[1, 0], [0, 1]]})
    with pytest.raises(ConfigError, match=r"\(2, 3\)"):
        Affine.from_matlab(np.ones((2, 3)))
