"""Raw spectral tiles as the acquisition writes them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError

# 348 B NIfTI-1 header + 4 B extension flag; the acquisition writes nothing else before the data.
HEADER_BYTES = 352
DEFAULT_SAMPLES = 2048


def read_spectral(
    path: str | os.PathLike[str],
    *,
    alines: int,
    blines: int,
    samples: int | None = None,
    bits: int = 16,
) -> NDArray[np.uint16]:
    """Map the counts of a raw spectral tile into memory.

    Parameters
    ----------
    path : path
        Uncompressed NIfTI-1 file of little-endian uint16: 352 bytes, then the counts with
        the spectral sample fastest, then A-line, channel, B-line. The sizes come from the
        arguments; bytes beyond them are ignored.
    alines, blines : int
        Number of A-lines X and of B-lines Y.
    samples : int, optional
        Spectral samples N per A-line. None: the first dimension of the header where its
        other two are (2X, Y), else 2048.
    bits : {16}
        Bits per count.

    Returns
    -------
    (Y, 2, X, N) uint16
        Read-only memory map in file order; pages are read when they are touched.

    Raises
    ------
    ConfigError
        If a size is not positive, or `bits` is not supported.
    IncompleteInputError
        If there is no such file.
    CorruptInputError
        If the file cannot be read, is compressed, or is too short.
    """
    if bits != 16:
        raise ConfigError(
            f"raw tiles of {bits} bits per count cannot be read; accepted: 16. Set the saving "
            "type that writes 16-bit NIfTI."
        )
    for name, size in (("alines", alines), ("blines", blines), ("samples", samples)):
        if size is not None and size < 1:
            raise ConfigError(f"{name} is {size}; expected at least 1. Set the size of the tile.")
    path = Path(path)
    try:
        found = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"raw tile {path} not found. Check that the source directory is mounted and that the "
            "acquisition wrote the tile."
        ) from error
    except OSError as error:
        raise CorruptInputError(
            f"raw tile {path} cannot be read ({error.strerror}). Check its rights and the disk."
        ) from error
    if header.startswith(b"\x1f\x8b"):
        raise CorruptInputError(
            f"raw tile {path} is gzip-compressed; expected uncompressed counts. Decompress it "
            "first (gunzip -k)."
        )
    if samples is None:
        samples = _samples_in_header(header, alines, blines)
    expected = HEADER_BYTES + 2 * 2 * alines * blines * samples
    if found < expected:
        raise CorruptInputError(
            f"raw tile {path} has {found} bytes; expected {expected} for {alines} A-lines x "
            f"{blines} B-lines x 2 channels x {samples} samples of 16 bits. Wait until it is "
            "completely written, copy it again, or correct the tile size."
        )
    return np.memmap(
        path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(blines, 2, alines, samples)
    )


def _samples_in_header(header: bytes, alines: int, blines: int) -> int:
    """Return dim[1] of a NIfTI-1 header that describes this tile, else the default."""
    if len(header) < HEADER_BYTES or struct.unpack_from("<i", header)[0] != 348:
        return DEFAULT_SAMPLES
    dim: tuple[int, ...] = struct.unpack_from("<8h", header, 40)
    described = dim[0] >= 3 and dim[2:4] == (2 * alines, blines) and dim[1] > 0
    return dim[1] if described else DEFAULT_SAMPLES
