import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct import spectral_to_jones, stack_jones, unstack_jones

from . import phantom


def noise(seed: int, shape: tuple[int, ...], top: int = 65535) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape, dtype=np.uint16, endpoint=True)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    alines=st.integers(1, 9),
    blines=st.integers(1, 3),
    samples=st.sampled_from([50, 64, 130, 256]),
    quirks=st.booleans(),
    dispersion=st.booleans(),
)
def test_equals_the_literal_steps(
    seed: int, alines: int, blines: int, samples: int, quirks: bool, dispersion: bool
) -> None:
    cal = phantom.calibration(samples, dispersion=dispersion)
    spectra = noise(seed, (blines, 2, alines, samples))
    expected = phantom.literal_jones(spectra, cal, toolbox_quirks=quirks)
    found = spectral_to_jones(spectra, cal, precision="double", toolbox_quirks=quirks)
    single = spectral_to_jones(spectra, cal, precision="single", toolbox_quirks=quirks)
    for jones, jones32, truth in zip(found, single, expected, strict=True):
        assert jones.shape == truth.shape == (alines, blines, samples // 2 - 24)
        assert jones.dtype == np.complex128
        assert jones32.dtype == np.complex64
        scale = 65535 * samples
        np.testing.assert_allclose(jones, truth, rtol=0, atol=1e-12 * scale)
        np.testing.assert_allclose(jones32, truth, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("alines", [64, 63])
def test_reflector_appears_at_its_depth_with_its_angle(alines: int) -> None:
    cal = phantom.calibration(512)
    angle = 2 * np.pi * np.arange(alines) / alines
    jones = np.exp(1j * angle)[:, None] * np.ones((1, 2))
    spectra = phantom.reflector(cal, 0.8 * jones, 0.5 * jones, depth_bin=30)
    for found, amplitude in zip(spectral_to_jones(spectra, cal), (0.8, 0.5), strict=True):
        assert (np.abs(found).argmax(axis=2) == 30 - 24).all()
        peak = found[:, :, 30 - 24] / (2000 * 512 / 2)
        # Linear interpolation costs about 1 % of the amplitude here, more at greater delay.
        np.testing.assert_allclose(peak, amplitude * jones, atol=0.02)


def test_single_precision_holds_on_high_counts() -> None:
    cal = phantom.calibration(512)
    quiet = noise(1, (2, 2, 20, 512), 15) + np.uint16(65000)
    exact = spectral_to_jones(quiet, cal, precision="double")
    rounded = spectral_to_jones(quiet, cal)
    for double, single in zip(exact, rounded, strict=True):
        assert np.abs(double - single).max() <= 1e-6 * np.abs(double).max()


def test_background_and_single_aline_vanish() -> None:
    cal = phantom.calibration(128)
    spectra = np.broadcast_to(noise(2, (3, 2, 1, 128)), (3, 2, 7, 128))
    for some in (spectra, spectra[:, :, :1]):
        for jones in spectral_to_jones(some, cal):
            np.testing.assert_array_equal(jones, 0)


def test_odd_number_of_samples_works_but_not_with_quirks() -> None:
    cal = phantom.calibration(129)
    spectra = noise(3, (1, 2, 4, 129))
    assert spectral_to_jones(spectra, cal)[0].shape == (4, 1, 40)
    with pytest.raises(ConfigError, match="even number of spectral samples, found 129"):
        spectral_to_jones(spectra, cal, toolbox_quirks=True)


def test_unusable_arguments() -> None:
    cal = phantom.calibration(128)
    spectra = noise(4, (1, 2, 4, 128))
    with pytest.raises(ConfigError, match=r"precision 'half' is unknown; accepted: single, double"):
        spectral_to_jones(spectra, cal, precision="half")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"spectra of 48 samples give no depth"):
        spectral_to_jones(spectra[..., :48], cal)
    with pytest.raises(CorruptInputError, match=r"128 values; expected 64"):
        spectral_to_jones(spectra[..., :64], cal)
    for bad in (spectra[0], spectra[:, :1], spectra[:0]):
        with pytest.raises(CorruptInputError, match=r"expected \(Y, 2, X, N\)"):
            spectral_to_jones(bad, cal)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    order=st.sampled_from("CF"),
)
def test_stack_and_unstack_are_inverse(seed: int, shape: tuple[int, int, int], order: str) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(4, *shape)).astype(np.float32)
    jones1 = np.asarray(parts[0] + 1j * parts[1], order=order)
    jones2 = np.asarray(parts[2] + 1j * parts[3], order=order)
    stack = stack_jones(jones1, jones2)
    assert stack.dtype == np.float32
    assert stack.flags.f_contiguous
    np.testing.assert_array_equal(stack, np.concatenate(list(parts), axis=0))
    back1, back2 = unstack_jones(stack)
    assert back1.dtype == np.complex64
    np.testing.assert_array_equal(back1, jones1)
    np.testing.assert_array_equal(back2, jones2)


def test_unstack_keeps_double_and_nan() -> None:
    stack = np.zeros((4, 1, 3))
    stack[0, 0, 1] = np.nan
    jones1, jones2 = unstack_jones(stack)
    assert jones1.dtype == jones2.dtype == np.complex128
    assert np.isnan(jones1[0, 0]).tolist() == [False, True, False]
    assert jones1[0, 0, 1].imag == 0
    np.testing.assert_array_equal(jones2, 0)


@pytest.mark.parametrize("shape", [(5, 2, 2), (4, 2), (0, 2, 2)])
def test_stack_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(CorruptInputError, match=r"expected real \(4X, Y, Z\)"):
        unstack_jones(np.zeros(shape, np.float32))


def test_components_of_different_shape() -> None:
    with pytest.raises(CorruptInputError, match=r"\(2, 2, 2\) and \(2, 2, 3\)"):
        stack_jones(np.zeros((2, 2, 2), complex), np.zeros((2, 2, 3), complex))
