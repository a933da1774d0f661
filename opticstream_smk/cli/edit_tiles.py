"""``optic-trigger edit-tiles``: rows, columns and tiles taken out of a tile info or template."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from opticstream_smk.cli.options import add_format, print_json
from opticstream_smk.cli.tile_files import TilemapFile, add_tilemap, given_tilemap, number_list
from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EPILOG = (
    "Rows and columns count from 1, from the top and from the left, by where tiles lie and not by "
    "their order in the file. Tiles keep their numbers, which are those of their files. In a "
    "project, the tiles that are dropped are missing in every mosaic, and the canvas ends with the "
    "others: write over the template (--overwrite), then `optic-trigger redo --from "
    "stitch_enface`. Solving the coordinates again writes a template with all tiles."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    add_tilemap(parser)
    numbers = "such as 1,3-4"
    parser.add_argument("--drop-rows", type=number_list, default=[], metavar="R", help=numbers)
    parser.add_argument("--drop-columns", type=number_list, default=[], metavar="C", help=numbers)
    parser.add_argument("--drop-tiles", type=number_list, default=[], metavar="N", help=numbers)
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="OUT may be there, or be TILEMAP")
    parser.add_argument("--list", action="store_true", help="show the grid, write nothing")
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.io.atomic import write_bytes
    from opticstream_smk.mosaic.drop_tiles import drop_tiles

    tilemap = given_tilemap(arguments)
    cells = tilemap.cells()
    if arguments.list:
        _show(tilemap, cells, as_json=arguments.format == "json")
        return 0
    numbers = _chosen(tilemap, cells, arguments)
    if not numbers:
        raise ConfigError("nothing to drop; give --drop-rows, --drop-columns or --drop-tiles")
    if arguments.output is None:
        raise ConfigError("give -o OUT, the file to write; --overwrite writes over TILEMAP itself")
    if arguments.output.exists() and not arguments.overwrite:
        raise ConfigError(f"{arguments.output} is there; give another -o, or --overwrite")
    edited = drop_tiles(tilemap.text, numbers, source=str(tilemap.path))
    write_bytes(arguments.output, edited.encode())
    left = len(tilemap.numbers) - len(numbers)
    if arguments.format == "json":
        print_json({"output": arguments.output, "dropped": sorted(numbers), "tiles": left})
        return 0
    text = ", ".join(map(str, sorted(numbers)))
    print(f"{arguments.output}: {left} tiles; dropped {len(numbers)} (tiles {text})")
    return 0


def _chosen(
    tilemap: TilemapFile, cells: "NDArray[np.int64]", arguments: argparse.Namespace
) -> set[int]:
    """Numbers of the tiles to drop."""
    chosen = set(arguments.drop_tiles)
    for name, axis, wanted in (
        ("rows", 0, arguments.drop_rows),
        ("columns", 1, arguments.drop_columns),
    ):
        there = set((cells[:, axis] + 1).tolist())
        absent = sorted(set(wanted) - there)
        if absent:
            raise ConfigError(
                f"--drop-{name} {absent[0]}: {tilemap.path} has the {name} {min(there)} to "
                f"{max(there)}; --list shows them"
            )
        chosen |= {
            number
            for number, cell in zip(tilemap.numbers, cells.tolist(), strict=True)
            if cell[axis] + 1 in wanted
        }
    return chosen


def _show(tilemap: TilemapFile, cells: "NDArray[np.int64]", *, as_json: bool) -> None:
    if as_json:
        tiles = [
            {
                "tile_number": tile.tile_number,
                "row": row + 1,
                "column": column + 1,
                "x": tile.x,
                "y": tile.y,
                "avg_signal": tile.avg_signal,
                "is_anchored": tile.is_anchored,
            }
            for tile, (row, column) in zip(tilemap.info.tiles, cells.tolist(), strict=True)
        ]
        print_json({"tiles": tiles, "dropped": tilemap.info.dropped})
        return
    number_of = dict(zip(map(tuple, cells.tolist()), tilemap.numbers, strict=True))
    loose = {tile.tile_number for tile in tilemap.info.tiles if not tile.is_anchored}
    rows, columns = (cells.max(axis=0) + 1).tolist()
    width = max(len(str(max(tilemap.numbers))), len(str(columns))) + 1
    print("row".rjust(5) + "".join(str(c + 1).rjust(width + 1) for c in range(columns)))
    for row in range(rows):
        shown = [number_of.get((row, column)) for column in range(columns)]
        texts = [f"{n}{'?' if n in loose else ' '}" if n else ". " for n in shown]
        print(str(row + 1).rjust(5) + "".join(text.rjust(width + 1) for text in texts))
    if loose:
        print("?: without a link to its neighbours; placed by the stage model")
    if tilemap.info.dropped:
        print(f"dropped before: tiles {', '.join(map(str, tilemap.info.dropped))}")
