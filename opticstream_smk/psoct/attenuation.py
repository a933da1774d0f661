"""Attenuation of light in tissue, from its decay with depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.window import DepthWindow

# Samples next to the surface that its reflection and the axial resolution may reach.
_GUARD = 10
# Fewest samples that are averaged to a noise power or to the signal at the end of an A-line.
_LEAST = 20
# Part of the depth, from the deep end, where noise is looked for too.
_DEEP = 0.1
# Solving for the light beyond the last sample: each step shortens what is left.
_STEPS = 60
# Voxels in work at once; 4 MiB as float64.
_BLOCK_VOXELS = 2**19


def estimate_attenuation(
    dbi: NDArray[np.float32], window: DepthWindow, *, dz_um: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the mean attenuation coefficient in the window below the surface.

    Parameters
    ----------
    dbi : (X, Y, Z) array
        Intensity, dB, with the surface towards z = 0.
    window : DepthWindow
        The samples to average over.
    dz_um : float
        Depth of a voxel, um (in tissue: optical depth over refractive index).

    Returns
    -------
    mus : (X, Y) float32
        Attenuation, 1/mm, of the intensity on one way (it decays as exp(-2 mus z)). NaN where
        no light is left above noise or none decays, and where a sample is NaN from the start of
        the window to where its light ends.
    confidence : (X, Y) float32
        0 to 1: the part of the window whose signal exceeds the noise, times the part of the
        light that was measured and not extrapolated. 0 where `mus` is NaN.

    Notes
    -----
    Depth-resolved estimation: light that is attenuated comes back in proportion, so
    ``mus_i = ln(1 + I_i / sum_{j > i} I_j) / (2 dz)`` for every voxel [1]_. Its mean over a
    window telescopes to the logarithm of two sums, that of the light from the window's first
    sample on over that from behind its last, so single speckles hardly matter.

    The noise power is one number per tile: the median over A-lines of the mean power above the
    surface, or of the deepest tenth where that is lower. It is subtracted. Each A-line ends
    where its mean over 20 samples falls to twice the noise; what lies behind is taken to go on
    decaying with the coefficient sought.

    Limits: the fall of sensitivity with depth and the focus are not corrected and count as
    attenuation; backscattering is taken for a constant part of attenuation in an A-line; a
    tile without samples above the surface whose signal reaches the deep end has its noise
    overestimated, and `mus` with it. Below about 0.5/mm little decays inside a window.

    References
    ----------
    .. [1] K. A. Vermeer et al., "Depth-resolved model-based reconstruction of attenuation
       coefficients in optical coherence tomography", Biomed. Opt. Express 5, 322 (2014).
    """
    alines, blines = window.shape
    depth = dbi.shape[2]
    noise = _noise_power(dbi, window)
    light = {name: np.empty(window.shape) for name in _Light.__annotations__}
    rows = max(1, _BLOCK_VOXELS // (alines * depth))
    for start in range(0, blines, rows):
        some = slice(start, start + rows)
        signal = _power(dbi.T[:, some]).reshape(depth, -1) - noise
        first = window.first[:, some].T
        for name, values in _measure(signal, first.ravel(), window.length, noise).items():
            light[name][:, some] = values.reshape(first.shape).T
    mus, measured = _solve(_Light(**light))
    usable = np.isfinite(mus) & (mus > 0) & (light["total"] > 0)
    confidence = np.where(usable, light["strong"] * np.clip(measured, 0, 1), 0)
    return (
        np.where(usable, mus * (1000 / dz_um), np.nan).astype(np.float32),
        confidence.astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class _Light:
    """What the A-lines of a tile send back; powers less noise, lengths in samples."""

    total: NDArray[np.float64]  # from the start of the window to the end of the A-line
    rest: NDArray[np.float64]  # the part of it behind the window
    last: NDArray[np.float64]  # mean signal near the end ...
    ahead: NDArray[np.float64]  # ... this far before it
    window: NDArray[np.float64]  # length of the window
    strong: NDArray[np.float64]  # part of the window whose signal exceeds the noise


def _solve(light: _Light) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return attenuation per sample, and the measured part of the light."""
    # From above, where nothing is left behind the end; each step lets more be left.
    mus = np.ones(light.total.shape)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_STEPS):
            # Geometric sum of what goes on decaying.
            tail = light.last * np.exp(-2 * mus * light.ahead) / -np.expm1(-2 * mus)
            mus = np.log((light.total + tail) / (light.rest + tail)) / (2 * light.window)
        return mus, light.total / (light.total + tail)


def _measure(
    signal: NDArray[np.float64], first: NDArray[np.intp], length: int, noise: float
) -> dict[str, NDArray[np.float64]]:
    """Return the fields of `_Light` for A-lines (Z, L) whose windows start at `first`."""
    depth, count = signal.shape
    after = np.minimum(first + length, depth)
    # Row z is the sum of the samples from the window's start to before z.
    integral = np.zeros((depth + 1, count))
    lit = np.arange(depth)[:, None] >= first
    np.cumsum(np.where(lit, signal, 0), axis=0, out=integral[1:])

    def between(start: NDArray[np.intp], stop: NDArray[np.intp]) -> NDArray[np.float64]:
        low, high = (np.take_along_axis(integral, i[None], axis=0)[0] for i in (start, stop))
        difference: NDArray[np.float64] = high - low
        return difference

    span = min(_LEAST, depth)
    weak = (integral[span:] - integral[:-span]) / span <= noise
    place = np.arange(weak.shape[0])[:, None]
    faded = weak & (place >= after)
    stop = np.where(faded.any(axis=0), faded.argmax(axis=0), depth)
    low, high = np.maximum(stop - span, first), np.minimum(stop + span, depth)
    # A window that reaches the end has fewer places where a mean can start.
    inside = (place >= first) & (place < after)
    return {
        "total": between(first, stop),
        "rest": np.maximum(between(after, stop), 0),
        "last": np.maximum(between(low, high) / (high - low), 0),
        "ahead": stop - (low + high - 1) / 2,
        "window": (after - first).astype(np.float64),
        "strong": (inside & ~weak).sum(axis=0) / np.maximum(inside.sum(axis=0), 1),
    }


def _noise_power(dbi: NDArray[np.float32], window: DepthWindow) -> float:
    """Return the noise power of a tile; 0 where nothing tells it."""
    depth = dbi.shape[2]
    above, deep = np.full(window.shape, np.nan), np.full(window.shape, np.nan)
    bottom = max(0, depth - max(_LEAST, int(_DEEP * depth)))
    for y in range(window.shape[1]):
        end = window.surface[:, y] - _GUARD
        top = _power(dbi[:, y, : max(0, int(end.max()))].T)
        used = (np.arange(top.shape[0])[:, None] < end) & ~np.isnan(top)
        count = np.count_nonzero(used, axis=0)
        enough = count >= _LEAST
        np.divide(top.sum(axis=0, where=used), count, out=above[:, y], where=enough)
        # Below the surface with its guard, or this is not deep.
        line = _power(dbi[:, y, bottom:].T)
        lies_deep = window.surface[:, y] + _GUARD < bottom
        np.copyto(deep[:, y], line.mean(axis=0), where=lies_deep)
    medians = [np.median(means[~np.isnan(means)]) for means in (above, deep) if _any(means)]
    return float(min(medians, default=0.0))


def _any(means: NDArray[np.float64]) -> bool:
    return not bool(np.isnan(means).all())


def _power(dbi: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the power of dB values, which is no number where they are none."""
    power: NDArray[np.float64] = np.exp(dbi * np.float32(np.log(10) / 10)).astype(np.float64)
    return power
