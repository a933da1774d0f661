"""The two-camera spectrometer: depth profiles to camera counts.

The processing resamples each camera to one grid of N wavenumbers, removes the dispersion and
takes the FFT, J = conj(FFT). Read backwards, a camera pixel that sits at the fractional index n
of that grid sees

    Re{ exp(i phi(n)) sum_m conj(J_m) exp(2 pi i m n / N) }

which is a non-uniform Fourier sum. Only bins 0 < m < N/2 are occupied, so the sum, shifted by
N/4 bins, is a complex signal sampled at twice its bandwidth: one FFT of length N with the bins
divided by the kernel's transform, and a short Kaiser-Bessel interpolation, give it to 1e-5
(Beatty, Nishimura, Pauly, IEEE TMI 2005).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from opticstream_smk.simulate.settings import CROPPED_BINS

FloatArray = NDArray[np.float64]

# Lines of a calibration lamp, nm; 0.16 nm per pixel puts 1147..1476 nm on 2048 pixels.
_LAMP_NM = np.array(
    [1192.7, 1228.4, 1246.9, 1281.0, 1297.5, 1313.6, 1330.2, 1371.1, 1395.5, 1420.6]
)
_NM_PER_PIXEL = 0.1605
_FIRST_NM = (1147.4, 1146.9)
_CAMERA_SCALE = (1.0, 1.0007)
_CENTRE_NM = 1305.0
# 1/e half width; 170 nm full width at half maximum, as of the light sources used at 1.3 um.
_WIDTH_NM = 102.0
# Fixed background of a camera: light of the reference arm with a weak etalon ripple, and dark
# level, in counts. Signal and noise stay within a few hundred counts of it: 12 bits hold them.
_REFERENCE_COUNTS = 1450.0
_RIPPLE_COUNTS = 25.0
_DARK_COUNTS = 120.0
MAX_COUNT = 4095

_TAPS = 6


@dataclass(frozen=True)
class Spectrometer:
    """Two cameras with their calibration and the dispersion of the interferometer.

    Attributes
    ----------
    mu
        (P, 2) 1-based pixel positions of the lamp lines on camera 1 and 2.
    wave_prime_nm
        (P,) wavelengths of the lines, nm.
    dispersion_rad
        (N,) phase of the dispersion on the wavenumber grid, radians.
    """

    mu: FloatArray
    wave_prime_nm: FloatArray
    dispersion_rad: FloatArray

    @property
    def samples(self) -> int:
        """Camera pixels N."""
        return self.dispersion_rad.size

    @cached_property
    def wavelength_nm(self) -> FloatArray:
        """(2, N) wavelength of each pixel: the straight line through the lamp lines."""
        pixel = np.arange(1, self.samples + 1)
        fits = [np.polyfit(self.mu[:, camera], self.wave_prime_nm, 1) for camera in (0, 1)]
        return np.stack([np.polyval(fit, pixel) for fit in fits])

    @cached_property
    def grid_index(self) -> FloatArray:
        """(2, N) position of each pixel on the common grid, 0-based, wavenumber descending."""
        k = 2 * np.pi / self.wavelength_nm
        k_max, k_min = k[:, 0].min(), k[:, -1].max()
        return np.asarray((k_max - k) / (k_max - k_min) * (self.samples - 1))

    @cached_property
    def envelope(self) -> FloatArray:
        """(2, N) light per pixel, 1 at its peak."""
        return np.asarray(np.exp(-(((self.wavelength_nm - _CENTRE_NM) / _WIDTH_NM) ** 2)))

    @cached_property
    def background(self) -> FloatArray:
        """(2, N) counts without a sample."""
        ripple = _RIPPLE_COUNTS * np.sin(np.arange(self.samples) / 37.0)
        return np.asarray(self.envelope * (_REFERENCE_COUNTS + ripple) + _DARK_COUNTS)

    @cached_property
    def _deapodisation(self) -> NDArray[np.float32]:
        """(N/2,) factor per depth bin that undoes the interpolation kernel."""
        shifted = (np.arange(self.samples // 2) - self.samples // 4) / self.samples
        return (1 / _kernel_transform(shifted)).astype(np.float32)

    @cached_property
    def _resampling(self) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
        """Per camera, (N, N) kernel weights from the uniform grid to the camera's pixels."""
        rows = np.repeat(np.arange(self.samples), _TAPS)
        matrices = []
        for index in self.grid_index:
            taps = np.ceil(index - _TAPS / 2)[:, None] + np.arange(_TAPS)
            weights = _kernel(index[:, None] - taps).astype(np.float32)
            columns = taps.astype(np.int64) % self.samples  # the sum is periodic in n
            matrices.append(
                scipy.sparse.csr_array(
                    (weights.ravel(), (rows, columns.ravel())), shape=(self.samples, self.samples)
                )
            )
        return matrices[0], matrices[1]

    @cached_property
    def _carrier(self) -> NDArray[np.complex64]:
        """(2, N) what turns the interpolated sum into counts: shift, dispersion, light, scale."""
        grid = np.arange(self.samples)
        phase = np.stack([np.interp(n, grid, self.dispersion_rad) for n in self.grid_index])
        # White speckle keeps its power through the envelope: divide by the envelope's rms.
        rms = np.sqrt((self.envelope**2).mean(axis=1, keepdims=True))
        light = 2 / self.samples * self.envelope / rms
        carrier = light * np.exp(1j * (phase + np.pi / 2 * self.grid_index))
        return np.asarray(carrier, np.complex64)

    def synthesize(self, jones: NDArray[np.complex64], camera: int) -> NDArray[np.float32]:
        """Interference of one camera, before noise, background and quantisation.

        Parameters
        ----------
        jones
            (Z, X) complex depth profiles of the camera's channel, z as displayed (after the depth
            flip): the last z is the bin next to the cropped ones.
        camera
            0 or 1.

        Returns
        -------
        (N, X) float32 counts, in order of wavelength (camera 2 not yet reversed). Scaled so that
        white speckle comes back from the processing with its power, but for `signal_gain`.
        """
        half, quarter = self.samples // 2, self.samples // 4
        bins = slice(CROPPED_BINS, half)
        spectrum = np.zeros((self.samples, jones.shape[1]), np.complex64)
        spectrum[bins] = jones[::-1].conj() * self._deapodisation[bins, None]
        # Rows so far are m = 0..N/2-1; move them to m - N/4, modulo N.
        spectrum = np.roll(spectrum, -quarter, axis=0)
        uniform = scipy.fft.ifft(spectrum, axis=0, norm="forward", overwrite_x=True)
        pixels = self._resampling[camera] @ uniform.view(np.float32)
        carrier = self._carrier[camera][:, None]
        return np.asarray(pixels[:, 0::2] * carrier.real - pixels[:, 1::2] * carrier.imag)

    def signal_gain(self, z_px: float) -> float:
        """Power that linear interpolation in the processing leaves of a signal at depth z."""
        return float(np.sinc(self._frequency(z_px)) ** 4)

    def noise_gain(self, z_px: float) -> float:
        """Power that the processing makes at depth z of white camera noise of unit variance.

        N from the FFT; 2/3 + cos(w)/3 from linear interpolation at evenly spread fractions.
        """
        return float(self.samples * (2 / 3 + np.cos(2 * np.pi * self._frequency(z_px)) / 3))

    def _frequency(self, z_px: float) -> float:
        """Cycles per sample of depth z (0-based, after the flip)."""
        return (self.samples // 2 - 1 - z_px) / self.samples


def make_spectrometer(samples: int = 2048, seed: int = 0) -> Spectrometer:
    """The simulated instrument: about 0.16 nm per pixel around 1310 nm, some rad of dispersion.

    Parameters
    ----------
    samples
        Camera pixels; fewer pixels cover the same wavelengths.
    seed
        Seed of the reading errors of the lamp lines and of the dispersion.
    """
    rng = np.random.default_rng([1000, seed])
    step_nm = _NM_PER_PIXEL * 2048 / samples
    positions = [
        (_LAMP_NM - first) / (step_nm * scale) + 1
        for first, scale in zip(_FIRST_NM, _CAMERA_SCALE, strict=True)
    ]
    mu = np.stack(positions, axis=1) + rng.normal(0, 0.6 * samples / 2048, (_LAMP_NM.size, 2))
    u = np.linspace(-1, 1, samples)
    second, third, fourth = rng.normal(0, 1, 3) * (6.0, 2.0, 0.5)
    return Spectrometer(mu, _LAMP_NM.copy(), second * u**2 + third * u**3 + fourth * u**4)


def digitise(
    counts: NDArray[np.float32], background: FloatArray, noise: NDArray[np.float32]
) -> NDArray[np.uint16]:
    """Camera counts as the 12-bit converter gives them.

    Parameters
    ----------
    counts, noise
        (N, X) interference and noise in counts.
    background
        (N,) counts without a sample.

    Returns
    -------
    (N, X) uint16, 0..4095.
    """
    total = counts + noise
    total += background.astype(np.float32)[:, None]
    np.rint(total, out=total)
    np.clip(total, 0, MAX_COUNT, out=total)
    return total.astype(np.uint16)


# Kernel width for a grid at twice the bandwidth: Beatty et al. (2005), equation 5.
_BETA = np.pi * np.sqrt((_TAPS / 2) ** 2 * 1.5**2 - 0.8)


def _kernel(distance: FloatArray) -> FloatArray:
    """Kaiser-Bessel kernel at a distance in grid steps; 0 beyond half the taps."""
    inside = np.clip(1 - (2 * distance / _TAPS) ** 2, 0, None)
    return np.asarray(np.i0(_BETA * np.sqrt(inside)) / np.i0(_BETA))


def _kernel_transform(frequency: FloatArray) -> FloatArray:
    """Fourier transform of the kernel at a frequency in cycles per grid step, below 1/2."""
    argument = np.sqrt(_BETA**2 - (np.pi * _TAPS * frequency) ** 2)
    return np.asarray(_TAPS * np.sinh(argument) / argument / np.i0(_BETA))
