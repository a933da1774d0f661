"""Hashes of all files of a folder, as a table."""

import csv
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from opticstream_smk.errors import ConfigError
from opticstream_smk.io import throttle
from opticstream_smk.io.atomic import atomic_path

COLUMNS = ("path", "hash", "algorithm")
# Those with a length of their own; shake_128 and its like need one.
ALGORITHMS = tuple(
    sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))
)
# Names are bytes; those that are no UTF-8 come back as they were.
_ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}
_PIECE_BYTES = 2**20
_TOLD_EVERY = 1000

log = logging.getLogger(__name__)


@dataclass
class HashResult:
    """What came of hashing a folder.

    Attributes
    ----------
    skipped
        Why files are not in the table, one message each.
    """

    files: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)


def hash_folder(folder: Path, output: Path, algorithm: str = "sha256") -> HashResult:
    """Write a table of all files below a folder, sorted by path.

    Links to files are read; links to folders are not followed, as they may lead in a circle.
    The table holds what could be read; it is written once it is complete.

    Raises
    ------
    ConfigError
        There is no such folder, or no such algorithm.
    ServiceError
        The table cannot be written.
    """
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"algorithm {algorithm!r}: expected one of {', '.join(ALGORITHMS)}")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name one that is there")
    result = HashResult()
    table = output.resolve()
    with (
        atomic_path(output) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name in _names(folder, result):
            path = folder / name
            if path.resolve() in (table, temporary.resolve()):
                continue
            try:
                digest, size = _hash(path, algorithm)
            except OSError as error:
                result.skipped.append(f"{path} cannot be read ({error.strerror})")
                continue
            writer.writerow((name, digest, algorithm))
            result.files += 1
            result.bytes += size
            if result.files % _TOLD_EVERY == 0:
                log.info("%d files hashed", result.files)
    return result


def _names(folder: Path, result: HashResult) -> list[str]:
    """Paths of all files relative to the folder, in the order of their parts' bytes."""
    found = []

    def unreadable(error: OSError) -> None:
        result.skipped.append(f"{error.filename} cannot be listed ({error.strerror})")

    for place, _, names in os.walk(folder, onerror=unreadable):
        inner = PurePosixPath(place).relative_to(folder)
        for name in names:
            path = Path(place, name)
            if path.exists() and not path.is_file():
                result.skipped.append(f"{path} is no plain file")
            else:
                found.append(str(inner / name))
    return sorted(found, key=os.fsencode)


def _hash(path: Path, algorithm: str) -> tuple[str, int]:
    digest, size = hashlib.new(algorithm), 0
    for piece in _pieces(path):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _pieces(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := throttle.read_into(file, buffer):
            yield buffer[:count]
