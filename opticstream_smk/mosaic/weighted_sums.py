"""Sums of what is known of every pixel of a canvas, tile by tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.mosaic.resample import shift_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class WeightedSums:
    """Weighted sums over tiles on some rows of the canvas.

    Parameters
    ----------
    shape
        Rows and columns that there is room for.
    circular
        The sums are of the vectors of doubled angles.
    """

    def __init__(self, shape: tuple[int, int], *, circular: bool) -> None:
        self._total = np.zeros(shape, dtype=np.float32)
        self._sums = [np.zeros(shape, dtype=np.float32) for _ in range(2 if circular else 1)]

    def add(
        self,
        image: NDArray[np.float32],
        weights: NDArray[np.float32],
        corner: Sequence[int] | NDArray[np.int64],
        fraction: tuple[float, float],
    ) -> None:
        """Add a tile whose first pixel lies at `corner` (y, x), and `fraction` px further."""
        missing = ~np.isfinite(image)
        has_gaps = bool(missing.any())
        if has_gaps:
            image = np.where(missing, np.float32(np.nan), image)
            weights = np.where(missing, np.float32(0), weights)
        parts = [image]
        if len(self._sums) == 2:
            double = np.deg2rad(2 * image)
            parts = [np.cos(double), np.sin(double)]
        if fraction != (0, 0):
            parts = [shift_image(part, fraction) for part in parts]
        if has_gaps:
            parts = [np.where(missing, np.float32(0), part) for part in parts]
        (y, x), (ny, nx) = corner, image.shape
        window = (slice(y, y + ny), slice(x, x + nx))
        self._total[window] += weights
        for total, part in zip(self._sums, parts, strict=True):
            total[window] += weights * part

    def mean(self, rows: int) -> NDArray[np.float32]:
        """Mean of the first rows, in memory of its own; NaN where there is no weight."""
        total = self._total[:rows]
        if len(self._sums) == 1:
            result = np.full(total.shape, np.nan, np.float32)
            return np.divide(self._sums[0][:rows], total, out=result, where=total > 0)
        x, y = (values[:rows] for values in self._sums)
        angle = np.asarray(np.rad2deg(np.arctan2(y, x)) / 2, dtype=np.float32)
        # Rounding brings up both ends of the period, which are the same orientation.
        angle[np.abs(angle) >= 90] = 90
        angle[total <= 0] = np.nan
        return angle

    def drop(self, rows: int) -> None:
        """Forget the first rows; those behind them come first."""
        for values in (self._total, *self._sums):
            left = len(values) - rows
            # From the top, so that memory that overlaps is not read after it was written.
            for start in range(0, left, rows):
                stop = min(start + rows, left)
                values[start:stop] = values[start + rows : stop + rows]
            values[left:] = 0
