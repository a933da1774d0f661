from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.psoct import TileSettings, find_surface, process_jones
from opticstream_smk.psoct.surface import clamped_surface


def literal_surface(
    dbi: np.ndarray,
    w: int = 5,
    w2: int = 5,
    *,
    n: int | None = None,
    threshold: float = 55,
) -> np.ndarray:
    """The method A-line by A-line; with `n` that of gradientThreshold."""
    kernel = np.exp(-(np.arange(-10, 11) ** 2) / (2 * 5.0**2))
    kernel /= kernel.sum()
    surface = np.ones(dbi.shape[:2])
    for x, y in np.ndindex(*surface.shape):
        line = dbi[x, y].astype(float)
        length = int((line > 0.01).sum())
        if n is not None and length and line[: min(n, length)].mean() >= threshold:
            surface[x, y] = int(np.flatnonzero(line[:length] >= threshold)[0]) + 1
        elif length > w + w2:
            smooth = np.convolve(np.pad(line[:length], 10, mode="edge"), kernel, mode="valid")
            rise = [
                smooth[k + w : k + w + w2].mean() - smooth[k : k + w].mean()
                for k in range(length - w - w2 + 1)
            ]
            surface[x, y] = int(np.argmax(rise)) + 1 + w
    return median_filter(surface, size=3, mode="reflect")


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 60)),
    level=st.floats(-5, 20),
    args=st.sampled_from([(), (7, 7), (3,), (4, 6)]),
)
def test_equals_the_literal_method(
    seed: int, shape: tuple[int, int, int], level: float, args: tuple[int, ...]
) -> None:
    dbi = np.random.default_rng(seed).normal(level, 5, shape).astype(np.float32)
    expected = np.clip(literal_surface(dbi, *args), 1, shape[2])
    np.testing.assert_array_equal(find_surface(dbi, args=args), expected)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 60)),
    level=st.floats(-5, 60),
    args=st.sampled_from([(), (5,), (7, 30), (20, 12.5, 3), (100, 4, 4, 6)]),
    bad=st.sampled_from([0.0, 0.02]),
)
def test_threshold_equals_the_literal_method(
    seed: int,
    shape: tuple[int, int, int],
    level: float,
    args: tuple[float, ...],
    bad: float,
) -> None:
    rng = np.random.default_rng(seed)
    dbi = rng.normal(level, 5, shape).astype(np.float32)
    dbi[rng.random(shape) < bad] = -np.inf  # below everything, and not NaN: dBI never is
    dbi = np.maximum(dbi, -69.24)
    n, threshold, *lengths = (*args, *(20, 55)[len(args) :])
    expected = literal_surface(dbi, *lengths, n=n, threshold=threshold)
    found = find_surface(dbi, "gradientThreshold", args)
    np.testing.assert_array_equal(found, np.clip(expected, 1, shape[2]))


def test_bright_start_is_the_surface_with_threshold_only() -> None:
    # Tissue from sample 4 on, and a brighter layer from sample 81 on.
    dbi = np.full((4, 4, 200), 60.0, np.float32)
    dbi[:, :, :3] = 45
    dbi[:, :, 80:] = 90
    np.testing.assert_array_equal(find_surface(dbi, "gradient"), 81)
    np.testing.assert_array_equal(find_surface(dbi, "gradientThreshold "), 4)
    # The first 20 samples have a mean of 57.75.
    np.testing.assert_array_equal(find_surface(dbi, "gradientThreshold", (20, 58)), 81)
    np.testing.assert_array_equal(find_surface(np.zeros_like(dbi), "gradientThreshold"), 1)


@pytest.mark.parametrize(("spec", "index"), [(7, 7), ("7", 7), (" 7 ", 7), (99, 50), ("0", 1)])
def test_constant(spec: int | str, index: int) -> None:
    surface = find_surface(np.zeros((3, 2, 50), np.float32), spec)
    assert surface.shape == (3, 2)
    assert surface.dtype == np.float64
    np.testing.assert_array_equal(surface, index)


def saved(path: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.mark.parametrize("name", ["surf.nii", "surf.nii.gz"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_file_is_taken_as_it_is(tmp_path: Path, name: str, dtype: type) -> None:
    dbi = np.zeros((3, 4, 50), np.float32)
    values = np.arange(1, 13).reshape(3, 4).astype(dtype)
    for shape in ((3, 4), (3, 4, 1)):
        path = saved(tmp_path / name, values.reshape(shape))
        for spec in (path, str(path)):
            np.testing.assert_array_equal(find_surface(dbi, spec), values)
    settings = TileSettings(surface_spec=str(path))
    products = process_jones(np.ones((3, 4, 50), complex), np.ones((3, 4, 50), complex), settings)
    np.testing.assert_array_equal(products.surface, values)


def test_file_is_rounded_and_clamped(tmp_path: Path) -> None:
    path = saved(tmp_path / "surf.nii", np.array([[0.2, 1.5], [2.5, 99.0]]))
    surface = find_surface(np.zeros((2, 2, 10), np.float32), path)
    np.testing.assert_array_equal(surface, [[1, 2], [3, 10]])


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 2), (12,)])
def test_file_of_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = saved(tmp_path / "surf.nii", np.ones(shape))
    with pytest.raises(CorruptInputError) as caught:
        find_surface(np.zeros((3, 4, 50), np.float32), path)
    for part in (str(path), str(shape)[:-1], "expected (3, 4)"):
        assert part in str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    dbi = np.zeros((2, 2, 10), np.float32)
    missing = tmp_path / "no.nii"
    for use in (lambda: find_surface(dbi, missing), lambda: TileSettings(surface_spec=missing)):
        with pytest.raises(IncompleteInputError, match=r"no\.nii not found"):
            use()
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"not NIfTI")
    with pytest.raises(CorruptInputError, match=r"broken\.nii cannot be read as NIfTI"):
        find_surface(dbi, broken)
    holes = saved(tmp_path / "holes.nii", np.array([[1.0, np.nan], [1, 1]]))
    with pytest.raises(CorruptInputError, match=r"holes\.nii has 1 values that are not finite"):
        find_surface(dbi, holes)
    with pytest.raises(ConfigError, match="a file takes none"):
        find_surface(dbi, holes, (5, 5))


@pytest.mark.parametrize("spec", ["gradient", "gradient ", " find", "find"])
def test_step_is_found_at_its_one_based_index(spec: str) -> None:
    # 0-based samples 40.. are tissue: the first of them is number 41.
    dbi = np.full((6, 5, 200), 10.0, np.float32)
    dbi[:, :, 40:] = 60
    surface = find_surface(dbi, spec)
    assert surface.dtype == np.float64
    np.testing.assert_array_equal(surface, 41)


def test_lines_without_signal_give_one() -> None:
    dbi = np.full((5, 5, 100), -69.2, np.float32)
    np.testing.assert_array_equal(find_surface(dbi), 1)
    np.testing.assert_array_equal(find_surface(np.full_like(dbi, np.nan)), 1)
    np.testing.assert_array_equal(find_surface(np.zeros_like(dbi)), 1)
    # Ten samples above the threshold do not exceed the two windows of five.
    dbi[:, :, 50:60] = 60
    np.testing.assert_array_equal(find_surface(dbi), 1)


def test_counted_samples_limit_the_search_from_the_start() -> None:
    # 60 samples are above the threshold, so only the first 60 are searched, although the
    # strongest edge lies behind them.
    dbi = np.full((3, 3, 200), -20.0, np.float32)
    dbi[:, :, 30:60] = 5
    dbi[:, :, 120:150] = 80
    np.testing.assert_array_equal(find_surface(dbi), 31)


def test_one_odd_line_is_replaced_by_its_neighbours() -> None:
    dbi = np.full((5, 5, 100), 10.0, np.float32)
    dbi[:, :, 40:] = 60
    dbi[2, 2] = np.nan
    np.testing.assert_array_equal(find_surface(dbi), 41)


def test_nan_in_a_line_is_passed_over() -> None:
    dbi = np.full((3, 3, 200), 10.0, np.float32)
    dbi[:, :, 60:] = 60
    dbi[:, :, 100] = np.nan
    np.testing.assert_array_equal(find_surface(dbi), 61)


def test_rounding_is_half_away_from_zero_and_clamped() -> None:
    values = np.array([[0.2, 1.5, 2.5, 3.4999, 99.0]])
    np.testing.assert_array_equal(clamped_surface(values, 10), [[1, 2, 3, 3, 10]])


def test_unusable_arguments(tmp_path: Path) -> None:
    dbi = np.zeros((2, 2, 50), np.float32)
    with pytest.raises(ConfigError) as caught:
        find_surface(dbi, "edges")
    for part in ("surface 'edges' is unknown", "gradient, find, gradientThreshold", ".nii.gz"):
        assert part in str(caught.value)
    for spec in ("7.5", True, tmp_path / "surf.tif"):
        with pytest.raises(ConfigError, match="is unknown"):
            find_surface(dbi, spec)
    with pytest.raises(ConfigError, match=r"arguments \(5,\); a constant takes none"):
        find_surface(dbi, 7, (5,))
    for args in ((1, 2, 3, 4, 5), (2.5,), (0, 55), (20, float("nan")), (20, 55, 2.5)):
        with pytest.raises(ConfigError, match=r"expected up to 4 numbers \(n, threshold"):
            find_surface(dbi, "gradientThreshold", args)
    for args in ((5, 5, 5), (2.5,), (0,), (float("nan"),)):
        with pytest.raises(ConfigError, match=r"arguments .* positive whole numbers"):
            find_surface(dbi, args=args)
    with pytest.raises(CorruptInputError, match=r"\(2, 2\); expected \(X, Y, Z\)"):
        find_surface(dbi[:, :, 0])
