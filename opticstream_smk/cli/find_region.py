"""``optic-trigger find-region``: which tiles cover a region, and where tiles lie."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opticstream_smk.cli.options import add_format, print_json
from opticstream_smk.cli.tile_files import TilemapFile, add_tilemap, given_tilemap, number_list
from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    from opticstream_smk.mosaic.regions import Box

_EPILOG = (
    "Places are those of the stitched image: x along the first NIfTI axis, its first pixel is 0. "
    "The size of a tile is taken from --tile-size, --config, or the first tile file of a tile info."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    add_tilemap(parser)
    parser.add_argument(
        "place", type=float, nargs="*", metavar="X Y", help="first pixel of the region"
    )
    parser.add_argument(
        "--size", type=float, nargs=2, metavar=("W", "H"), help="of the region; else one pixel"
    )
    parser.add_argument("--unit", choices=("px", "mm"), default="px", help="of X, Y, W and H")
    parser.add_argument(
        "--tiles", type=number_list, metavar="N", help="instead: where these tiles lie"
    )
    parser.add_argument("--tile-size", type=int, nargs=2, metavar=("W", "H"), help="px of a tile")
    parser.add_argument(
        "--voxel-mm", type=float, nargs=2, metavar=("X", "Y"), help="size of a pixel"
    )
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.mosaic.regions import canvas_box, tile_boxes, tiles_of_region

    if (arguments.tiles is None) == (not arguments.place):
        raise ConfigError("give either X Y, or --tiles")
    if arguments.place and len(arguments.place) != 2:
        raise ConfigError(f"{len(arguments.place)} numbers for X Y: expected two")
    tilemap = given_tilemap(arguments)
    shape = _tile_shape(tilemap, arguments)
    voxel = _voxel_mm(tilemap, arguments)
    cells = tilemap.cells().tolist()
    positions = tilemap.positions_px

    def described(index: int, in_mosaic: "Box", in_tile: "Box") -> dict[str, Any]:
        tile = tilemap.info.tiles[index]
        return {
            "tile_number": tile.tile_number,
            "row": cells[index][0] + 1,
            "column": cells[index][1] + 1,
            "is_anchored": tile.is_anchored,
            "in_mosaic": _fields(in_mosaic, voxel),
            "in_tile": _fields(in_tile, voxel),
        }

    if arguments.tiles is not None:
        index_of = {number: index for index, number in enumerate(tilemap.numbers)}
        absent = [number for number in arguments.tiles if number not in index_of]
        if absent:
            raise ConfigError(f"{tilemap.path} has no tile {', '.join(map(str, absent))}")
        boxes = list(tile_boxes(positions, shape))
        whole = type(boxes[0])(0, 0, *shape)
        found = [
            described(index_of[number], boxes[index_of[number]], whole)
            for number in arguments.tiles
        ]
    else:
        region = _region(arguments, voxel)
        found = [
            described(part.index, part.in_mosaic, part.in_tile)
            for part in tiles_of_region(positions, shape, region)
        ]
    canvas = canvas_box(positions, shape)
    if arguments.format == "json":
        print_json({"canvas": _fields(canvas, voxel), "tiles": found})
        return 0
    print(f"mosaic of {canvas.width} x {canvas.height} px (x, y){_in_mm(canvas, voxel)}")
    for tile in found:
        _print(tile)
    if not found:
        print("no tile covers this region")
    return 0


def _print(tile: dict[str, Any]) -> None:
    in_mosaic, in_tile = tile["in_mosaic"], tile["in_tile"]
    loose = "" if tile["is_anchored"] else "; placed by the stage model"
    print(
        f"tile {tile['tile_number']} (row {tile['row']}, column {tile['column']}): "
        f"{_range(in_mosaic)} of the mosaic is {_range(in_tile)} of the tile{loose}"
    )


def _range(box: dict[str, Any]) -> str:
    return (
        f"x {box['x']} to {box['x'] + box['width'] - 1}, "
        f"y {box['y']} to {box['y'] + box['height'] - 1}"
    )


def _fields(box: "Box", voxel: tuple[float, float] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
    if voxel is not None:
        x_mm, y_mm = voxel
        fields |= {
            "x_mm": round(box.x * x_mm, 6),
            "y_mm": round(box.y * y_mm, 6),
            "width_mm": round(box.width * x_mm, 6),
            "height_mm": round(box.height * y_mm, 6),
        }
    return fields


def _in_mm(box: "Box", voxel: tuple[float, float] | None) -> str:
    if voxel is None:
        return ""
    return f", {box.width * voxel[0]:.3f} x {box.height * voxel[1]:.3f} mm"


def _region(arguments: argparse.Namespace, voxel: tuple[float, float] | None) -> "Box":
    from opticstream_smk.mosaic.regions import Box

    scale = (1.0, 1.0)
    if arguments.unit == "mm":
        if voxel is None:
            raise ConfigError("--unit mm needs the size of a pixel; give --voxel-mm or --config")
        scale = voxel
    start = [value / size for value, size in zip(arguments.place, scale, strict=True)]
    given = arguments.size or scale  # one pixel
    size = [value / pixel for value, pixel in zip(given, scale, strict=True)]
    if not all(map(math.isfinite, (*start, *size))) or min(size) <= 0:
        raise ConfigError("X, Y, W and H: expected finite numbers, W and H above 0")
    # To a thousandth of a pixel: 0.3 mm of 0.1 mm are 3 pixels.
    first = [math.floor(round(value, 3)) for value in start]
    last = [math.ceil(round(a + b, 3)) for a, b in zip(start, size, strict=True)]
    return Box(first[1], first[0], last[1] - first[1], last[0] - first[0])


def _tile_shape(tilemap: TilemapFile, arguments: argparse.Namespace) -> tuple[int, int]:
    """Size (y, x) of a tile in px."""
    if arguments.tile_size is not None:
        width, height = arguments.tile_size
        if min(width, height) < 1:
            raise ConfigError(f"--tile-size {width} {height}: expected 1 or more")
        return height, width
    if tilemap.config is not None and tilemap.acquisition is not None:
        scan = tilemap.config.acquisition
        return scan.tile_size_y, scan.alines(tilemap.acquisition)
    first = Path(tilemap.info.base_dir) / tilemap.info.tiles[0].filepath
    if first.suffix in (".nii", ".gz") and first.is_file():
        from opticstream_smk.io import nifti

        width, height = nifti.read_array(first).shape[:2]
        return height, width
    raise ConfigError("the size of a tile is not known; give --tile-size W H or --config")


def _voxel_mm(tilemap: TilemapFile, arguments: argparse.Namespace) -> tuple[float, float] | None:
    """Size x, y of a pixel; None where nothing says it."""
    if arguments.voxel_mm is not None:
        x_mm, y_mm = arguments.voxel_mm
        if not (math.isfinite(x_mm) and math.isfinite(y_mm) and min(x_mm, y_mm) > 0):
            raise ConfigError(f"--voxel-mm {x_mm} {y_mm}: expected numbers above 0")
        return x_mm, y_mm
    if tilemap.config is not None:
        return tilemap.config.acquisition.scan_resolution_3d_mm[:2]
    if tilemap.info.scan_resolution is not None:
        return tilemap.info.scan_resolution[0], tilemap.info.scan_resolution[1]
    return None
