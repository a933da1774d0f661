"""Plain NumPy: double precision, and what the compiled loops are tested against.

The compiled loops are float32 and share no code with this.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.calibration import AUTOCORRELATION_BINS, SpectralSampling

if TYPE_CHECKING:
    from opticstream_smk.psoct.volumes import Volumes, VoxelOptions

# Smallest power and amplitude, eps('single') in MATLAB: puts the floor of dBI at -69.24 dB.
_FLOOR = float(np.finfo(np.float32).eps)
# A-lines transposed at once: few enough that their spectra stay in the L2 cache.
_TRANSPOSE_ALINES = 32
JonesLine = NDArray[np.complexfloating[Any, Any]]


class PlainTransform:
    """The reconstruction of one B-line, with its scratch memory.

    Per channel: subtract the background, resample to even wavenumbers, subtract the
    median A-line, correct dispersion, Fourier transform, crop, conjugate.

    Parameters
    ----------
    sampling : SpectralSampling
        Where to interpolate, and the dispersion correction.
    alines, depth : int
        Number of A-lines X and of depth samples Z.
    halve_nyquist : bool
        Halve the Nyquist bin of A-line 1.
    dtype : dtype
        float32 or float64: arithmetic of everything from the background to the FFT.
    """

    def __init__(
        self,
        sampling: SpectralSampling,
        *,
        alines: int,
        depth: int,
        halve_nyquist: bool,
        dtype: type[np.floating[Any]] = np.float64,
    ) -> None:
        self.depth = depth
        self._halve_nyquist = halve_nyquist
        real = np.dtype(dtype)
        self.complex_dtype = np.result_type(real, np.complex64)
        self._lower, self._upper = sampling.lower, sampling.upper
        self._weight = sampling.weight.astype(real)[:, :, None]
        self._correction = sampling.correction.astype(self.complex_dtype)[:, :, None]
        # Sample-major (N, X): A-lines are adjacent, so every step runs along memory.
        samples = sampling.lower.shape[1]
        self._counts = np.empty((samples, alines), real)
        self._resampled = np.empty_like(self._counts)
        self._work = np.empty_like(self._counts)
        self._fringes = np.empty((samples, alines), self.complex_dtype)

    def __call__(self, bline: NDArray[np.uint16]) -> tuple[JonesLine, JonesLine]:
        """Reconstruct the B-line `bline` (2, X, N).

        Returns
        -------
        J1, J2 : (Z, X) complex
            Depth-major; z = 0 is the kept bin nearest zero delay.
        """
        return self._channel(bline[0], 0), self._channel(bline[1], 1)

    def _channel(self, spectra: NDArray[np.uint16], channel: int) -> JonesLine:
        from scipy import fft

        counts, resampled, work = self._counts, self._resampled, self._work
        for start in range(0, spectra.shape[0], _TRANSPOSE_ALINES):
            some = slice(start, start + _TRANSPOSE_ALINES)
            np.copyto(counts[:, some], spectra[some].T)
        # Interpolation is linear, so whatever all A-lines share leaves with the median below.
        # A rounded mean serves as background: integers differ exactly in float32, and what is
        # left is small enough for it.
        counts -= np.rint(counts.mean(axis=1, keepdims=True))
        if self._halve_nyquist:
            _halve_nyquist_of_first_aline(counts)

        # The indices are in range; "clip" lets take write straight to `out`.
        np.take(counts, self._lower[channel], axis=0, out=resampled, mode="clip")
        np.take(counts, self._upper[channel], axis=0, out=work, mode="clip")
        work -= resampled
        work *= self._weight[channel]
        resampled += work
        resampled -= _median_over_alines(resampled, work)

        np.multiply(resampled, self._correction[channel], out=self._fringes)
        bins = fft.fft(self._fringes, axis=0, overwrite_x=True)
        jones: JonesLine = np.conjugate(
            bins[AUTOCORRELATION_BINS : AUTOCORRELATION_BINS + self.depth]
        )
        return jones


def fill_bline(
    volumes: Volumes, y: int, line1: JonesLine, line2: JonesLine, options: VoxelOptions
) -> None:
    """Write B-line `y` (0-based) of `volumes` from depth-major Jones components (Z, X)."""
    depth = slice(None, None, -1 if options.reverse_z else 1)
    amplitude1, amplitude2 = np.abs(line1), np.abs(line2)
    # MATLAB's max ignores NaN.
    larger = np.fmax if options.toolbox_quirks else np.maximum
    # Infinite or NaN amplitudes are data here, not accidents.
    with np.errstate(invalid="ignore", over="ignore"):
        power = larger(amplitude1 * amplitude1 + amplitude2 * amplitude2, _FLOOR)
        volumes.dbi[:, y, :] = (10 * np.log10(power.astype(np.float32)))[depth].T
        ratio = amplitude1.astype(np.float32) / larger(amplitude2, _FLOOR).astype(np.float32)
        volumes.r3d[:, y, :] = (np.arctan(ratio) * np.float32(180 / np.pi))[depth].T
        difference = np.angle(line1) - np.angle(line2)
        if options.flip_phase:
            np.negative(difference, out=difference)
        orientation = _wrapped_once if options.toolbox_quirks else _wrapped
        volumes.o3d[:, y, :] = orientation(difference, options.phase_offset_deg)[depth].T


def _wrapped(difference_rad: NDArray[np.floating[Any]], offset_deg: float) -> NDArray[np.float32]:
    """Return half the phase difference plus the offset in (-90, 90] degrees; overwrites."""
    difference_rad *= 90 / np.pi
    difference_rad += offset_deg % 180
    # In float32 from here on, because rounding to it could step back onto -90.
    angle = difference_rad.astype(np.float32, copy=False)
    angle -= 180 * np.rint(angle / 180)
    # Exact halves round to even, which leaves some of them at the excluded end.
    angle[angle == -90] = 90
    return angle


def _wrapped_once(
    difference_rad: NDArray[np.floating[Any]], offset_deg: float
) -> NDArray[np.float32]:
    """Return the orientation as the toolbox wraps it, in degrees; overwrites.

    One conditional turn either way, so that angles beyond 3 pi or -3 pi stay outside.
    """
    phase = difference_rad
    phase += 2 * math.radians(offset_deg)
    np.subtract(phase, 2 * np.pi, out=phase, where=phase > np.pi)
    np.add(phase, 2 * np.pi, out=phase, where=phase < -np.pi)
    phase /= 2 * np.pi
    phase *= 180
    return phase.astype(np.float32, copy=False)


def _halve_nyquist_of_first_aline(counts: NDArray[np.floating[Any]]) -> None:
    """Subtract half of the Nyquist component from A-line 1 of `counts` (N, X), in place.

    The toolbox pads the spectra by a factor of 1 and halves their Nyquist bin with a linear
    index, which reaches the first column only. The component is taken from the spectrum less
    the exact mean over A-lines, as there.
    """
    samples = counts.shape[0]
    sign = 1.0 - 2.0 * (np.arange(samples) % 2)
    first = counts[:, 0] - counts.mean(axis=1, dtype=np.float64)
    counts[:, 0] -= 0.5 / samples * (first @ sign) * sign


def _median_over_alines(
    resampled: NDArray[np.floating[Any]], scratch: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Return the median over A-lines of (N, X) as (N, 1); `scratch` is overwritten."""
    # A full sort, because NumPy's vectorised sort is faster than its partition for two values.
    np.copyto(scratch, resampled)
    scratch.sort(axis=1)
    alines = scratch.shape[1]
    middle = scratch[:, (alines - 1) // 2 : alines // 2 + 1]
    median: NDArray[np.floating[Any]] = middle.mean(axis=1, keepdims=True)
    return median
