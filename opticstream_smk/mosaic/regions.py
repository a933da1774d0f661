"""Which tiles cover a region of a mosaic, and where a tile lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import ConfigError
from opticstream_smk.mosaic.blending import canvas_shape, tile_corners

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels.

    Attributes
    ----------
    y, x
        First pixel, 0-based.
    height, width
        Size in px.
    """

    y: int
    x: int
    height: int
    width: int

    def overlap(self, other: Box) -> Box | None:
        """What both have in common; None for nothing."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - y
        width = min(self.x + self.width, other.x + other.width) - x
        return Box(y, x, height, width) if height > 0 and width > 0 else None


@dataclass(frozen=True)
class TilePart:
    """What a tile has of a region.

    Attributes
    ----------
    index
        0-based index of the tile.
    in_mosaic
        On the canvas of the stitched image.
    in_tile
        The same pixels in the tile's own image.
    """

    index: int
    in_mosaic: Box
    in_tile: Box


def canvas_box(positions_px: ArrayLike, tile_shape: tuple[int, int]) -> Box:
    """The canvas of a stitched image."""
    (height, width), _ = canvas_shape(positions_px, tile_shape)
    return Box(0, 0, height, width)


def tiles_of_region(
    positions_px: ArrayLike, tile_shape: tuple[int, int], region: Box
) -> list[TilePart]:
    """Tiles that cover a region of the stitched image, most of it first.

    Parameters
    ----------
    positions_px
        (N, 2) y, x of each tile's first pixel, px.
    tile_shape
        (ny, nx) px of a tile.
    region
        On the canvas, as `canvas_shape` has it.

    Raises
    ------
    ConfigError
        The region lies outside of the canvas.
    """
    canvas = canvas_box(positions_px, tile_shape)
    if region.overlap(canvas) is None:
        raise ConfigError(
            f"region x {region.x} y {region.y}, {region.width} x {region.height} px: expected one "
            f"within the mosaic, {canvas.width} x {canvas.height} px. Correct it, or its unit."
        )
    parts = []
    for index, place in enumerate(tile_boxes(positions_px, tile_shape)):
        common = region.overlap(place)
        if common is not None:
            own = Box(common.y - place.y, common.x - place.x, common.height, common.width)
            parts.append(TilePart(index, common, own))
    return sorted(parts, key=lambda part: -part.in_mosaic.height * part.in_mosaic.width)


def tile_boxes(positions_px: ArrayLike, tile_shape: tuple[int, int]) -> Iterable[Box]:
    """Where each tile lies on the canvas."""
    _, origin = canvas_shape(positions_px, tile_shape)
    corners = tile_corners(positions_px) - np.array(origin)
    return [Box(int(y), int(x), *tile_shape) for y, x in corners]
