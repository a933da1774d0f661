"""Mosaics bit for bit as linc-convert makes them, for comparison with earlier ones.

The rules are those of its ``psoct mosaic`` (commit dc8f324), the strange ones too:

- Positions are cut off to whole pixels, not rounded.
- Every edge of every tile has a ramp, in float32.
- Orientation is averaged without the ramp.
- The image is made in blocks of the size of a tile. A block that no tile touches is 0; elsewhere,
  pixels without a tile are NaN.
- A mask multiplies: NaN stays NaN, except in blocks that the mask leaves out as a whole.
- A focus plane is cut off to whole samples; no tile may be too shallow for it.

`blend` does none of these.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import ConfigError, CorruptInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

Overlap = float | int


def ramp_width(length: int, overlap: Overlap) -> int:
    """Pixels of a ramp: an int as it is, a float as a part of `length`.

    Raises
    ------
    ConfigError
        A float that is not between 0 and 1, or a negative number.
    """
    if isinstance(overlap, int):
        width = overlap
    elif 0 < overlap < 1:
        width = int(length * overlap)
    else:
        width = -1
    if not 0 <= width <= length:
        raise ConfigError(
            f"tile_overlap {overlap}: expected a part of the tile above 0 and below 1, or a whole "
            f"number of pixels up to {length}"
        )
    return width


class LincMosaic:
    """A mosaic that is made block by block; a block is as large as a tile.

    Parameters
    ----------
    tiles
        N arrays (x, y) or (x, y, depth); only the parts that a block needs are read.
    positions_px
        (N, 2) x and y of each tile's first pixel.
    overlap
        See `ramp_width`.
    circular
        Axial angles in degrees.
    mask
        (x, y) on the canvas; above 0 is kept.
    clip_px
        Leading pixels of every tile along x and y that are left out.
    focus_plane
        (x, y) of an unclipped tile, depth samples; None: tiles are taken as they are.
    offset_px, depth_px
        Added to the plane, and samples that are taken from there on.
    normalize
        Whether the least value of the plane is taken off.

    Raises
    ------
    CorruptInputError
        Tiles, plane or mask do not fit together, or a tile is too shallow for the plane.
    """

    def __init__(
        self,
        tiles: Sequence[NDArray[np.generic]],
        positions_px: ArrayLike,
        *,
        overlap: Overlap,
        circular: bool = False,
        mask: NDArray[np.generic] | None = None,
        clip_px: tuple[int, int] = (0, 0),
        focus_plane: NDArray[np.generic] | None = None,
        offset_px: int = 30,
        depth_px: int = 500,
        normalize: bool = False,
    ) -> None:
        self._tiles = [tile[clip_px[0] :, clip_px[1] :] for tile in tiles]
        shape = self._tiles[0].shape
        for index, tile in enumerate(self._tiles):
            if tile.shape != shape:
                raise CorruptInputError(
                    f"tile {index} has shape {tiles[index].shape}: expected {tiles[0].shape} like "
                    "the first tile"
                )
        # The clip moves all tiles alike, and the least position becomes 0.
        corners = np.trunc(np.asarray(positions_px, np.float64)).astype(np.int64)
        self._corners = corners - corners.min(axis=0)
        self._size = shape[0], shape[1]
        self._circular = circular
        self._planes = None
        if focus_plane is not None:
            if len(shape) != 3 or focus_plane.shape != tiles[0].shape[:2]:
                raise CorruptInputError(
                    f"focus plane of shape {focus_plane.shape} for tiles of {tiles[0].shape}: "
                    "expected (x, y) of a tile volume"
                )
            plane = focus_plane - focus_plane.min() if normalize else focus_plane
            first = plane.astype(np.uint16).astype(np.int64)[clip_px[0] :, clip_px[1] :] + offset_px
            if first.min() < 0 or first.max() + depth_px > shape[2]:
                raise CorruptInputError(
                    f"focus plane, offset and depth ask for samples {int(first.min())} to "
                    f"{int(first.max()) + depth_px - 1} of tiles with {shape[2]}; lower the offset "
                    "or the depth"
                )
            self._planes = first[:, :, None] + np.arange(depth_px)
        depth = shape[2:] if self._planes is None else (depth_px,)
        x, y = self._corners.max(axis=0) + np.array(self._size)
        self.shape: tuple[int, ...] = (int(x), int(y), *depth)
        ramps = [_ramp(length, ramp_width(length, overlap)) for length in self._size]
        self._weights = np.outer(*ramps).reshape((*self._size, *(1,) * len(depth)))
        self._mask = None if mask is None else _checked_mask(mask, self.shape[:2])

    def blocks(self) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
        """Place on the canvas (x, y), and values, of one block after the other."""
        starts = (range(0, n, size) for n, size in zip(self.shape, self._size, strict=False))
        for start in product(*starts):
            stop = [min(s + n, m) for s, n, m in zip(start, self._size, self.shape, strict=False)]
            place = (slice(start[0], stop[0]), slice(start[1], stop[1]))
            yield place, self._block(place)

    def image(self) -> NDArray[np.float32]:
        """The whole mosaic, (x, y[, depth])."""
        whole = np.empty(self.shape, np.float32)
        for place, block in self.blocks():
            whole[place] = block
        return whole

    def _block(self, place: tuple[slice, slice]) -> NDArray[np.float32]:
        begin = np.array([part.start for part in place])
        end = np.array([part.stop for part in place])
        shape = (*(end - begin), *self.shape[2:])
        touching = np.flatnonzero(
            ((self._corners < end) & (self._corners + self._size > begin)).all(axis=1)
        )
        mask = None if self._mask is None else self._mask[place]
        if not len(touching) or (mask is not None and not mask.any()):
            return np.zeros(shape, np.float32)
        total = np.zeros((*shape[:2], *(1,) * (len(shape) - 2)), np.float32)
        sums = [np.zeros(shape, np.float32) for _ in range(2 if self._circular else 1)]
        for index in touching:
            low = np.maximum(begin, self._corners[index])
            high = np.minimum(end, self._corners[index] + self._size)
            there = _window(low - begin, high - begin)
            part = _window(low - self._corners[index], high - self._corners[index])
            values = self._part(int(index), part)
            weights = self._weights[part]
            total[there] += weights
            if self._circular:
                double = np.deg2rad(values * 2)
                sums[0][there] += np.cos(double)
                sums[1][there] += np.sin(double)
            else:
                sums[0][there] += values * weights
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [values / total for values in sums]
        block = means[0]
        if self._circular:
            block = np.rad2deg(np.arctan2(means[1], means[0])) / np.float32(2)
        if mask is not None:
            block = block * mask.reshape(total.shape)
        return np.asarray(block, np.float32)

    def _part(self, index: int, part: tuple[slice, slice]) -> NDArray[np.float32]:
        values = np.asarray(self._tiles[index][part], np.float32)
        if self._planes is None:
            return values
        return np.take_along_axis(values, self._planes[part], axis=2)


def halve(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of each 2 x 2 x 2 voxels that are not NaN; odd last planes are left out.

    The order of the sums, and with it their last bit, follows from the shape: the levels of
    linc-convert come out when they are made chunk by chunk, see `halving`.
    """
    even = volume[tuple(slice(0, n // 2 * 2 or 1) for n in volume.shape)]
    parts = np.ascontiguousarray(even).reshape(
        [part for n in even.shape for part in ((n // 2, 2) if n > 1 else (1, 1))]
    )
    known = ~np.isnan(parts)
    counts = known.sum(axis=(1, 3, 5))
    sums = np.where(known, parts, np.float32(0)).sum(axis=(1, 3, 5))
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts, np.float32)


def halving(
    shape: tuple[int, ...], chunk: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Chunks of a level (z, y, x), and where their halves lie in the next."""
    even = [max(n // 2 * 2, 1) for n in shape]
    steps = [max(n // 2 * 2, 2) for n in chunk]
    for start in product(*(range(0, n, step) for n, step in zip(even, steps, strict=True))):
        stop = [min(s + step, n) for s, step, n in zip(start, steps, even, strict=True)]
        source = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        target = tuple(slice(a // 2, max(b // 2, 1)) for a, b in zip(start, stop, strict=True))
        yield source, target


def to_uint8(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Least value to 0, greatest to 255, NaN to 0; not rounded."""
    low, high = np.nanmin(image), np.nanmax(image)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = (image - low) / (high - low) * 255
    pixels: NDArray[np.uint8] = np.nan_to_num(scaled).astype(np.uint8)
    return pixels


def _ramp(length: int, width: int) -> NDArray[np.float32]:
    ramp = np.ones(length, np.float32)
    if width:
        rise = np.linspace(0, 1, width + 2)[1:-1]
        ramp[:width] = rise
        ramp[-width:] = rise[::-1]
    return ramp


def _checked_mask(mask: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    flat = mask[:, :, 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
    if flat.shape != shape:
        raise CorruptInputError(
            f"mask of shape {mask.shape} for a mosaic of {shape} (x, y): it was made with other "
            "tile positions"
        )
    return np.asarray(flat > 0)  # type: ignore[operator]


def _window(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[slice, slice]:
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
