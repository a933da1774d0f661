"""``optic-trigger draw-planes``: surfaces and focus planes in cross sections of a volume."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from opticstream_smk.qc.planes import DrawnLine

_COLOURS = ((255, 64, 64), (64, 224, 255), (255, 224, 64), (128, 255, 96))
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "Sections are stacked: z over x at each --at-y, then z over y at each --at-x; those in the "
        "middle by default. Surfaces are drawn first in red, then in other colours."
    )
    parser.add_argument("volume", type=Path, metavar="VOLUME", help=".nii, .nii.gz or .ome.zarr")
    parser.add_argument(
        "--surface",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="map of 1-based depths (X, Y), 0 for none, such as surf; several are allowed",
    )
    parser.add_argument(
        "--plane",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="focus plane (X, Y) in voxels of z; drawn at its value above its minimum + --offset",
    )
    parser.add_argument(
        "--offset", type=float, default=0.0, metavar="N", help="voxels that planes lie below that"
    )
    parser.add_argument(
        "--at-y", type=int, action="append", metavar="Y", help="0-based; repeatable"
    )
    parser.add_argument(
        "--at-x", type=int, action="append", metavar="X", help="0-based; repeatable"
    )
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        default=(1.0, 99.5),
        metavar=("LOW", "HIGH"),
        help="percentiles that become black and white",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PICTURE")
    parser.add_argument("--overwrite", action="store_true", help="PICTURE may be there")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.io.pictures import write_picture
    from opticstream_smk.io.volumes import open_volume
    from opticstream_smk.qc.planes import draw_planes

    output: Path = arguments.output
    if output.suffix.lower() not in _PICTURES:
        raise ConfigError(f"-o {output}: expected a picture, one of {', '.join(_PICTURES)}")
    if output.exists() and not arguments.overwrite:
        raise ConfigError(f"{output} is there; give another -o, or --overwrite")
    low, high = arguments.window
    if not 0 <= low < high <= 100:
        raise ConfigError(f"--window {low:g} {high:g}: expected percentiles, 0 to 100, rising")
    lines = _lines(arguments)
    if not lines:
        raise ConfigError("nothing to draw; give --surface or --plane")
    volume = open_volume(arguments.volume)
    _, height, width = volume.shape
    rows, columns = arguments.at_y, arguments.at_x
    if rows is None and columns is None:
        rows, columns = [height // 2], [width // 2]
    picture = draw_planes(
        volume, lines, rows=rows or [], columns=columns or [], percentiles=(low, high)
    )
    write_picture(output, picture)
    print(f"{output}: {picture.shape[1]} x {picture.shape[0]} px")
    return 0


def _lines(arguments: argparse.Namespace) -> "list[DrawnLine]":
    import numpy as np

    from opticstream_smk.qc.planes import DrawnLine

    depths: list[NDArray[np.float64]] = []
    for path in arguments.surface:
        surface = _map(path)
        depths.append(np.where(surface > 0, surface - 1, np.nan))
    for path in arguments.plane:
        plane = _map(path)
        if not np.isfinite(plane).any():
            raise ConfigError(f"{path} has no finite value; expected a focus plane")
        depths.append(plane - np.nanmin(plane) + arguments.offset)
    return [DrawnLine(depth, _COLOURS[index % len(_COLOURS)]) for index, depth in enumerate(depths)]


def _map(path: Path) -> "NDArray[np.float64]":
    import numpy as np

    from opticstream_smk.io import nifti

    return np.asarray(nifti.read_image(path), dtype=np.float64)
