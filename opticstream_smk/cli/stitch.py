"""``optic-trigger stitch``: the tiles of a tile info to one image or volume."""

import argparse
from pathlib import Path

_EPILOG = (
    "A tile info is YAML: metadata (base_dir, tile_overlap, scan_resolution, mask, ...) and tiles "
    "(filepath, tile_number, x, y). Tiles are .nii, .mat or .zarr with x as first axis. With "
    "--compat linc the result is bit for bit that of linc-convert, which truncates positions, "
    "averages angles without ramps and leaves NaN; volumes (.zarr) need it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    parser.add_argument("tile_info", type=Path, metavar="TILE_INFO")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help=".nii, .tiff, .jpg or (volumes) .zarr; may be given several times",
    )
    parser.add_argument("--compat", choices=("linc",), help="as linc-convert, bit for bit")
    parser.add_argument("--circular", action="store_true", help="axial angles in degrees (ori)")
    parser.add_argument("--mask", type=Path, metavar="NII", help="else that of the tile info")
    parser.add_argument(
        "--tile-overlap",
        type=_overlap,
        metavar="W",
        help="width of the ramps: 0.2 of the tile, or 70 for pixels; else that of the tile info",
    )
    parser.add_argument("--allow-missing", action="store_true", help="leave out missing tiles")
    parser.add_argument("--clip", type=int, nargs=2, default=(0, 0), metavar=("X", "Y"),
                        help="leading pixels of every tile to leave out")  # fmt: skip
    parser.add_argument("--voxel-mm", type=float, nargs="+", metavar="MM", help="x, y[, z]")
    parser.add_argument("--placement", choices=("rounded", "subpixel"), default="rounded")
    parser.add_argument("--fill", type=float, default=0.0, help="value where no tile is")
    volumes = parser.add_argument_group("volumes")
    volumes.add_argument("--focus-plane", type=Path, metavar="NII")
    volumes.add_argument("--normalize", action="store_true", help="take off the plane's minimum")
    volumes.add_argument("--offset", type=int, default=30, metavar="PX")
    volumes.add_argument("--depth", type=int, default=500, metavar="PX")
    volumes.add_argument("--chunk", type=int, nargs="+", default=[128], metavar="N")
    volumes.add_argument("--shard", type=int, nargs="+", metavar="N")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.mosaic.tile_info_mosaic import MosaicOptions, stitch_tile_info

    options = MosaicOptions(
        compat=arguments.compat,
        tile_overlap=arguments.tile_overlap,
        circular=arguments.circular,
        mask=arguments.mask and arguments.mask.resolve(),
        allow_missing=arguments.allow_missing,
        clip_px=tuple(arguments.clip),
        focus_plane=arguments.focus_plane and arguments.focus_plane.resolve(),
        offset_px=arguments.offset,
        depth_px=arguments.depth,
        normalize=arguments.normalize,
        voxel_mm=arguments.voxel_mm and tuple(arguments.voxel_mm),
        placement=arguments.placement,
        fill=arguments.fill,
        chunk=tuple(arguments.chunk),
        shard=arguments.shard and tuple(arguments.shard),
    )
    shape = stitch_tile_info(arguments.tile_info, arguments.output, options)
    size = " x ".join(map(str, shape))
    print(f"{', '.join(map(str, arguments.output))}: {size} px (x, y{', z' * (len(shape) > 2)})")
    return 0


def _overlap(text: str) -> float | int:
    return float(text) if "." in text else int(text)
