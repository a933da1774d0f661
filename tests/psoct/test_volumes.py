import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct import Volumes, jones_to_volumes

FLOOR_DBI = 10 * np.log10(2.0**-23)


def voxel(jones1: complex, jones2: complex, *, quirks: bool) -> list[float]:
    """dBI, R3D, O3D of one voxel, default options."""
    v = jones_to_volumes(
        np.full((1, 1, 1), jones1), np.full((1, 1, 1), jones2), toolbox_quirks=quirks
    )
    return [float(v.dbi[0, 0, 0]), float(v.r3d[0, 0, 0]), float(v.o3d[0, 0, 0])]


@given(
    retardance=st.floats(0.5, 89.5),
    orientation=st.floats(-90, 90, exclude_min=True),
    common=st.floats(-180, 180),
    amplitude=st.floats(0.1, 1e5),
    offset=st.floats(-720, 720),
    flip=st.booleans(),
    dtype=st.sampled_from([np.complex64, np.complex128]),
)
def test_recovers_retardance_and_orientation(
    retardance: float,
    orientation: float,
    common: float,
    amplitude: float,
    offset: float,
    flip: bool,
    dtype: type,
) -> None:
    delta = np.deg2rad(retardance)
    phase = np.deg2rad(2 * (orientation - offset)) * (-1 if flip else 1)
    carrier = amplitude * np.exp(1j * np.deg2rad(common))
    v = jones_to_volumes(
        np.full((1, 1, 1), carrier * np.sin(delta) * np.exp(1j * phase), dtype),
        np.full((1, 1, 1), carrier * np.cos(delta), dtype),
        flip_phase=flip,
        phase_offset_deg=offset,
    )
    assert v.dbi[0, 0, 0] == pytest.approx(20 * np.log10(amplitude), abs=1e-3)
    assert v.r3d[0, 0, 0] == pytest.approx(retardance, abs=1e-3)
    off = (v.o3d[0, 0, 0] - orientation + 90) % 180 - 90
    assert off == pytest.approx(0, abs=2e-3)
    assert -90 < v.o3d[0, 0, 0] <= 90


@settings(max_examples=300)
@given(
    jones=st.lists(
        st.sampled_from([1, -1, 1j, -1j, -1 + 1e-7j, -1 - 1e-7j, 1e-7j - 1e-7, -0.0, 0]),
        min_size=2,
        max_size=2,
    ),
    offset=st.sampled_from([0.0, 90.0, -90.0, 45.0, 180.0, 90 - 1e-6, 90 + 1e-6, 100.0]),
    dtype=st.sampled_from([np.complex64, np.complex128]),
)
def test_clean_orientation_stays_in_its_half_open_range(
    jones: list[complex], offset: float, dtype: type
) -> None:
    first, second = (np.full((1, 1, 1), value, dtype) for value in jones)
    o3d = jones_to_volumes(first, second, phase_offset_deg=offset).o3d
    assert -90 < o3d[0, 0, 0] <= 90


def test_toolbox_wraps_once_and_adds_the_offset_after_the_flip() -> None:
    first = np.full((1, 1, 1), np.exp(1j * 3.0))
    second = np.full((1, 1, 1), np.exp(-1j * 3.0))
    degrees = np.rad2deg(3.0)
    once = jones_to_volumes(first, second, toolbox_quirks=True).o3d[0, 0, 0]
    assert once == pytest.approx(degrees + 100 - 180, abs=1e-3)
    assert once > 90
    full = jones_to_volumes(first, second).o3d[0, 0, 0]
    assert full == pytest.approx(degrees + 100 - 360, abs=1e-3)
    flipped = jones_to_volumes(first, second, flip_phase=True, toolbox_quirks=True).o3d[0, 0, 0]
    assert flipped == pytest.approx(-degrees + 100, abs=1e-3)


def test_zero_and_missing_components() -> None:
    for quirks in (True, False):
        assert voxel(0, 0, quirks=quirks) == pytest.approx([FLOOR_DBI, 0, -80], abs=1e-4)
        assert voxel(3, 0, quirks=quirks) == pytest.approx([20 * np.log10(3), 90, -80], abs=1e-4)
        assert voxel(0, 3, quirks=quirks) == pytest.approx([20 * np.log10(3), 0, -80], abs=1e-4)


@pytest.mark.parametrize(
    ("jones", "toolbox_r3d"),
    [((np.nan, 1), np.nan), ((1, np.nan), 90), ((0, np.nan), 0), ((np.nan, np.nan), np.nan)],
)
def test_nan(jones: tuple[complex, complex], toolbox_r3d: float) -> None:
    expected = [FLOOR_DBI, toolbox_r3d, np.nan]
    np.testing.assert_allclose(voxel(*jones, quirks=True), expected, atol=1e-4)
    np.testing.assert_array_equal(voxel(*jones, quirks=False), np.nan)


def test_depth_is_reversed_on_request_only() -> None:
    rng = np.random.default_rng(0)
    shape = (3, 4, 5)
    first, second = rng.normal(size=(2, *shape)) + 1j * rng.normal(size=(2, *shape))
    turned, straight = (jones_to_volumes(first, second, flip_z=flip) for flip in (True, False))
    for name in ("dbi", "r3d", "o3d"):
        volume = getattr(turned, name)
        assert volume.dtype == np.float32
        assert volume.flags.f_contiguous
        np.testing.assert_array_equal(volume[:, :, ::-1], getattr(straight, name))
    np.testing.assert_allclose(
        straight.dbi, 10 * np.log10(np.abs(first) ** 2 + np.abs(second) ** 2), atol=1e-4
    )


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_and_input_do_not_matter(order: str) -> None:
    rng = np.random.default_rng(1)
    jones = (rng.normal(size=(2, 7, 3, 33)) + 1j * rng.normal(size=(2, 7, 3, 33))).astype(
        np.complex64
    )
    before = jones.copy()
    expected = jones_to_volumes(jones[0], jones[1])
    found = jones_to_volumes(*(np.asarray(part, order=order) for part in jones))
    np.testing.assert_array_equal(found.o3d, expected.o3d)
    np.testing.assert_array_equal(found.dbi, expected.dbi)
    np.testing.assert_array_equal(jones, before)


def test_shapes_that_differ() -> None:
    with pytest.raises(CorruptInputError, match=r"\(1, 2, 3\) and \(1, 2, 4\)"):
        jones_to_volumes(np.zeros((1, 2, 3), complex), np.zeros((1, 2, 4), complex))
    assert Volumes.empty((1, 2, 3)).dbi.shape == (1, 2, 3)


def test_z_order_tells_how_the_components_are_stored() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 4, 5)) + 1j * rng.normal(size=(2, 3, 4, 5))
    for flip_z in (True, False):
        raw = jones_to_volumes(first, second, flip_z=flip_z)
        flipped = jones_to_volumes(
            first[:, :, ::-1], second[:, :, ::-1], flip_z=flip_z, z_order="flipped"
        )
        np.testing.assert_array_equal(flipped.dbi, raw.dbi)
        np.testing.assert_array_equal(flipped.o3d, raw.o3d)
    with pytest.raises(ConfigError, match="complex_z_order 'up' is unknown; accepted: raw, flip"):
        jones_to_volumes(first, second, z_order="up")
