"""``optic-trigger verify-archive``: read everything that was archived again."""

import argparse

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json
from opticstream_smk.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)
    parser.add_argument("--slice", type=int, metavar="S", help="only this slice")
    parser.add_argument("--mosaic", type=int, metavar="M", help="only this mosaic")
    parser.add_argument("--batch", type=int, metavar="B", help="only this batch of --mosaic")
    parser.add_argument(
        "--against-raw", action="store_true", help="also read the raw files that are still there"
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="files that are read at a time"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when something is wrong, 4 when it could not be looked at."""
    from opticstream_smk.archive.records import Selection
    from opticstream_smk.archive.verify import verify_archive
    from opticstream_smk.estimate import format_bytes
    from opticstream_smk.host.tokens import token_folder
    from opticstream_smk.io.throttle import limit_reading

    config = given_config(arguments)
    if arguments.batch is not None and arguments.mosaic is None:
        raise ConfigError("--batch needs --mosaic: batches of all mosaics have the same numbers")
    if arguments.threads < 1:
        raise ConfigError(f"--threads {arguments.threads}: expected 1 or more")
    if config.project.pipeline == "lsm":
        raise ConfigError(f"{config.project.name} is a light-sheet project; it has no such archive")
    sources = [source.dir for source in config.acquisition.sources]
    limit_reading(config.run.read_limit_mb_s, token_folder(config.run), sources)
    found = verify_archive(
        config,
        Selection(arguments.slice, arguments.mosaic, arguments.batch),
        against_raw=arguments.against_raw,
        threads=arguments.threads,
    )
    if arguments.format == "json":
        print_json(found.as_json())
        return found.exit_code
    for fault in found.faults:
        print(f"{fault.kind.upper():<10} {fault.path}: {fault.problem}. {fault.remedy}")
    raw = f", {found.raw_files} raw files compared" if arguments.against_raw else ""
    print(
        f"{found.files} archived files verified ({format_bytes(found.content_bytes)} of raw data)"
        f"{raw}; {len(found.faults)} faults"
    )
    return found.exit_code
