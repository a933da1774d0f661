from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct import Volumes, project_enface

ALL = ("aip", "mip", "ret", "ori", "biref")


def constant(value: float, shape: tuple[int, int, int] = (2, 3, 30)) -> Volumes:
    return Volumes(*(np.full(shape, value, np.float32) for _ in range(3)))


def random_volumes(seed: int, shape: tuple[int, int, int], *, bad: float = 0.0) -> Volumes:
    rng = np.random.default_rng(seed)
    arrays = []
    for low, high in ((-10, 80), (0, 90), (-90, 90)):
        volume = rng.uniform(low, high, shape).astype(np.float32)
        volume[rng.random(shape) < bad] = np.nan
        arrays.append(volume)
    arrays[1][rng.random(shape) < 0.02] = 0
    return Volumes(*arrays)


def literal_maps(
    v: Volumes, surface: np.ndarray, *, offset: int, depth: int, dz: float, wavelength: float
) -> dict[str, np.ndarray]:
    """The maps A-line by A-line."""
    maps = {name: np.full(surface.shape, np.nan) for name in ALL}
    nz = v.dbi.shape[2]
    for x, y in np.ndindex(*surface.shape):
        z1 = min(nz, max(1, int(surface[x, y]) + offset))
        z2 = min(nz, z1 + depth)
        dbi, r3d, o3d = (a[x, y, z1 - 1 : z2].astype(float) for a in (v.dbi, v.r3d, v.o3d))
        for name, line, summary in (
            ("aip", dbi, np.mean),
            ("mip", dbi, np.max),
            ("ret", r3d, np.mean),
        ):
            if not np.isnan(line).all():
                maps[name][x, y] = summary(line[~np.isnan(line)])
        angle = 2 * np.deg2rad(o3d)
        maps["ori"][x, y] = 0.5 * np.rad2deg(np.arctan2(np.sin(angle).sum(), np.cos(angle).sum()))
        zeros = np.flatnonzero(r3d == 0)
        if zeros.size:
            r3d = r3d[: zeros[0] + 1]
        path = r3d / 360 * wavelength
        if path.size < 3 or (path == 0).all():
            maps["biref"][x, y] = 0
        elif not np.isnan(path).any():
            maps["biref"][x, y] = np.polyfit(dz * np.arange(path.size), path, 1)[0]
    return maps


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 30)),
    offset=st.integers(-40, 40),
    depth=st.integers(1, 40),
    bad=st.sampled_from([0.0, 0.01, 0.5]),
    order=st.sampled_from("CF"),
)
def test_equals_the_literal_maps(
    seed: int, shape: tuple[int, int, int], offset: int, depth: int, bad: float, order: str
) -> None:
    volumes = random_volumes(seed, shape, bad=bad)
    surface = np.random.default_rng(seed).integers(1, shape[2] + 1, shape[:2]).astype(float)
    expected = literal_maps(volumes, surface, offset=offset, depth=depth, dz=2.5, wavelength=1.3)
    ordered = Volumes(
        *(np.asarray(a, order=order) for a in (volumes.dbi, volumes.r3d, volumes.o3d))
    )
    found = project_enface(ordered, surface, offset_px=offset, depth_px=depth)
    assert list(found) == list(ALL)
    for name, image in found.items():
        assert image.dtype == np.float32
        if name == "ori":
            turns = np.nan_to_num(np.round((image - expected[name]) / 180))
            image = image - 180 * turns
        tolerance = {"biref": 1e-7}.get(name, 1e-3)
        np.testing.assert_allclose(image, expected[name], rtol=1e-5, atol=tolerance)


def test_window_includes_both_ends() -> None:
    # 1-based surface 4, depth 5: samples 4 to 9, which are the 0-based 3 to 8.
    volumes = constant(0.0)
    for z, value in ((2, 1e3), (3, 1.0), (8, 5.0), (9, 1e3)):
        volumes.dbi[:, :, z] = value
    maps = project_enface(volumes, np.full((2, 3), 4.0), depth_px=5, modalities=("aip", "mip"))
    np.testing.assert_allclose(maps["aip"], 6.0 / 6)
    np.testing.assert_array_equal(maps["mip"], 5)


def test_window_is_clamped_at_both_ends_of_the_volume() -> None:
    volumes = constant(0.0)
    volumes.dbi[:] = np.arange(1, 31)
    surface = np.full((2, 3), 30.0)
    assert (project_enface(volumes, surface, offset_px=99)["aip"] == 30).all()
    assert (project_enface(volumes, surface, offset_px=-99, depth_px=2)["aip"] == 2).all()
    assert (project_enface(volumes, surface + 50)["mip"] == 30).all()
    assert (project_enface(volumes, surface - 29, depth_px=10**12)["aip"] == 15.5).all()
    halves = project_enface(volumes, np.full((2, 3), 2.5), depth_px=2)
    assert (halves["aip"] == 4).all()  # 3, 4, 5: a half is rounded away from zero


def test_plain_mean_of_orientation_omits_nan() -> None:
    volumes = constant(0.0, (1, 2, 3))
    volumes.o3d[0, 0] = [85, -85, np.nan]
    volumes.o3d[0, 1] = np.nan
    for method in ("mean", "legacy"):
        found = project_enface(volumes, np.ones((1, 2)), modalities=["ori"], ori_method=method)[
            "ori"
        ]
        np.testing.assert_array_equal(found, [[0, np.nan]])


def test_default_depth_is_81_samples() -> None:
    volumes = constant(0.0, (1, 1, 200))
    volumes.dbi[0, 0, 80] = 81
    volumes.dbi[0, 0, 81] = 1e6
    assert project_enface(volumes, np.ones((1, 1)))["aip"][0, 0] == 1


def test_nan_rules() -> None:
    volumes = constant(7.0)
    for volume in (volumes.dbi, volumes.r3d, volumes.o3d):
        volume[0, :, 5] = np.nan
        volume[1, 0, :] = np.nan
    maps = project_enface(volumes, np.ones((2, 3)))
    for name in ("aip", "mip", "ret"):
        np.testing.assert_array_equal(maps[name][0], 7)
        assert np.isnan(maps[name][1, 0])
        np.testing.assert_array_equal(maps[name][1, 1:], 7)
    for name in ("ori", "biref"):
        assert np.isnan(maps[name][0]).all()
        assert np.isnan(maps[name][1, 0])
        assert np.isfinite(maps[name][1, 1:]).all()


def test_circular_mean_crosses_the_ends_of_the_range() -> None:
    volumes = constant(0.0, (1, 2, 2))
    volumes.o3d[0, 0] = [85, -85]
    volumes.o3d[0, 1] = [-90, -90]
    ori = project_enface(volumes, np.ones((1, 2)), modalities=["ori"])["ori"]
    np.testing.assert_array_equal(np.abs(ori), 90)
    assert (ori == 90).all()


@given(dn=st.floats(1e-5, 3e-4), start=st.floats(0.5, 3.0), wavelength=st.sampled_from([1.3, 0.84]))
def test_birefringence_of_a_straight_rise(dn: float, start: float, wavelength: float) -> None:
    volumes = constant(0.0, (1, 1, 100))
    volumes.r3d[0, 0] = start + dn * 2.5 * np.arange(100) / wavelength * 360
    found = project_enface(volumes, np.ones((1, 1)), wavelength_um=wavelength)["biref"]
    assert found[0, 0] == pytest.approx(dn, rel=1e-4)


def test_birefringence_stops_at_a_zero_and_needs_three_samples() -> None:
    volumes = constant(0.0, (1, 5, 20))
    rise = np.arange(1, 21, dtype=np.float32)
    volumes.r3d[0, :4] = rise
    volumes.r3d[0, 1, 1] = 0  # two samples are left, the zero included
    volumes.r3d[0, 2, 2] = 0  # 1, 2, 0 are left
    volumes.r3d[0, 3, 4:] = [0, *[np.nan] * 15]  # what follows the zero does not count
    biref = project_enface(volumes, np.ones((1, 5)), wavelength_um=360, dz_um=1)["biref"][0]
    np.testing.assert_allclose(biref, [1, 0, -0.5, 0, 0], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_each_map_is_independent_of_the_others(name: str) -> None:
    volumes = random_volumes(5, (4, 5, 40))
    surface = np.full((4, 5), 3.0)
    together = project_enface(volumes, surface, depth_px=10)
    alone = project_enface(volumes, surface, depth_px=10, modalities=(name,), biref_method="")
    assert list(alone) == [name]
    np.testing.assert_array_equal(alone[name], together[name])
    assert project_enface(volumes, surface, modalities=()) == {}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"modalities": ("aip", "qc")}, ["modality 'qc'", "aip, mip, ret, ori, biref, mus"]),
        ({"modalities": "aip"}, ["'aip'", "list"]),
        ({"ori_method": "legay"}, ["ori_method 'legay'", "circularMean"]),
        ({"biref_method": "slope"}, ["biref_method 'slope'", "accepted: legacy, fft, unwrap_old"]),
        ({"offset_px": 0.5}, ["offset_px is 0.5", "whole number"]),
        ({"depth_px": 70.5}, ["depth_px is 70.5", "whole number"]),
        ({"depth_px": 0}, ["depth_px is 0", "at least 1"]),
        ({"depth_px": float("inf")}, ["depth_px is inf"]),
        ({"dz_um": 0}, ["dz_um is 0", "positive"]),
        ({"wavelength_um": float("nan")}, ["wavelength_um is nan", "positive"]),
    ],
)
def test_unusable_options(options: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        project_enface(constant(1.0), np.ones((2, 3)), **options)
    for part in parts:
        assert part in str(caught.value)


def test_arrays_that_do_not_belong_together() -> None:
    volumes = constant(1.0)
    with pytest.raises(CorruptInputError, match=r"surface has shape \(3, 2\); expected \(2, 3\)"):
        project_enface(volumes, np.ones((3, 2)))
    with pytest.raises(CorruptInputError, match="2 values that are not finite"):
        project_enface(volumes, np.array([[1, 1, 1], [1, np.nan, np.inf]]))
    with pytest.raises(CorruptInputError, match="the same"):
        project_enface(Volumes(volumes.dbi, volumes.r3d[1:], volumes.o3d), np.ones((2, 3)))
