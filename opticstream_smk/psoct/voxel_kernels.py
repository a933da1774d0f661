"""Compiled loops over Jones components: intensity, retardance and orientation of every voxel.

One pass over two components writes three volumes. Logarithm and arc tangent are polynomials
(Cephes, single precision, error below 2e-7 of the range) without branches, so that sixteen voxels
go through at a time; the libraries' functions take one after the other.
"""

import numpy as np

from opticstream_smk.angle_kernels import angle_of, first_quadrant
from opticstream_smk.compiled import kernel

_EPS = np.float32(2.0**-23)
_INFINITY = np.float32(np.inf)
_PI = np.float32(np.pi)
_TWO_PI = np.float32(2 * np.pi)
_DEG = np.float32(180 / np.pi)
_HALF_DEG = np.float32(90 / np.pi)
_SQRT2 = np.float32(np.sqrt(2))
_DB_PER_OCTAVE = np.float32(10 * np.log10(2))
_DB_PER_NEPER = np.float32(10 / np.log(10))


@kernel()
def volumes_of_bins(  # type: ignore[no-untyped-def]
    bins1, bins2, first_bin, dbi, r3d, o3d, y, flip_z, flip_phase, offset, toolbox_quirks
):
    """Write B-line `y` of three volumes from the transformed spectra of both channels.

    Parameters
    ----------
    bins1, bins2 : (ceil(X / L), N, L) complex64
        Fourier transforms, L A-lines side by side; the Jones components are their conjugates.
    first_bin : int
        Bin of depth 0.
    dbi, r3d, o3d : (Z, Y, X) float32
        dB, degrees, degrees.
    flip_z, flip_phase : bool
        Reverse depth; negate the phase difference.
    offset : float32
        Added to the orientation: degrees in 0..180, or with `toolbox_quirks` twice the offset,
        rad.
    toolbox_quirks : bool
        See `jones_to_volumes`.
    """
    depth, _, alines = dbi.shape
    lanes = bins1.shape[2]
    for z in range(depth):
        at = depth - 1 - z if flip_z else z
        for first in range(0, alines, lanes):
            some1, some2 = (
                bins1[first // lanes, first_bin + z],
                bins2[first // lanes, first_bin + z],
            )
            last = min(first + lanes, alines)
            intensity, retardance = dbi[at, y, first:last], r3d[at, y, first:last]
            orientation = o3d[at, y, first:last]
            for lane in range(intensity.size):
                intensity[lane], retardance[lane], orientation[lane] = _voxel(
                    some1[lane].real, -some1[lane].imag, some2[lane].real, -some2[lane].imag,
                    flip_phase, offset, toolbox_quirks,
                )  # fmt: skip


@kernel()
def volumes_of_stack(  # type: ignore[no-untyped-def]
    stack, line, dbi, r3d, o3d, y, flip_z, flip_phase, offset, toolbox_quirks
):
    """Write B-line `y` of three volumes from B-line `line` of a stack (Z, Y, 4X).

    Its rows are Re J1, Im J1, Re J2, Im J2, float32; see `volumes_of_bins`.
    """
    depth, _, alines = dbi.shape
    for z in range(depth):
        at = depth - 1 - z if flip_z else z
        row = stack[z, line]
        real1, imag1 = row[:alines], row[alines : 2 * alines]
        real2, imag2 = row[2 * alines : 3 * alines], row[3 * alines :]
        intensity, retardance, orientation = dbi[at, y], r3d[at, y], o3d[at, y]
        for x in range(alines):
            intensity[x], retardance[x], orientation[x] = _voxel(
                real1[x], imag1[x], real2[x], imag2[x], flip_phase, offset, toolbox_quirks
            )


@kernel()
def stack_of_bins(bins1, bins2, first_bin, stack, y):  # type: ignore[no-untyped-def]
    """Write B-line `y` of `stack` (Z, Y, 4X) from transformed spectra; see `volumes_of_bins`."""
    depth, _, width = stack.shape
    alines = width // 4
    lanes = bins1.shape[2]
    for z in range(depth):
        row = stack[z, y]
        for first in range(0, alines, lanes):
            some1, some2 = (
                bins1[first // lanes, first_bin + z],
                bins2[first // lanes, first_bin + z],
            )
            for lane in range(min(lanes, alines - first)):
                x = first + lane
                row[x] = some1[lane].real
                row[alines + x] = -some1[lane].imag
                row[2 * alines + x] = some2[lane].real
                row[3 * alines + x] = -some2[lane].imag


@kernel()
def jones_of_bins(bins, first_bin, jones, y):  # type: ignore[no-untyped-def]
    """Write B-line `y` of `jones` (Z, Y, X) complex64 from the transformed spectra of a channel."""
    depth, _, alines = jones.shape
    lanes = bins.shape[2]
    for z in range(depth):
        row = jones[z, y]
        for x in range(alines):
            row[x] = np.conj(bins[x // lanes, first_bin + z, x % lanes])


@kernel(forceinline=True)
def _voxel(real1, imag1, real2, imag2, flip_phase, offset, toolbox_quirks):  # type: ignore[no-untyped-def]
    """Return dBI, R3D and O3D."""
    power1 = real1 * real1 + imag1 * imag1
    power2 = real2 * real2 + imag2 * imag2
    intensity = _decibel(_at_least_eps(power1 + power2, toolbox_quirks))
    amplitude1 = np.sqrt(power1)
    amplitude2 = _at_least_eps(np.sqrt(power2), toolbox_quirks)
    retardance = first_quadrant(amplitude1, amplitude2) * _DEG
    difference = angle_of(real1, imag1) - angle_of(real2, imag2)
    difference = -difference if flip_phase else difference
    if toolbox_quirks:
        # One conditional turn either way, so that angles beyond 3 pi or -3 pi stay outside.
        difference += offset
        difference = difference - _TWO_PI if difference > _PI else difference
        difference = difference + _TWO_PI if difference < -_PI else difference
        return intensity, retardance, difference * _HALF_DEG
    angle = difference * _HALF_DEG + offset
    angle -= np.float32(180) * np.floor(angle * np.float32(1 / 180) + np.float32(0.5))
    # What is rounded to the excluded end belongs to the other.
    return intensity, retardance, np.float32(90) if angle <= np.float32(-90) else angle


@kernel(forceinline=True)
def _at_least_eps(value, toolbox_quirks):  # type: ignore[no-untyped-def]
    """Larger of a value and eps('single'); of NaN it is eps in the toolbox, NaN otherwise."""
    if toolbox_quirks:
        return value if value > _EPS else _EPS
    return _EPS if value < _EPS else value


@kernel(forceinline=True)
def _decibel(power):  # type: ignore[no-untyped-def]
    """10 log10 of a power of at least eps; NaN and infinity stay."""
    bits = np.float32(power).view(np.int32)
    exponent = (bits >> np.int32(23)) - np.int32(127)
    mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
    upper = mantissa > _SQRT2
    mantissa = mantissa * np.float32(0.5) if upper else mantissa
    exponent = exponent + np.int32(1) if upper else exponent
    x = mantissa - np.float32(1)
    square = x * x
    p = np.float32(7.0376836292e-2)
    p = p * x - np.float32(1.1514610310e-1)
    p = p * x + np.float32(1.1676998740e-1)
    p = p * x - np.float32(1.2420140846e-1)
    p = p * x + np.float32(1.4249322787e-1)
    p = p * x - np.float32(1.6668057665e-1)
    p = p * x + np.float32(2.0000714765e-1)
    p = p * x - np.float32(2.4999993993e-1)
    p = p * x + np.float32(3.3333331174e-1)
    logarithm = x + (x * square * p - np.float32(0.5) * square)
    decibel = np.float32(exponent) * _DB_PER_OCTAVE + logarithm * _DB_PER_NEPER
    return decibel if power < _INFINITY else power
