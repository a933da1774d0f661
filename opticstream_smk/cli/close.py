"""``optic-trigger close``: accept a mosaic without the tiles that will not come."""

import argparse

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json
from opticstream_smk.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)
    parser.add_argument("--mosaic", type=int, required=True, metavar="M")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--missing",
        type=_images,
        metavar="N[,N-N]",
        help="images that will not come, such as 17,18 or 33-48; refused unless it is exactly "
        "these. Default: all that are missing now",
    )
    what.add_argument(
        "--undo", action="store_true", help="withdraw it, with what was made because of it"
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="kept in the flag")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from dataclasses import asdict

    from opticstream_smk.trigger.close import close_mosaic, reopen_mosaic

    config, mosaic = given_config(arguments), arguments.mosaic
    if mosaic < 1:
        raise ConfigError(f"--mosaic {mosaic}: mosaics are counted from 1")
    if arguments.undo:
        closed = reopen_mosaic(config, mosaic)
    else:
        closed = close_mosaic(config, mosaic, missing=arguments.missing, reason=arguments.reason)
    if arguments.format == "json":
        print_json(asdict(closed))
        return 0
    for path in closed.withdrawn:
        print(f"withdrawn  {path}")
    for batch in closed.entered:
        print(f"ready      mosaic {mosaic:03d} batch {batch:03d}")
    if arguments.undo:
        print(f"mosaic {mosaic:03d} is open again and waits for all its tiles")
        print("next: optic-trigger scan, then snakemake --profile zircon")
    else:
        listed = ", ".join(map(str, closed.missing))
        print(f"mosaic {mosaic:03d} is closed without {len(closed.missing)} tiles: {listed}")
        print("next: snakemake --profile zircon")
    return 0


def _images(text: str) -> list[int]:
    """Image numbers of a list such as ``17,18,33-48``."""
    images: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) < int(first):
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected numbers and ranges, such as 17,18 or 33-48"
            )
        images += range(int(first), int(last or first) + 1)
    return images
