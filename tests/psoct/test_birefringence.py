import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from opticstream_smk.psoct import Volumes, birefringence, project_enface

SIGMA = {"unwrap_old": (1, 1, 5), "unwrap_new": (3, 3, 10), "unwrap_exp": (1, 1, 5)}
DZ, WAVELENGTH = 2.5, 1.3


def tissue(seed: int, shape: tuple[int, int, int], *, bad: float = 0.0) -> Volumes:
    """Retardance that folds at 0 and 90 degrees, with noise."""
    rng = np.random.default_rng(seed)
    z = np.arange(shape[2])
    rise = rng.uniform(0.2, 3, shape[:2])[:, :, None]
    angle = (rise * z + rng.normal(0, 4, shape)) % 180
    r3d = np.minimum(angle, 180 - angle).astype(np.float32)
    o3d = rng.uniform(-90, 90, shape[:2])[:, :, None] + rng.normal(0, 5, shape)
    r3d[rng.random(shape) < bad] = np.nan
    r3d[rng.random(shape) < bad] = 0
    return Volumes(np.zeros(shape, np.float32), r3d, o3d.astype(np.float32))


def line_slope(line: np.ndarray, step: float) -> float:
    if line.size < 2:
        return 0.0
    x = step * np.arange(line.size)
    return float(((x - x.mean()) * line).sum() / ((x - x.mean()) ** 2).sum())


def literal_fft(r: np.ndarray, depth: int) -> float:
    zeros = np.flatnonzero(r == 0)
    if zeros.size:
        r = r[: zeros[0] + 1]
    n = r.size
    if n > 1:
        bins = np.fft.fft(r)
        k = 1 + int(np.argmax(np.abs(bins[1 : n // 2 + 1]) ** 2))
        if k / n <= 0.01:
            one = np.zeros(n, complex)
            one[k] = bins[k]
            amplitude = 2 * abs(bins[k]) / n
            u = 2 * np.pi * k * np.arange(n) / n + np.angle(bins[k]) + np.pi / 2
            s = np.where(np.cos(u) >= 0, amplitude * np.sin(u), amplitude * (2 - np.sin(u)))
            s += 4 * amplitude * np.floor((u + np.pi / 2) / (2 * np.pi))
            r = r - np.fft.ifft(one).real + s
    r = r[:depth]
    path = r / 360 * WAVELENGTH
    return 0.0 if path.size < 3 or (path == 0).all() else line_slope(path, DZ)


def prctile(values: np.ndarray, p: float) -> float:
    values = values[~np.isnan(values)]
    return float(np.percentile(values, p, method="hazen")) if values.size else math.nan


def literal_unwrap(method: str, v: Volumes, surface: np.ndarray, depth: int) -> np.ndarray:
    """The maps A-line by A-line, from volumes smoothed whole."""
    r, o = np.deg2rad(v.r3d.astype(float)), np.deg2rad(v.o3d.astype(float))
    sigma = SIGMA[method]
    radius = [math.ceil(2 * s) for s in sigma]
    q, u, c = (
        gaussian_filter(part, sigma, radius=radius, mode="nearest")
        for part in (np.sin(2 * o) * np.sin(2 * r), np.cos(2 * o) * np.sin(2 * r), np.cos(2 * r))
    )
    norm = np.sqrt(q**2 + u**2 + c**2) + 2.2e-16
    cosine, raw = c / norm, np.cos(2 * r) / norm
    result = np.zeros(surface.shape)
    for x, y in np.ndindex(*surface.shape):
        some = slice(int(surface[x, y]) - 1, int(surface[x, y]) + depth)
        angle = np.arccos(np.clip(cosine[x, y, some], -1, 1)) / 2
        if method == "unwrap_exp":
            d = np.diff(angle)
            line = np.arccos(np.clip(raw[x, y, some], -1, 1)) / 2
            line[1:] += np.abs(d) - d
        elif not np.isnan(angle).all() and np.nanmean(angle - prctile(angle, 1)) < np.pi / 8:
            line = angle
        else:
            line = np.concatenate([angle[:1], angle[0] + np.cumsum(np.abs(np.diff(angle)))])
        path = line / (2 * np.pi) * WAVELENGTH
        if method == "unwrap_new":
            slopes = [abs(line_slope(path[:end] / DZ, 1)) for end in range(40, 80, 5)]
            result[x, y] = prctile(np.array(slopes), 95)
        else:
            result[x, y] = line_slope(path, DZ)
    return result


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([2, 40, 150, 260])),
    depth=st.sampled_from([1, 60, 99, 100, 140, 230]),
    bad=st.sampled_from([0.0, 0.003]),
)
def test_fft_equals_the_literal_method(
    seed: int, shape: tuple[int, int, int], depth: int, bad: float
) -> None:
    v = tissue(seed, shape, bad=bad)
    surface = (
        np.random.default_rng(seed).integers(1, max(2, shape[2] // 4), shape[:2]).astype(float)
    )
    found = project_enface(v, surface, depth_px=depth, modalities=["biref"], biref_method="fft")[
        "biref"
    ]
    for x, y in np.ndindex(*surface.shape):
        window = v.r3d[x, y, int(surface[x, y]) - 1 :][: depth + 1].astype(float)
        expected = literal_fft(window, depth)
        np.testing.assert_allclose(found[x, y], expected, rtol=1e-4, atol=2e-7)


def test_fft_unfolds_a_slow_oscillation() -> None:
    # One period of a triangle in 200 samples: 90 degrees in 100 samples on the way up.
    z = np.arange(200)
    v = Volumes(*(np.zeros((1, 1, 200), np.float32) for _ in range(3)))
    v.r3d[0, 0] = 45 - 44 * np.cos(2 * np.pi * z / 200)
    options = {"depth_px": 199, "modalities": ["biref"]}
    legacy, unfolded = (
        float(project_enface(v, np.ones((1, 1)), biref_method=m, **options)["biref"][0, 0])
        for m in ("legacy", "fft")
    )
    truth = 0.9 / 360 * WAVELENGTH / DZ
    assert abs(legacy) < 0.1 * truth
    assert unfolded == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("method", list(SIGMA))
@pytest.mark.parametrize(
    ("shape", "depth", "bad", "block"),
    [
        ((9, 17, 120), 60, 0.0, 1),
        ((9, 17, 120), 85, 0.0, 4 * 9 * 120),
        ((8, 23, 130), 50, 3e-4, 5 * 8 * 130),
        ((1, 1, 90), 80, 0.0, 2**23),
        ((2, 3, 12), 30, 0.0, 2**23),
    ],
)
def test_unwrapping_equals_the_literal_method(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    shape: tuple[int, int, int],
    depth: int,
    bad: float,
    block: int,
) -> None:
    # Blocks of one or of some B-lines, with a halo, must give what the whole volume gives.
    monkeypatch.setattr(birefringence, "_BLOCK_VOXELS", block)
    v = tissue(4, shape, bad=bad)
    surface = np.random.default_rng(1).integers(1, shape[2] + 1, shape[:2]).astype(float)
    found = project_enface(v, surface, depth_px=depth, modalities=["biref"], biref_method=method)[
        "biref"
    ]
    expected = literal_unwrap(method, v, surface, depth)
    assert np.isnan(expected).any() == (bad > 0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=5e-6 * np.nanmax(expected))


def test_names_of_methods() -> None:
    v = tissue(2, (4, 5, 100))
    surface = np.full((4, 5), 3.0)

    def biref(method: str) -> np.ndarray:
        return project_enface(v, surface, modalities=["biref"], biref_method=method)["biref"]

    np.testing.assert_array_equal(biref("exp"), biref("unwrap_exp"))
    maps = [biref(m) for m in ("legacy", "fft", "unwrap_old", "unwrap_new", "unwrap_exp")]
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert not np.array_equal(one, other)


def test_unwrapping_follows_retardance_beyond_90_degrees() -> None:
    # 2.4 degrees per sample fold once in 37 samples; the fits without unwrapping lose that.
    truth = 2.4 / 360 * WAVELENGTH / DZ
    z = np.arange(120)
    angle = (2.4 * z) % 180
    v = Volumes(*(np.zeros((3, 3, 120), np.float32) for _ in range(3)))
    v.r3d[:] = np.minimum(angle, 180 - angle)
    v.o3d[:] = np.where(angle > 90, 90, 0)  # beyond a half turn the axes change places
    options = {"depth_px": 90, "modalities": ["biref"]}
    for method in ("unwrap_old", "unwrap_new"):
        found = project_enface(v, np.full((3, 3), 10.0), biref_method=method, **options)["biref"]
        np.testing.assert_allclose(found, truth, rtol=0.05)
    legacy = project_enface(v, np.full((3, 3), 10.0), **options)["biref"]
    assert (np.abs(legacy) < 0.5 * truth).all()


@pytest.mark.parametrize("method", ["unwrap_new", "unwrap_exp"])
def test_memory_does_not_grow_with_blines(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(birefringence, "_BLOCK_VOXELS", 8 * 30 * 200)
    peaks = []
    for blines in (40, 80):
        v = tissue(0, (30, blines, 200))
        surface = np.full((30, blines), 50.0)
        project_enface(v, surface, modalities=["biref"], biref_method=method)
        tracemalloc.start()
        project_enface(v, surface, modalities=["biref"], biref_method=method)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.1 * v.r3d[:, :40].nbytes
