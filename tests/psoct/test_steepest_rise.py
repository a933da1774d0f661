"""The surface of a volume, whatever the blocks in which it is searched."""

import numpy as np
import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.psoct import steepest_rise
from opticstream_smk.psoct.steepest_rise import find_rise

DEPTH, HEIGHT, WIDTH = 60, 150, 140


def volume_of(surface, *, noise=0.5, seed=0):
    """(z, y, x): 40 above the 1-based surface, 70 from it on, decaying."""
    z = np.arange(1, DEPTH + 1)[:, None, None]
    below = 70 - 0.2 * (z - surface)
    noise = np.random.default_rng(seed).normal(0, noise, (DEPTH, *surface.shape))
    return (np.where(z < surface, 40.0, below) + noise).astype(np.float32)


def reader(volume):
    return lambda y, x: volume[:, y, x]


@pytest.fixture
def surface():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.round(15 + y / 10 + 4 * np.sin(x / 20)).astype(int)


def test_every_surface_is_found_exactly(surface):
    found = find_rise(reader(volume_of(surface)), (DEPTH, HEIGHT, WIDTH))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, surface)


def test_smoothing_finds_it_under_noise(surface):
    volume = volume_of(surface, noise=14)
    plain = find_rise(reader(volume), volume.shape)
    smooth = find_rise(reader(volume), volume.shape, sigma_px=2)
    assert np.mean(np.abs(plain - surface) > 2) > 0.3
    assert np.mean(np.abs(smooth - surface) > 2) < 0.01


def test_a_median_removes_single_errors(surface):
    volume = volume_of(surface)
    volume[5, 40, 30] = 500
    assert find_rise(reader(volume), volume.shape)[40, 30] == 6
    found = find_rise(reader(volume), volume.shape, median_px=3)
    assert abs(found[40, 30] - surface[40, 30]) <= 1


@pytest.mark.parametrize("sigma_px", [0, 1.5])
def test_any_blocks_give_the_same_map(surface, sigma_px, monkeypatch):
    volume = volume_of(surface, noise=5)
    volume[20:30, 50:70, 60:80] = np.nan
    whole = find_rise(reader(volume), volume.shape, sigma_px=sigma_px)
    read = []

    def recorded(y, x):
        read.append(volume[:, y, x].size)
        return volume[:, y, x]

    monkeypatch.setattr(steepest_rise, "_BLOCK_VOXELS", 1)
    parts = find_rise(recorded, volume.shape, sigma_px=sigma_px)
    assert len(read) == 9
    assert max(read) <= DEPTH * (64 + 2 * int(np.ceil(4 * sigma_px))) ** 2
    np.testing.assert_array_equal(parts, whole)


def test_where_there_is_none(surface):
    volume = volume_of(surface)
    volume[:, 10, 10] = 0  # masked
    volume[:, 11, 11] = np.nan  # no tile
    volume[:, 12, 12] = np.linspace(9, 1, DEPTH)  # only falls
    volume[:10, 13, 13] = 71  # tissue from the top on
    volume[:10, 14, 14] = np.nan  # missing above the surface
    options = {"top_px": 5, "top_threshold": 60}
    found = find_rise(reader(volume), volume.shape, **options)
    assert found[[10, 11, 12, 13], [10, 11, 12, 13]].tolist() == [0, 0, 0, 0]
    assert found[14, 14] == surface[14, 14]
    rest = np.ones(surface.shape, bool)
    rest[[10, 11, 12, 13], [10, 11, 12, 13]] = False
    np.testing.assert_array_equal(found[rest], surface[rest])
    filtered = find_rise(reader(volume), volume.shape, median_px=3, **options)
    assert (filtered[~rest] == 0).all()
    assert find_rise(reader(volume), volume.shape)[13, 13] > 0


def test_missing_voxels_do_not_rise(surface):
    """Smoothing must not make an edge of where tiles end."""
    volume = volume_of(surface, noise=0)
    volume[: DEPTH // 8] = np.nan
    volume[:, :, WIDTH // 2 :] = np.nan
    found = find_rise(reader(volume), volume.shape, sigma_px=1.5)
    seen = slice(None), slice(0, WIDTH // 2)
    assert np.abs(found[seen] - surface[seen]).max() <= 1
    assert (found[:, WIDTH // 2 :] == 0).all()


def test_masked_lines_neither_take_nor_lend_an_edge(surface):
    volume = volume_of(surface, noise=0)
    volume[:, :, WIDTH // 2 :] = 0
    found = find_rise(reader(volume), volume.shape, sigma_px=2)
    assert (found[:, WIDTH // 2 :] == 0).all()
    assert np.abs(found[:, : WIDTH // 2] - surface[:, : WIDTH // 2]).max() <= 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sigma_px": -1}, "sigma of -1"),
        ({"sigma_px": float("nan")}, "sigma of nan"),
        ({"median_px": 4}, "median filter of 4"),
        ({"median_px": 0}, "median filter of 0"),
        ({"top_px": DEPTH + 1}, "the first 61 voxels"),
    ],
)
def test_numbers_out_of_range(options, expected):
    with pytest.raises(ConfigError, match=expected):
        find_rise(reader(np.zeros((DEPTH, 4, 4))), (DEPTH, 4, 4), **options)


def test_one_plane_has_no_rise():
    with pytest.raises(ConfigError, match=r"1 voxels along z"):
        find_rise(reader(np.zeros((1, 4, 4))), (1, 4, 4))
