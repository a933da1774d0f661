"""The tissue surface in intensity volumes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError

SurfaceSpec: TypeAlias = str | int | os.PathLike[str]
_Method: TypeAlias = Callable[[NDArray[np.floating[Any]]], NDArray[np.floating[Any]]]

# dB above which a sample counts as signal.
_SIGNAL_DBI = 0.01


def find_surface(
    dbi: NDArray[np.floating[Any]], spec: SurfaceSpec = "gradient", args: Sequence[float] = ()
) -> NDArray[np.float64]:
    """Find the first tissue sample of every A-line.

    Parameters
    ----------
    dbi : (X, Y, Z) array
        Intensity, dB, with the surface towards z = 0.
    spec : {"gradient", "gradientThreshold"}, int or path
        A method ("find" is "gradient", and surrounding blanks do not matter); or a whole
        number, also as text, the same 1-based index everywhere; or a ``.nii`` or ``.nii.gz``
        file of 1-based indices, (X, Y) or (X, Y, 1), taken as they are.
    args : sequence
        Arguments of the method. "gradient": ``(w, w2)``, the lengths in samples of the
        windows before and after the edge, default ``(5, 5)``. "gradientThreshold":
        ``(n, threshold, w, w2)``, default ``(20, 55, 5, 5)``: where the mean of the first n
        samples reaches the threshold (dB), tissue begins at the top, and the surface is the
        first sample that reaches it; elsewhere as "gradient".

    Returns
    -------
    (X, Y) float64
        1-based index of the first tissue sample, rounded half away from zero, in 1..Z. 1 where
        nothing was found.

    Raises
    ------
    ConfigError
        If the method is unknown or its arguments cannot be used.
    IncompleteInputError
        If a file does not exist.
    CorruptInputError
        If `dbi` is not 3-D or is empty, or a file cannot be read or does not fit it.

    Notes
    -----
    Follows psoct-toolbox ``findSurface`` and the clamping of its caller.
    """
    if dbi.ndim != 3 or 0 in dbi.shape:
        raise CorruptInputError(
            f"intensity volume has shape {dbi.shape}; expected (X, Y, Z). Compute it from the "
            "complex tile."
        )
    return clamped_surface(surface_method(spec, args)(dbi), dbi.shape[2])


def surface_method(spec: SurfaceSpec, args: Sequence[float]) -> _Method:
    """Return the function of dBI behind `spec` and `args`, or raise as `find_surface` does."""
    name = os.fspath(spec).strip() if isinstance(spec, str | os.PathLike) else str(spec)
    if name in _METHODS:
        check, method = _METHODS[name]
        check(name, args)
        numbers = [int(arg) if float(arg).is_integer() else arg for arg in args]
        return lambda dbi: method(dbi, *numbers)
    if isinstance(spec, str | os.PathLike) and name.endswith((".nii", ".nii.gz")):
        method, what = partial(_of_file, Path(name)), "file"
        if not Path(name).exists():
            raise IncompleteInputError(
                f"surface file {name} not found. Correct its path, or set a method: "
                f"{', '.join(_METHODS)}."
            )
    else:
        try:
            method, what = partial(_constant, int(name)), "constant"
        except ValueError as error:
            raise ConfigError(
                f"surface {spec!r} is unknown; accepted: {', '.join(_METHODS)}, a whole number, or "
                "the path of a .nii or .nii.gz file. Set one of them."
            ) from error
    if args:
        raise ConfigError(
            f"surface {spec!r} got the arguments {tuple(args)}; a {what} takes none. Leave them "
            "out."
        )
    return method


def clamped_surface(surface: NDArray[np.floating[Any]], depth: int) -> NDArray[np.float64]:
    """Round 1-based surface indices half away from zero and clamp them to 1..`depth`."""
    # Half away from zero, as MATLAB rounds; np.round goes to even. The values are positive
    # or clamped to 1, so only that side matters.
    rounded = np.floor(np.asarray(surface, dtype=np.float64) + 0.5)
    return np.clip(rounded, 1, depth)


def _constant(index: int, dbi: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Place the surface at the same 1-based index everywhere."""
    return np.full(dbi.shape[:2], float(index))


def _of_file(path: Path, dbi: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Read the surface from a NIfTI file."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        surface = np.asarray(nibabel.load(path).dataobj, dtype=np.float64)
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"surface file {path} not found. Correct its path, or set a method: "
            f"{', '.join(_METHODS)}."
        ) from error
    except (OSError, ValueError, TypeError, EOFError, ImageFileError) as error:
        raise CorruptInputError(
            f"surface file {path} cannot be read as NIfTI ({error}). Check its rights, and copy "
            "it again."
        ) from error
    expected = dbi.shape[:2]
    if surface.shape not in (expected, (*expected, 1)):
        raise CorruptInputError(
            f"surface file {path} has shape {surface.shape}; expected {expected}, one index per "
            "A-line of the tile. Give the surface of this tile."
        )
    if not np.isfinite(surface).all():
        raise CorruptInputError(
            f"surface file {path} has {np.count_nonzero(~np.isfinite(surface))} values that are "
            "not finite; expected 1-based depth indices. Make it again."
        )
    return surface.reshape(expected)


def _gradient(
    dbi: NDArray[np.floating[Any]], window: int = 5, window2: int = 5
) -> NDArray[np.float64]:
    """Place the surface at the strongest rise of the smoothed A-line.

    Follows ``psoct.surface.gradient``: of an A-line with L samples above 0.01 dB, the first
    L samples (whichever they are) are smoothed and searched for the greatest difference of
    the means of `window2` samples and of the `window` samples before them.
    """
    return _by_bline(dbi, lambda lines: _strongest_rise(lines, window, window2))


def _gradient_threshold(
    dbi: NDArray[np.floating[Any]],
    count: int = 20,
    threshold: float = 55,
    window: int = 5,
    window2: int = 5,
) -> NDArray[np.float64]:
    """Place the surface at the first bright sample of A-lines that begin bright.

    Follows ``psoct.surface.gradientThreshold``; L is as in `_gradient`.
    """

    def surface(lines: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        found = _strongest_rise(lines, window, window2)
        used = np.count_nonzero(lines > _SIGNAL_DBI, axis=1)
        first = np.minimum(count, used)
        head = lines[:, :count]
        counted = np.arange(head.shape[1]) < first[:, None]
        mean = np.divide(
            head.sum(axis=1, dtype=np.float64, where=counted),
            first,
            out=np.full(first.shape, -np.inf),
            where=first > 0,
        )
        bright = mean >= threshold
        # NaN is not bright.
        reached = (lines >= threshold) & (np.arange(lines.shape[1]) < used[:, None])
        found[bright] = reached.argmax(axis=1)[bright] + 1
        return found

    return _by_bline(dbi, surface)


def _by_bline(
    dbi: NDArray[np.floating[Any]],
    method: Callable[[NDArray[np.floating[Any]]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Apply `method` to each B-line (X, Z), then a 3 x 3 median."""
    from scipy.ndimage import median_filter

    surface = np.empty(dbi.shape[:2])
    for y in range(dbi.shape[1]):
        surface[:, y] = method(np.ascontiguousarray(dbi[:, y, :]))
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


def _check_lengths(name: str, args: Sequence[float]) -> None:
    if len(args) > 2 or any(not float(arg).is_integer() or arg < 1 for arg in args):
        raise ConfigError(
            f"surface {name!r} got the arguments {tuple(args)}; expected up to 2 positive whole "
            "numbers of samples, by default (5, 5). Correct them or leave them out."
        )


def _check_threshold(name: str, args: Sequence[float]) -> None:
    whole = (*args[:1], *args[2:])
    if (
        len(args) > 4
        or any(not float(arg).is_integer() or arg < 1 for arg in whole)
        or not all(np.isfinite(arg) for arg in args)
    ):
        raise ConfigError(
            f"surface {name!r} got the arguments {tuple(args)}; expected up to 4 numbers (n, "
            "threshold in dB, windowSize, kernelSize), all but the threshold positive and whole, "
            "by default (20, 55, 5, 5). Correct them or leave them out."
        )


_METHODS: dict[
    str, tuple[Callable[[str, Sequence[float]], None], Callable[..., NDArray[np.float64]]]
] = {
    "gradient": (_check_lengths, _gradient),
    "find": (_check_lengths, _gradient),
    "gradientThreshold": (_check_threshold, _gradient_threshold),
}
