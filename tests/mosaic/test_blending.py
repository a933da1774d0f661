import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.mosaic import blend, canvas_shape, nominal_positions, snake_order
from opticstream_smk.mosaic.blending import blend_rows, ramp_weights
from tests.mosaic.golden_presets import generator

PAIR = [[0.0, 0.0], [0.0, 8.0]]  # two tiles of 10 px side by side, 20 % overlap


class LazyTiles:
    """Only a length and items; keeps no more than it is asked for, and has no end of its own."""

    def __init__(self, tiles):
        self.tiles = tiles
        self.read = []

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        self.read.append(index)
        return self.tiles[index % len(self.tiles)]


def test_ramp_rises_from_above_zero_in_equal_steps():
    weights = ramp_weights((10, 20), 20)
    assert np.allclose(weights[5], [*np.arange(1, 5) / 5, *[1] * 12, *np.arange(4, 0, -1) / 5])
    assert np.allclose(weights[:, 10], [1 / 3, 2 / 3, *[1] * 6, 2 / 3, 1 / 3])
    assert weights[0, 0] == pytest.approx(1 / 3 * 1 / 5)
    assert weights.dtype == np.float32


def test_ramp_width_is_not_one_short_by_rounding():
    # 0.29 * 100 is 28.999999999999996.
    assert ramp_weights((1, 100), 29)[0, 0] == pytest.approx(1 / 30)


@given(st.integers(1, 40), st.floats(0, 99))
def test_ramp_is_symmetric_and_never_zero(length, overlap):
    ramp = ramp_weights((1, length), overlap)[0]
    assert (ramp > 0).all()
    assert (ramp <= 1).all()
    assert (ramp == ramp[::-1]).all()


@given(
    st.integers(1, 4), st.integers(1, 4), st.floats(0, 45), st.floats(-90, 100), st.integers(0, 99)
)
def test_a_constant_stays_constant(rows, columns, overlap, value, seed):
    cells = snake_order(rows, columns)
    positions = nominal_positions(cells, (12, 9), overlap)
    positions += np.random.default_rng(seed).uniform(-1, 1, positions.shape)
    tiles = np.full((len(cells), 12, 9), value)
    image, _ = blend(tiles, positions, overlap_percent=overlap)
    covered = np.isfinite(image)
    assert covered.mean() > 0.5
    assert np.allclose(image[covered], value, rtol=1e-5, atol=1e-5)


def test_weights_across_a_seam():
    tiles = np.stack([np.zeros((10, 10)), np.ones((10, 10))])
    image, origin = blend(tiles, PAIR, overlap_percent=20)
    assert image.shape == (10, 18)
    assert origin == (0, 0)
    assert image.dtype == np.float32
    assert (image[:, :8] == 0).all()
    assert np.allclose(image[:, 8], 1 / 3)  # 1/3 of the second against 2/3 of the first
    assert np.allclose(image[:, 9], 2 / 3)
    assert np.allclose(image[:, 10:], 1)


def test_positions_are_rounded_and_the_origin_says_where_the_image_is():
    tiles = np.ones((2, 4, 5))
    shape, origin = canvas_shape([[-3.4, 10.6], [2.7, 7.2]], (4, 5))
    assert origin == (-3, 7)
    assert shape == (3 + 3 + 4, 11 - 7 + 5)
    image, blended_origin = blend(tiles, [[-3.4, 10.6], [2.7, 7.2]], overlap_percent=0, fill=-1.0)
    assert blended_origin == origin
    assert image.shape == shape
    assert (image[0:4, 4:9] == 1).all()
    assert (image[6:10, 0:5] == 1).all()
    assert (image[4:6] == -1).all()


def test_shifted_tiles_give_back_the_scene():
    rng = np.random.default_rng(0)
    scene = rng.normal(50, 10, (70, 90))
    positions = np.array([[0, 0], [22, 3], [40, 0], [1, 30], [20, 33], [41, 31], [20, 60]])
    tiles = [scene[y : y + 28, x : x + 40] for y, x in positions.tolist()]
    image, _ = blend([t[:, :30] for t in tiles], positions, overlap_percent=25)
    covered = np.isfinite(image)
    height, width = image.shape
    assert np.allclose(image[covered], scene[:height, :width][covered], rtol=1e-5)


def test_missing_pixels_have_no_weight():
    tiles = np.stack([np.full((10, 10), 5.0), np.full((10, 10), 7.0)])
    tiles[1, 3, 0:2] = np.nan
    tiles[1, 4, 0] = np.inf
    tiles[0, 0, 0] = np.nan
    image, _ = blend(tiles, PAIR, overlap_percent=20, fill=-5)
    assert image[3, 8] == image[3, 9] == image[4, 8] == 5
    assert 5 < image[5, 8] < 7
    assert image[0, 0] == -5


def test_a_mosaic_without_a_valid_pixel_is_fill():
    image, _ = blend(np.full((1, 3, 3), np.nan), [[0, 0]], overlap_percent=20, fill=0)
    assert (image == 0).all()


def test_fill_is_nan_unless_said():
    image, _ = blend(np.ones((2, 4, 4)), [[0, 0], [4, 4]], overlap_percent=0)
    assert np.isnan(image[:4, 4:]).all()
    assert np.isfinite(image[:4, :4]).all()


def test_mask():
    mask = np.zeros((10, 18), dtype=np.uint8)
    mask[2:5, 3:12] = 255
    image, _ = blend(np.ones((2, 10, 10)), PAIR, overlap_percent=20, mask=mask, fill=-1)
    assert ((image == 1) == (mask > 0)).all()
    assert (image[mask == 0] == -1).all()


def test_mask_of_other_positions_is_refused():
    with pytest.raises(CorruptInputError, match=r"\(9, 18\).*\(10, 18\)"):
        blend(np.ones((2, 10, 10)), PAIR, overlap_percent=20, mask=np.ones((9, 18)))


@pytest.mark.parametrize(("left", "right"), [(88.0, -88.0), (-88.0, 88.0), (89.0, -85.0)])
def test_orientation_is_continuous_across_90_degrees(left, right):
    tiles = np.stack([np.full((10, 10), left), np.full((10, 10), right)])
    image, _ = blend(tiles, PAIR, overlap_percent=20, circular=True)
    assert (np.abs(image) > 84).all()
    assert (image > -90).all()
    assert (image <= 90).all()


def test_orientation_means_are_weighted():
    tiles = np.stack([np.full((10, 10), 80.0), np.full((10, 10), -80.0)])
    image, _ = blend(tiles, PAIR, overlap_percent=20, circular=True)
    # Weights 2 : 1 of vectors at 160 and 200 degrees.
    vector = 2 * np.exp(1j * np.deg2rad(160)) + np.exp(1j * np.deg2rad(200))
    assert image[5, 8] == pytest.approx(np.rad2deg(np.angle(vector)) / 2, abs=1e-4)
    assert image[5, 0] == pytest.approx(80, abs=1e-4)
    assert image[5, 17] == pytest.approx(-80, abs=1e-4)


@given(st.floats(-720, 720))
def test_orientation_comes_back_in_one_period(angle):
    image, _ = blend(np.full((1, 2, 2), angle), [[0, 0]], overlap_percent=20, circular=True)
    assert (image > -90).all()
    assert (image <= 90).all()
    difference = (image - angle + 90) % 180 - 90
    assert (np.abs(difference) < 1e-3).all()


def test_minus_90_is_90():
    image, _ = blend(np.full((1, 2, 2), -90.0), [[0, 0]], overlap_percent=20, circular=True)
    assert (image == 90).all()


def test_orientation_without_coverage_is_fill():
    tiles = np.full((1, 3, 3), 10.0)
    tiles[0, 1, 1] = np.nan
    image, _ = blend(tiles, [[0, 0]], overlap_percent=0, circular=True, fill=-7)
    assert image[1, 1] == -7
    assert np.allclose(np.delete(image.ravel(), 4), 10, atol=1e-4)


def test_tiles_are_read_one_by_one():
    tiles = np.random.default_rng(0).normal(size=(2, 10, 10))
    lazy = LazyTiles(tiles)
    image, _ = blend(lazy, PAIR, overlap_percent=20)
    assert lazy.read == [0, 1]
    generated, _ = blend((tile for tile in tiles), PAIR, overlap_percent=20)
    whole, _ = blend(tiles, PAIR, overlap_percent=20)
    assert (image == whole).all()
    assert (generated == whole).all()


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        (np.ones((3, 10, 10)), "more than 2 tiles"),
        (np.ones((1, 10, 10)), "1 tiles for 2 positions"),
        (np.ones((0, 10, 10)), "no tiles"),
        ([np.ones((10, 10)), np.ones((10, 9))], r"tile 1 has shape \(10, 9\)"),
        (np.ones((2, 10)), "expected"),
    ],
)
def test_tiles_that_do_not_fit(tiles, message):
    with pytest.raises(ValueError, match=message):
        blend(tiles, PAIR, overlap_percent=20)


def test_position_that_is_not_finite_is_named():
    with pytest.raises(CorruptInputError, match="tile 1"):
        blend(np.ones((2, 4, 4)), [[0, 0], [np.nan, 3]], overlap_percent=20)


def test_positions_of_a_wrong_shape():
    with pytest.raises(ValueError, match="expected"):
        canvas_shape([[0, 0, 0]], (4, 4))


def test_overlap_out_of_range():
    with pytest.raises(ConfigError, match="120"):
        blend(np.ones((2, 10, 10)), PAIR, overlap_percent=120)


def scattered(count=12, shape=(30, 40), seed=0):
    """Tiles here and there, some apart from all others, some with gaps."""
    rng = np.random.default_rng(seed)
    tiles = rng.normal(60, 10, (count, *shape)).astype(np.float32)
    tiles[2, 3:9, 5:11] = np.nan
    tiles[4] = np.nan
    positions = rng.uniform(-20, 150, (count, 2))
    positions[-1] = (400, 30)
    return tiles, positions


@pytest.mark.parametrize("placement", ["rounded", "subpixel"])
@pytest.mark.parametrize("circular", [False, True])
def test_rows_are_those_of_the_whole_image(circular, placement):
    tiles, positions = scattered()
    options = {"overlap_percent": 20, "circular": circular, "placement": placement}
    whole, _ = blend(tiles, positions, **options)
    lazy = LazyTiles(tiles)
    parts = list(blend_rows(lazy, positions, **options))
    starts = np.cumsum([0, *(len(rows) for _, rows in parts)])
    assert [start for start, _ in parts] == starts[:-1].tolist()
    # One and a half tiles, and each tile once.
    assert max(len(rows) for _, rows in parts) <= 45
    assert sorted(lazy.read) == list(range(12))
    image = np.concatenate([rows for _, rows in parts])
    assert image.shape == whole.shape
    assert np.allclose(image, whole, rtol=1e-5, atol=1e-4, equal_nan=True)


def test_rows_of_one_tile():
    ((start, rows),) = blend_rows(np.full((1, 4, 6), 7.0), [[2.2, 3.1]], overlap_percent=20)
    assert start == 0
    assert np.allclose(rows, 7)
    assert rows.shape == (4, 6)


def test_rows_of_a_tile_that_does_not_fit():
    with pytest.raises(ValueError, match=r"tile 1 has shape \(10, 9\)"):
        list(blend_rows([np.ones((10, 10)), np.ones((10, 9))], PAIR, overlap_percent=20))
    with pytest.raises(ValueError, match="3 tiles for 2 positions"):
        list(blend_rows(np.ones((3, 10, 10)), PAIR, overlap_percent=20))


def wave(y, x):
    return 50 + 10 * np.sin(y / 4) * np.cos(x / 5)


@pytest.mark.parametrize(
    ("placement", "least", "most"), [("rounded", 0.3, 2), ("subpixel", 0, 0.04)]
)
def test_subpixel_tiles_lie_where_they_belong(placement, least, most):
    positions = np.array([[0.0, 0.0], [0.4, 30.5], [24.3, 0.25], [24.45, 30.3]])
    grid = np.mgrid[:32, :40]
    tiles = [wave(*(grid + p[:, None, None])) for p in positions]
    image, origin = blend(tiles, positions, overlap_percent=20, placement=placement)
    truth = wave(*(np.mgrid[: image.shape[0], : image.shape[1]] + np.array(origin)[:, None, None]))
    # Of the last tile alone; at its rim the outermost pixels go on.
    inner = np.abs(image - truth)[35:-3, 43:-3]
    assert least <= inner.max() <= most


def test_subpixel_keeps_canvas_coverage_and_gaps():
    tiles, positions = scattered()
    rounded, origin = blend(tiles, positions, overlap_percent=20)
    subpixel, same_origin = blend(tiles, positions, overlap_percent=20, placement="subpixel")
    assert same_origin == origin
    assert (np.isnan(rounded) == np.isnan(subpixel)).all()


def test_subpixel_orientation_is_moved_as_a_vector():
    # 30 degrees a pixel, across the ends of the period.
    tile = np.tile((np.arange(20) * 30.0 + 90) % 180 - 90, (6, 1))
    image, _ = blend([tile], [[0, 0.25]], overlap_percent=0, circular=True, placement="subpixel")
    expected = (np.arange(20) - 0.25) * 30
    error = (image[3, 2:-2] - expected[2:-2] + 90) % 180 - 90
    assert np.abs(error).max() < 1


@pytest.mark.parametrize("placement", ["rounded", "subpixel"])
def test_orientation_has_no_seams(placement):
    make = generator()
    phantom = make.make_phantom(make.preset("standard", 4, 5, 77, tile=200), modalities=("ori",))
    image, origin = blend(
        phantom.tiles["ori"], phantom.true, overlap_percent=20, circular=True, placement=placement
    )
    truth = make.reference_image(phantom.truth["ori"], origin, image.shape, axial=True)
    window = tuple(slice(o, o + n) for o, n in zip(origin, image.shape, strict=True))
    tissue = phantom.truth["tissue"][window]
    residual = make.axial_residual(image, truth)
    seams = make.seam_metric(residual, 0 * residual, phantom.true - origin, 200, mask=tissue)
    assert seams["ratio"] <= 1.1
    assert make.angular_error(image, truth, tissue)["mean"] < 5
