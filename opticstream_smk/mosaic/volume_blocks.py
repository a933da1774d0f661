"""Blocks of a stitched volume: which tiles lie there, and their blended values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from opticstream_smk.mosaic import volume_kernels as kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from opticstream_smk.io.ome_zarr import Shape


Span = tuple[int, int]


class VolumeReader(Protocol):
    """A tile's volume, of which parts are read; `opticstream_smk.io.nifti.StackReader` is one."""

    @property
    def shape(self) -> Shape:
        """(Z, ny, nx)."""

    @property
    def identity(self) -> str:
        """What the values are known by (path, size, time): another identity is other values."""

    def read_rows(self, planes: Span, rows: Span, buffer: NDArray[np.float32]) -> None:
        """Fill `buffer`, (planes, rows, nx), contiguous."""


class ArrayVolume:
    """A volume in memory, (Z, ny, nx)."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self._values = values
        z, y, x = values.shape
        self.shape = (z, y, x)

    @property
    def identity(self) -> str:
        """Hash of the values."""
        import hashlib

        return hashlib.sha256(np.ascontiguousarray(self._values).tobytes()).hexdigest()

    def read_rows(self, planes: Span, rows: Span, buffer: NDArray[np.float32]) -> None:
        """Copy planes and rows."""
        buffer[:] = self._values[slice(*planes), slice(*rows)]


def _within(span: Span, start: int, length: int) -> Span:
    return max(span[0] - start, 0), max(min(span[1] - start, length), 0)


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that the values of a volume follow from.

    Attributes
    ----------
    readers
        One per tile, None for a missing one.
    corners
        (N, 2) y, x of each tile on the canvas, whole px.
    tile_shape
        (Z, ny, nx) of a tile.
    shape
        (z, y, x) of the volume.
    shift
        (ny, nx) int32: plane of the tile that lies at depth 0.
    weights
        (ny, nx) float32.
    mask
        (y, x) bool, or None.
    """

    readers: Sequence[VolumeReader | None]
    corners: NDArray[np.int64]
    tile_shape: Shape
    shape: Shape
    shift: NDArray[np.int32]
    weights: NDArray[np.float32]
    circular: bool
    mask: NDArray[np.bool_] | None

    def tiles_at(self, rows: Span, columns: Span) -> list[int]:
        """Tiles that are there and reach into an area of the canvas."""
        _, ny, nx = self.tile_shape
        y, x = self.corners[:, 0], self.corners[:, 1]
        meet = (y < rows[1]) & (y + ny > rows[0]) & (x < columns[1]) & (x + nx > columns[0])
        return [i for i in map(int, np.flatnonzero(meet)) if self.readers[i] is not None]

    def rows_of(self, tile: int, rows: Span) -> Span:
        """Rows of a tile that lie in rows of the canvas."""
        return _within(rows, int(self.corners[tile, 0]), self.tile_shape[1])

    def columns_of(self, tile: int, columns: Span) -> Span:
        """Columns of a tile that lie in columns of the canvas; none where the first is last."""
        return _within(columns, int(self.corners[tile, 1]), self.tile_shape[2])

    def wanted(self, rows: Span, columns: Span) -> NDArray[np.bool_]:
        """Where an area of the canvas lies in the mask and in a tile."""
        covered = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), np.bool_)
        for tile in self.tiles_at(rows, columns):
            covered[self._place(tile, rows, columns)[0]] = True
        if self.mask is not None:
            covered &= self.mask[slice(*rows), slice(*columns)]
        return covered

    def out_of_range(self, rows: Span, columns: Span) -> int:
        """How many voxels of an area have no value because the tiles there do not reach so far."""
        depth = self.shape[0]
        size = rows[1] - rows[0], columns[1] - columns[0]
        first, last = np.full(size, depth, np.int64), np.zeros(size, np.int64)
        for tile in self.tiles_at(rows, columns):
            place, own = self._place(tile, rows, columns)
            shift = self.shift[own]
            first[place] = np.minimum(first[place], np.clip(-shift, 0, depth))
            last[place] = np.maximum(last[place], np.clip(self.tile_shape[0] - shift, 0, depth))
        empty = depth - np.maximum(last - first, 0)
        return int(empty[self.wanted(rows, columns)].sum())

    def _place(
        self, tile: int, rows: Span, columns: Span
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where a tile lies in an area of the canvas, and what part of the tile that is."""
        y, x = (int(v) for v in self.corners[tile])
        (top, bottom), (left, right) = self.rows_of(tile, rows), self.columns_of(tile, columns)
        dy, dx = y - rows[0], x - columns[0]
        return (
            (slice(top + dy, bottom + dy), slice(left + dx, right + dx)),
            (slice(top, bottom), slice(left, right)),
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """What was read of a tile for a slab: planes for all shifts, NaN where the tile has none.

    Attributes
    ----------
    tile
        0-based.
    top, bottom
        Rows of the tile.
    lowest
        Least shift among the pixels in question: that of the first plane.
    values
        (n,) planes one after the other, whole rows of the tile.
    """

    tile: int
    top: int
    bottom: int
    lowest: int
    values: NDArray[np.float32]


class BlockMaker:
    """Blends blocks of one size, in memory of its own: one for each thread.

    Attributes
    ----------
    read_bytes
        What was read of the tiles.
    """

    def __init__(self, scene: Scene, block: Shape) -> None:
        self._scene = scene
        self._block = block
        self._sums = [np.empty(block, np.float32) for _ in range(2 if scene.circular else 1)]
        self._total = np.empty(block, np.float32)
        self._row = np.empty(block[2], np.float32)
        self._memory = np.empty(0, np.float32)
        self._parts: list[_Part] = []
        self._planes, self._rows = (0, 0), (0, 0)
        self.read_bytes = 0

    @staticmethod
    def memory_bytes(scene: Scene, block: Shape, rows: Span, columns: Span) -> int:
        """What one takes at most in a strip of the canvas."""
        blocks = 4 * math.prod(block) * (3 if scene.circular else 2)
        height = block[0] + int(scene.shift.max() - scene.shift.min())
        parts = sum(
            height * (bottom - top) * scene.tile_shape[2]
            for tile in scene.tiles_at(rows, columns)
            for top, bottom in [scene.rows_of(tile, rows)]
        )
        return blocks + 4 * parts

    def load(self, planes: Span, rows: Span, columns: Span) -> None:
        """Read what the tiles have of a slab: planes of the volume, an area of the canvas."""
        scene = self._scene
        self._planes, self._rows, self._parts = planes, rows, []
        plans = []
        for tile in scene.tiles_at(rows, columns):
            top, bottom = scene.rows_of(tile, rows)
            shift = scene.shift[top:bottom, slice(*scene.columns_of(tile, columns))]
            lowest = int(shift.min())
            height = self._block[0] + int(shift.max()) - lowest
            plans.append((tile, top, bottom, lowest, height))
        width = scene.tile_shape[2]
        needed = sum((bottom - top) * height * width for _, top, bottom, _, height in plans)
        if needed > self._memory.size:
            self._memory = np.empty(needed, np.float32)
        start = 0
        for tile, top, bottom, lowest, height in plans:
            stop = start + (bottom - top) * height * width
            values = self._memory[start:stop]
            start = stop
            self._read(tile, (top, bottom), planes[0] + lowest, values.reshape(height, -1, width))
            self._parts.append(_Part(tile, top, bottom, lowest, values))

    def _read(self, tile: int, rows: Span, first: int, values: NDArray[np.float32]) -> None:
        """Planes from `first`, which may be before the tile's own or behind them."""
        reader = self._scene.readers[tile]
        assert reader is not None
        height, depth = len(values), self._scene.tile_shape[0]
        begin, end = (min(max(z, 0), depth) for z in (first, first + height))
        if begin < end:
            own = values[begin - first : end - first]
            reader.read_rows((begin, end), rows, own)
            self.read_bytes += own.nbytes
            values[: begin - first] = np.nan
            values[end - first :] = np.nan
        else:
            values[:] = np.nan

    def make(self, column: int, wanted: NDArray[np.bool_]) -> tuple[NDArray[np.float32], int]:
        """Blend the block of the loaded slab that begins at a column of the canvas.

        Parameters
        ----------
        wanted
            (y, x) of the block: where values are to be.

        Returns
        -------
        block
            (z, y, x) float32, NaN where there is no value. Valid until the next one is made.
        empty
            How many voxels have none although they are `wanted`.
        """
        scene = self._scene
        self._total.fill(0)
        for sums in self._sums:
            sums.fill(0)
        columns = column, column + self._block[2]
        for part in self._parts:
            left, right = scene.columns_of(part.tile, columns)
            if left < right:
                self._add(part, left, right, column)
        # Planes behind the last one of the volume were blended too, where the tiles have them.
        depth = min(self._block[0], scene.shape[0] - self._planes[0])
        block = self._sums[0]
        block[depth:] = np.nan
        finish = kernels.finish_axial_mean if scene.circular else kernels.finish_mean
        empty = finish(self._total[:depth], *(sums[:depth] for sums in self._sums), wanted)
        return block, int(empty)

    def _add(self, part: _Part, left: int, right: int, column: int) -> None:
        scene = self._scene
        y, x = (int(v) for v in scene.corners[part.tile])
        place = slice(part.top, part.bottom), slice(left, right)
        height, width = part.bottom - part.top, scene.tile_shape[2]
        plane = height * width
        source = np.arange(height)[:, None] * width + np.arange(left, right)
        source = source + (scene.shift[place].astype(np.int64) - part.lowest) * plane
        add = kernels.add_axial_tile if scene.circular else kernels.add_tile
        add(
            part.values,
            source.astype(np.uint64),
            plane,
            np.ascontiguousarray(scene.weights[place]),
            self._total,
            *self._sums,
            y + part.top - self._rows[0],
            x + left - column,
            self._row,
        )
