"""Wavelength calibration of the two cameras, and the resampling that follows from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct.dispersion import Dispersion, load_dispersion
from opticstream_smk.psoct.matfile import finite_reals, load_mat

# Depth bins next to zero delay that hold the residual background and autocorrelation.
AUTOCORRELATION_BINS = 24


def depth_samples(samples: int) -> int:
    """Return the number of depth samples that a spectrum of `samples` pixels gives.

    Half of the bins (the spectrum is real), less the first `AUTOCORRELATION_BINS`:
    1000 for 2048 pixels.

    Raises
    ------
    ConfigError
        If nothing is left.
    """
    depth = samples // 2 - AUTOCORRELATION_BINS
    if depth < 1:
        raise ConfigError(
            f"spectra of {samples} samples give no depth: half of them less "
            f"{AUTOCORRELATION_BINS} must be at least 1. Use at least "
            f"{2 * AUTOCORRELATION_BINS + 2} samples (2048 on the usual camera)."
        )
    return depth


@dataclass(frozen=True, eq=False)
class SpectralSampling:
    """Linear resampling of raw camera pixels to a common wavenumber grid.

    A resampled value is ``raw[lower] + weight * (raw[upper] - raw[lower])``, times
    `correction`. The indices are 0-based raw pixels, so they also carry the reversal of
    channel 2.

    Attributes
    ----------
    lower, upper : (2, N) intp
        Raw pixels to interpolate between, per channel.
    weight : (2, N) float64
        Weight of `upper`; outside 0..1 where the grid ends beyond the camera.
    correction : (2, N) complex128
        Dispersion correction, per channel.
    padded : bool
        Whether the toolbox zero-pads these spectra (by a factor of 1) before it resamples.
    """

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float64]
    correction: NDArray[np.complex128]
    padded: bool = True


class SpectralCalibration(Protocol):
    """Whatever says how raw pixels become an even wavenumber grid."""

    def sampling(self, samples: int) -> SpectralSampling:
        """Return the resampling of spectra of `samples` camera pixels."""
        ...


@dataclass(frozen=True, eq=False)
class Calibration:
    """Wavelength calibration: known wavelengths and where the cameras saw them.

    Parameters
    ----------
    mu : (P, 2) array
        Pixel positions (1-based) of the P wavelengths on camera 1 and camera 2.
    wave_prime_nm : (P,) array
        The wavelengths, nm.
    dispersion_rad : (N,) or (N, 2) array, optional
        Residual phase of each sample of the wavenumber grid, rad; two columns are the two
        channels. Complex values are taken for the coefficients exp(-i phase) themselves. None:
        no correction.
    origin, dispersion_origin : str
        Where the values came from, for error messages.
    flip_channel2 : bool, optional
        Whether channel 2 is stored pixel-reversed. None: it is.

    Raises
    ------
    CorruptInputError
        If a shape is wrong, a value is not finite, or the pixel positions do not define
        a rising wavelength axis.
    """

    mu: NDArray[np.float64]
    wave_prime_nm: NDArray[np.float64]
    dispersion_rad: NDArray[Any] | None = None
    origin: str = "the calibration"
    dispersion_origin: str = "the dispersion vector"
    flip_channel2: bool | None = None

    def __post_init__(self) -> None:
        mu = finite_reals(self.mu, f"mu of {self.origin}")
        wave = finite_reals(self.wave_prime_nm, f"wave_prime of {self.origin}").ravel()
        if mu.ndim != 2 or mu.shape[1] != 2 or mu.shape[0] < 2:
            raise CorruptInputError(
                f"mu of {self.origin} has shape {mu.shape}; expected (P, 2): the pixel positions "
                "of at least 2 wavelengths on the two cameras. Save it again from the calibration."
            )
        if wave.size != mu.shape[0]:
            raise CorruptInputError(
                f"wave_prime of {self.origin} has {wave.size} values and mu has {mu.shape[0]} "
                "rows; expected one wavelength per row. Save both from the same calibration."
            )
        object.__setattr__(self, "mu", mu)
        object.__setattr__(self, "wave_prime_nm", wave)
        for camera in range(2):
            if np.ptp(mu[:, camera]) == 0 or self._line_nm(camera)[0] <= 0:
                raise CorruptInputError(
                    f"mu of {self.origin}: the wavelength does not rise with the pixel position "
                    f"on camera {camera + 1}. Check that mu (pixels) and wave_prime (nm) are in "
                    "the same order."
                )
        if self.dispersion_rad is not None:
            dispersion = Dispersion(self.dispersion_rad, self.dispersion_origin)
            object.__setattr__(self, "dispersion_rad", dispersion.values)

    @classmethod
    def from_files(
        cls,
        mat: str | os.PathLike[str],
        dispersion: str | os.PathLike[str] | None = None,
        *,
        flip_channel2: bool | None = None,
    ) -> Calibration:
        """Read a ``wave-pixel.mat`` and, if given, a dispersion file.

        Parameters
        ----------
        mat : path
            MATLAB file (version 7 or older) with `mu` (P x 2) and `wave_prime` (P, nm).
        dispersion : path, optional
            Phases or complex coefficients, one per spectral sample or one per sample and
            channel; for the formats see `load_dispersion`. Whether their number is that of the
            spectra shows when the calibration is used.
        flip_channel2 : bool, optional
            Whether channel 2 is stored pixel-reversed. None: it is.

        Raises
        ------
        IncompleteInputError
            If a file is missing.
        CorruptInputError
            If a file cannot be read, lacks a variable, or holds values that cannot be used.
        """
        path = Path(mat)
        variables = load_mat(path, kind="calibration file", variables=("mu", "wave_prime"))
        return cls(
            mu=variables["mu"],
            wave_prime_nm=variables["wave_prime"],
            dispersion_rad=None if dispersion is None else load_dispersion(Path(dispersion)).values,
            origin=f"calibration file {path}",
            dispersion_origin=f"dispersion file {dispersion}",
            flip_channel2=flip_channel2,
        )

    def sampling(self, samples: int) -> SpectralSampling:
        """Return the resampling of raw spectra to evenly spaced wavenumbers.

        Both channels share one grid: wavenumbers descending (wavelengths ascending) over
        the range that both cameras see.

        Parameters
        ----------
        samples : int
            Number of camera pixels N.

        Raises
        ------
        CorruptInputError
            If the dispersion has another length, or the cameras share no range of positive
            wavelengths.

        Notes
        -----
        Follows psoct-toolbox ``spectral2complex``: degree-1 least squares of wavelength on
        pixel position, then ``interp1(..., 'linear', 'extrap')``.
        """
        correction = dispersion_correction(self.dispersion_rad, self.dispersion_origin, samples)
        pixels = np.arange(1, samples + 1)
        axes = [np.polyval(self._line_nm(camera), pixels) * 1e-9 for camera in range(2)]
        shortest = max(axes[0][0], axes[1][0])
        longest = min(axes[0][-1], axes[1][-1])
        if not 0 < shortest < longest:
            raise CorruptInputError(
                f"{self.origin}: the cameras share no range of wavelengths over {samples} pixels "
                f"({shortest * 1e9:.1f} to {longest * 1e9:.1f} nm). Check mu and wave_prime, and "
                "the number of samples."
            )
        wavenumbers = np.linspace(2 * np.pi / longest, 2 * np.pi / shortest, samples)[::-1]
        wavelengths = 2 * np.pi / wavenumbers
        lower = np.empty((2, samples), dtype=np.intp)
        weight = np.empty((2, samples))
        for camera, axis in enumerate(axes):
            position = (wavelengths - axis[0]) / (self._line_nm(camera)[0] * 1e-9)
            lower[camera] = np.clip(np.floor(position), 0, samples - 2).astype(np.intp)
            weight[camera] = position - lower[camera]
        upper = lower + 1
        if self.flip_channel2 is not False:
            lower[1] = samples - 1 - lower[1]
            upper[1] = samples - 1 - upper[1]
        return SpectralSampling(lower, upper, weight, correction)

    def _line_nm(self, camera: int) -> NDArray[np.float64]:
        """Slope (nm per pixel) and intercept (nm) of wavelength against 1-based pixel."""
        line: NDArray[np.float64] = np.polyfit(self.mu[:, camera], self.wave_prime_nm, 1)
        return line


def dispersion_correction(
    dispersion: NDArray[Any] | None, origin: str, samples: int
) -> NDArray[np.complex128]:
    """Return the factors (2, N) of both channels; 1 without dispersion."""
    if dispersion is None:
        return np.ones((2, samples), np.complex128)
    return Dispersion(dispersion, origin).correction(samples)
