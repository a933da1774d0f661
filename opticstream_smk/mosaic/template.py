r"""The tile-info template: positions solved once per acquisition, used for every slice.

``tilemap-<acquisition>.j2`` is YAML with Jinja2 placeholders, meant to be read and, where the
stage went astray, corrected by hand::

    metadata:
      base_dir: "{{ base_dir }}"
    {% if mask %}  mask: "{{ mask }}" {% endif %} ...
    tiles:
      - filepath: "{{ mosaic_id_str }}_image_0001_{{ modality }}.nii"
        tile_number: 1
        x: 0.0        # first NIfTI axis, px
        y: 1120.25
        avg_signal: 63.1
        is_anchored: true

`write_template` writes it, `render_template` fills it in for one mosaic and modality,
`read_tile_info` reads the result back and checks it.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
import yaml
from jinja2.sandbox import SandboxedEnvironment

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io.atomic import write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PLACEHOLDER = re.compile(r"\{\{\s*(mosaic_id_str|modality)\s*\}\}")
_REMEDY = "Correct it, or delete the file and solve the coordinates again."


@dataclass(frozen=True)
class TileEntry:
    """One tile.

    Attributes
    ----------
    filepath
        Path of the tile's image relative to the base directory. In a template it contains
        ``{{ mosaic_id_str }}`` and ``{{ modality }}``.
    tile_number
        1-based number of the tile in the order of acquisition.
    x, y
        Position of the tile's first pixel in px; x along the first NIfTI axis, which is the
        second axis of a (y, x) image.
    avg_signal
        Mean of the tile in the unit of the image the positions were solved with; 0 for a tile
        without data, NaN where the file does not say.
    is_anchored
        Whether image content fixed the position. False: placed by the stage model.
    """

    filepath: str
    tile_number: int
    x: float
    y: float
    avg_signal: float
    is_anchored: bool = True


@dataclass(frozen=True)
class TileInfo:
    """A mosaic's tiles and where they are.

    Attributes
    ----------
    base_dir
        Folder of the tiles' images. Set when a template is rendered.
    tiles
        In the order of the file.
    mask
        Path of the mosaic's mask, or None. Set when a template is rendered.
    scan_resolution
        Voxel size (x, y) or (x, y, z) in mm, or None.
    tile_overlap
        Overlap of neighbours as a fraction of the tile, 0 to below 1, or None.
    file_key
        Name of the variable where tiles are MATLAB files, or None.
    clip_x, clip_y
        Leading pixels of every tile that are left out.
    dropped
        Numbers of tiles of the grid that were left out by hand.
    """

    base_dir: str
    tiles: tuple[TileEntry, ...]
    mask: str | None = None
    scan_resolution: tuple[float, ...] | None = None
    tile_overlap: float | None = None
    file_key: str | None = None
    clip_x: int = 0
    clip_y: int = 0
    dropped: tuple[int, ...] = ()


def template_text(
    tiles: Sequence[TileEntry],
    *,
    tile_overlap: float | None = None,
    file_key: str | None = None,
    dropped: Sequence[int] = (),
) -> str:
    """Text of a template. Numbers are written so that they are read back exactly.

    Parameters
    ----------
    tiles
        `filepath` with ``{{ mosaic_id_str }}`` and ``{{ modality }}``; everything else in it is
        taken literally.
    tile_overlap, file_key, dropped
        See `TileInfo`; left out if None or empty.

    Raises
    ------
    ValueError
        If `tiles` is empty, a number is not finite, or two tiles have the same number.
    """
    entries = [
        {
            "filepath": tile.filepath,
            # Positions come from arrays, whose elements are numbers of NumPy's own types.
            "tile_number": operator.index(tile.tile_number),
            "x": float(tile.x),
            "y": float(tile.y),
            "avg_signal": float(tile.avg_signal),
            "is_anchored": bool(tile.is_anchored),
        }
        for tile in tiles
    ]
    try:
        _parse_tiles(entries, "the tiles to write")
    except CorruptInputError as error:
        raise ValueError(str(error)) from error

    lines = ["metadata:", '  base_dir: "{{ base_dir }}"']
    lines += ["{% if mask %}", '  mask: "{{ mask }}"', "{% endif %}"]
    lines += ["{% if scan_resolution %}", "  scan_resolution:"]
    lines += [
        "{% for size in scan_resolution %}",
        "    - {{ size }}",
        "{% endfor %}",
        "{% endif %}",
    ]
    if tile_overlap is not None:
        lines.append(f"  tile_overlap: {_number(tile_overlap)}")
    if file_key is not None:
        lines.append(f'  file_key: "{_literal(file_key)}"')
    if dropped:
        lines.append(f"  dropped: [{', '.join(map(str, sorted(dropped)))}]")
    lines.append("tiles:")
    for tile in tiles:
        lines += [
            f'  - filepath: "{_path_with_placeholders(tile.filepath)}"',
            f"    tile_number: {int(tile.tile_number)}",
            f"    x: {_number(tile.x)}",
            f"    y: {_number(tile.y)}",
            f"    avg_signal: {_number(tile.avg_signal)}",
            f"    is_anchored: {'true' if tile.is_anchored else 'false'}",
        ]
    return "\n".join(lines) + "\n"


def write_template(
    path: Path,
    tiles: Sequence[TileEntry],
    *,
    tile_overlap: float | None = None,
    file_key: str | None = None,
    dropped: Sequence[int] = (),
) -> None:
    """Write `template_text` to `path`, under a temporary name first."""
    text = template_text(tiles, tile_overlap=tile_overlap, file_key=file_key, dropped=dropped)
    write_bytes(path, text.encode("utf-8"))


def render_template(
    path: Path,
    *,
    base_dir: str | Path,
    mosaic_id_str: str,
    modality: str,
    mask: str | Path | None = None,
    scan_resolution: Sequence[float] | None = None,
) -> str:
    """Tile-info YAML of one mosaic and modality, checked.

    Parameters
    ----------
    path
        The template, as from `write_template` or edited by hand.
    base_dir, mask
        Paths; any character is allowed in them.
    mosaic_id_str
        Such as ``mosaic_001``.
    modality
        Such as ``aip``.
    scan_resolution
        Voxel size (x, y) or (x, y, z) in mm.

    Raises
    ------
    IncompleteInputError
        If there is no template.
    CorruptInputError
        If the template is not a template, or what it renders to is not a tile info.
    """
    return render_text(
        _read_text(path),
        source=str(path),
        base_dir=base_dir,
        mosaic_id_str=mosaic_id_str,
        modality=modality,
        mask=mask,
        scan_resolution=scan_resolution,
    )


def render_text(
    text: str,
    *,
    source: str,
    base_dir: str | Path,
    mosaic_id_str: str,
    modality: str,
    mask: str | Path | None = None,
    scan_resolution: Sequence[float] | None = None,
) -> str:
    """Fill in the text of a template that is from `source`; see `render_template`."""
    values = {
        "base_dir": str(base_dir),
        "mosaic_id_str": mosaic_id_str,
        "modality": modality,
        "mask": None if mask is None else str(mask),
        "scan_resolution": None if scan_resolution is None else [float(v) for v in scan_resolution],
    }
    try:
        rendered = _environment().from_string(text).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise CorruptInputError(
            f"{source}, line {error.lineno}: not a Jinja2 template ({error.message}). {_REMEDY}"
        ) from error
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise CorruptInputError(
            f"{source}: cannot be filled in ({error}); known names are {', '.join(values)}. "
            f"{_REMEDY}"
        ) from error
    parse_tile_info(rendered, source=source)
    return rendered


def read_tile_info(path: Path) -> TileInfo:
    """Read and check a rendered tile info; see `parse_tile_info`."""
    return parse_tile_info(_read_text(path), source=str(path))


def parse_tile_info(text: str, *, source: str) -> TileInfo:
    """Tile info from YAML text.

    Keys that are not known are ignored; `is_anchored` may be missing (True: positions from
    elsewhere or set by hand are trusted), and so may `avg_signal`.

    Parameters
    ----------
    text
        YAML.
    source
        Where the text is from; named in errors.

    Raises
    ------
    CorruptInputError
        Names the source, the field, what was found and what was expected.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CorruptInputError(f"{source}: not YAML ({error}). {_REMEDY}") from error
    root = _mapping(content, source, "the file")
    metadata = _mapping(_required(root, "metadata", source, ""), source, "metadata")
    base_dir = _text(_required(metadata, "base_dir", source, "metadata."), source, "base_dir")
    info = TileInfo(base_dir, _parse_tiles(_required(root, "tiles", source, ""), source))

    mask, file_key = metadata.get("mask"), metadata.get("file_key")
    if mask is not None:
        info = replace(info, mask=_text(mask, source, "metadata.mask"))
    if file_key is not None:
        info = replace(info, file_key=_text(file_key, source, "metadata.file_key"))
    if metadata.get("tile_overlap") is not None:
        overlap = _finite(metadata["tile_overlap"], source, "metadata.tile_overlap")
        if not 0 <= overlap < 1:
            raise _wrong(source, "metadata.tile_overlap", overlap, "a fraction, 0 to below 1")
        info = replace(info, tile_overlap=overlap)
    clips = []
    for key in ("clip_x", "clip_y"):
        clip = metadata.get(key) or 0
        if isinstance(clip, bool) or not isinstance(clip, int) or clip < 0:
            raise _wrong(source, f"metadata.{key}", clip, "a whole number of pixels, 0 or more")
        clips.append(clip)
    info = replace(info, clip_x=clips[0], clip_y=clips[1])
    dropped = metadata.get("dropped")
    if dropped is not None:
        info = replace(info, dropped=_parse_dropped(dropped, info.tiles, source))
    sizes = metadata.get("scan_resolution")
    if sizes is not None:
        if not isinstance(sizes, list) or len(sizes) not in (2, 3):
            raise _wrong(source, "metadata.scan_resolution", sizes, "2 or 3 voxel sizes in mm")
        field = "metadata.scan_resolution"
        numbers = tuple(_finite(v, source, f"{field}[{i}]") for i, v in enumerate(sizes))
        if min(numbers) <= 0:
            raise _wrong(source, field, sizes, "voxel sizes above 0")
        info = replace(info, scan_resolution=numbers)
    return info


def _parse_tiles(tiles: Any, source: str) -> tuple[TileEntry, ...]:
    if not isinstance(tiles, list) or not tiles:
        raise _wrong(source, "tiles", tiles, "a list of at least one tile")
    found: list[TileEntry] = []
    index_of_number: dict[int, int] = {}
    for index, item in enumerate(tiles):
        field = f"tiles[{index}]"
        entry = _mapping(item, source, field)
        number = _required(entry, "tile_number", source, f"{field}.")
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise _wrong(source, f"{field}.tile_number", number, "a whole number from 1 on")
        if number in index_of_number:
            raise CorruptInputError(
                f"{source}: {field}.tile_number is {number}, as is that of "
                f"tiles[{index_of_number[number]}]; every tile has its own. {_REMEDY}"
            )
        index_of_number[number] = index
        name = f"{field} (tile {number})"
        is_anchored = entry.get("is_anchored", True)
        if not isinstance(is_anchored, bool):
            raise _wrong(source, f"{name}.is_anchored", is_anchored, "true or false")
        x, y = (
            _finite(_required(entry, key, source, f"{name}."), source, f"{name}.{key}")
            for key in ("x", "y")
        )
        # Tile infos of other programs lack it.
        signal = math.nan
        if "avg_signal" in entry:
            signal = _finite(entry["avg_signal"], source, f"{name}.avg_signal")
        filepath = _required(entry, "filepath", source, f"{name}.")
        found.append(
            TileEntry(
                _text(filepath, source, f"{name}.filepath"), number, x, y, signal, is_anchored
            )
        )
    return tuple(found)


def _parse_dropped(dropped: Any, tiles: Sequence[TileEntry], source: str) -> tuple[int, ...]:
    field = "metadata.dropped"
    listed = {tile.tile_number for tile in tiles}
    if not isinstance(dropped, list):
        raise _wrong(source, field, dropped, "a list of tile numbers")
    for number in dropped:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise _wrong(source, field, number, "whole numbers from 1 on")
        if number in listed:
            raise CorruptInputError(
                f"{source}: {field} has tile {number}, which is listed. {_REMEDY}"
            )
    return tuple(sorted(set(dropped)))


def _mapping(value: Any, source: str, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(source, field, value, "keys and values")
    return value


def _required(mapping: Mapping[str, Any], key: str, source: str, prefix: str) -> Any:
    if key not in mapping:
        raise CorruptInputError(f"{source}: {prefix}{key} is missing. {_REMEDY}")
    return mapping[key]


def _text(value: Any, source: str, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(source, field, value, "text")
    return value


def _finite(value: Any, source: str, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(source, field, value, "a finite number")
    return float(value)


def _wrong(source: str, field: str, value: Any, expected: str) -> CorruptInputError:
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return CorruptInputError(f"{source}: {field} is {shown}, expected {expected}. {_REMEDY}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{path}: no such tile-info file. It is written by solve_coordinates for the first "
            "slice of an acquisition."
        ) from error
    except UnicodeDecodeError as error:
        raise CorruptInputError(f"{path}: not UTF-8 text ({error}). {_REMEDY}") from error


@cache
def _environment() -> jinja2.Environment:
    # Sandboxed, because the file is edited by hand and travels with data; strict, because an
    # unknown name would otherwise silently become an empty path.
    return SandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=_escape_value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _escape_value(value: Any) -> Any:
    """What Jinja2 writes for a value: text as it stands between YAML's double quotes."""
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, float):
        return _number(value)
    return value


def _escape(text: str) -> str:
    quoted = yaml.safe_dump(
        text, default_style='"', allow_unicode=True, width=math.inf, line_break="\n"
    )
    return quoted.rstrip("\n")[1:-1]


def _number(value: float) -> str:
    # PyYAML's own form: Python's "1e-05" would be read back as text.
    return yaml.safe_dump(float(value)).split("\n", 1)[0]


def _literal(text: str) -> str:
    """Text for the inside of double quotes that means neither Jinja2 nor YAML anything."""
    return re.sub(r"\{[{%#]", lambda found: "{{ '" + found[0] + "' }}", _escape(text))


def _path_with_placeholders(filepath: str) -> str:
    parts = _PLACEHOLDER.split(filepath)
    # split() alternates text and names, starting with text.
    return "".join(
        f"{{{{ {part} }}}}" if index % 2 else _literal(part) for index, part in enumerate(parts)
    )
