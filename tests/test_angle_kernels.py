import numpy as np
import pytest

from opticstream_smk.angle_kernels import angle_of, axial_vector, axis_of


@pytest.fixture(scope="module")
def degrees():
    edges = np.array([0, 45, -45, 89.99999, 90, -90, 135, 180, -180, 179.999, 360, -720, 22.5])
    return np.concatenate([np.linspace(-400, 400, 4001), edges]).astype(np.float32)


def test_vector_of_an_axis(degrees):
    found = np.array([axial_vector(value) for value in degrees])
    double = np.deg2rad(2 * degrees.astype(np.float64))
    # The angle itself is rounded to 3e-5 degrees at 400.
    assert np.allclose(found, np.stack([np.cos(double), np.sin(double)], axis=1), atol=2e-6)


def test_axis_of_a_vector_comes_back_in_one_period(degrees):
    found = np.array([axis_of(*axial_vector(value)) for value in degrees])
    assert (found > -90).all()
    assert (found <= 90).all()
    difference = (found - degrees.astype(np.float64) + 90) % 180 - 90
    assert np.abs(difference).max() < 1e-4


def test_length_of_a_vector_does_not_matter():
    for length in (1e-6, 1, 1e6):
        cosine, sine = np.float32(length * 0.5), np.float32(length * np.sqrt(0.75))
        assert axis_of(cosine, sine) == pytest.approx(30, abs=1e-4)


def test_angle_of_all_quadrants():
    x, y = np.float32([1, -1, -1, 1, 0, 0, 0]), np.float32([2, 2, -2, -2, 3, -3, 0])
    found = [angle_of(a, b) for a, b in zip(x, y, strict=True)]
    assert np.allclose(found, np.arctan2(y, x), atol=1e-6)
