"""Options that several commands share."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opticstream_smk.config import Config


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config``: which project."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration of the project; else $OPTIC_CONFIG, else config/project.yaml",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """``--format``: for people or for programs."""
    parser.add_argument("--format", choices=("text", "json"), default="text")


def given_config(arguments: argparse.Namespace) -> "Config":
    """The configuration that the command line names."""
    from opticstream_smk.config import find_config, load_config

    return load_config(find_config(arguments.config))


def print_json(value: Any) -> None:
    """Print a report for programs."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, default=str)
    print()
