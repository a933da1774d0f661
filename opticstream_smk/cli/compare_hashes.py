"""``optic-trigger compare-hashes``: two tables of hashes, tile by tile."""

import argparse
from collections import Counter
from pathlib import Path

from opticstream_smk.cli.options import add_format, print_json

_EXAMPLE = (
    "Raw files against an archive: `hash-dir --input RAW --output raw.csv`, then `compare-hashes "
    "--file1 raw.csv --format1 mosaic --file2 ARCHIVE/*_manifest.csv --format2 rawdata`."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = _EXAMPLE
    formats = ("mosaic", "rawdata")
    for number in (1, 2):
        parser.add_argument(
            f"--file{number}",
            type=Path,
            required=True,
            nargs="+",
            metavar="CSV",
            help="table or tables, such as the manifests of all mosaics",
        )
        parser.add_argument(
            f"--format{number}",
            choices=formats,
            required=True,
            help="names: mosaic_001_image_0041_..., or sample-slice01_chunk-0041_acq-normal_...",
        )
    parser.add_argument("--output", type=Path, metavar="FILE", help="table of all tiles to write")
    parser.add_argument("--mosaics-per-slice", type=int, choices=(2, 3), default=2)
    parser.add_argument("--verbose", action="store_true", help="tell tiles that match, too")
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when a tile of the first differs or is not in the second."""
    from opticstream_smk.archive.compare import compare, read_tables, write_comparison

    per_slice = arguments.mosaics_per_slice
    first = read_tables(arguments.file1, arguments.format1, mosaics_per_slice=per_slice)
    second = read_tables(arguments.file2, arguments.format2, mosaics_per_slice=per_slice)
    found = compare(first, second)
    if arguments.output is not None:
        write_comparison(arguments.output, found)
    counts = Counter(line.status for line in found)
    exit_code = 3 if counts["mismatch"] or counts["missing in 2"] else 0
    told = [line for line in found if arguments.verbose or line.status != "match"]
    if arguments.format == "json":
        tiles = [
            {
                "mosaic": line.tile[0],
                "image": line.tile[1],
                "status": line.status,
                "path1": line.first.path if line.first else None,
                "path2": line.second.path if line.second else None,
            }
            for line in told
        ]
        print_json({"counts": dict(counts), "tiles": tiles, "exit_code": exit_code})
        return exit_code
    for line in told:
        paths = " ".join(entry.path for entry in (line.first, line.second) if entry)
        print(f"{line.status:<12} mosaic {line.tile[0]:03d} image {line.tile[1]:04d}: {paths}")
    for number, table in enumerate((first, second), start=1):
        if table.ignored:
            ignored = f"{len(table.ignored)} names are no raw tile, such as {table.ignored[0]}"
            print(f"file{number}: {ignored}")
    print(
        f"{counts['match']} match, {counts['mismatch']} differ, {counts['missing in 2']} are "
        f"missing in file2, {counts['missing in 1']} in file1"
    )
    return exit_code
