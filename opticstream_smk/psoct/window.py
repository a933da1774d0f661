"""The depth window below the surface that en-face maps summarise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """

    def __init__(
        self, surface: NDArray[np.float64], *, depth: int, offset_px: int, depth_px: int
    ) -> None:
        self.shape = surface.shape
        self._depth = depth
        self._length = min(depth_px + 1, depth)
        self._first = np.clip(surface.astype(np.intp) + offset_px, 1, depth) - 1

    def summarise(self, volume: NDArray[np.float32], summary: Summary) -> NDArray[np.float32]:
        """Apply `summary` to the windows of `volume` (X, Y, Z), some B-lines at a time.

        Returns
        -------
        (X, Y) float32
        """
        alines, blines = self.shape
        result = np.empty(self.shape, np.float32)
        rows = max(1, _BLOCK_SAMPLES // (self._length * alines))
        steps = np.arange(self._length)[:, None, None]
        for start in range(0, blines, rows):
            some = slice(start, start + rows)
            index = self._first[:, some].T + steps
            inside = index < self._depth
            np.minimum(index, self._depth - 1, out=index)
            samples = np.take_along_axis(volume[:, some, :].T, index, axis=0)
            result[:, some] = summary(samples, inside).T
        return result
