import numpy as np
import pytest

from opticstream_smk.errors import QualityError
from opticstream_smk.mosaic import make_mask
from opticstream_smk.mosaic import mask as mask_module


def scene():
    image = np.full((60, 80), 40.0, dtype=np.float32)
    image[10:40, 10:50] = 70  # tissue
    image[20:26, 20:28] = 40  # a hole
    image[45:55, 60:75] = 70  # a smaller piece
    image[5, 70] = 500  # a hot pixel
    return image


def test_largest_piece_with_its_hole_filled():
    mask = make_mask(scene(), 55)
    assert mask.dtype == np.bool_
    assert mask.shape == (60, 80)
    assert mask[12:38, 12:48].all()
    assert not mask[42:].any()
    assert not mask[:, 55:].any()


def test_outline_is_that_of_the_smoothed_image():
    # At a straight edge the smoothed value is half-way; above it lies inside, below outside.
    assert make_mask(scene(), 55)[25, 10:50].all()
    assert not make_mask(scene(), 55)[25, :10].any()
    assert make_mask(scene(), 69)[25].sum() < make_mask(scene(), 41)[25].sum()


def test_a_bay_is_not_a_hole():
    image = np.full((30, 30), 70.0)
    image[10:20, 15:] = 40
    mask = make_mask(image, 55)
    assert not mask[13:17, 20:].any()


def test_smoothing_ignores_missing_pixels():
    image = np.full((20, 20), 61.0)
    image[:, :8] = np.nan
    mask = make_mask(image, 60)
    assert not mask[:, :8].any()
    assert mask[:, 8:].all()


def test_a_missing_spot_inside_tissue_is_filled():
    image = np.full((20, 20), np.nan)
    image[2:18, 2:18] = 80
    image[8:11, 8:11] = np.nan
    mask = make_mask(image, 60)
    assert mask[2:18, 2:18].all()
    assert mask.sum() == 16 * 16


def test_infinite_pixels_are_background():
    image = np.full((20, 20), 40.0)
    image[5, 5] = np.inf
    assert not make_mask(image, 60).any()


@pytest.mark.parametrize("value", [40.0, np.nan])
def test_nothing_above_the_threshold(value):
    assert not make_mask(np.full((8, 8), value), 60).any()


def test_pieces_that_touch_at_a_corner_are_one():
    image = np.zeros((12, 12))
    image[0:6, 0:6] = image[6:12, 6:12] = 100
    assert make_mask(image, 50, sigma_px=0).sum() == 72


def test_without_smoothing_the_threshold_is_exact():
    image = np.array([[60.0, 61.0, 59.0]])
    assert make_mask(image, 60, sigma_px=0).tolist() == [[False, True, False]]


def test_refuses_a_volume():
    with pytest.raises(ValueError, match="expected"):
        make_mask(np.zeros((2, 3, 4)), 1)


def test_tissue_on_both_sides_of_a_missing_tile_is_one_piece():
    image = np.full((40, 90), 40.0, dtype=np.float32)
    image[5:35, 5:40] = image[5:35, 55:85] = 70
    image[:, 40:55] = np.nan  # a column of tiles that is not there
    unseen = np.isnan(image)
    assert not make_mask(image, 55)[:, 55:].any()
    mask = make_mask(image, 55, unseen=unseen)
    assert mask[7:33, 7:38].all()
    assert mask[7:33, 57:83].all()
    assert not mask[unseen].any()


def test_a_missing_tile_is_no_tissue_and_does_not_count_as_such():
    image = np.full((40, 90), 40.0, dtype=np.float32)
    image[10:20, 5:15] = 70
    image[25:35, 60:64] = 70  # smaller, and beside a large gap
    image[:, 64:] = np.nan
    mask = make_mask(image, 55, unseen=np.isnan(image))
    assert mask[12:18, 7:13].all()
    assert not mask[:, 50:].any()
    empty = np.full((8, 8), np.nan)
    assert not make_mask(empty, 55, unseen=np.isnan(empty)).any()


def test_all_pieces_above_but_no_dirt():
    mask = make_mask(scene(), 55, keep="all_above", min_piece_px=100)
    assert mask[12:38, 12:48].all()
    assert mask[47:53, 62:73].all()
    assert not mask[:9].any()  # the hot pixel
    assert make_mask(scene(), 55, keep="all_above")[5, 70]
    assert not make_mask(scene(), 55, keep="all_above", min_piece_px=5000).any()


def test_holes_stay_where_they_are_to():
    hole = (slice(22, 24), slice(22, 26))
    assert make_mask(scene(), 55)[hole].all()
    assert not make_mask(scene(), 55, fill_holes=False)[hole].any()
    assert not make_mask(scene(), 55, max_hole_px=20)[hole].any()
    assert make_mask(scene(), 55, max_hole_px=80)[hole].all()


def test_a_frame_of_tissue_encloses_everything_else():
    image = np.full((30, 30), 70.0)
    image[5:25, 5:25] = 40
    assert make_mask(image, 55).all()


@pytest.mark.parametrize("rows", [7, 16])
def test_some_rows_at_a_time_give_the_same(monkeypatch, rows):
    image = scene() + np.random.default_rng(1).normal(0, 8, (60, 80)).astype(np.float32)
    image[30:33, 20:30] = np.nan
    whole = make_mask(image, 55, sigma_px=1.5)
    monkeypatch.setattr(mask_module, "_BAND_ROWS", rows)
    assert (make_mask(image, 55, sigma_px=1.5) == whole).all()


def test_auto_is_between_background_and_tissue():
    image = scene() + np.random.default_rng(0).normal(0, 1, (60, 80)).astype(np.float32)
    found = make_mask(image, "auto")
    assert (found == make_mask(image, 55)).mean() > 0.99


def test_auto_refuses_an_image_of_one_kind():
    image = np.random.default_rng(0).normal(70, 3, (60, 80))
    with pytest.raises(QualityError, match="two classes"):
        make_mask(image, "auto")
