"""``optic-trigger preflight``: look at everything before a run."""

import argparse
import contextlib
from typing import TYPE_CHECKING

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json

if TYPE_CHECKING:
    from opticstream_smk.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)
    parser.add_argument(
        "--slices",
        type=_at_least_one,
        metavar="N",
        help="slices that are planned, for space and time; else those of which there is any tile",
    )
    parser.add_argument(
        "--mosaic", type=_at_least_one, metavar="M", help="mosaic of the tile that is shown"
    )
    parser.add_argument(
        "--image", type=_at_least_one, metavar="I", help="the tile that is shown; else the first"
    )
    parser.add_argument(
        "--profile",
        default="zircon",
        metavar="NAME",
        help="snakemake profile that will be used, a name or a folder (zircon)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 2, 3 or 4 by the cause of what failed; 0 with warnings only."""
    from dataclasses import asdict

    from opticstream_smk.errors import ConfigError

    try:
        config = given_config(arguments)
    except ConfigError as error:
        from opticstream_smk.preflight import refused

        report = refused(error)
    else:
        _protect_acquisition(config)
        from opticstream_smk.preflight import Options, run_preflight

        options = Options(arguments.slices, arguments.mosaic, arguments.image, arguments.profile)
        report = run_preflight(config, options)
    if arguments.format == "json":
        print_json(
            {
                "checks": [asdict(check) for check in report.checks],
                "picture": report.picture,
                "exit_code": report.exit_code,
            }
        )
        return report.exit_code
    for check in report.checks:
        print(check)
    if report.picture:
        print(f"picture: {report.picture}")
    print(
        f"{report.count('ok')} ok, {report.count('note')} notes, "
        f"{report.count('warning')} warnings, {report.count('FAILED')} failed"
    )
    if report.exit_code == 0:
        print("next: optic-trigger watch")
    return report.exit_code


def _protect_acquisition(config: "Config") -> None:
    """Decode as a stage would; before numerical libraries are imported, which start threads."""
    from opticstream_smk.errors import ConfigError
    from opticstream_smk.host.affinity import settle_process
    from opticstream_smk.host.tokens import token_folder
    from opticstream_smk.io.throttle import limit_reading

    # Cores that are not there are one of the checks.
    with contextlib.suppress(ConfigError):
        settle_process(config.run)
    limit_reading(
        config.run.read_limit_mb_s,
        token_folder(config.run),
        [source.dir for source in config.acquisition.sources],
    )


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected 1 or more")
    return number
