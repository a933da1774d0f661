"""``optic-trigger COMMAND``: the operators' command. One module per command."""

import argparse
import importlib
import sys

from opticstream_smk import __version__
from opticstream_smk.cli.main import guard, set_up_logging

COMMANDS = {
    "init": "look at raw files and write a configuration to start from",
    "config": "print the default configuration or its schema, or check a file",
    "preflight": "look at everything before a run: first tile, grid, rights, space, time",
    "simulate": "write a synthetic acquisition in the instrument's format",
    "watch": "look at the raw folders and have everything made as it arrives",
    "systemd": "print a unit that runs the watcher as a service",
    "scan": "one pass over the raw folders: mark complete batches as ready, start nothing",
    "status": "progress and failures, with the command to type",
    "explain": "why a batch, a mosaic or a slice is (not) moving, step by step",
    "logs": "logs of a stage, a place, a snakemake run or the watcher; else what happened",
    "pause": "have the watcher start nothing new, until resume",
    "resume": "let the watcher start work again",
    "retry": "have what failed tried again at once, with its attempts counted anew",
    "close": "accept a mosaic without the tiles that will not come",
    "redo": "do a stage and everything after it again, with today's parameters",
    "state": "show, mark or reset one level by hand",
    "dag": "picture of the pipeline, coloured by state",
    "watch-files": "run a command for each new, complete file of any folder",
    "process-priority": "keep up the CPU priority of the acquisition software",
    "verify-archive": "read everything that was archived again, and tell what is not right",
    "hash-dir": "hashes of all files of a folder, as a table",
    "compare-hashes": "two tables of hashes, tile by tile",
    "stitch": "stitch the tiles of a tile info; also bit for bit as linc-convert",
    "edit-tiles": "take rows, columns or tiles out of a coordinate template or tile info",
    "find-region": "which tiles cover a region of a mosaic, and where tiles lie in it",
    "find-surface": "the surface of a volume, of a tile or of a mosaic",
    "draw-planes": "surfaces and focus planes drawn into cross sections of a volume",
    "tile-configuration": "the nominal grid as a TileConfiguration.txt for Fiji",
    "doctor": "find, and with --fix repair, what does not fit together",
}


def main() -> int:
    """Entry point of ``optic-trigger``."""
    parser = argparse.ArgumentParser(
        prog="optic-trigger",
        description="From raw tiles to registered slices: the operators' command.",
        epilog="exit codes: 0 fine, 2 usage or config, 3 data, 4 service",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == asked:
            module = importlib.import_module(f"opticstream_smk.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    set_up_logging(verbose=getattr(arguments, "verbose", False))
    return guard(lambda: int(arguments.run(arguments)))
