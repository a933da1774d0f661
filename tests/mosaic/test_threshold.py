"""`auto`: the threshold of mosaics with tissue, and none for those that are all of one kind."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from opticstream_smk.errors import QualityError
from opticstream_smk.mosaic import blend, make_mask
from opticstream_smk.mosaic.mask import sample_smoothed
from opticstream_smk.mosaic.threshold import find_threshold
from tests.mosaic.golden_presets import generator


def mosaic(preset, seed, background):
    """AIP mosaic, and where there is tissue."""
    make = generator()
    spec = make.preset(preset, 3, 4, seed, tile=200, background_fraction=background)
    phantom = make.make_phantom(spec)
    image, (y, x) = blend(phantom.tiles["aip"], phantom.true, overlap_percent=20)
    tissue = phantom.truth["tissue"][y : y + image.shape[0], x : x + image.shape[1]]
    return image, tissue


def smoothed(image):
    return sample_smoothed(lambda start, stop: image[start:stop], image.shape, 1.0)


def overlap(mask, tissue):
    """Dice coefficient."""
    return 2 * (mask & tissue).sum() / (mask.sum() + tissue.sum())


@pytest.mark.parametrize(
    ("preset", "seed", "background"),
    [("standard", 1, 0.35), ("standard", 2, 0.05), ("standard", 3, 0.9), ("noisy", 4, 0.35),
     ("sparse", 5, 0.65), ("fine", 6, 0.35)],
)  # fmt: skip
def test_tissue_of_reference_mosaics(preset, seed, background):
    image, tissue = mosaic(preset, seed, background)
    found = find_threshold(smoothed(image))
    assert found.background < found.threshold < found.tissue
    mask = make_mask(image, "auto", keep="all_above", min_piece_px=200)
    covered = np.isfinite(image)
    assert overlap(mask & covered, tissue & covered) > 0.97
    assert overlap(mask & covered, tissue & covered) > overlap(make_mask(image, 60), tissue)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_tissue_with_grey_and_white_matter_has_no_threshold(seed):
    image, tissue = mosaic("standard", seed, 0.2)
    with pytest.raises(QualityError, match="All is background, or all is tissue"):
        find_threshold(smoothed(np.where(tissue, image, np.nan)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_background_has_no_threshold(seed):
    image, tissue = mosaic("standard", seed, 0.7)
    beside = ~ndi.binary_dilation(tissue, iterations=25)
    with pytest.raises(QualityError, match="All is background, or all is tissue"):
        find_threshold(smoothed(np.where(beside, image, np.nan)))


def test_few_hot_pixels_are_no_class():
    values = np.random.default_rng(0).normal(40, 1, 100_000)
    values[:100] = 80
    with pytest.raises(QualityError):
        find_threshold(values)
    values[:2000] = 80
    assert 42 < find_threshold(values).threshold < 79


def test_background_of_two_kinds_is_background():
    """Water beside agar: the step to tissue is the larger one."""
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.normal(40, 1, 30_000), rng.normal(46, 1, 30_000), rng.normal(72, 8, 40_000)]
    )
    found = find_threshold(values)
    assert 48 < found.threshold < 58
    assert found.tissue_share == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("values", [np.full(10, 50.0), np.full(5000, np.nan)])
def test_too_few_values(values):
    with pytest.raises(QualityError, match="have a value"):
        find_threshold(values)


@pytest.mark.parametrize("value", [0.0, 50.0])
def test_a_constant_image_has_no_threshold(value):
    with pytest.raises(QualityError):
        find_threshold(np.full(5000, value))
