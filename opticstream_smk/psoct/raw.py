"""Raw spectral tiles as the acquisition writes them."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io import throttle

# 348 B NIfTI-1 header + 4 B extension flag; the acquisition writes nothing else before the data.
HEADER_BYTES = 352
DEFAULT_SAMPLES = 2048
# Packed bytes unpacked at once: what is in work stays in the L2 cache.
_UNPACK_BYTES = 3 * 2**16


def read_spectral(
    path: str | os.PathLike[str],
    *,
    alines: int,
    blines: int,
    samples: int | None = None,
    bits: int = 16,
    in_memory: bool = False,
) -> NDArray[np.uint16]:
    """Read the counts of a raw spectral tile.

    Parameters
    ----------
    path : path
        The spectral sample is fastest, then A-line, channel, B-line. 16 bits: uncompressed
        NIfTI-1 file of little-endian uint16, 352 bytes and then the counts. 12 bits: no header,
        three bytes for two counts. The sizes come from the arguments; bytes beyond them are
        ignored.
    alines, blines : int
        Number of A-lines X and of B-lines Y.
    samples : int, optional
        Spectral samples N per A-line. None: the first dimension of a NIfTI header whose other
        two are (2X, Y), else what the length of the file gives, else 2048.
    bits : {16, 12}
        Bits per count.
    in_memory : bool
        Read 16-bit counts at once instead of mapping the file. A mapped file that is cut short
        while it is used ends the process by a signal, without a word; and the limit on reading
        (`io.throttle`), which all other reading obeys, knows nothing of pages that are touched.

    Returns
    -------
    (Y, 2, X, N) uint16
        16 bits: read-only memory map in file order; pages are read when they are touched
        (or an array, with `in_memory`).
        12 bits: unpacked in memory, 4/3 of the file's size.

    Raises
    ------
    ConfigError
        If a size is not positive, `bits` is not supported, or a B-line of 12-bit counts does
        not fill whole bytes.
    IncompleteInputError
        If there is no such file.
    CorruptInputError
        If the file cannot be read, is compressed, or is too short.
    """
    if bits not in (12, 16):
        raise ConfigError(
            f"raw tiles of {bits} bits per count cannot be read; accepted: 16, 12. Set the saving "
            "type of the acquisition."
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
    offset = HEADER_BYTES if bits == 16 else 0
    if samples is None:
        described = _samples_in_header(header, alines, blines) if bits == 16 else None
        samples = described or _samples_of_length(8 * (found - offset), bits, alines, blines)
    if bits == 12 and alines * samples % 2:
        raise ConfigError(
            f"raw tile {path}: {alines} A-lines x {samples} samples of 12 bits do not fill whole "
            "bytes; expected an even number of counts per channel. Correct the tile size."
        )
    expected = offset + 2 * alines * blines * samples * bits // 8
    if found < expected:
        raise CorruptInputError(
            f"raw tile {path} has {found} bytes; expected {expected} for {alines} A-lines x "
            f"{blines} B-lines x 2 channels x {samples} samples of {bits} bits. Wait until it is "
            "completely written, copy it again, or correct the tile size."
        )
    shape = (blines, 2, alines, samples)
    if bits == 12:
        return unpack12(_read(path, np.dtype(np.uint8), expected, 0)).reshape(shape)
    if in_memory:
        return _read(path, np.dtype("<u2"), (expected - offset) // 2, offset).reshape(shape)
    return np.memmap(path, dtype="<u2", mode="r", offset=offset, shape=shape)


def _read(path: Path, dtype: np.dtype[Any], count: int, offset: int) -> NDArray[Any]:
    content = np.empty(count, dtype)
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            came = throttle.read_into(file, content.view(np.uint8)) // dtype.itemsize
    except OSError as error:
        raise CorruptInputError(
            f"raw tile {path} cannot be read ({error.strerror}). Check its rights and the disk."
        ) from error
    if came < count:
        raise CorruptInputError(
            f"raw tile {path} was cut short while it was read: {came} of {count} values "
            "came. Restore the file and process it again."
        )
    return content


def unpack12(packed: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Unpack 12-bit counts.

    Parameters
    ----------
    packed : (3M,) uint8
        Bytes b0, b1, b2 hold ``b0 + 256 (b1 mod 16)`` and ``b1 // 16 + 16 b2``.

    Returns
    -------
    (2M,) uint16
    """
    # Six bytes are four counts. They are read as one number, whose bits are spread to the four
    # 16-bit lanes of a 64-bit number in two steps, each for half of the counts.
    fours = -(-packed.size // 6)
    counts = np.empty(4 * fours, "<u2")
    lanes = counts.view("<u8")
    block = np.zeros(_UNPACK_BYTES + 2, np.uint8)  # the last number reads two bytes too many
    for start in range(0, fours, _UNPACK_BYTES // 6):
        some = lanes[start : start + _UNPACK_BYTES // 6]
        piece = packed[6 * start : 6 * (start + some.size)]
        block[: piece.size] = piece
        words = np.ndarray(some.shape, "<u8", block, strides=(6,)).copy()
        some[:] = words & 0xFFFFFF
        words &= 0xFFFFFF000000
        words <<= 8
        words |= some
        some[:] = words & 0x00000FFF00000FFF
        words &= 0x00FFF00000FFF000
        words <<= 4
        some |= words
    return counts[: packed.size // 3 * 2]


def _samples_of_length(data_bits: int, bits: int, alines: int, blines: int) -> int:
    """Return the samples per A-line that fill a file exactly, else the default."""
    samples, rest = divmod(data_bits, bits * 2 * alines * blines)
    return samples if samples > 0 and rest == 0 else DEFAULT_SAMPLES


def _samples_in_header(header: bytes, alines: int, blines: int) -> int | None:
    """Return dim[1] of a NIfTI-1 header that describes this tile."""
    if len(header) < HEADER_BYTES or struct.unpack_from("<i", header)[0] != 348:
        return None
    dim: tuple[int, ...] = struct.unpack_from("<8h", header, 40)
    described = dim[0] >= 3 and dim[2:4] == (2 * alines, blines) and dim[1] > 0
    return dim[1] if described else None
