"""Files ``TileConfiguration.txt`` and ``.registered.txt`` of Fiji's "Grid/Collection stitching".

After a line ``dim = 2`` they have one line for each tile, ``name; ; (x, y)``: the place of its
first pixel in px, x along the width of the image, which is the first NIfTI axis. Lines that begin
with ``#`` are comments.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import CorruptInputError, IncompleteInputError, NamingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_DIMENSION = re.compile(r"dim\s*=\s*(\S+)")
_TILE = re.compile(rf"(?P<name>[^;]+);\s*;\s*\(\s*(?P<x>{_NUMBER})\s*,\s*(?P<y>{_NUMBER})\s*\)")
# Of file names: image_0001 wherever it stands, else the last number.
_IMAGE = re.compile(r"image_(\d+)")
_LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)")
_REMEDY = "Correct it, or have Fiji write the file again."


@dataclass(frozen=True)
class TilePlace:
    """One line of a tile configuration.

    Attributes
    ----------
    name
        Name of the tile's file.
    x, y
        Place of its first pixel in px; x along the first NIfTI axis.
    line
        1-based number of the line in the file.
    """

    name: str
    x: float
    y: float
    line: int


def tile_configuration_text(names: Sequence[str], positions_px: ArrayLike) -> str:
    """Text of a tile configuration, as Fiji writes it.

    Parameters
    ----------
    names
        File name of each tile.
    positions_px
        (N, 2) y, x of each tile's first pixel.

    Raises
    ------
    NamingError
        A name cannot stand in such a file, or two are alike.
    ValueError
        Positions are not (N, 2) finite numbers.
    """
    positions = np.asarray(positions_px, dtype=np.float64)
    if positions.shape != (len(names), 2) or not np.isfinite(positions).all():
        raise ValueError(
            f"positions of shape {positions.shape} for {len(names)} tiles: expected finite numbers "
            f"({len(names)}, 2), y and x of each tile."
        )
    for name in names:
        if not name.strip() or name != name.strip() or re.search(r"[;\r\n]|^#|^dim\s*=", name):
            raise NamingError(
                f"tile name {name!r}: expected a file name without semicolon or line break that "
                "begins with neither # nor `dim =`. Choose another pattern."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise NamingError(
            f"tile name {twice!r} stands for several tiles: expected one name for each. Have the "
            "pattern contain the tile's number."
        )
    lines = ["# Define the number of dimensions we are working on", "dim = 2", ""]
    lines.append("# Define the image coordinates")
    lines += [
        f"{name}; ; ({x!r}, {y!r})" for name, (y, x) in zip(names, positions.tolist(), strict=True)
    ]
    return "\n".join(lines) + "\n"


def read_tile_configuration(path: Path) -> tuple[TilePlace, ...]:
    """Read a tile configuration; see `parse_tile_configuration`.

    Raises
    ------
    IncompleteInputError
        There is no such file.
    CorruptInputError
        It cannot be read, or a line is not as it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{path}: no such tile configuration. Have Fiji write it, or correct "
            "mosaic.tile_configuration."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CorruptInputError(f"{path} cannot be read ({reason}). {_REMEDY}") from error
    return parse_tile_configuration(text, source=str(path))


def parse_tile_configuration(text: str, *, source: str) -> tuple[TilePlace, ...]:
    """Tiles of a tile configuration, in the order of the file.

    Parameters
    ----------
    text
        What the file holds.
    source
        Where it is from; named in errors.

    Raises
    ------
    CorruptInputError
        A line is not as it should be, or a name is there twice; names source and line.
    """
    dimensions: str | None = None
    places: dict[str, TilePlace] = {}
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        content = line.strip()
        where = f"{source}, line {number}"
        if not content or content.startswith("#"):
            continue
        if found := _DIMENSION.fullmatch(content):
            dimensions = found[1]
            if dimensions != "2":
                raise CorruptInputError(
                    f"{where}: dim = {dimensions}, expected dim = 2, images. Stitch en-face "
                    "images in Fiji, not volumes."
                )
            continue
        if dimensions is None:
            raise CorruptInputError(
                f"{where}: {_shown(content)}, expected `dim = 2` first. {_REMEDY}"
            )
        place = _parse_tile(content, number, where)
        if place.name in places:
            raise CorruptInputError(
                f"{where}: {place.name} is there again, first in line {places[place.name].line}; "
                f"every tile has one line. {_REMEDY}"
            )
        places[place.name] = place
    if not places:
        raise CorruptInputError(f"{source} lists no tiles, expected one line for each. {_REMEDY}")
    return tuple(places.values())


def _parse_tile(content: str, number: int, where: str) -> TilePlace:
    found = _TILE.fullmatch(content)
    if found is None:
        raise CorruptInputError(
            f"{where}: {_shown(content)}, expected `name; ; (x, y)` with two finite numbers. "
            f"{_REMEDY}"
        )
    x, y = float(found["x"]), float(found["y"])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise CorruptInputError(f"{where}: {_shown(content)} is out of range. {_REMEDY}")
    return TilePlace(found["name"].strip(), x, y, number)


def image_of_name(name: str) -> int | None:
    """Image number in a file name: after ``image_``, else the last number; None without any."""
    stem = name.replace("\\", "/").rsplit("/", 1)[-1].split(".", 1)[0]
    found = _IMAGE.search(stem) or _LAST_NUMBER.search(stem)
    return int(found[1]) if found else None


def places_of_images(
    places: Sequence[TilePlace],
    images: Sequence[int],
    *,
    source: str,
    image_of: Callable[[str], int | None] = image_of_name,
) -> Mapping[int, TilePlace]:
    """Which line is which tile.

    Parameters
    ----------
    places
        As read.
    images
        Numbers of the tiles that the mosaic has. Not all of them need to be listed.
    source
        Where `places` are from; named in errors.
    image_of
        Image number of a file name.

    Raises
    ------
    CorruptInputError
        A line is of none of them, or two are of the same.
    """
    expected = set(images)
    found: dict[int, TilePlace] = {}
    for place in places:
        image = image_of(place.name)
        where = f"{source}, line {place.line}"
        if image not in expected:
            meant = "has no number" if image is None else f"is image {image}"
            raise CorruptInputError(
                f"{where}: {place.name} {meant}, expected images {min(images)} to {max(images)} of "
                "this mosaic. Take the file of this acquisition, or remove the line."
            )
        if image in found:
            raise CorruptInputError(
                f"{where}: {place.name} is image {image}, as is {found[image].name} in line "
                f"{found[image].line}; every tile has one line. Remove one of them."
            )
        found[image] = place
    return found


def given_positions(found: Mapping[int, TilePlace], images: Sequence[int]) -> NDArray[np.float64]:
    """(N, 2) y, x of images in their order; NaN for those that are not listed."""
    return np.array(
        [(found[image].y, found[image].x) if image in found else (np.nan,) * 2 for image in images]
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
