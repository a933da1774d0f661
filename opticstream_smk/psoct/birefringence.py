"""Birefringence from the rise of retardance with depth.

Each method returns the slope of the optical path difference against depth, which is a
difference of refractive indices. "fft" fits the retardance nearly as it is; the "unwrap" methods
fit the angle of smoothed Stokes parameters. "legacy", the default, is compiled with the other maps:
`depth_kernels.window_maps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.window import DepthWindow

if TYPE_CHECKING:
    from opticstream_smk.psoct.volumes import Volumes

_Mask: TypeAlias = NDArray[np.bool_]
BirefMethod = Callable[["Volumes", DepthWindow, float, float], NDArray[np.float32]]

# A component is slow when it takes at least this many samples for a period.
_LEAST_FOR_SLOW = 100
# Keeps the division by the norm of the Stokes parameters defined; MATLAB's eps.
_EPSILON = 2.2e-16
# Voxels smoothed at once; as float64 64 MiB (more with the halo), of which about ten are in work.
_BLOCK_VOXELS = 2**23


def fit_without_oscillation(
    volumes: Volumes, window: DepthWindow, dz_um: float, wavelength_um: float
) -> NDArray[np.float32]:
    """Fit a line after the slowest oscillation of the retardance was unfolded.

    Parameters
    ----------
    volumes : Volumes
        Retardance in degrees is used.
    window : DepthWindow
        The samples to fit, without the last.
    dz_um, wavelength_um : float
        Depth of a voxel and centre wavelength, um.

    Returns
    -------
    (X, Y) float32
        Slope as "legacy" gives it, with its rule for zeros.

    Notes
    -----
    Follows psoct-toolbox ``fftLinear`` ("fft"): where the strongest Fourier component of the
    window has at most one period in 100 samples, its sinusoid is replaced by the monotonic
    line of the same steepness. Windows below 100 samples never have one, so they give what
    ``fitLinear`` gives on ``depth_px`` samples.
    """

    def slope(samples: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        used = _up_to_first_zero(samples, inside)
        unfolded = _unfold_slowest(samples, np.count_nonzero(used, axis=0))
        keep = window.depth_px
        return _legacy_slope(unfolded[:keep], used[:keep], dz_um, wavelength_um)

    return window.summarise(volumes.r3d, slope)


def unwrap_old(
    volumes: Volumes, window: DepthWindow, dz_um: float, wavelength_um: float
) -> NDArray[np.float32]:
    """Fit a line to the unwrapped angle of the Stokes parameters, smoothed by (1, 1, 5) voxels.

    Parameters
    ----------
    volumes : Volumes
        Retardance and orientation in degrees are used.
    window : DepthWindow
        The samples to fit.
    dz_um, wavelength_um : float
        Depth of a voxel and centre wavelength, um.

    Returns
    -------
    (X, Y) float32
        Dimensionless. NaN if a sample in the window is, or one of its neighbours in the
        smoothing (2 A-lines and B-lines, 10 samples in depth). 0 for a single sample.

    Notes
    -----
    Follows psoct-toolbox ``unwrapOld``: the angle is summed up by its absolute steps unless it
    stays within pi/8 of its first percentile on average.
    """

    def slope(cosine: NDArray[np.float64], _: Any, inside: _Mask) -> NDArray[np.float64]:
        line = _unwrapped(cosine, inside)
        return _slope(line / (2 * np.pi) * wavelength_um, inside) / dz_um

    return _summarise_stokes(volumes, window, (1, 1, 5), slope)


def unwrap_new(
    volumes: Volumes, window: DepthWindow, dz_um: float, wavelength_um: float
) -> NDArray[np.float32]:
    """Fit lines of 40 to 75 samples as `unwrap_old` does, with smoothing by (3, 3, 10) voxels.

    Returns
    -------
    (X, Y) float32
        The steepest of the eight slopes (their 95th percentile in the toolbox), without its
        sign. Slopes that are NaN are omitted; NaN where all of them are.

    Notes
    -----
    Follows psoct-toolbox ``unwrapNew``. A NaN reaches 6 A-lines and B-lines and 20 samples in
    depth.
    """

    def slope(cosine: NDArray[np.float64], _: Any, inside: _Mask) -> NDArray[np.float64]:
        path = _unwrapped(cosine, inside) * (wavelength_um / (2 * np.pi)) / dz_um
        steepest = np.full(path.shape[1:], np.nan)
        for end in range(40, 80, 5):
            np.fmax(steepest, np.abs(_slope(path[:end], inside[:end])), out=steepest)
        return steepest

    return _summarise_stokes(volumes, window, (3, 3, 10), slope)


def unwrap_exp(
    volumes: Volumes, window: DepthWindow, dz_um: float, wavelength_um: float
) -> NDArray[np.float32]:
    """Fit a line to the raw angle, moved up where the smoothed one falls; see `unwrap_old`.

    Notes
    -----
    Follows psoct-toolbox ``unwrapExp``, of whose complex result this is the real part.
    """

    def slope(
        cosine: NDArray[np.float64], raw: NDArray[np.float64], inside: _Mask
    ) -> NDArray[np.float64]:
        steps = np.diff(_half_angle(cosine), axis=0)
        line = _half_angle(raw)
        line[1:] += np.abs(steps) - steps
        return _slope(line / (2 * np.pi) * wavelength_um, inside) / dz_um

    return _summarise_stokes(volumes, window, (1, 1, 5), slope)


def _up_to_first_zero(samples: NDArray[np.float32], inside: _Mask) -> _Mask:
    """Return which samples (K, Y', X) are used: those inside, up to and with the first 0."""
    step = np.arange(samples.shape[0])[:, None, None]
    zero = (samples == 0) & inside
    first_zero = np.where(zero.any(axis=0), zero.argmax(axis=0), samples.shape[0])
    used: _Mask = inside & (step <= first_zero)
    return used


def _legacy_slope(
    samples: NDArray[np.floating[Any]], used: _Mask, dz_um: float, wavelength_um: float
) -> NDArray[np.float64]:
    # float32 as in the toolbox.
    path_um = samples.astype(np.float32) / np.float32(360) * np.float32(wavelength_um)
    path_um = np.where(used, path_um, np.float32(0))
    fitted = (np.count_nonzero(used, axis=0) >= 3) & (path_um != 0).any(axis=0)
    return np.where(fitted, _slope(path_um, used) / dz_um, 0.0)


def _slope(line: NDArray[np.floating[Any]], used: _Mask) -> NDArray[np.float64]:
    """Return the least-squares slope of the leading samples `used` per sample; 0 for one."""
    step = np.arange(line.shape[0])[:, None, None]
    count = np.count_nonzero(used, axis=0).astype(np.float64)
    centred = np.where(used, step - (count - 1) / 2, 0.0)
    values = np.where(used, line, 0.0)
    # The centred squares of 0..n-1 sum to n (n^2 - 1) / 12.
    squares = count * (count * count - 1) / 12
    result: NDArray[np.float64] = np.zeros(count.shape)
    np.divide(np.einsum("zyx,zyx->yx", centred, values), squares, out=result, where=count > 1)
    return result


def _unfold_slowest(
    samples: NDArray[np.float32], counts: NDArray[np.intp]
) -> NDArray[np.floating[Any]]:
    """Return `samples` (K, Y', X) with the slowest oscillation of the first `counts` unfolded."""
    from scipy import fft

    unfolded = samples.astype(np.float64)
    # Windows of one length share a transform; almost all have the full one.
    for count in np.unique(counts[counts >= _LEAST_FOR_SLOW]):
        chosen = counts == count
        lines = samples[:count, chosen]
        bins = fft.fft(lines, axis=0)
        strongest = np.argmax(np.abs(bins[1 : count // 2 + 1]) ** 2, axis=0) + 1
        slow = strongest / count <= 1 / _LEAST_FOR_SLOW
        if not slow.any():
            continue
        strongest = strongest[slow]
        component = np.take_along_axis(bins[:, slow], strongest[None], axis=0)[0]
        component = component.astype(np.complex128)
        amplitude = 2 * np.abs(component) / count
        turns = strongest * np.arange(count)[:, None] / count
        phase = 2 * np.pi * turns + np.angle(component)
        # One-sided, so half of the amplitude.
        removed = np.abs(component) / count * np.cos(phase)
        phase += np.pi / 2
        sine = np.sin(phase)
        line = amplitude * np.where(np.cos(phase) >= 0, sine, 2 - sine)
        line += 4 * amplitude * np.floor((phase + np.pi / 2) / (2 * np.pi))
        y, x = (index[slow] for index in np.nonzero(chosen))
        unfolded[:count, y, x] += line - removed
    return unfolded


def _half_angle(cosine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half of the angle, rad, of cosines that rounding may have put beyond 1."""
    angle: NDArray[np.float64] = np.arccos(np.clip(cosine, -1, 1)) / 2
    return angle


def _unwrapped(cosine: NDArray[np.float64], inside: _Mask) -> NDArray[np.float64]:
    """Return the half angle (K, Y', X), or where it varies its summed absolute steps."""
    angle = _half_angle(cosine)
    lowest = _first_percentile(angle, inside)
    valid = inside & ~np.isnan(angle)
    count = np.count_nonzero(valid, axis=0)
    spread = np.full(lowest.shape, np.nan)
    np.divide((angle - lowest).sum(axis=0, where=valid), count, out=spread, where=count > 0)
    summed: NDArray[np.float64] = angle.copy()
    np.abs(np.diff(angle, axis=0), out=summed[1:])
    np.cumsum(summed, axis=0, out=summed)
    unwrapped: NDArray[np.float64] = np.where(spread < np.pi / 8, angle, summed)
    return unwrapped


def _first_percentile(angle: NDArray[np.float64], inside: _Mask) -> NDArray[np.float64]:
    """Return MATLAB's ``prctile(angle, 1)`` along depth, without NaN and what is not inside."""
    ordered = np.sort(np.where(inside, angle, np.nan), axis=0)  # NaN go last
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    # Sample k of n (1-based) is percentile 100 (k - 0.5) / n.
    place = np.clip(count / 100 - 0.5, 0, np.maximum(count - 1, 0))
    lower = place.astype(np.intp)
    upper = np.minimum(lower + 1, np.maximum(count - 1, 0))
    low, high = (np.take_along_axis(ordered, at[None], axis=0)[0] for at in (lower, upper))
    percentile: NDArray[np.float64] = low + (place - lower) * (high - low)
    return percentile


def _summarise_stokes(
    volumes: Volumes,
    window: DepthWindow,
    sigma: tuple[float, float, float],
    summary: Callable[[NDArray[np.float64], NDArray[np.float64], _Mask], NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Apply `summary` to the windows of smoothed Stokes parameters, some B-lines at a time.

    Parameters
    ----------
    sigma : (3,) float
        Gaussian smoothing of the whole volume along X, Y, Z, voxels; kernels end at
        ceil(2 sigma) and edge voxels are repeated.
    summary : callable
        Receives V / sqrt(Q^2 + U^2 + V^2) of the smoothed parameters, V before smoothing over
        the same norm, and which samples are inside; all (K, Y', X).

    Returns
    -------
    (X, Y) float32
    """
    alines, blines = window.shape
    depth = volumes.r3d.shape[2]
    reach = [math.ceil(2 * s) for s in sigma]
    result = np.empty(window.shape, np.float32)
    rows = max(1, _BLOCK_VOXELS // (depth * alines))
    for start in range(0, blines, rows):
        some = slice(start, min(start + rows, blines))
        # Kernels are short, so the rest of the volume does not matter.
        first = window.first[:, some]
        top = max(0, int(first.min()) - reach[2])
        bottom = min(depth, int(first.max()) + window.length + reach[2])
        left, right = max(0, some.start - reach[1]), min(blines, some.stop + reach[1])
        kept = slice(some.start - left, some.stop - left)
        block = np.s_[:, left:right, top:bottom]
        smooth, raw = _stokes(volumes.r3d[block].T, volumes.o3d[block].T, sigma, kept)
        cosine, inside = window.gather(smooth, some, top=top)
        result[:, some] = summary(cosine, window.gather(raw, some, top=top)[0], inside).T
    return result


def _stokes(
    r3d: NDArray[np.float32],
    o3d: NDArray[np.float32],
    sigma: tuple[float, float, float],
    kept: slice,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return V over the smoothed norm, smoothed and raw, of the B-lines `kept`; (Z', Y', X)."""
    from scipy.ndimage import gaussian_filter1d

    def smoothed(part: NDArray[np.float32]) -> NDArray[np.float64]:
        values: NDArray[Any] = part
        # B-lines first, because the halo is not needed after that.
        for axis, width in ((1, sigma[1]), (2, sigma[0]), (0, sigma[2])):
            values = gaussian_filter1d(
                values,
                width,
                axis=axis,
                radius=math.ceil(2 * width),
                mode="nearest",
                # The angle of a cosine near 1 is sensitive to rounding.
                output=np.dtype(np.float64),
            )
            values = values[:, kept] if axis == 1 else values
        return values

    doubled = np.deg2rad(r3d) * np.float32(2)
    raw = np.cos(doubled)
    sine = np.sin(doubled, out=doubled)
    orientation = np.deg2rad(o3d) * np.float32(2)
    smooth = smoothed(raw)
    norm = smooth * smooth
    for part in (np.sin, np.cos):
        component = smoothed(part(orientation) * sine)
        norm += component * component
    np.sqrt(norm, out=norm)
    norm += _EPSILON
    return smooth / norm, raw[:, kept] / norm


BIREF_METHODS: dict[str, BirefMethod] = {
    "fft": fit_without_oscillation,
    "unwrap_old": unwrap_old,
    "unwrap_new": unwrap_new,
    "unwrap_exp": unwrap_exp,
    "exp": unwrap_exp,
}
# These look at the volumes around a window too.
SMOOTHED_METHODS = tuple(name for name in BIREF_METHODS if name != "fft")
