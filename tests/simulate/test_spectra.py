import numpy as np
import pytest

from opticstream_smk.psoct import Calibration, spectral_to_jones
from opticstream_smk.simulate.spectra import MAX_COUNT, digitise, make_spectrometer


def _speckle(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@pytest.mark.parametrize("camera", [0, 1])
@pytest.mark.parametrize("samples", [512, 2048])
def test_synthesis_is_the_direct_sum(samples: int, camera: int):
    instrument = make_spectrometer(samples, seed=5)
    jones = _speckle(np.random.default_rng(1), samples // 2 - 24, 3)
    n = instrument.grid_index[camera]
    bins = np.arange(24, samples // 2)
    dispersion = np.interp(n, np.arange(samples), instrument.dispersion_rad)
    waves = np.exp(2j * np.pi * np.outer(n, bins) / samples + 1j * dispersion[:, None])
    light = instrument.envelope[camera]
    scale = 2 / samples * light / np.sqrt((light**2).mean())
    expected = scale[:, None] * (waves @ jones[::-1].conj()).real
    error = np.abs(instrument.synthesize(jones, camera) - expected)
    assert error.max() < 2e-5 * np.abs(expected).max()


def test_processing_gives_the_profiles_back():
    # Deep voxels only: there the processing's linear interpolation is good to (pi f)^2 / 3.
    instrument = make_spectrometer()
    samples, depth, deepest = 2048, 1000, 60
    rng = np.random.default_rng(2)
    jones = np.zeros((2, depth, 8), np.complex64)
    jones[:, -deepest:, :4] = _speckle(rng, 2, deepest, 4)
    jones[..., 4:] = -jones[..., :4]  # mean and median over the A-lines are zero
    spectra = np.empty((1, 2, 8, samples), np.uint16)
    for camera in (0, 1):
        counts = instrument.synthesize(jones[camera], camera)
        counts = np.rint(counts * 25_000 / np.abs(counts).max() + 32_768)
        spectra[0, camera] = (counts[::-1] if camera else counts).T
    calibration = Calibration(instrument.mu, instrument.wave_prime_nm, instrument.dispersion_rad)
    processed = spectral_to_jones(spectra, calibration, precision="double")

    # What exact resampling would give: the profiles, blurred by the envelope of the light.
    k = 2 * np.pi / instrument.wavelength_nm
    grid_nm = 2 * np.pi / np.linspace(k[:, 0].min(), k[:, -1].max(), samples)
    for camera in (0, 1):
        spectrum = np.zeros((samples, 8), complex)
        spectrum[24:1024] = jones[camera][::-1].conj()
        field = np.fft.ifft(spectrum, axis=0) * np.exp(1j * instrument.dispersion_rad)[:, None]
        light = np.interp(grid_nm, instrument.wavelength_nm[camera], instrument.envelope[camera])
        seen = field.real * light[:, None] * np.exp(-1j * instrument.dispersion_rad)[:, None]
        expected = np.fft.fft(seen, axis=0)[24:1024].conj()[:deepest]
        got = processed[camera][:, 0].T[:deepest]
        scale = np.vdot(expected, got) / np.vdot(expected, expected)
        assert abs(np.angle(scale)) < 1e-3
        assert np.abs(got / scale - expected).max() < 1e-2 * np.abs(expected).max()


def test_gains_are_those_of_the_processing():
    instrument = make_spectrometer()
    calibration = Calibration(instrument.mu, instrument.wave_prime_nm, instrument.dispersion_rad)
    rng = np.random.default_rng(3)
    noise = rng.normal(30_000, 100, (2, 2, 64, 2048)).astype(np.uint16)
    power = np.abs(spectral_to_jones(noise, calibration)[0][:, :, ::-1]) ** 2
    for z in (100, 300, 900):
        measured = power[..., z - 20 : z + 20].mean() / 100**2
        assert 10 * np.log10(measured / instrument.noise_gain(z)) == pytest.approx(0, abs=0.35)


def test_digitise_rounds_and_clips_to_12_bit():
    counts = np.array([[-5.0, 0.4], [100.6, 9000.0]], np.float32)
    result = digitise(counts, np.zeros(2), np.zeros_like(counts))
    assert result.dtype == np.uint16
    assert result.tolist() == [[0, 0], [101, MAX_COUNT]]
