import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.io import savemat

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.psoct import (
    Calibration,
    PhaseCalibration,
    TileSettings,
    process_spectral,
    spectral_to_jones,
)

from . import phantom

SAMPLES = 128
U = np.linspace(0, 1, SAMPLES)
DPHASE = 60 * U + 4 * U**2
LIN_PHASE = np.linspace(DPHASE[0], DPHASE[-1], SAMPLES)
DSP_PHASE = 3 * (U - 0.5) ** 2


def files(folder: Path, **changed: Any) -> dict[str, Path]:
    paths = {}
    values = {"dphase": DPHASE, "linPhase": LIN_PHASE, "dspPhase": DSP_PHASE, **changed}
    for name, value in values.items():
        paths[name.lower()] = folder / f"{name}.mat"
        savemat(paths[name.lower()], {name: value})
    return paths


def literal_jones(
    spectra: np.ndarray, dphase: np.ndarray, lin: np.ndarray, phase: np.ndarray, *, flip: bool
) -> list[np.ndarray]:
    """The reconstruction step by step in float64."""
    blines, _, alines, samples = spectra.shape
    depth = samples // 2 - 24
    jones = [np.empty((alines, blines, depth), complex) for _ in range(2)]
    for y in range(blines):
        for channel in range(2):
            block = spectra[y, channel].astype(float).T
            if flip and channel == 1:
                block = block[::-1]
            block = block - block.mean(axis=1, keepdims=True)
            even = interp1d(dphase, block, axis=0, fill_value="extrapolate")(lin)
            even -= np.median(even, axis=1, keepdims=True)
            bins = np.fft.fft(even * np.exp(-1j * phase)[:, None], axis=0)
            jones[channel][:, y] = bins[24 : 24 + depth].conj().T
    return jones


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.sampled_from([64, 115, 128]),
    falling=st.tuples(st.booleans(), st.booleans()),
    beyond=st.floats(-0.05, 0.05),
    flip=st.sampled_from([None, False, True]),
    quirks=st.booleans(),
)
def test_equals_the_literal_steps(
    seed: int,
    samples: int,
    falling: tuple[bool, bool],
    beyond: float,
    flip: bool | None,
    quirks: bool,
) -> None:
    rng = np.random.default_rng(seed)
    spectra = rng.integers(0, 4095, (2, 2, 5, samples), dtype=np.uint16)
    dphase = np.cumsum(rng.uniform(0.1, 1, samples))
    lin = np.linspace(dphase[0] - beyond, dphase[-1] + beyond, samples)
    dphase, lin = (v[::-1] if down else v for v, down in zip((dphase, lin), falling, strict=True))
    phase = rng.normal(size=samples)
    cal = PhaseCalibration(dphase, lin, phase, flip_channel2=flip)
    # There is no padding to be repeated, so quirks change nothing and odd lengths are fine.
    found = spectral_to_jones(spectra, cal, precision="double", toolbox_quirks=quirks)
    expected = literal_jones(spectra, dphase, lin, phase, flip=bool(flip))
    for jones, truth in zip(found, expected, strict=True):
        np.testing.assert_allclose(jones, truth, rtol=0, atol=1e-8 * np.abs(truth).max())


def test_files_give_what_was_saved(tmp_path: Path) -> None:
    paths = files(tmp_path, linPhase=LIN_PHASE[:, None])
    cal = PhaseCalibration.from_files(**paths)
    np.testing.assert_array_equal(cal.dphase, DPHASE)
    np.testing.assert_array_equal(cal.lin_phase, LIN_PHASE)
    np.testing.assert_array_equal(cal.dispersion_rad, DSP_PHASE)
    np.testing.assert_allclose(cal.sampling(SAMPLES).correction[1], np.exp(-1j * DSP_PHASE))
    plain = PhaseCalibration.from_files(paths["dphase"], str(paths["linphase"]))
    np.testing.assert_array_equal(plain.sampling(SAMPLES).correction, 1)
    text = tmp_path / "disp.txt"
    text.write_text("\n".join(f"{value:.17g}" for value in DSP_PHASE))
    other = PhaseCalibration.from_files(paths["dphase"], paths["linphase"], dispersion=text)
    np.testing.assert_array_equal(other.dispersion_rad, DSP_PHASE)


def test_channel_2_is_flipped_by_default_with_wavelengths_only() -> None:
    spectra = np.random.default_rng(0).integers(0, 4000, (1, 2, 5, SAMPLES), dtype=np.uint16)
    turned = spectra.copy()
    turned[:, 1] = spectra[:, 1, :, ::-1]
    base = phantom.calibration(SAMPLES)
    makers = {
        True: lambda flip: Calibration(base.mu, base.wave_prime_nm, flip_channel2=flip),
        False: lambda flip: PhaseCalibration(DPHASE, LIN_PHASE, flip_channel2=flip),
    }
    for flips, make in makers.items():
        for given_flip, same in ((None, True), (flips, True), (not flips, False)):
            found = spectral_to_jones(spectra if same else turned, make(given_flip))
            for jones, expected in zip(found, spectral_to_jones(spectra, make(None)), strict=True):
                np.testing.assert_allclose(jones, expected, rtol=1e-5, atol=1)


def test_a_tile_is_processed_with_it() -> None:
    spectra = np.random.default_rng(0).integers(0, 4000, (3, 2, 5, SAMPLES), dtype=np.uint16)
    products = process_spectral(
        spectra, PhaseCalibration(DPHASE, LIN_PHASE), TileSettings(depth_px=10)
    )
    assert products.volumes.dbi.shape == (5, 3, SAMPLES // 2 - 24)


def test_extrapolation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        PhaseCalibration(DPHASE, LIN_PHASE)
        assert not caplog.records
        PhaseCalibration(DPHASE, LIN_PHASE + 1, origin="calibration 7")
    assert "calibration 7: linPhase (1 to 65) goes beyond dphase (0 to 64)" in caplog.text


BROKEN = DPHASE.copy()
BROKEN[9] = BROKEN[8]
UNEVEN = LIN_PHASE.copy()
UNEVEN[5] += 0.01


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"dphase": DPHASE + 1j}, ["dphase of", "real numbers", "complex"]),
        ({"dphase": "text"}, ["dphase of", "real numbers"]),
        ({"dphase": DPHASE * np.nan}, ["dphase of", "128 values", "not finite"]),
        ({"dphase": BROKEN}, ["dphase of", "not strictly monotonic", "at 8"]),
        ({"dphase": DPHASE[:-1]}, ["dphase has 127 values", "linPhase 128"]),
        ({"dphase": np.zeros((64, 2))}, ["dphase of", "shape (64, 2)"]),
        ({"dphase": 3.0}, ["dphase of", "shape (1, 1)"]),
        ({"linPhase": LIN_PHASE * 0}, ["linPhase of", "not strictly monotonic"]),
        ({"linPhase": UNEVEN}, ["linPhase of", "not evenly spaced", "step at 4"]),
        ({"dspPhase": DSP_PHASE[1:]}, ["dspPhase.mat", "127 values", "expected 128"]),
        ({"dspPhase": DSP_PHASE * np.inf}, ["dspPhase of", "not finite"]),
    ],
)
def test_unusable_values(tmp_path: Path, changed: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(CorruptInputError) as caught:
        PhaseCalibration.from_files(**files(tmp_path, **changed))
    for part in [str(tmp_path), *parts]:
        assert part in str(caught.value)


def test_files_that_lack_something(tmp_path: Path) -> None:
    paths = files(tmp_path)
    with pytest.raises(IncompleteInputError, match=r"linPhase file .*no\.mat not found"):
        PhaseCalibration.from_files(paths["dphase"], tmp_path / "no.mat")
    with pytest.raises(CorruptInputError, match=r"has no variable dphase .it has: linPhase"):
        PhaseCalibration.from_files(paths["linphase"], paths["linphase"])
    with pytest.raises(ConfigError, match="both given"):
        PhaseCalibration.from_files(**paths, dispersion=paths["dspphase"])


def test_spectra_of_another_camera() -> None:
    with pytest.raises(CorruptInputError, match="has 128 values; expected 2048"):
        PhaseCalibration(DPHASE, LIN_PHASE).sampling(2048)
