import numpy as np
import pytest

from opticstream_smk.mosaic.resample import shift_image


def test_quadratic_structure_is_moved_exactly():
    y, x = np.mgrid[:12, :15].astype(np.float32)

    def scene(y, x):
        return 3 + 0.5 * y - 0.2 * x + 0.1 * x * y + 0.03 * y**2 - 0.02 * x**2

    moved = shift_image(scene(y, x), (0.3, -0.45))
    assert np.allclose(moved[2:-2, 2:-2], scene(y - 0.3, x + 0.45)[2:-2, 2:-2], atol=1e-4)
    assert moved.dtype == np.float32


def test_no_shift_is_no_change():
    image = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    assert (shift_image(image, (0.0, 0.0)) == image).all()


@pytest.mark.parametrize("fraction", [(0.5, 0.5), (-0.5, 0.25), (0.1, 0.0)])
def test_a_constant_stays_constant_beside_gaps_and_rims(fraction):
    image = np.full((20, 20), 7, np.float32)
    rng = np.random.default_rng(3)
    image[rng.random(image.shape) < 0.5] = np.nan
    moved = shift_image(image, fraction)
    assert (np.isnan(moved) == np.isnan(image)).all()
    assert np.allclose(moved[np.isfinite(moved)], 7, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_values_beside_gaps_stay_among_their_neighbours(seed):
    rng = np.random.default_rng(seed)
    image = rng.uniform(50, 60, (40, 40)).astype(np.float32)
    image[rng.random(image.shape) < 0.6] = np.inf
    moved = shift_image(image, (0.5, -0.5))
    known = np.isfinite(moved)
    assert (known == np.isfinite(image)).all()
    assert moved[known].min() > 40
    assert moved[known].max() < 70
