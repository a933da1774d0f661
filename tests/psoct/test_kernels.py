"""Each compiled loop against its NumPy twin."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opticstream_smk.psoct import depth_kernels, spectrum_kernels, voxel_kernels
from opticstream_smk.psoct.calibration import SpectralSampling
from opticstream_smk.psoct.plain import PlainTransform, fill_bline
from opticstream_smk.psoct.spectral import SpectralTransform, stack_jones
from opticstream_smk.psoct.volumes import Volumes, VoxelOptions

from . import twins

SAMPLES = 64


def sampling(samples: int, seed: int = 0) -> SpectralSampling:
    rng = np.random.default_rng(seed)
    lower = np.sort(rng.integers(0, samples - 1, (2, samples)), axis=1)
    lower[1] = lower[1, ::-1]
    weight = rng.random((2, samples))
    weight[:, ::5] = 0  # values of a pixel itself, which are often equal
    correction = np.exp(1j * rng.normal(size=(2, samples)))
    return SpectralSampling(lower, lower + 1, weight, correction)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    alines=st.sampled_from([1, 2, 3, 16, 31, 33, 64, 97]),
    spread=st.sampled_from([0, 1, 3, 100, 30000]),
)
def test_resampling_is_exact(seed: int, alines: int, spread: int) -> None:
    """Also with equal values, of which the median may be one, and from whatever guess."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(30000 - spread, 30001 + spread, (SAMPLES, alines)).astype(np.uint16)
    grid = sampling(SAMPLES, seed)
    args = grid.lower[0], grid.upper[0], grid.weight[0].astype(np.float32)
    correction = grid.correction[0].astype(np.complex64)
    means = np.empty(SAMPLES, np.int32)
    spectrum_kernels.rounded_means(counts, means)
    guess = rng.normal(0, 10.0 ** rng.integers(-3, 6), SAMPLES).astype(np.float32)
    fringes = np.zeros((-(-alines // 32), SAMPLES, 32), np.complex64)
    row = np.empty(alines, np.float32)
    spectrum_kernels.resample(counts, means, 0.0, *args, correction, guess, row, fringes)
    found = fringes.transpose(1, 0, 2).reshape(SAMPLES, -1)[:, :alines]
    np.testing.assert_array_equal(found, twins.resampled(counts, *args, correction))


@pytest.mark.parametrize("samples", [16, 64, 75])
@pytest.mark.parametrize("step", [1, 3])
def test_transposition(samples: int, step: int) -> None:
    spectra = np.arange(21 * samples, dtype=np.uint16).reshape(21, samples)[::step]
    counts = np.empty((samples, len(spectra)), np.uint16)
    spectrum_kernels.transpose(spectra, counts)
    np.testing.assert_array_equal(counts, spectra.T)


@given(data=st.binary(min_size=3, max_size=300))
def test_unpacking(data: bytes) -> None:
    packed = np.frombuffer(data[: len(data) // 3 * 3], np.uint8)
    counts = np.empty(packed.size // 3 * 2, np.uint16)
    spectrum_kernels.unpack(packed, counts)
    np.testing.assert_array_equal(counts, twins.unpacked(packed))


@pytest.mark.parametrize("alines", [1, 33, 70])
@pytest.mark.parametrize("halve", [False, True])
def test_transform_equals_plain_numpy(alines: int, halve: bool) -> None:
    rng = np.random.default_rng(alines)
    samples, depth = 256, 104
    grid = sampling(samples)
    transform = SpectralTransform(grid, alines=alines, halve_nyquist=halve)
    plain = PlainTransform(grid, alines=alines, depth=depth, halve_nyquist=halve, dtype=np.float32)
    for _ in range(2):  # the second starts from the medians of the first
        bline = rng.integers(1000, 4096, (2, alines, samples)).astype(np.uint16)
        for bins, expected in zip(transform(bline), plain(bline), strict=True):
            jones = np.empty((depth, 1, alines), np.complex64)
            voxel_kernels.jones_of_bins(bins, 24, jones, 0)
            error = np.abs(jones[:, 0] - expected).max()
            assert error <= 2e-6 * max(np.abs(expected).max(), 1e-3)


def components(shape: tuple[int, int], seed: int) -> tuple[Any, Any]:
    """Jones components (Z, X) of all magnitudes, with what else may be in a file."""
    rng = np.random.default_rng(seed)
    both = []
    for _ in range(2):
        size = 10.0 ** rng.uniform(-6, 6, shape)
        jones = (size * np.exp(2j * np.pi * rng.random(shape))).astype(np.complex64)
        jones.ravel()[rng.integers(0, jones.size, jones.size // 10)] = 0
        jones.ravel()[rng.integers(0, jones.size, jones.size // 20)] = np.nan
        jones.ravel()[rng.integers(0, jones.size, jones.size // 20)] = 3.0  # on an axis
        both.append(jones)
    return both[0], both[1]


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("flip_phase", [False, True])
def test_voxels_equal_plain_numpy(quirks: bool, reverse: bool, flip_phase: bool) -> None:
    depth, alines = 40, 75
    line1, line2 = components((depth, alines), 1)
    options = VoxelOptions(reverse, flip_phase, 100.0, quirks)
    expected, found = Volumes.empty((alines, 1, depth)), Volumes.empty((alines, 1, depth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fill_bline(expected, 0, line1, line2, options)
    stack = stack_jones(line1.T[:, None], line2.T[:, None])
    voxel_kernels.volumes_of_stack(stack.T, 0, *found.by_depth, 0, *options.of_kernels)
    compare(found, expected, quirks)

    def bins(line: Any) -> Any:
        padded = np.zeros((3, depth + 5, 32), np.complex64)
        for x in range(alines):
            padded[x // 32, 5:, x % 32] = np.conj(line[:, x])
        return padded

    voxel_kernels.volumes_of_bins(
        bins(line1), bins(line2), 5, *found.by_depth, 0, *options.of_kernels
    )
    compare(found, expected, quirks)
    copied = np.empty((depth, 1, 4 * alines), np.float32)
    voxel_kernels.stack_of_bins(bins(line1), bins(line2), 5, copied, 0)
    np.testing.assert_array_equal(copied, stack.T)


def compare(found: Volumes, expected: Volumes, quirks: bool) -> None:
    for name, limit in (("dbi", 3e-5), ("r3d", 2e-5), ("o3d", 5e-5)):
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        error = np.abs(one - other)
        if name == "o3d" and not quirks:
            error = np.minimum(error, 180 - error)  # either end of the range
            assert np.nanmax(one) <= 90
            assert np.nanmin(one) > -90
        elif name == "o3d":
            # Where a turn is due or not by rounding.
            at_end = np.abs(np.abs(other) - 90) < 1e-3
            error = np.where(at_end, np.minimum(error, 180 - error), error)
        assert np.nanmax(error) < limit, name


def test_infinite_components_stay() -> None:
    stack = np.array([np.inf, 0.0, 1.0, 0.0], np.float32).reshape(1, 1, 4)
    volumes = Volumes.empty((1, 1, 1))
    options = VoxelOptions(False, False, 0.0, False)
    voxel_kernels.volumes_of_stack(stack, 0, *volumes.by_depth, 0, *options.of_kernels)
    assert (volumes.dbi[0, 0, 0], volumes.r3d[0, 0, 0]) == (np.inf, 90)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("windows", [(5, 5), (7, 3), (1, 2)])
def test_surface_is_exact(dtype: type, windows: tuple[int, int]) -> None:
    depth, alines = 60, 40
    rng = np.random.default_rng(sum(windows))
    dbi = rng.normal(0, 20, (depth, 3, alines)).astype(dtype)
    dbi[:, :, 3] = np.nan
    dbi[20:40, :, 4] = np.nan
    dbi[:, :, 5] = 7.0
    dbi[:, :, 6] = -1.0
    dbi[10:, :, 7] = -1.0
    lengths, surface = np.empty(alines, np.int64), np.empty(alines)
    radius = depth_kernels.RADIUS
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 5.0) ** 2)
    taps = (taps / taps.sum())[radius:]
    padded, smooth = np.empty((depth + 2 * radius, alines)), np.empty((depth, alines))
    depth_kernels.signal_lengths(dbi, 1, dtype(twins.SIGNAL_DBI), lengths)
    depth_kernels.strongest_rise(dbi, 1, lengths, taps, *windows, padded, smooth, surface)
    np.testing.assert_array_equal(surface, twins.strongest_rise(dbi[:, 1].T, *windows))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 50))
def test_window_maps(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    depth, alines = 40, 30
    size = (depth, 2, alines)
    dbi = rng.normal(60, 10, size).astype(np.float32)
    r3d = rng.uniform(0, 90, size).astype(np.float32)
    o3d = rng.uniform(-180, 180, size).astype(np.float32)
    r3d[rng.random(size) < 0.03] = 0
    r3d[:, :, 0] = 0
    for volume in (dbi, r3d, o3d):
        volume[rng.random(size) < 0.01] = np.nan
        volume[:, :, 1] = np.nan
    first = rng.integers(0, depth, alines)
    maps = np.empty((5, alines))
    depth_kernels.window_maps(dbi, r3d, o3d, 1, first, length, np.float32(1.3), maps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = twins.window_maps(dbi[:, 1], r3d[:, 1], o3d[:, 1], first, length, 1.3)
    for row, tolerance in zip((0, 1, 2, 4), (1e-9, 0, 1e-9, 1e-12), strict=True):
        np.testing.assert_allclose(maps[row], expected[row], rtol=tolerance, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(maps[3]), np.isnan(expected[3]))
    apart = (maps[3] - expected[3] + 90) % 180 - 90
    assert np.nanmax(np.abs(apart)) < 0.01
