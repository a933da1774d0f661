"""``optic-trigger tile-configuration``: the nominal grid as a file for Fiji."""

import argparse
from pathlib import Path

from opticstream_smk.cli.options import add_format, print_json
from opticstream_smk.errors import ConfigError

_EPILOG = (
    "In Fiji: Plugins > Stitching > Grid/Collection stitching, type `Positions from file`. The "
    "grid is that of a project (--config), or of the options. The result of Fiji comes back by "
    "`mosaic.method: tileconfig`."
)

# Options that say all of the grid that has no default.
_GRID = ("columns", "rows", "tile_size", "overlap_percent")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    parser.add_argument("--config", type=Path, metavar="FILE", help="project that has the grid")
    parser.add_argument("--acquisition", default="normal", metavar="A", help="with --config")
    parser.add_argument("--columns", type=int, metavar="C")
    parser.add_argument("--rows", type=int, metavar="R")
    parser.add_argument("--tile-size", type=int, nargs=2, metavar=("W", "H"), help="px, x and y")
    parser.add_argument("--overlap-percent", type=float, metavar="P", help="of the tile, both axes")
    parser.add_argument(
        "--grid-type",
        choices=("row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"),
        help="default: snake-by-columns",
    )
    parser.add_argument(
        "--order",
        metavar="O",
        help="one of up, down and one of left, right: up-right (default), right-down, ...",
    )
    parser.add_argument(
        "--name-format",
        metavar="TEXT",
        help="file names; {tile_number:04d} is filled in (by default, all of it; with --config, "
        "the AIP tiles of --mosaic)",
    )
    parser.add_argument("--mosaic", type=int, metavar="M", help="with --config: whose tiles")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--overwrite", action="store_true", help="OUT may be there")
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.io.atomic import write_bytes
    from opticstream_smk.mosaic import nominal_positions, snake_order
    from opticstream_smk.mosaic.tile_configuration import tile_configuration_text

    if arguments.output.exists() and not arguments.overwrite:
        raise ConfigError(f"{arguments.output} is there; give another -o, or --overwrite")
    if arguments.config is not None:
        _take_from_config(arguments)
    for option in _GRID:
        if getattr(arguments, option) is None:
            raise ConfigError(f"--{option.replace('_', '-')} is missing; or give --config")
    if min(arguments.tile_size) < 1:
        raise ConfigError(f"--tile-size {arguments.tile_size}: expected 1 px or more")
    cells = snake_order(
        arguments.rows,
        arguments.columns,
        grid_type=arguments.grid_type or "snake-by-columns",
        order=arguments.order or "up-right",
    )
    width, height = arguments.tile_size
    positions = nominal_positions(cells, (height, width), arguments.overlap_percent)
    names = _names(arguments.name_format or "{tile_number:04d}", len(cells))
    text = tile_configuration_text(names, positions)
    write_bytes(arguments.output, text.encode())
    if arguments.format == "json":
        print_json({"output": arguments.output, "tiles": len(names), "first": names[0]})
        return 0
    print(f"{arguments.output}: {len(names)} tiles, {names[0]} to {names[-1]}")
    return 0


def _take_from_config(arguments: argparse.Namespace) -> None:
    from opticstream_smk import naming
    from opticstream_smk.config import load_config

    scan = load_config(arguments.config).acquisition
    if arguments.acquisition not in scan.labels:
        raise ConfigError(
            f"--acquisition {arguments.acquisition}: expected one of {', '.join(scan.labels)}"
        )
    given = [
        f"--{name.replace('_', '-')}"
        for name in (*_GRID, "grid_type", "order")
        if getattr(arguments, name) is not None
    ]
    if given:
        raise ConfigError(f"{', '.join(given)} and --config: the configuration says it; give one")
    label = arguments.acquisition
    arguments.columns, arguments.rows = scan.columns(label), scan.rows(label)
    arguments.tile_size = (scan.alines(label), scan.tile_size_y)
    arguments.overlap_percent = scan.tile_overlap_percent
    arguments.grid_type, arguments.order = scan.grid_type, scan.grid_order
    if arguments.name_format is None:
        mosaic = arguments.mosaic or scan.labels.index(label) + 1
        if naming.acquisition_of_mosaic(mosaic, scan.mosaics_per_slice) != label:
            raise ConfigError(f"--mosaic {mosaic} is no {label} mosaic; correct --acquisition")
        stem = naming.mosaic_stem(mosaic)
        arguments.name_format = f"{stem}_image_{{tile_number:04d}}_aip.nii"


def _names(pattern: str, count: int) -> list[str]:
    try:
        return [pattern.format(tile_number=number) for number in range(1, count + 1)]
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"--name-format {pattern!r}: expected {{tile_number}} or {{tile_number:04d}} and no "
            "other braces"
        ) from error
