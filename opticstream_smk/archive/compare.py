"""Two tables of hashes, tile by tile: raw files as acquired against files as archived."""

import csv
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from opticstream_smk import naming
from opticstream_smk.errors import ConfigError, CorruptInputError, NamingError
from opticstream_smk.io.atomic import atomic_path
from opticstream_smk.naming.inputs import InputNames

Format = Literal["mosaic", "rawdata"]
Status = Literal["match", "mismatch", "missing in 2", "missing in 1"]

COLUMNS = ("mosaic", "image", "status", "hash1", "hash2", "path1", "path2")
_PATHS = ("path", "asset_path")
_HASHES = ("hash", "sha256")
# What the file holds once it is decompressed: the raw file, byte by byte.
_CONTENT = "content_sha256"
_RAWDATA = re.compile(
    r"sample-slice-?(?P<slice>\d+)_(?:chunk|tile)-(?P<image>\d+)_acq-(?P<acq>[A-Za-z0-9]+)_"
)
# Mosaic of an acquisition in its slice, by how its label begins.
_POSITIONS = {"normal": 1, "tilted": 2, "tiltpos": 2, "tiltneg": 3}

# Mosaic and image.
Tile = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A line of a table that names a tile."""

    path: str
    hash: str


@dataclass
class Table:
    """The tiles of a table of hashes.

    Attributes
    ----------
    ignored
        Paths that name no tile.
    """

    tiles: dict[Tile, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """One tile; an entry that is not there is None."""

    tile: Tile
    status: Status
    first: Entry | None
    second: Entry | None


def read_tables(paths: Iterable[Path], form: Format, *, mosaics_per_slice: int = 2) -> Table:
    """Read CSV files with the columns ``path`` or ``asset_path``, and ``hash`` or ``sha256``.

    Parameters
    ----------
    paths
        Their lines count as those of one table: an archive has a manifest for each mosaic.
    form
        ``mosaic``: names as acquisition programs write them (``mosaic_001_image_0041_...``).
        ``rawdata``: names of the archive or the dandiset (``sample-slice01_chunk-0041_acq-normal_
        ...``); of a manifest the hash of the content is taken, which is that of the raw file.

    Raises
    ------
    ConfigError
        There is no such file.
    CorruptInputError
        It is no such table, or a name cannot be understood.
    """
    table = Table()
    for path in paths:
        _read_into(table, path, form, mosaics_per_slice)
    return table


def _read_into(table: Table, path: Path, form: Format, per_slice: int) -> None:
    before = len(table.tiles)
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as text:
            reader = csv.DictReader(text)
            columns = reader.fieldnames or ()
            where = _column(path, columns, _PATHS)
            what = _CONTENT if form == "rawdata" and _CONTENT in columns else ""
            what = what or _column(path, columns, _HASHES)
            for row in reader:
                name, digest = row.get(where), row.get(what)
                if not name or not digest:
                    raise CorruptInputError(
                        f"{path}, line {reader.line_num}: lacks {where} or {what}; write the table "
                        "again"
                    )
                tile = _tile(name, form, per_slice)
                if tile is None:
                    table.ignored.append(name)
                else:
                    table.tiles[tile].append(Entry(name, digest.strip().lower()))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not there; name a table that is") from error
    except (OSError, csv.Error) as error:
        raise CorruptInputError(f"{path} cannot be read as a table ({error})") from error
    if len(table.tiles) == before:
        raise CorruptInputError(
            f"{path}: no name in it is a tile in the format {form} that is not in another table; "
            "choose the other format, or the right table"
        )


def compare(first: Table, second: Table) -> list[Comparison]:
    """Compare tile by tile.

    A tile may have several files (spectra, complex): those with equal hashes belong together; of
    the others each differs from one of the other table, or is missing there.
    """
    found = []
    for tile in sorted(first.tiles.keys() | second.tiles.keys()):
        alone, others = [], list(second.tiles.get(tile, []))
        for entry in first.tiles.get(tile, []):
            twin = next((other for other in others if other.hash == entry.hash), None)
            if twin is None:
                alone.append(entry)
                continue
            others.remove(twin)
            found.append(Comparison(tile, "match", entry, twin))
        for one, two in itertools.zip_longest(alone, others):
            status: Status = (
                "missing in 2" if two is None else "missing in 1" if one is None else "mismatch"
            )
            found.append(Comparison(tile, status, one, two))
    return found


def write_comparison(path: Path, found: Iterable[Comparison]) -> None:
    """Write a comparison as a table."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for line in found:
            one, two = line.first, line.second
            writer.writerow(
                (
                    *line.tile,
                    line.status,
                    one.hash if one else "",
                    two.hash if two else "",
                    one.path if one else "",
                    two.path if two else "",
                )
            )


def _column(path: Path, columns: Iterable[str], names: tuple[str, ...]) -> str:
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise CorruptInputError(
            f"{path} has the columns {', '.join(columns) or 'none'}; expected {' or '.join(names)}"
        )
    return found


def _tile(name: str, form: Format, per_slice: int) -> Tile | None:
    """Tile that a name is of; None when it is of none, or not of raw data."""
    base = PurePosixPath(name.replace("\\", "/")).name
    if form == "mosaic":
        parsed = InputNames(mosaics_per_slice=per_slice).parse(base)
        if parsed is None or parsed.kind == "processed" or parsed.mosaic is None:
            return None
        return parsed.mosaic, parsed.image
    match = _RAWDATA.search(base)
    if match is None or base.endswith(".sha256"):
        return None
    position = _position(match["acq"], per_slice, name)
    return naming.mosaic_of_slice(int(match["slice"]), position, per_slice), int(match["image"])


def _position(label: str, per_slice: int, name: str) -> int:
    known: Mapping[str, int] = _POSITIONS
    for start, position in known.items():
        if label.lower().startswith(start) and position <= per_slice:
            return position
    raise NamingError(
        f"{name}: acquisition {label!r} is not known; expected a label that begins with "
        f"{', '.join(known)} (slices of {per_slice} mosaics)"
    )
