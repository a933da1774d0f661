"""Shading of the tiles, against the known one of synthetic mosaics."""

import numpy as np
import pytest

from opticstream_smk.errors import QualityError
from opticstream_smk.mosaic import blend
from opticstream_smk.mosaic.flat_field import estimate_flat_field
from tests.mosaic.golden_presets import generator


@pytest.fixture(scope="module")
def phantom():
    make = generator()
    return make.make_phantom(make.preset("standard", 5, 5, 31, tile=200))


def judge(phantom, tiles):
    """PSNR in dB and seam ratio, in tissue."""
    make = generator()
    image, origin = blend(tiles, phantom.true, overlap_percent=20)
    truth = make.reference_image(phantom.truth["aip"], origin, image.shape)
    window = tuple(slice(o, o + n) for o, n in zip(origin, image.shape, strict=True))
    tissue = phantom.truth["tissue"][window]
    seams = make.seam_metric(image, truth, phantom.true - origin, 200, mask=tissue)
    return make.psnr(image, truth, tissue), seams["ratio"]


@pytest.mark.parametrize("domain", ["gain", "offset"])
def test_shading_of_a_reference_mosaic(phantom, domain):
    tiles = phantom.tiles["aip"]
    found = estimate_flat_field(tiles, phantom.true, threshold=50, domain=domain)
    assert min(found.pairs) >= 12
    if domain == "gain":
        assert np.abs(found.shading - phantom.falloff).max() < 0.02
        assert (found.shading - phantom.falloff).std() < 0.006  # of 0.052
    psnr, seams = judge(phantom, tiles)
    flat_psnr, flat_seams = judge(phantom, np.stack([found.correct(tile) for tile in tiles]))
    assert flat_psnr > psnr + 2
    assert flat_seams < 0.9 * seams


def decibels(rows, columns, *, side=220, seed=0, tissue=True, slope=0.0):
    """Tiles in dB of a scene with structure of all sizes, their positions, and the shading."""
    rng = np.random.default_rng(seed)
    step = int(0.8 * side)
    height, width = side + step * (rows - 1), side + step * (columns - 1)
    noise = np.fft.rfft2(rng.normal(size=(height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    scene = np.fft.irfft2(noise / np.maximum(np.hypot(fy, fx), 1e-3), s=(height, width))
    scene = 70 + 6 * scene / scene.std() if tissue else np.full((height, width), 40.0)
    y, x = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    shading = -2.5 * ((x - 0.2) ** 2 + y**2) - slope * y
    positions = step * np.array([(r, c) for r in range(rows) for c in range(columns)])
    tiles = np.stack([scene[y : y + side, x : x + side] + shading for y, x in positions.tolist()])
    return tiles + rng.normal(0, 1, tiles.shape), positions, shading - shading.max()


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_shading_in_decibels_whatever_the_tissue(slope):
    tiles, positions, shading = decibels(4, 5, slope=slope)
    found = estimate_flat_field(tiles, positions, threshold=45)
    assert np.abs(found.shading - shading).max() < 0.25
    assert found.shading.max() == 0
    assert np.allclose(found.correct(tiles[3]), tiles[3] - found.shading, atol=1e-4)


def test_levels_of_the_tiles_do_not_matter():
    tiles, positions, shading = decibels(4, 5)
    levels = np.random.default_rng(1).normal(0, 0.5, (20, 1, 1))
    found = estimate_flat_field(tiles + levels, positions, threshold=45)
    assert np.abs(found.shading - shading).max() < 0.6


def test_torn_tissue_and_missing_pixels_do_not_matter():
    tiles, positions, shading = decibels(4, 5)
    tiles[4, 20:60, :] -= 12
    tiles[7] = np.nan
    tiles[9, 3, 5] = np.inf
    tiles[9, 3, 6] = -np.inf
    found = estimate_flat_field(tiles, positions, threshold=45)
    assert np.abs(found.shading - shading).max() < 0.4
    assert np.isnan(found.correct(tiles[7])).all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_too_few_tiles_give_none(rows, columns):
    tiles, positions, _ = decibels(rows, columns)
    assert estimate_flat_field(tiles, positions, threshold=45) is None


def test_background_tells_nothing_of_the_shading():
    tiles, positions, _ = decibels(4, 5, tissue=False)
    assert estimate_flat_field(tiles, positions, threshold=45) is None
    with pytest.raises(QualityError, match="two classes"):
        estimate_flat_field(tiles, positions, threshold="auto")


def test_tissue_is_told_from_background_by_itself():
    tiles, positions, shading = decibels(5, 5)
    tiles[:5] = np.random.default_rng(0).normal(40, 1, tiles[:5].shape)
    found = estimate_flat_field(tiles, positions, threshold="auto")
    assert found.pairs == (15, 16)
    assert np.abs(found.shading - shading).max() < 0.4


def test_a_mosaic_without_shading_stays_as_it_is():
    tiles, positions, shading = decibels(4, 5)
    found = estimate_flat_field(tiles - shading, positions, threshold=45)
    assert np.abs(found.shading).max() < 0.35


def test_more_tiles_than_positions():
    with pytest.raises(ValueError, match="2 tiles for 1 positions"):
        estimate_flat_field(np.ones((2, 20, 20)), [[0, 0]], threshold=0)
