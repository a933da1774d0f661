"""The tissue surface in intensity volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError

# dB above which a sample counts as signal.
_SIGNAL_DBI = 0.01


def find_surface(
    dbi: NDArray[np.floating[Any]], spec: str = "gradient", args: Sequence[float] = ()
) -> NDArray[np.float64]:
    """Find the first tissue sample of every A-line.

    Parameters
    ----------
    dbi : (X, Y, Z) array
        Intensity, dB, with the surface towards z = 0.
    spec : {"gradient"}
        Method; "find" means the same, and surrounding blanks do not matter.
    args : sequence of int
        Arguments of the method. "gradient": ``(w, w2)``, the lengths in samples of the
        windows before and after the edge, default ``(5, 5)``.

    Returns
    -------
    (X, Y) float64
        1-based index of the first tissue sample, in 1..Z. 1 where nothing was found.

    Raises
    ------
    ConfigError
        If the method is unknown or its arguments cannot be used.
    CorruptInputError
        If `dbi` is not 3-D or is empty.

    Notes
    -----
    Follows psoct-toolbox ``findSurface`` and the clamping of its caller.
    """
    if dbi.ndim != 3 or 0 in dbi.shape:
        raise CorruptInputError(
            f"intensity volume has shape {dbi.shape}; expected (X, Y, Z). Compute it from the "
            "complex tile."
        )
    method = surface_method(spec, args)
    return clamped_surface(method(dbi, *(int(arg) for arg in args)), dbi.shape[2])


def surface_method(spec: str, args: Sequence[float]) -> Callable[..., NDArray[np.float64]]:
    """Return the function behind `spec` and check `args`, or raise `ConfigError`."""
    name = str(spec).strip()
    if name not in _METHODS:
        raise ConfigError(
            f"surface {spec!r} is unknown; accepted: {', '.join(_METHODS)}. Set one of them."
        )
    if len(args) > 2 or any(not float(arg).is_integer() or arg < 1 for arg in args):
        raise ConfigError(
            f"surface {name!r} got the arguments {tuple(args)}; expected up to 2 positive whole "
            "numbers of samples, by default (5, 5). Correct them or leave them out."
        )
    return _METHODS[name]


def clamped_surface(surface: NDArray[np.floating[Any]], depth: int) -> NDArray[np.float64]:
    """Round 1-based surface indices half away from zero and clamp them to 1..`depth`."""
    # Half away from zero, as MATLAB rounds; np.round goes to even. The values are positive
    # or clamped to 1, so only that side matters.
    rounded = np.floor(np.asarray(surface, dtype=np.float64) + 0.5)
    return np.clip(rounded, 1, depth)


def _gradient(
    dbi: NDArray[np.floating[Any]], window: int = 5, window2: int | None = None
) -> NDArray[np.float64]:
    """Place the surface at the strongest rise of the smoothed A-line.

    Follows ``psoct.surface.gradient``: of an A-line with L samples above 0.01 dB, the first
    L samples (whichever they are) are smoothed and searched for the greatest difference of
    the means of `window2` samples and of the `window` samples before them.
    """
    from scipy.ndimage import median_filter

    lengths = (window, 5 if window2 is None else window2)
    surface = np.empty(dbi.shape[:2])
    for y in range(dbi.shape[1]):
        surface[:, y] = _strongest_rise(np.ascontiguousarray(dbi[:, y, :]), *lengths)
    # 'reflect' repeats the edge sample: MATLAB's 'symmetric'.
    filtered: NDArray[np.float64] = median_filter(surface, size=3, mode="reflect")
    return filtered


def _strongest_rise(
    lines: NDArray[np.floating[Any]], window: int, window2: int
) -> NDArray[np.float64]:
    """Return the 1-based surface of each of `lines` (X, Z)."""
    from scipy.ndimage import gaussian_filter1d

    depth = lines.shape[1]
    candidates = depth - window - window2 + 1
    surface = np.ones(lines.shape[0])
    used = np.count_nonzero(lines > _SIGNAL_DBI, axis=1)
    searched = used > window + window2
    if not searched.any():
        return surface

    lines, used = lines[searched], used[searched, None]
    last = np.take_along_axis(lines, used - 1, axis=1)
    # Each line goes on with its last used sample, so one filter serves all lengths.
    extended = np.where(np.arange(depth) < used, lines, last)
    # Radius ceil(2 sigma), as imgaussfilt; scipy's own default is 4 sigma.
    smooth = gaussian_filter1d(
        extended, 5, axis=1, radius=10, mode="nearest", output=np.dtype(np.float64)
    )
    before = _window_means(smooth, window)[:, :candidates]
    after = _window_means(smooth, window2)[:, window : window + candidates]
    rise = after - before
    beyond = np.arange(candidates) >= used - window - window2 + 1
    # MATLAB's max passes over NaN and takes the first of equals.
    rise[beyond | np.isnan(rise)] = -np.inf
    surface[searched] = np.argmax(rise, axis=1) + 1 + window
    return surface


def _window_means(lines: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return the means of `length` adjacent samples, at the index of the first of them."""
    # Summed term by term: a running sum would carry one NaN to the end of the line.
    count = lines.shape[1] - length + 1
    total = lines[:, :count].copy()
    for shift in range(1, length):
        total += lines[:, shift : shift + count]
    total /= length
    return total


_METHODS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "gradient": _gradient,
    "find": _gradient,
}
