"""The depth window below the surface that en-face maps summarise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.floating[Any])
# Receives samples (K, Y', X) and which of them lie inside the window; returns (Y', X).
Summary = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.floating[Any]]]

# Samples gathered at once; 1 MiB of float32 stays in the L2 cache.
_BLOCK_SAMPLES = 2**18


class DepthWindow:
    """A window that starts at the surface of each A-line and ends with the volume.

    Parameters
    ----------
    surface : (X, Y) array
        1-based surface index, whole numbers in 1..`depth`.
    depth : int
        Number of depth samples Z of the volumes.
    offset_px : int
        Added to the surface; the first sample is clamped to 1..Z.
    depth_px : int
        The window is inclusive at both ends: ``depth_px + 1`` samples, fewer at the end of
        the volume.

    Attributes
    ----------
    length : int
        Samples of a window that the volume does not cut short.
    surface, first : (X, Y) intp
        0-based depth index of the surface and of the first sample of the window.
    """

    def __init__(
        self, surface: NDArray[np.float64], *, depth: int, offset_px: int, depth_px: int
    ) -> None:
        self.shape = surface.shape
        self.depth_px = depth_px
        self.length = min(depth_px + 1, depth)
        self.surface = surface.astype(np.intp) - 1
        self.first = np.clip(self.surface + offset_px, 0, depth - 1)
        self._depth = depth

    def summarise(self, volume: NDArray[np.float32], summary: Summary) -> NDArray[np.float32]:
        """Apply `summary` to the windows of `volume` (X, Y, Z), some B-lines at a time.

        Returns
        -------
        (X, Y) float32
        """
        alines, blines = self.shape
        result = np.empty(self.shape, np.float32)
        rows = max(1, _BLOCK_SAMPLES // (self.length * alines))
        for start in range(0, blines, rows):
            some = slice(start, start + rows)
            samples, inside = self.gather(volume[:, some, :].T, some)
            result[:, some] = summary(samples, inside).T
        return result

    def gather(
        self, block: NDArray[_Value], blines: slice, *, top: int = 0
    ) -> tuple[NDArray[_Value], NDArray[np.bool_]]:
        """Return the windows of some B-lines.

        Parameters
        ----------
        block : (Z', Y', X) array
            Values of the B-lines `blines`, from depth index `top` on; all windows lie in it.
        blines : slice
            Which B-lines these are.
        top : int
            0-based depth index of ``block[0]``.

        Returns
        -------
        samples : (K, Y', X)
            K = `length`; what lies beyond the volume repeats its last sample.
        inside : (K, Y', X) bool
            Which of them lie in the volume.
        """
        index = self.first[:, blines].T + np.arange(self.length)[:, None, None]
        inside = index < self._depth
        np.minimum(index, self._depth - 1, out=index)
        index -= top
        return np.take_along_axis(block, index, axis=0), inside
