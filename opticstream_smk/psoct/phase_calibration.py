"""Calibration by measured phase, which replaces the wavelengths of the cameras."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct.calibration import SpectralSampling, dispersion_correction
from opticstream_smk.psoct.dispersion import Dispersion, load_dispersion
from opticstream_smk.psoct.matfile import finite_reals, load_mat

_log = logging.getLogger(__name__)
# Spacing of linPhase may vary by this part of itself.
_UNIFORM = 1e-5


@dataclass(frozen=True, eq=False)
class PhaseCalibration:
    """Phase of every camera pixel, and the even phases to resample to.

    Parameters
    ----------
    dphase : (N,) array
        Phase of each spectral sample, strictly rising or falling; the same for both channels,
        in the order after the reversal of channel 2, if there is one.
    lin_phase : (N,) array
        Evenly spaced phases to resample to. Beyond the range of `dphase` values are
        extrapolated linearly, which is logged.
    dispersion_rad : (N,) or (N, 2) array, optional
        As for `Calibration`; usually ``dspPhase``.
    origin, dispersion_origin : str
        Where the values came from, for error messages.
    flip_channel2 : bool, optional
        Whether channel 2 is stored pixel-reversed. None: it is not.

    Raises
    ------
    CorruptInputError
        If the vectors are not real and finite, not of one length, not monotonic, or
        `lin_phase` is not evenly spaced.

    Notes
    -----
    Follows ``loadPhaseCalibration`` of the fork nmarkowitz/opticstream. Its spectra are not
    zero-padded, so `toolbox_quirks` halves no Nyquist bin.
    """

    dphase: NDArray[np.float64]
    lin_phase: NDArray[np.float64]
    dispersion_rad: NDArray[Any] | None = None
    origin: str = "the phase calibration"
    dispersion_origin: str = "the dispersion vector"
    flip_channel2: bool | None = None

    def __post_init__(self) -> None:
        dphase = self._vector(self.dphase, "dphase")
        lin_phase = self._vector(self.lin_phase, "linPhase")
        if dphase.size != lin_phase.size:
            raise CorruptInputError(
                f"{self.origin}: dphase has {dphase.size} values and linPhase {lin_phase.size}; "
                "expected one each per spectral sample. Take both from the same calibration."
            )
        steps = np.diff(lin_phase)
        tolerance = max(abs(steps.mean()) * _UNIFORM, 100 * np.spacing(np.abs(lin_phase).max()))
        uneven = np.abs(steps - steps.mean()) > tolerance
        if uneven.any():
            first = int(uneven.argmax())
            raise CorruptInputError(
                f"linPhase of {self.origin} is not evenly spaced: the step at {first} (0-based) is "
                f"{steps[first]:.6g}, the mean step {steps.mean():.6g}. Make it with linspace."
            )
        object.__setattr__(self, "dphase", dphase)
        object.__setattr__(self, "lin_phase", lin_phase)
        if lin_phase.min() < dphase.min() or lin_phase.max() > dphase.max():
            _log.warning(
                "%s: linPhase (%.6g to %.6g) goes beyond dphase (%.6g to %.6g); spectra are "
                "extrapolated there",
                self.origin,
                lin_phase.min(),
                lin_phase.max(),
                dphase.min(),
                dphase.max(),
            )
        if self.dispersion_rad is not None:
            dispersion = Dispersion(self.dispersion_rad, self.dispersion_origin)
            object.__setattr__(self, "dispersion_rad", dispersion.values)
            dispersion.correction(dphase.size)

    @classmethod
    def from_files(
        cls,
        dphase: str | os.PathLike[str],
        linphase: str | os.PathLike[str],
        dspphase: str | os.PathLike[str] | None = None,
        *,
        dispersion: str | os.PathLike[str] | None = None,
        flip_channel2: bool | None = None,
    ) -> PhaseCalibration:
        """Read the MATLAB files of a phase calibration.

        Parameters
        ----------
        dphase, linphase : path
            Files (version 7 or older) with the variables `dphase` and `linPhase`.
        dspphase : path, optional
            File with the variable `dspPhase`, the dispersion phase in rad for both channels.
        dispersion : path, optional
            A dispersion file in place of `dspphase`; see `load_dispersion`.
        flip_channel2 : bool, optional
            Whether channel 2 is stored pixel-reversed. None: it is not.

        Raises
        ------
        ConfigError
            If both `dspphase` and `dispersion` are given.
        IncompleteInputError
            If a file is missing.
        CorruptInputError
            If a file cannot be read, lacks its variable, or holds values that cannot be used.
        """
        if dspphase is not None and dispersion is not None:
            raise ConfigError(
                f"dspPhase file {dspphase} and dispersion file {dispersion} are both given; "
                "expected one dispersion. Leave one of them out."
            )
        values: NDArray[Any] | None = None
        source = dspphase if dispersion is None else dispersion
        if dspphase is not None:
            what = f"dspPhase of {dspphase}"
            values = finite_reals(_variable(dspphase, "dspPhase"), what).ravel()
        elif dispersion is not None:
            values = load_dispersion(Path(dispersion)).values
        return cls(
            dphase=_variable(dphase, "dphase"),
            lin_phase=_variable(linphase, "linPhase"),
            dispersion_rad=values,
            origin=f"phase calibration {dphase}, {linphase}",
            dispersion_origin=f"dispersion file {source}",
            flip_channel2=flip_channel2,
        )

    def sampling(self, samples: int) -> SpectralSampling:
        """Return the resampling of raw spectra to evenly spaced phases.

        Parameters
        ----------
        samples : int
            Number of camera pixels N.

        Raises
        ------
        CorruptInputError
            If the calibration is for another number of samples.

        Notes
        -----
        Equals ``interp1(dphase, spectra, linPhase, 'linear', 'extrap')``.
        """
        if self.dphase.size != samples:
            raise CorruptInputError(
                f"{self.origin} has {self.dphase.size} values; expected {samples}, one per "
                "spectral sample. Give the calibration of this camera, or set the number of "
                "samples that belongs to it."
            )
        falling = self.dphase[0] > self.dphase[-1]
        ascending = self.dphase[::-1] if falling else self.dphase
        place = np.searchsorted(ascending, self.lin_phase, side="right") - 1
        place = np.clip(place, 0, samples - 2)
        one = samples - 1 - place if falling else place
        other = one - 1 if falling else one + 1
        fraction = (self.lin_phase - self.dphase[one]) / (self.dphase[other] - self.dphase[one])
        lower, upper = np.stack([one, one]), np.stack([other, other])
        if self.flip_channel2:
            lower[1] = samples - 1 - lower[1]
            upper[1] = samples - 1 - upper[1]
        correction = dispersion_correction(self.dispersion_rad, self.dispersion_origin, samples)
        return SpectralSampling(
            lower, upper, np.stack([fraction, fraction]), correction, padded=False
        )

    def _vector(self, values: NDArray[Any], name: str) -> NDArray[np.float64]:
        """Return `values` as a strictly monotonic vector."""
        array = finite_reals(values, f"{name} of {self.origin}")
        if array.size < 2 or array.size != max(array.shape):
            raise CorruptInputError(
                f"{name} of {self.origin} has shape {array.shape}; expected a vector with one "
                "value per spectral sample. Save it again from the calibration."
            )
        vector: NDArray[np.float64] = array.ravel()
        steps = np.diff(vector)
        if not ((steps > 0).all() or (steps < 0).all()):
            turn = int((np.sign(steps) != np.sign(vector[-1] - vector[0])).argmax())
            raise CorruptInputError(
                f"{name} of {self.origin} is not strictly monotonic: {vector[turn]:.6g} at {turn} "
                f"(0-based) is followed by {vector[turn + 1]:.6g}. Repeat the calibration."
            )
        return vector


def _variable(path: str | os.PathLike[str], name: str) -> NDArray[Any]:
    content = load_mat(Path(path), kind=f"{name} file", variables=(name,))
    return content[name]
