import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct import find_surface
from opticstream_smk.psoct.surface import clamped_surface


def literal_surface(dbi: np.ndarray, w: int = 5, w2: int = 5) -> np.ndarray:
    """The method A-line by A-line."""
    kernel = np.exp(-(np.arange(-10, 11) ** 2) / (2 * 5.0**2))
    kernel /= kernel.sum()
    surface = np.ones(dbi.shape[:2])
    for x, y in np.ndindex(*surface.shape):
        line = dbi[x, y].astype(float)
        length = int((line > 0.01).sum())
        if length > w + w2:
            smooth = np.convolve(np.pad(line[:length], 10, mode="edge"), kernel, mode="valid")
            rise = [
                smooth[k + w : k + w + w2].mean() - smooth[k : k + w].mean()
                for k in range(length - w - w2 + 1)
            ]
            surface[x, y] = int(np.argmax(rise)) + 1 + w
    return median_filter(surface, size=3, mode="reflect")


@settings(deadline=None, max_examples=40)
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


def test_unusable_arguments() -> None:
    dbi = np.zeros((2, 2, 50), np.float32)
    with pytest.raises(ConfigError, match=r"surface 'edges' is unknown; accepted: gradient, find"):
        find_surface(dbi, "edges")
    for args in ((5, 5, 5), (2.5,), (0,), (float("nan"),)):
        with pytest.raises(ConfigError, match=r"arguments .* positive whole numbers"):
            find_surface(dbi, args=args)
    with pytest.raises(CorruptInputError, match=r"\(2, 2\); expected \(X, Y, Z\)"):
        find_surface(dbi[:, :, 0])
