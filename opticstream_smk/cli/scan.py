"""``optic-trigger scan``: mark complete batches as ready."""

import argparse

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json
from opticstream_smk.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)
    parser.add_argument(
        "--assume-stable",
        action="store_true",
        help="do not wait watch.stability_s to see that nothing is being written any more",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when any raw file is wrong."""
    from dataclasses import asdict

    from opticstream_smk.trigger.ready import scan

    config = given_config(arguments)
    if config.project.pipeline == "lsm":
        raise ConfigError(
            "scan takes PS-OCT batches. Light-sheet strips are entered by the watcher: "
            "optic-trigger watch --until-idle 60"
        )
    result = scan(config, assume_stable=arguments.assume_stable)
    exit_code = 3 if result.problems else 0
    if arguments.format == "json":
        print_json({**asdict(result), "exit_code": exit_code})
        return exit_code
    for mosaic, batch in result.written:
        print(f"ready    mosaic {mosaic:03d} batch {batch:03d}")
    for message in result.waiting:
        print(f"waiting  {message}")
    for message in result.problems:
        print(f"PROBLEM  {message}")
    print(
        f"{len(result.written)} batches newly ready, {len(result.unchanged)} ready before, "
        f"{len(result.waiting)} waiting, {len(result.problems)} problems"
    )
    return exit_code
