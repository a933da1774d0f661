"""Checksums of raw files."""

import hashlib
from pathlib import Path

from opticstream_smk.io import throttle

_PIECE_BYTES = 2**23


def raw_sha256(path: Path) -> str:
    """SHA-256 of a raw file; reading obeys the limit of the host.

    Raises
    ------
    OSError
        It cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := throttle.read_into(file, buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
