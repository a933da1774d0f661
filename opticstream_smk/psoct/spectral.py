"""Raw spectra to complex Jones components."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct.calibration import (
    AUTOCORRELATION_BINS,
    SpectralCalibration,
    SpectralSampling,
    depth_samples,
)
from opticstream_smk.psoct.plain import PlainTransform

Precision = Literal["single", "double"]
JonesArray: TypeAlias = NDArray[np.complexfloating[Any, Any]]

Bins: TypeAlias = NDArray[np.complex64]
_PRECISIONS = ("single", "double")
# A-lines that are transformed side by side: their bins fit the L2 cache of most processors.
_LANES = 32


class SpectralTransform:
    """The transform of one B-line in single precision, with its scratch memory.

    Per channel: subtract the background, resample to even wavenumbers, subtract the median
    A-line, correct dispersion, Fourier transform. One for each thread. Results do not depend on
    the B-lines before.

    Parameters
    ----------
    sampling : SpectralSampling
        Where to interpolate, and the dispersion correction.
    alines : int
        Number of A-lines X.
    halve_nyquist : bool
        Halve the Nyquist bin of A-line 1.
    """

    def __init__(self, sampling: SpectralSampling, *, alines: int, halve_nyquist: bool) -> None:
        samples = sampling.lower.shape[1]
        self._halve_nyquist = halve_nyquist
        self._grid = [
            (
                sampling.lower[channel],
                sampling.upper[channel],
                sampling.weight[channel].astype(np.float32),
                sampling.correction[channel].astype(np.complex64),
            )
            for channel in range(2)
        ]
        self._counts = np.empty((samples, alines), np.uint16)
        self._background = np.empty(samples, np.int32)
        self._medians = np.zeros((2, samples), np.float32)
        self._row = np.empty(alines, np.float32)
        # What is beyond the last A-line is transformed too, and never looked at.
        blocks = -(-alines // _LANES)
        self._fringes = np.zeros((2, blocks, samples, _LANES), np.complex64)

    def __call__(self, bline: NDArray[np.uint16]) -> tuple[Bins, Bins]:
        """Transform the B-line `bline` (2, X, N).

        Returns
        -------
        bins1, bins2 : (ceil(X / L), N, L) complex64
            Fourier bins, L A-lines side by side; valid until the next call.
        """
        return self._channel(bline[0], 0), self._channel(bline[1], 1)

    def _channel(self, spectra: NDArray[np.uint16], channel: int) -> Bins:
        from scipy import fft

        from opticstream_smk.psoct import spectrum_kernels as kernels

        kernels.transpose(spectra, self._counts)
        kernels.rounded_means(self._counts, self._background)
        nyquist = kernels.nyquist_of_first_aline(self._counts) if self._halve_nyquist else 0.0
        fringes = self._fringes[channel]
        kernels.resample(
            self._counts,
            self._background,
            nyquist,
            *self._grid[channel],
            self._medians[channel],
            self._row,
            fringes,
        )
        bins: Bins = fft.fft(fringes, axis=1, overwrite_x=True, workers=1)
        return bins


def spectral_to_jones(
    spectra: NDArray[np.uint16],
    calibration: SpectralCalibration,
    *,
    precision: Precision = "single",
    toolbox_quirks: bool = False,
) -> tuple[JonesArray, JonesArray]:
    """Reconstruct the complex Jones components of a tile.

    Parameters
    ----------
    spectra : (Y, 2, X, N) uint16
        Raw counts, see `read_spectral`.
    calibration : Calibration or PhaseCalibration
        Wavelength calibration, and dispersion with N values.
    precision : {"single", "double"}
        Arithmetic and dtype of the result. Single agrees with double to 1e-6 of max |J|.
    toolbox_quirks : bool
        Halve the Nyquist bin of A-line 1 as psoct-toolbox does. Through the median this
        changes the other A-lines too, by up to 6.5e-4 of max |J|.

    Returns
    -------
    J1, J2 : (X, Y, Z) complex64 or complex128
        Fortran order, Z = N // 2 - 24. They are the conjugate of the Fourier transform; z = 0
        is the kept bin nearest zero delay (nothing is flipped here).

    Raises
    ------
    ConfigError
        If `precision` is unknown or N cannot be used.
    CorruptInputError
        If `spectra` has another shape, or the calibration does not fit it.

    Notes
    -----
    Follows psoct-toolbox ``spectral2complex``. One B-line is in work at a time, in one thread.
    """
    check_precision(precision)
    blines, alines, samples = spectra_sizes(spectra)
    depth = depth_samples(samples)
    sampling = calibration.sampling(samples)
    halve = halves_nyquist(sampling, toolbox_quirks=toolbox_quirks)
    shape = (alines, blines, depth)
    if precision == "double":
        jones1 = np.empty(shape, np.complex128, order="F")
        jones2 = np.empty_like(jones1)
        plain = PlainTransform(sampling, alines=alines, depth=depth, halve_nyquist=halve)
        for y in range(blines):
            line1, line2 = plain(spectra[y])
            jones1[:, y, :] = line1.T
            jones2[:, y, :] = line2.T
        return jones1, jones2

    from opticstream_smk.psoct.voxel_kernels import jones_of_bins

    single1 = np.empty(shape, np.complex64, order="F")
    single2 = np.empty_like(single1)
    transform = SpectralTransform(sampling, alines=alines, halve_nyquist=halve)
    for y in range(blines):
        for bins, jones in zip(transform(spectra[y]), (single1, single2), strict=True):
            jones_of_bins(bins, AUTOCORRELATION_BINS, jones.T, y)
    return single1, single2


def halves_nyquist(sampling: SpectralSampling, *, toolbox_quirks: bool) -> bool:
    """Whether the Nyquist bin of the first A-line is halved; `ConfigError` where there is none."""
    halve = toolbox_quirks and sampling.padded
    samples = sampling.lower.shape[1]
    if halve and samples % 2:
        raise ConfigError(
            f"toolbox_quirks needs an even number of spectral samples, found {samples}: an odd "
            "spectrum has no Nyquist bin. Set toolbox_quirks: false."
        )
    return halve


def check_precision(precision: str) -> None:
    """Raise `ConfigError` unless `precision` is known."""
    if precision not in _PRECISIONS:
        raise ConfigError(
            f"precision {precision!r} is unknown; accepted: {', '.join(_PRECISIONS)}. Set one of "
            "them."
        )


def spectra_sizes(spectra: NDArray[Any]) -> tuple[int, int, int]:
    """Return (blines, alines, samples) of raw spectra, or raise `CorruptInputError`."""
    if spectra.ndim != 4 or spectra.shape[1] != 2 or 0 in spectra.shape:
        raise CorruptInputError(
            f"spectra have shape {spectra.shape}; expected (Y, 2, X, N): B-line, channel, A-line, "
            "sample. Read them with read_spectral."
        )
    return spectra.shape[0], spectra.shape[2], spectra.shape[3]


def stack_jones(
    J1: JonesArray,
    J2: JonesArray,
) -> NDArray[np.float32]:
    """Lay two Jones components out as a complex tile file holds them.

    Parameters
    ----------
    J1, J2 : (X, Y, Z) complex

    Returns
    -------
    (4X, Y, Z) float32
        Re J1, Im J1, Re J2, Im J2 one after the other along the first axis; Fortran order,
        z as it came.

    Raises
    ------
    CorruptInputError
        If the shapes differ or are not 3-D.
    """
    alines, blines, depth = jones_shape(J1, J2)
    stack = np.empty((4 * alines, blines, depth), np.float32, order="F")
    for part, values in enumerate((J1.real, J1.imag, J2.real, J2.imag)):
        stack[part * alines : (part + 1) * alines] = values
    return stack


def unstack_jones(
    stack: NDArray[Any],
) -> tuple[JonesArray, JonesArray]:
    """Take the two Jones components out of the array of a complex tile file.

    Parameters
    ----------
    stack : (4X, Y, Z) real array
        See `stack_jones`.

    Returns
    -------
    J1, J2 : (X, Y, Z) complex
        complex64, or complex128 where float32 cannot hold the dtype of `stack`.

    Raises
    ------
    CorruptInputError
        If `stack` is not 3-D and real with a first axis divisible by 4.
    """
    if stack.ndim != 3 or stack.shape[0] % 4 or 0 in stack.shape or np.iscomplexobj(stack):
        raise CorruptInputError(
            f"complex tile has shape {stack.shape} and dtype {stack.dtype}; expected real "
            "(4X, Y, Z): Re J1, Im J1, Re J2, Im J2 along the first axis. Write it again from the "
            "spectral tile."
        )
    dtype = np.result_type(stack.dtype, np.complex64)
    alines = stack.shape[0] // 4
    parts = [stack[i * alines : (i + 1) * alines] for i in range(4)]
    jones: list[JonesArray] = []
    for real, imag in ((parts[0], parts[1]), (parts[2], parts[3])):
        component = np.empty(real.shape, dtype, order="F")
        component.real = real
        component.imag = imag
        jones.append(component)
    return jones[0], jones[1]


def jones_shape(jones1: NDArray[Any], jones2: NDArray[Any]) -> tuple[int, int, int]:
    """Return the common (X, Y, Z) of two Jones components, or raise `CorruptInputError`."""
    if jones1.ndim != 3 or jones1.shape != jones2.shape:
        raise CorruptInputError(
            f"Jones components have shapes {jones1.shape} and {jones2.shape}; expected the same "
            "(X, Y, Z) twice. Take both from one tile."
        )
    return jones1.shape[0], jones1.shape[1], jones1.shape[2]
