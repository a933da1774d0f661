"""Surfaces and planes drawn into cross sections of a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.io.pictures import window_to_uint8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from opticstream_smk.io.volumes import Volume

# Between two cross sections.
_GAP_PX = 6
_GAP_GREY = 96


@dataclass(frozen=True, eq=False)
class DrawnLine:
    """A map of depths to be drawn.

    Attributes
    ----------
    depth
        (y, x) 0-based index along z, may be fractional; NaN where there is none.
    colour
        Red, green, blue.
    """

    depth: NDArray[np.float64]
    colour: tuple[int, int, int]


def draw_planes(
    volume: Volume,
    lines: Sequence[DrawnLine],
    *,
    rows: Sequence[int],
    columns: Sequence[int],
    percentiles: tuple[float, float] = (1.0, 99.5),
) -> NDArray[np.uint8]:
    """Cross sections of a volume, one below the other, with maps of depths as lines.

    Parameters
    ----------
    volume
        The volume; only the sections are read.
    lines
        Maps of its size (y, x).
    rows
        0-based y of sections z over x.
    columns
        0-based x of sections z over y.
    percentiles
        Of the voxels of each section that have a value, what becomes black and white; one bright
        voxel must not darken all. Voxels of value 0 are fill as a rule and do not count, unless
        there is nothing else.

    Returns
    -------
    numpy.ndarray
        (y, x, 3) RGB; z runs downward, one pixel is one voxel.

    Raises
    ------
    ConfigError
        A section lies outside of the volume, or none is asked for.
    CorruptInputError
        A map is of another size.
    """
    _, height, width = volume.shape
    for line in lines:
        if line.depth.shape != (height, width):
            raise CorruptInputError(
                f"a map of {line.depth.shape[1]} x {line.depth.shape[0]} px for a volume of "
                f"{width} x {height} px (x, y); expected one of the same size. Take the map of "
                "this volume."
            )
    for name, places, length in (("y", rows, height), ("x", columns, width)):
        outside = [place for place in places if not 0 <= place < length]
        if outside:
            raise ConfigError(
                f"section at {name} = {outside[0]}: expected 0 to {length - 1}, the size of "
                f"{volume.path.name}"
            )
    sections = [
        (volume.read(slice(y, y + 1), slice(None))[:, 0], [line.depth[y] for line in lines])
        for y in rows
    ]
    sections += [
        (volume.read(slice(None), slice(x, x + 1))[:, :, 0], [line.depth[:, x] for line in lines])
        for x in columns
    ]
    if not sections:
        raise ConfigError("no section is asked for; give places along y or x")
    colours = [line.colour for line in lines]
    pictures = [_draw(image, depths, colours, percentiles) for image, depths in sections]
    return _below_each_other(pictures)


def _draw(
    section: NDArray[np.float32],
    depths: Sequence[NDArray[np.float64]],
    colours: Sequence[tuple[int, int, int]],
    percentiles: tuple[float, float],
) -> NDArray[np.uint8]:
    known = np.isfinite(section)
    telling = known & (section != 0)
    reference = telling if telling.any() else known
    grey = window_to_uint8(section, known, percentiles, reference=reference)
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    for depth, colour in zip(depths, colours, strict=True):
        places = np.flatnonzero(np.isfinite(depth))
        index = np.rint(depth[places]).astype(np.int64)
        # Two voxels thick: the one that is meant, and the one above.
        for level in (index, index - 1):
            inside = (level >= 0) & (level < len(section))
            picture[level[inside], places[inside]] = colour
    return picture


def _below_each_other(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    width = max(picture.shape[1] for picture in pictures)
    height = sum(picture.shape[0] for picture in pictures) + _GAP_PX * (len(pictures) - 1)
    sheet = np.full((height, width, 3), _GAP_GREY, np.uint8)
    top = 0
    for picture in pictures:
        sheet[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0] + _GAP_PX
    return sheet
