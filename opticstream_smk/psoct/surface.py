"""The tissue surface in intensity volumes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError

SurfaceSpec: TypeAlias = str | int | os.PathLike[str]
BlineSearch: TypeAlias = Callable[[NDArray[np.floating[Any]], int], NDArray[np.float64]]

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
    method = surface_method(spec, args)
    shape = dbi.shape[:2]
    if method.given is not None:
        return clamped_surface(method.given(shape), dbi.shape[2])
    search = method.searcher(dbi.shape[0], dbi.shape[2])
    surface = np.empty(shape)
    dtype: type[np.floating[Any]] = np.float32 if dbi.dtype == np.float32 else np.float64
    for y in range(shape[1]):
        line = np.ascontiguousarray(dbi[:, y : y + 1].T, dtype)
        surface[:, y] = search(line, 0)
    return clamped_surface(median3x3(surface), dbi.shape[2])


@dataclass(frozen=True)
class SurfaceMethod:
    """How surfaces are found: one of the two is given.

    Attributes
    ----------
    given
        Surface of a tile of (X, Y) that is handed in, not searched for.
    searcher
        Makes the search in A-lines of one tile size (X, Z), with memory of its own. It takes
        volumes (Z, Y, X) and a B-line, and gives (X,) 1-based indices, to be filtered by
        `median3x3`.
    """

    given: Callable[[tuple[int, int]], NDArray[np.float64]] | None = None
    searcher: Callable[[int, int], BlineSearch] = field(default=lambda *_: _never)


def surface_method(spec: SurfaceSpec, args: Sequence[float]) -> SurfaceMethod:
    """Return the method behind `spec` and `args`, or raise as `find_surface` does."""
    name = os.fspath(spec).strip() if isinstance(spec, str | os.PathLike) else str(spec)
    if name in _METHODS:
        check, search = _METHODS[name]
        check(name, args)
        numbers = [int(arg) if float(arg).is_integer() else arg for arg in args]
        return SurfaceMethod(searcher=lambda alines, depth: search(alines, depth, *numbers))
    if isinstance(spec, str | os.PathLike) and name.endswith((".nii", ".nii.gz")):
        given, what = partial(_of_file, Path(name)), "file"
        if not Path(name).exists():
            raise IncompleteInputError(
                f"surface file {name} not found. Correct its path, or set a method: "
                f"{', '.join(_METHODS)}."
            )
    else:
        try:
            given, what = partial(_constant, int(name)), "constant"
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
    return SurfaceMethod(given=given)


def clamped_surface(surface: NDArray[np.floating[Any]], depth: int) -> NDArray[np.float64]:
    """Round 1-based surface indices half away from zero and clamp them to 1..`depth`."""
    # Half away from zero, as MATLAB rounds; np.round goes to even. The values are positive
    # or clamped to 1, so only that side matters.
    rounded = np.floor(np.asarray(surface, dtype=np.float64) + 0.5)
    return np.clip(rounded, 1, depth)


def median3x3(surface: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of 3 x 3 A-lines; those at the edge are repeated."""
    from scipy.ndimage import median_filter

    # 'reflect' repeats the edge sample: MATLAB's 'symmetric'.
    filtered: NDArray[np.float64] = median_filter(surface, size=3, mode="reflect")
    return filtered


def _constant(index: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Place the surface at the same 1-based index everywhere."""
    return np.full(shape, float(index))


def _of_file(path: Path, expected: tuple[int, int]) -> NDArray[np.float64]:
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


class _Gradient:
    """The surface at the strongest rise of the smoothed A-line.

    Follows ``psoct.surface.gradient``: of an A-line with L samples above 0.01 dB, the first
    L samples (whichever they are) are smoothed and searched for the greatest difference of
    the means of `window2` samples and of the `window` samples before them.
    """

    def __init__(self, alines: int, depth: int, window: int = 5, window2: int = 5) -> None:
        from opticstream_smk.psoct import depth_kernels as kernels

        self._kernels = kernels
        self._windows = window, window2
        self.lengths = np.empty(alines, np.int64)
        self._taps = _gaussian(5.0, kernels.RADIUS)
        self._padded = np.empty((depth + 2 * kernels.RADIUS, alines))
        self._smooth = np.empty((depth, alines))

    def __call__(self, dbi: NDArray[np.floating[Any]], y: int) -> NDArray[np.float64]:
        surface = np.empty(dbi.shape[2])
        self._kernels.signal_lengths(dbi, y, dbi.dtype.type(_SIGNAL_DBI), self.lengths)
        self._kernels.strongest_rise(
            dbi,
            y,
            self.lengths,
            self._taps,
            *self._windows,
            self._padded,
            self._smooth,
            surface,
        )
        return surface


class _GradientThreshold:
    """The surface at the first bright sample of A-lines that begin bright.

    Follows ``psoct.surface.gradientThreshold``; L is as in `_Gradient`, which serves for the
    others.
    """

    def __init__(
        self,
        alines: int,
        depth: int,
        count: int = 20,
        threshold: float = 55,
        window: int = 5,
        window2: int = 5,
    ) -> None:
        self._gradient = _Gradient(alines, depth, window, window2)
        self._count, self._threshold = count, threshold

    def __call__(self, dbi: NDArray[np.floating[Any]], y: int) -> NDArray[np.float64]:
        found = self._gradient(dbi, y)
        lines, used = dbi[:, y], self._gradient.lengths
        first = np.minimum(self._count, used)
        head = lines[: self._count]
        counted = np.arange(head.shape[0])[:, None] < first
        mean = np.divide(
            head.sum(axis=0, dtype=np.float64, where=counted),
            first,
            out=np.full(first.shape, -np.inf),
            where=first > 0,
        )
        bright = mean >= self._threshold
        # NaN is not bright.
        reached = (lines >= self._threshold) & (np.arange(lines.shape[0])[:, None] < used)
        found[bright] = reached.argmax(axis=0)[bright] + 1
        return found


def _gaussian(sigma: float, radius: int) -> NDArray[np.float64]:
    """Half of a normalised Gaussian, its middle first, as SciPy computes it."""
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    half: NDArray[np.float64] = (weights / weights.sum())[radius:]
    return half


def _never(*_: object) -> NDArray[np.float64]:
    raise AssertionError("a surface that is given is not searched for")


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


_METHODS: dict[str, tuple[Callable[[str, Sequence[float]], None], Callable[..., BlineSearch]]] = {
    "gradient": (_check_lengths, _Gradient),
    "find": (_check_lengths, _Gradient),
    "gradientThreshold": (_check_threshold, _GradientThreshold),
}
