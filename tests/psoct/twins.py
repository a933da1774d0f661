"""NumPy twins of the compiled loops: the same definitions, written for reading."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

SIGNAL_DBI = 0.01


def resampled(
    counts: NDArray[np.uint16],
    lower: NDArray[np.intp],
    upper: NDArray[np.intp],
    weight: NDArray[np.float32],
    correction: NDArray[np.complex64],
) -> NDArray[np.complex64]:
    """Counts (N, X) to fringes (N, X): interpolate, subtract the median A-line, correct."""
    background = np.floor(counts.mean(axis=1, keepdims=True) + 0.5)
    values = (counts - background).astype(np.float32)
    values = values[lower] + (values[upper] - values[lower]) * weight[:, None]
    ordered = np.sort(values, axis=1)
    size = values.shape[1]
    middle = ordered[:, (size - 1) // 2 : size // 2 + 1].mean(axis=1, keepdims=True)
    fringes: NDArray[np.complex64] = (values - middle) * correction[:, None]
    return fringes


def strongest_rise(lines: NDArray[np.floating], window: int, window2: int) -> NDArray[np.float64]:
    """1-based surface of each of lines (X, Z): the toolbox's ``gradient``."""
    surface = np.ones(len(lines))
    for x, line in enumerate(lines):
        used = np.count_nonzero(line > SIGNAL_DBI)
        if used <= window + window2:
            continue
        smooth = gaussian_filter1d(line[:used].astype(float), 5, radius=10, mode="nearest")
        rise = [
            smooth[k + window : k + window + window2].mean() - smooth[k : k + window].mean()
            for k in range(used - window - window2 + 1)
        ]
        # MATLAB's max passes over NaN and takes the first of equals.
        surface[x] = np.argmax(np.where(np.isnan(rise), -np.inf, rise)) + 1 + window
    return surface


def window_maps(
    dbi: NDArray[np.float32],
    r3d: NDArray[np.float32],
    o3d: NDArray[np.float32],
    first: NDArray[np.intp],
    length: int,
    wavelength: float,
) -> NDArray[np.float64]:
    """Maps (5, X) of one B-line, volumes (Z, X): aip, mip, ret, ori, slope of the path."""
    maps = np.empty((5, len(first)))
    for x, start in enumerate(first):
        window = slice(start, start + length)
        intensity, retardance = dbi[window, x], r3d[window, x]
        intensity = intensity[~np.isnan(intensity)].astype(float)
        known = retardance[~np.isnan(retardance)].astype(float)
        doubled = np.deg2rad(o3d[window, x].astype(float)) * 2
        zeros = np.flatnonzero(retardance == 0)
        used = retardance[: zeros[0] + 1] if zeros.size else retardance
        path = (used / np.float32(360) * np.float32(wavelength)).astype(float)
        steps = np.arange(path.size) - (path.size - 1) / 2
        slope = 0.0
        if path.size >= 3 and (path != 0).any():
            slope = (steps * path).sum() / (steps * steps).sum()
        maps[:, x] = (
            intensity.mean() if intensity.size else np.nan,
            intensity.max() if intensity.size else np.nan,
            known.mean() if known.size else np.nan,
            np.rad2deg(0.5 * np.arctan2(np.sin(doubled).sum(), np.cos(doubled).sum())),
            slope,
        )
    return maps


def unpacked(packed: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """12-bit counts of bytes (3M,)."""
    b0, b1, b2 = packed.reshape(-1, 3).T.astype(np.uint16)
    return np.stack([b0 + 256 * (b1 % 16), b1 // 16 + 16 * b2], axis=1).ravel()
