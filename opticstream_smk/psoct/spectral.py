"""Raw spectra to complex Jones components."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct.calibration import (
    AUTOCORRELATION_BINS,
    SpectralCalibration,
    depth_samples,
)

Precision = Literal["single", "double"]
JonesArray: TypeAlias = NDArray[np.complexfloating[Any, Any]]

_REAL_DTYPES: dict[str, type[np.floating[Any]]] = {"single": np.float32, "double": np.float64}
_COMPLEX_DTYPES: dict[str, type[np.complexfloating[Any, Any]]] = {
    "single": np.complex64,
    "double": np.complex128,
}
# A-lines transposed at once: few enough that their spectra stay in the L2 cache.
_TRANSPOSE_ALINES = 32


class BLineTransform:
    """The reconstruction of one B-line, with its scratch memory.

    Per channel: subtract the background, resample to even wavenumbers, subtract the
    median A-line, correct dispersion, Fourier transform, crop, conjugate.

    Parameters
    ----------
    calibration : Calibration or PhaseCalibration
        Where the wavelengths lie on the cameras.
    alines, samples : int
        Number of A-lines X and of spectral samples N.
    precision : {"single", "double"}
        Arithmetic of everything from the background to the FFT.
    toolbox_quirks : bool
        Reproduce psoct-toolbox, which halves the Nyquist bin of the first A-line only (and
        not at all with a phase calibration).

    Raises
    ------
    ConfigError
        If `precision` is unknown, N leaves no depth, or quirks are wanted and N is odd.
    CorruptInputError
        If the calibration does not fit N.
    """

    def __init__(
        self,
        calibration: SpectralCalibration,
        *,
        alines: int,
        samples: int,
        precision: str = "single",
        toolbox_quirks: bool = False,
    ) -> None:
        check_precision(precision)
        self.depth = depth_samples(samples)
        sampling = calibration.sampling(samples)
        self._halve_nyquist = toolbox_quirks and sampling.padded
        if self._halve_nyquist and samples % 2:
            raise ConfigError(
                f"toolbox_quirks needs an even number of spectral samples, found {samples}: an odd "
                "spectrum has no Nyquist bin. Set toolbox_quirks: false."
            )
        self.complex_dtype = np.dtype(_COMPLEX_DTYPES[precision])
        real = np.dtype(_REAL_DTYPES[precision])
        self._lower, self._upper = sampling.lower, sampling.upper
        self._weight = sampling.weight.astype(real)[:, :, None]
        self._correction = sampling.correction.astype(self.complex_dtype)[:, :, None]
        # Sample-major (N, X): A-lines are adjacent, so every step runs along memory.
        self._counts = np.empty((samples, alines), real)
        self._resampled = np.empty_like(self._counts)
        self._work = np.empty_like(self._counts)
        self._fringes = np.empty((samples, alines), self.complex_dtype)

    def __call__(self, bline: NDArray[np.uint16]) -> tuple[JonesArray, JonesArray]:
        """Reconstruct the B-line `bline` (2, X, N).

        Returns
        -------
        J1, J2 : (Z, X) complex
            Depth-major; z = 0 is the kept bin nearest zero delay.
        """
        return self._channel(bline[0], 0), self._channel(bline[1], 1)

    def _channel(self, spectra: NDArray[np.uint16], channel: int) -> JonesArray:
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
        jones: JonesArray = np.conjugate(
            bins[AUTOCORRELATION_BINS : AUTOCORRELATION_BINS + self.depth]
        )
        return jones


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
    Follows psoct-toolbox ``spectral2complex``. One B-line is in work at a time. The FFT uses
    the workers that the caller sets: ``with scipy.fft.set_workers(n): ...``.
    """
    blines, alines, samples = spectra_sizes(spectra)
    transform = BLineTransform(
        calibration,
        alines=alines,
        samples=samples,
        precision=precision,
        toolbox_quirks=toolbox_quirks,
    )
    shape = (alines, blines, transform.depth)
    jones1 = np.empty(shape, transform.complex_dtype, order="F")
    jones2 = np.empty_like(jones1)
    for y in range(blines):
        line1, line2 = transform(spectra[y])
        jones1[:, y, :] = line1.T
        jones2[:, y, :] = line2.T
    return jones1, jones2


def check_precision(precision: str) -> None:
    """Raise `ConfigError` unless `precision` is known."""
    if precision not in _REAL_DTYPES:
        raise ConfigError(
            f"precision {precision!r} is unknown; accepted: {', '.join(_REAL_DTYPES)}. Set one of "
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
