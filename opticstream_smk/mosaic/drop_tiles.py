"""Tiles taken out of a tile info or its template; every other line stays as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.mosaic.template import TileInfo, parse_tile_info, render_text

if TYPE_CHECKING:
    from collections.abc import Collection

# A line that is a statement of Jinja2 and nothing else; a comment for YAML.
_STATEMENT = re.compile(r"^[ \t]*\{%.*%\}[ \t]*$", re.MULTILINE)


def parse_any(text: str, *, source: str) -> TileInfo:
    """Tile info from the text of one, or of a template, filled in for mosaic 1 and ``aip``.

    Raises
    ------
    CorruptInputError
        It is neither.
    """
    rendered = render_text(
        text, source=source, base_dir=".", mosaic_id_str="mosaic_001", modality="aip"
    )
    return parse_tile_info(rendered, source=source)


def drop_tiles(text: str, numbers: Collection[int], *, source: str) -> str:
    """Take tiles out, and note them in ``metadata.dropped``.

    Lines are removed; placeholders, comments and keys that are not known stay. The others keep
    their numbers, which are those of their files.

    Parameters
    ----------
    text
        Tile info or template, one tile after the other in block style.
    numbers
        Tile numbers.
    source
        Where the text is from; named in errors.

    Raises
    ------
    ConfigError
        A number is not listed, or none would be left.
    CorruptInputError
        The text cannot be used, or is written such that lines cannot be taken out.
    """
    before = parse_any(text, source=source)
    listed = [tile.tile_number for tile in before.tiles]
    unknown = sorted(set(numbers).difference(listed))
    if unknown:
        raise ConfigError(
            f"{source} has no tile {', '.join(map(str, unknown))}, expected some of "
            f"{min(listed)} to {max(listed)}. --list shows them."
        )
    if set(listed) <= set(numbers):
        raise ConfigError(f"{source}: no tile would be left of {len(listed)}. Drop fewer.")
    root = _compose(text, source)
    lines = text.splitlines(keepends=True)
    keep = [True] * len(lines)
    for index, (first, last) in enumerate(_items(root, lines)):
        if index < len(listed) and listed[index] in set(numbers):
            keep[first:last] = [False] * (last - first)
    dropped = tuple(sorted({*before.dropped, *numbers}))
    edited = "".join(_with_dropped(root, lines, keep, dropped))
    _check(edited, before, dropped, source)
    return edited


def _compose(text: str, source: str) -> Any:
    """The nodes of the YAML in it, on the lines where they are."""
    try:
        root = yaml.compose(_STATEMENT.sub("#", text), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _not_by_lines(source, str(error)) from error
    if not isinstance(root, yaml.MappingNode):
        raise _not_by_lines(source, "it is no mapping")
    return root


def _value(node: Any, key: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    return None


def _items(root: Any, lines: list[str]) -> list[tuple[int, int]]:
    """First and last line (exclusive) of every tile."""
    tiles = _value(root, "tiles")
    starts = [item.start_mark.line for item in tiles.value]
    ends = [*starts[1:], tiles.end_mark.line]
    # What stands between two tiles by itself is not of the one above.
    return [(start, _trimmed(lines, start, end)) for start, end in zip(starts, ends, strict=True)]


def _trimmed(lines: list[str], start: int, end: int) -> int:
    while end > start + 1 and lines[end - 1].strip()[:1] in ("", "#"):
        end -= 1
    return end


def _with_dropped(
    root: Any, lines: list[str], keep: list[bool], dropped: tuple[int, ...]
) -> list[str]:
    """The lines that are kept, and one that says which tiles are not."""
    metadata = _value(root, "metadata")
    old = _value(metadata, "dropped")
    place = metadata.start_mark.line
    note = f"{' ' * metadata.start_mark.column}dropped: [{', '.join(map(str, dropped))}]\n"
    if old is not None:
        place = next(n for n, v in metadata.value if n.value == "dropped").start_mark.line
        last = max(old.end_mark.line, place + 1)
        keep[place:last] = [False] * (last - place)
    kept = [(number, line) for number, line in enumerate(lines) if keep[number]]
    above = [line for number, line in kept if number < place]
    return [*above, note, *(line for number, line in kept if number >= place)]


def _check(edited: str, before: TileInfo, dropped: tuple[int, ...], source: str) -> None:
    try:
        after = parse_any(edited, source=source)
    except CorruptInputError as error:
        raise _not_by_lines(source, str(error)) from error
    kept = tuple(tile for tile in before.tiles if tile.tile_number not in dropped)
    if after.tiles != kept or after.dropped != dropped:
        raise _not_by_lines(source, "other tiles would change")


def _not_by_lines(source: str, why: str) -> CorruptInputError:
    return CorruptInputError(
        f"{source} cannot be edited by lines ({why}); expected one `- filepath:` after the other, "
        "in block style. Bring it into that form, or edit it by hand."
    )
