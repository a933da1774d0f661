import dataclasses
import functools

import numpy as np
import pytest
from scipy import ndimage

from opticstream_smk.errors import CorruptInputError, QualityError
from opticstream_smk.registration import Affine, AffineFit, estimate_affine, register_affine
from opticstream_smk.registration.affine_fit import check_quality
from tests.registration.phantom import pair, target_error, tissue

SEEDS = range(10)


@functools.cache
def registered(seed):
    fixed, moving, true, inside = pair(seed)
    fit = estimate_affine(fixed, moving)
    return fit, target_error(fit.affine, true, inside)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_transforms_are_found(seed):
    fit, error = registered(seed)
    assert error.mean() < 0.15
    assert error.max() < 0.3
    assert fit.ncc_after > max(0.7, fit.ncc_before)
    assert fit.significance > 10
    assert fit.last_step_px < 0.1
    assert 0.5 < fit.overlap <= 1


def test_on_average_they_are_found_to_a_tenth_of_a_pixel():
    assert np.mean([registered(seed)[1].mean() for seed in SEEDS]) < 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_small_images(seed):
    fixed, moving, true, inside = pair(seed, shape=(100, 100))
    assert target_error(register_affine(fixed, moving), true, inside).mean() < 0.3


def test_identical_images_give_the_identity():
    fixed, *_ = pair(0)
    fit = estimate_affine(fixed, fixed)
    np.testing.assert_allclose(fit.affine.A, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(fit.affine.t, 0, atol=1e-3)
    assert fit.ncc_before == pytest.approx(1)


def test_forth_and_back_is_the_identity():
    fixed, moving, _, inside = pair(2)
    there, back = register_affine(fixed, moving), register_affine(moving, fixed)
    assert target_error(back.compose(there), Affine.identity(), inside).max() < 0.3


def test_a_narrower_moving_image():
    fixed, moving, true, inside = pair(3)
    first = np.array([15, 40])
    cut = moving[first[0] :, first[1] : 240]
    found = register_affine(fixed, cut)
    assert target_error(found, Affine(true.A, true.t - first), inside).mean() < 0.2


def test_nan_outside_of_different_coverage():
    fixed, moving, true, inside = pair(4)
    there = ndimage.affine_transform(
        inside.astype(float), true.inverse().A, true.inverse().t, order=1
    )
    fixed = np.where(ndimage.binary_dilation(inside, iterations=12), fixed, np.nan)
    moving = np.where(ndimage.binary_dilation(there > 0.5, iterations=5), moving, np.nan)
    assert target_error(register_affine(fixed, moving), true, inside).mean() < 0.2


def test_a_mask_hides_what_must_not_count():
    fixed, moving, true, inside = pair(5)
    spoilt = fixed.copy()
    spoilt[:60] = pair(99)[0][:60] * 3
    mask = np.indices(inside.shape)[0] >= 60
    found = register_affine(spoilt, moving, mask=mask)
    assert target_error(found, true, inside & mask).mean() < 0.2


def test_scattered_nan_and_whole_numbers():
    fixed, moving, true, inside = pair(6)
    holes = np.random.default_rng(0).random(fixed.shape) < 0.05
    found = register_affine(np.where(holes, np.nan, fixed), moving.round().astype(np.uint8))
    assert target_error(found, true, inside).mean() < 0.2


def test_another_contrast_and_unit():
    fixed, moving, true, inside = pair(7)
    rows, columns = np.indices(moving.shape)
    vignetting = 1 - 0.3 * (((rows % 97) / 97 - 0.5) ** 2 + ((columns % 97) / 97 - 0.5) ** 2) * 2
    noise = ndimage.gaussian_filter(
        np.random.default_rng(0).standard_normal(moving.shape), 30, mode="wrap"
    )
    uneven = 1 + 0.3 * noise / noise.std()
    found = register_affine(fixed, 1e-6 * moving * vignetting * uneven - 3e-6)
    assert target_error(found, true, inside).mean() < 0.3


def test_a_far_shift_and_a_large_turn():
    image, _ = tissue((400, 500), 11)
    turn = np.deg2rad(7.0)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    true = Affine(linear, np.array([70.0, -60.0]))
    back = true.inverse()
    moving = ndimage.affine_transform(image, back.A, back.t, order=3, cval=np.nan)
    moving += np.random.default_rng(0).standard_normal(moving.shape)
    found = register_affine(image, moving)
    points = np.argwhere(np.ones((9, 9))) * 40
    np.testing.assert_allclose(found.apply(points), true.apply(points), atol=0.2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unrelated_images_are_refused(seed):
    with pytest.raises(QualityError, match=r"Correlation .* before.*registration\.image"):
        register_affine(pair(seed)[0], pair(seed + 50)[1])


def test_noise_is_refused():
    rng = np.random.default_rng(1)
    with pytest.raises(QualityError, match="unrelated"):
        register_affine(rng.standard_normal((150, 180)), rng.standard_normal((150, 180)))


GOOD = AffineFit(
    affine=Affine.identity(),
    ncc_before=0.2,
    ncc_after=0.6,
    significance=20.0,
    overlap=0.9,
    iterations=30,
    last_step_px=0.004,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"significance": 5.0}, r"unrelated ones \(5\.0 "),
        ({"ncc_before": 0.7}, r"worse than before.*0\.700 before, 0\.600 after 30"),
        ({"affine": Affine(np.diag([1.0, 0.62]), np.zeros(2))}, r"scales by 0\.62 and 1\.00"),
        ({"affine": Affine(np.diag([1.0, 1.5]), np.zeros(2))}, r"scales by 1\.00 and 1\.50"),
        ({"affine": Affine(np.diag([1.0, -1.0]), np.zeros(2))}, "mirrors"),
        ({"overlap": 0.2}, "overlap by only 20 %"),
        ({"last_step_px": 0.8}, r"moved by 0\.80 px"),
    ],
)
def test_a_bad_fit_is_refused_with_its_numbers(change, message):
    with pytest.raises(QualityError, match=message):
        check_quality(dataclasses.replace(GOOD, **change))


def test_a_good_fit_passes():
    check_quality(GOOD)
    # Small images: few samples, but no doubt.
    check_quality(dataclasses.replace(GOOD, significance=4.0, ncc_after=0.95))


@pytest.mark.parametrize(
    ("fixed", "moving", "mask", "message"),
    [
        (np.ones((4, 40)), np.ones((40, 40)), None, r"fixed image has shape \(4, 40\)"),
        (np.zeros((40, 40)), np.ones((2, 40, 40)), None, r"fixed image is flat"),
        (np.eye(40), np.ones((2, 40, 40)), None, r"moving image has shape \(2, 40, 40\)"),
        (np.eye(40), np.full((40, 40), np.nan), None, r"Only 0 of 1600 pixels of the moving"),
        (np.eye(40), np.full((40, 40), 0.1), None, r"moving image is flat"),
        (np.eye(40), np.eye(40), np.ones((40, 41)), r"\(40, 41\).*\(40, 40\)"),
        (np.eye(40), np.eye(40), np.zeros((40, 40)), r"Only 0 of 1600 pixels of the fixed"),
    ],
)
def test_images_that_cannot_be_registered_are_named(fixed, moving, mask, message):
    with pytest.raises(CorruptInputError, match=message):
        register_affine(fixed, moving, mask=mask)
