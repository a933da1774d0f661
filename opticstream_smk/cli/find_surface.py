"""``optic-trigger find-surface``: the surface of a tile's or a mosaic's volume."""

import argparse
from pathlib import Path

from opticstream_smk.cli.options import add_format, print_json
from opticstream_smk.errors import ConfigError, QualityError

_EPILOG = (
    "The surface is the first voxel after the steepest rise along z, counted from 1 as in `surf`; "
    "0 where nothing rises. Memory does not depend on the size of the volume (but .nii.gz is "
    "unpacked as a whole)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EPILOG
    parser.add_argument("volume", type=Path, metavar="VOLUME", help=".nii, .nii.gz or .ome.zarr")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=".nii")
    parser.add_argument("--overwrite", action="store_true", help="OUT may be there")
    parser.add_argument(
        "--sigma-px", type=float, default=2.0, metavar="S", help="Gaussian before; 0 for none"
    )
    parser.add_argument(
        "--median-px", type=int, default=1, metavar="M", help="median filter of the map; odd"
    )
    parser.add_argument(
        "--top-px", type=int, default=0, metavar="N", help="with --top-threshold: voxels at the top"
    )
    parser.add_argument(
        "--top-threshold",
        type=float,
        metavar="T",
        help="no surface (0) where the mean of the first --top-px voxels exceeds it",
    )
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when no A-line has a surface."""
    import numpy as np

    from opticstream_smk.io import nifti
    from opticstream_smk.io.volumes import open_volume
    from opticstream_smk.psoct.steepest_rise import find_rise

    output: Path = arguments.output
    if not output.name.endswith(".nii"):
        raise ConfigError(f"-o {output}: expected a name that ends in .nii")
    if output.exists() and not arguments.overwrite:
        raise ConfigError(f"{output} is there; give another -o, or --overwrite")
    if (arguments.top_threshold is None) == (arguments.top_px > 0):
        raise ConfigError("--top-px and --top-threshold belong together; give both or none")
    volume = open_volume(arguments.volume)
    surface = find_rise(
        volume.read,
        volume.shape,
        sigma_px=arguments.sigma_px,
        median_px=arguments.median_px,
        top_px=arguments.top_px,
        top_threshold=0.0 if arguments.top_threshold is None else arguments.top_threshold,
    )
    found = surface[surface > 0]
    if not found.size:
        raise QualityError(
            f"{volume.path}: nothing rises along z in any A-line, or the top is bright everywhere; "
            "expected a surface. Is it an intensity volume? Look at --top-threshold."
        )
    nifti.write_image(
        output, surface, volume.geometry, description="surface, 1-based depth index, 0: none"
    )
    low, middle, high = np.percentile(found, (1, 50, 99)).tolist()
    share = found.size / surface.size
    if arguments.format == "json":
        print_json(
            {
                "output": output,
                "shape_zyx": volume.shape,
                "share_with_surface": round(share, 6),
                "percentiles": {"1": low, "50": middle, "99": high},
            }
        )
        return 0
    print(
        f"{output}: surface of {100 * share:.1f} % of {surface.shape[1]} x {surface.shape[0]} "
        f"A-lines at {middle:g} (1 to 99 %: {low:g} to {high:g}) of {volume.shape[0]}"
    )
    return 0
