"""Wavelength calibration of the two cameras, and the resampling that follows from it."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError

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
    correction : (N,) complex128
        Dispersion correction, the same for both channels.
    """

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float64]
    correction: NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Wavelength calibration: known wavelengths and where the cameras saw them.

    Parameters
    ----------
    mu : (P, 2) array
        Pixel positions (1-based) of the P wavelengths on camera 1 and camera 2.
    wave_prime_nm : (P,) array
        The wavelengths, nm.
    dispersion_rad : (N,) array, optional
        Residual phase of each sample of the wavenumber grid, rad. None: no correction.
    origin, dispersion_origin : str
        Where the values came from, for error messages.

    Raises
    ------
    CorruptInputError
        If a shape is wrong, a value is not finite, or the pixel positions do not define
        a rising wavelength axis.
    """

    mu: NDArray[np.float64]
    wave_prime_nm: NDArray[np.float64]
    dispersion_rad: NDArray[np.float64] | None = None
    origin: str = "the calibration"
    dispersion_origin: str = "the dispersion vector"

    def __post_init__(self) -> None:
        mu = _checked(self.mu, f"mu of {self.origin}")
        wave = _checked(self.wave_prime_nm, f"wave_prime of {self.origin}").ravel()
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
            dispersion = _checked(self.dispersion_rad, self.dispersion_origin)
            if dispersion.ndim != 1 or dispersion.size == 0:
                raise CorruptInputError(
                    f"{self.dispersion_origin} has shape {dispersion.shape}; expected a vector "
                    "with one phase per spectral sample. Give the dispersion of this camera."
                )
            object.__setattr__(self, "dispersion_rad", dispersion)

    @classmethod
    def from_files(
        cls,
        mat: str | os.PathLike[str],
        dispersion: str | os.PathLike[str] | None = None,
    ) -> Calibration:
        """Read a ``wave-pixel.mat`` and, if given, a dispersion file.

        Parameters
        ----------
        mat : path
            MATLAB file (version 7 or older) with `mu` (P x 2) and `wave_prime` (P, nm).
        dispersion : path, optional
            Raw little-endian float64 phases, rad, one per spectral sample. Whether their
            number is that of the spectra shows when the calibration is used.

        Raises
        ------
        IncompleteInputError
            If a file is missing.
        CorruptInputError
            If a file cannot be read, lacks a variable, or holds values that cannot be used.
        """
        path = Path(mat)
        variables = _load_mat(path)
        for name in ("mu", "wave_prime"):
            if name not in variables:
                found = ", ".join(sorted(variables)) or "nothing"
                raise CorruptInputError(
                    f"calibration file {path} has no variable {name} (it has: {found}); expected "
                    "mu (P x 2) and wave_prime (P). Give the wave-pixel.mat of this microscope."
                )
        return cls(
            mu=variables["mu"],
            wave_prime_nm=variables["wave_prime"],
            dispersion_rad=None if dispersion is None else _load_dispersion(Path(dispersion)),
            origin=f"calibration file {path}",
            dispersion_origin=f"dispersion file {dispersion}",
        )

    def sampling(self, samples: int) -> SpectralSampling:
        """Return the resampling of raw spectra to evenly spaced wavenumbers.

        Both channels share one grid: wavenumbers descending (wavelengths ascending) over
        the range that both cameras see. Channel 2 is stored pixel-reversed.

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
        if self.dispersion_rad is not None and self.dispersion_rad.size != samples:
            raise CorruptInputError(
                f"{self.dispersion_origin} has {self.dispersion_rad.size} values; expected "
                f"{samples}, one per spectral sample. Give the dispersion of this camera, or set "
                "the number of samples that belongs to it."
            )
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
        lower[1] = samples - 1 - lower[1]
        upper[1] = samples - 1 - upper[1]
        phase = np.zeros(samples) if self.dispersion_rad is None else self.dispersion_rad
        return SpectralSampling(lower, upper, weight, np.exp(-1j * phase))

    def _line_nm(self, camera: int) -> NDArray[np.float64]:
        """Slope (nm per pixel) and intercept (nm) of wavelength against 1-based pixel."""
        line: NDArray[np.float64] = np.polyfit(self.mu[:, camera], self.wave_prime_nm, 1)
        return line


def _checked(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Return `values` as a read-only float64 copy; all of them must be finite numbers."""
    try:
        if np.iscomplexobj(values):
            raise TypeError("they are complex")
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CorruptInputError(
            f"{what} does not hold real numbers ({error}). Save it again as a numeric array."
        ) from error
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise CorruptInputError(
            f"{what} has {int(bad.sum())} values that are not finite, the first is "
            f"{array[first]} at {first} (0-based). Repeat the calibration or remove that point."
        )
    array.setflags(write=False)
    return array


def _load_mat(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the variables of a MATLAB file."""
    # Imported here, because scipy.io takes longer to import than this whole package.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.exists():
        raise IncompleteInputError(
            f"calibration file {path} not found. Correct its path, or copy the wave-pixel.mat of "
            "this microscope there."
        )
    try:
        content = loadmat(path)
    except NotImplementedError as error:  # version 7.3 is HDF5
        raise CorruptInputError(
            f"calibration file {path} is a MATLAB 7.3 file, which cannot be read here. Save it "
            "again with: save('wave-pixel.mat', 'mu', 'wave_prime', '-v7')."
        ) from error
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        zlib.error,
        MatReadError,
    ) as error:
        raise CorruptInputError(
            f"calibration file {path} cannot be read as a MATLAB file ({error}). Check its rights, "
            "and copy it again."
        ) from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _load_dispersion(path: Path) -> NDArray[np.float64]:
    """Read a vector of little-endian float64."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"dispersion file {path} not found. Correct its path, or leave it out to process "
            "without dispersion correction."
        ) from error
    except OSError as error:
        raise CorruptInputError(
            f"dispersion file {path} cannot be read ({error.strerror}). Check its rights."
        ) from error
    if not content or len(content) % 8:
        raise CorruptInputError(
            f"dispersion file {path} has {len(content)} bytes; expected 8 (one float64) per "
            "spectral sample, 16384 for 2048. Copy it again."
        )
    return np.frombuffer(content, dtype="<f8").astype(np.float64)
