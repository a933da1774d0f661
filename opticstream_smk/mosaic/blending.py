"""Tiles at their positions to one image, with a linear ramp in the overlaps."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.mosaic.grid import check_overlap
from opticstream_smk.mosaic.weighted_sums import WeightedSums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

Placement = Literal["rounded", "subpixel"]
_Item = TypeVar("_Item", covariant=True)


@runtime_checkable
class _Indexed(Protocol[_Item]):
    """A sequence in all that matters here: a length, and items that are read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> _Item: ...


def canvas_shape(
    positions_px: ArrayLike, tile_shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of the image that holds all tiles, and where its first pixel lies.

    Tiles are placed at whole pixels: positions are rounded (`numpy.rint`), which is off by at most
    0.5 px and, unlike truncation, by 0 on average.

    Parameters
    ----------
    positions_px
        (N, 2) float (y, x) of each tile's first pixel.
    tile_shape
        (ny, nx) of a tile.

    Returns
    -------
    shape
        (height, width) in px.
    origin_px
        (y, x) of canvas pixel 0 in the frame of `positions_px`, whole px.

    Raises
    ------
    ValueError
        If `positions_px` is not (N, 2) with N > 0.
    CorruptInputError
        If a position is not finite.
    """
    corners = tile_corners(positions_px)
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = high - low + np.asarray(tile_shape)
    return (int(size[0]), int(size[1])), (int(low[0]), int(low[1]))


def ramp_weights(tile_shape: tuple[int, int], overlap_percent: float) -> NDArray[np.float32]:
    """Weight of every pixel of a tile: the product of one linear ramp per axis.

    Along an axis of n px the ramp is o = int(n * overlap_percent / 100) px wide: 1/(o+1), 2/(o+1),
    ... o/(o+1), then 1, and the same backward at the far end; it is never 0, so that a pixel that
    any tile covers has a value. Where the ramps of both ends meet (above 50 %), the lower counts.

    Returns
    -------
    numpy.ndarray
        (ny, nx) float32, in (0, 1].
    """
    rows, columns = (_ramp(length, overlap_percent) for length in tile_shape)
    return np.outer(rows, columns).astype(np.float32)


def blend(
    tiles: Iterable[ArrayLike] | _Indexed[ArrayLike],
    positions_px: ArrayLike,
    *,
    overlap_percent: float,
    circular: bool = False,
    mask: ArrayLike | None = None,
    fill: float = float("nan"),
    placement: Placement = "rounded",
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Blend tiles into one image: sum(weight * tile) / sum(weight).

    Memory is that of the result and two to three float32 images of its size, plus one tile: tiles
    are taken one after the other and not kept. `blend_rows` needs less.

    Parameters
    ----------
    tiles
        (N, ny, nx) array, or N images of one shape (ny, nx) as any iterable, or as an object with
        ``__len__`` and ``__getitem__`` that reads tile i when asked for it, so that a mosaic of
        hundreds of tiles need not be in memory. Pixels that are not finite have no weight.
    positions_px
        (N, 2) float (y, x) of each tile's first pixel.
    overlap_percent
        Width of the ramps in percent of the tile on each axis, 0 to below 100.
    circular
        Tiles are axial angles in degrees (period 180, such as optic axis orientation): the mean is
        that of (cos 2t, sin 2t), half its angle is returned, in (-90, 90]. Angles at right angles
        with equal weights cancel; their mean has no direction and is arbitrary.
    mask
        Image of the shape of the result; where it is 0 or False the result is `fill`.
    fill
        Value of pixels that no tile covers or that are masked.
    placement
        "rounded": tiles lie at the nearest whole px, up to 0.5 px from their position. "subpixel":
        tiles are moved by the rest first (`shift_image`), angles as vectors. The canvas and what
        it covers are the same.

    Returns
    -------
    image
        (height, width) float32.
    origin_px
        (y, x) of the first pixel of `image` in the frame of `positions_px`, whole px.

    Raises
    ------
    ConfigError
        If the overlap is out of range.
    ValueError
        If the number of tiles and positions differ, or a tile has another shape than the first.
    CorruptInputError
        If a position is not finite, or the mask has another shape than the result.
    """
    check_overlap(overlap_percent)
    corners = tile_corners(positions_px)
    fractions = _fractions(positions_px, placement)
    images = _in_order(tiles, len(corners))
    first = next(images)
    shape, origin = canvas_shape(positions_px, first.shape)
    keep = checked_mask(mask, shape)
    weights = ramp_weights(first.shape, overlap_percent)
    sums = WeightedSums(shape, circular=circular)
    placed = 0
    for image in chain([first], images):
        if placed == len(corners):
            raise ValueError(f"more than {placed} tiles for {placed} positions.")
        image = _checked(image, placed, first.shape)
        sums.add(image, weights, corners[placed] - origin, fractions[placed])
        placed += 1
    if placed != len(corners):
        raise ValueError(f"{placed} tiles for {len(corners)} positions.")
    result = sums.mean(shape[0])
    unknown = np.isnan(result)
    result[unknown if keep is None else unknown | ~keep] = fill
    return result, origin


def blend_rows(
    tiles: _Indexed[ArrayLike],
    positions_px: ArrayLike,
    *,
    overlap_percent: float,
    circular: bool = False,
    placement: Placement = "rounded",
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blend tiles as `blend` does, and give the image some rows at a time, from the top.

    Each tile is read once. Memory is that of the rows that one and a half tiles are high, three to
    four times, whatever the height of the image.

    Parameters
    ----------
    tiles
        Sequence of N images (ny, nx); see `blend`.
    positions_px, overlap_percent, circular, placement
        As in `blend`.

    Yields
    ------
    start
        First row of the part; parts follow one another without gaps.
    rows
        (n, width) float32, NaN where no tile has a value. Sums are those of `blend` in another
        order, so that the last bit may differ where more than two tiles meet.

    Raises
    ------
    ConfigError, ValueError, CorruptInputError
        As `blend`.
    """
    check_overlap(overlap_percent)
    corners = tile_corners(positions_px)
    fractions = _fractions(positions_px, placement)
    if len(tiles) != len(corners):
        raise ValueError(f"{len(tiles)} tiles for {len(corners)} positions.")
    # Nothing above the top of a tile changes once all tiles further up were added.
    order = np.argsort(corners[:, 0], kind="stable").tolist()
    first = _as_image(tiles[order[0]])
    ny = first.shape[0]
    (height, width), origin = canvas_shape(positions_px, first.shape)
    weights = ramp_weights(first.shape, overlap_percent)
    corners -= origin
    room = min(ny + -(-ny // 2), height)
    sums = WeightedSums((room, width), circular=circular)
    done = 0
    for index in order:
        image = first if index == order[0] else _as_image(tiles[index])
        image = _checked(image, index, first.shape)
        y, x = corners[index]
        while y + ny - done > room:
            ready = min(y - done, room)
            yield done, sums.mean(ready)
            sums.drop(ready)
            done += ready
        sums.add(image, weights, (y - done, x), fractions[index])
    yield done, sums.mean(height - done)


def _fractions(positions_px: ArrayLike, placement: Placement) -> list[tuple[float, float]]:
    positions = np.asarray(positions_px, dtype=np.float64)
    if placement == "rounded":
        return [(0.0, 0.0)] * len(positions)
    return [(float(y), float(x)) for y, x in positions - np.rint(positions)]


def _ramp(length: int, overlap_percent: float) -> NDArray[np.float64]:
    # Exact products such as 29 % of 100 px come out just below the whole number.
    width = int(length * overlap_percent / 100 + 1e-9)
    rising = np.arange(1, length + 1) / (width + 1)
    ramp: NDArray[np.float64] = np.minimum(np.minimum(rising, rising[::-1]), 1.0)
    return ramp


def tile_corners(positions_px: ArrayLike) -> NDArray[np.int64]:
    """(N, 2) int: whole pixel (y, x) at which each tile is placed; see `canvas_shape`."""
    positions = np.asarray(positions_px, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 2 or len(positions) == 0:
        raise ValueError(f"positions of shape {positions.shape}: expected (N, 2), y and x, N > 0.")
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise CorruptInputError(
            f"position of tile {int(bad[0])} is {positions[bad[0]].tolist()}: expected finite "
            "numbers. Solve the coordinates again, or correct the template."
        )
    return np.rint(positions).astype(np.int64)


def _in_order(
    tiles: Iterable[ArrayLike] | _Indexed[ArrayLike], count: int
) -> Iterator[NDArray[np.float32]]:
    if isinstance(tiles, _Indexed):
        # By index up to the stated length: a reader need not raise IndexError at its end.
        items: Iterable[Any] = (tiles[index] for index in range(len(tiles)))
    else:
        items = tiles
    found = False
    for item in items:
        found = True
        yield _as_image(item)
    if not found:
        raise ValueError(f"no tiles for {count} positions.")


def _as_image(item: ArrayLike) -> NDArray[np.float32]:
    image = np.asarray(item, dtype=np.float32)
    if image.ndim != 2:
        raise ValueError(f"a tile has shape {image.shape}: expected (ny, nx).")
    return image


def _checked(image: NDArray[np.float32], index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if image.shape != shape:
        raise ValueError(
            f"tile {index} has shape {image.shape}: expected {shape} like the first tile."
        )
    return image


def checked_mask(mask: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Where a mask of a mosaic of `shape` is not 0; a `CorruptInputError` where it does not fit."""
    if mask is None:
        return None
    keep = np.asarray(mask)
    if keep.shape != shape:
        raise CorruptInputError(
            f"mask of shape {keep.shape} for a mosaic of {shape} px: it was made with other tile "
            "positions. Make the mask again from this mosaic."
        )
    return keep > 0
