"""``optic-trigger hash-dir``: hashes of all files of a folder."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--input", type=Path, required=True, metavar="DIR", help="folder to read")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="table to write: path, hash, algorithm; sorted by path",
    )
    parser.add_argument(
        "--algo", default="sha256", metavar="NAME", help="sha256 (default), md5, blake2b, ..."
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="project whose run.read_limit_mb_s is to be kept to; without it there is no limit",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when a file could not be read."""
    from opticstream_smk.archive.hash_table import hash_folder
    from opticstream_smk.estimate import format_bytes

    if arguments.config is not None:
        from opticstream_smk.config import load_config
        from opticstream_smk.host.tokens import token_folder
        from opticstream_smk.io.throttle import limit_reading

        run_section = load_config(arguments.config).run
        limit_reading(run_section.read_limit_mb_s, token_folder(run_section))
    result = hash_folder(arguments.input, arguments.output, arguments.algo.lower())
    for message in result.skipped:
        print(f"SKIPPED  {message}")
    print(
        f"{arguments.output}: {result.files} files ({format_bytes(result.bytes)}), "
        f"{len(result.skipped)} skipped"
    )
    return 3 if result.skipped else 0
