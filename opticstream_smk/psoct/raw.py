"""Raw spectral tiles as the acquisition writes them."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io import throttle

# 348 B NIfTI-1 header + 4 B extension flag; the acquisition writes nothing else before the data.
HEADER_BYTES = 352
DEFAULT_SAMPLES = 2048
# B-lines of a whole tile that are read together.
_READ_AT_ONCE = 16


@dataclass(frozen=True)
class RawTile:
    """A raw spectral tile on disk: found, and long enough.

    Attributes
    ----------
    path
        The file.
    shape
        (Y, 2, X, N).
    bits : {16, 12}
        Bits per count.
    """

    path: Path
    shape: tuple[int, int, int, int]
    bits: int

    @property
    def bline_bytes(self) -> int:
        """Bytes of a B-line in the file."""
        _, channels, alines, samples = self.shape
        return channels * alines * samples * self.bits // 8

    @property
    def offset(self) -> int:
        """Bytes before the first B-line."""
        return HEADER_BYTES if self.bits == 16 else 0

    def read_blines(
        self,
        start: int,
        stop: int,
        counts: NDArray[np.uint16],
        packed: NDArray[np.uint8] | None = None,
    ) -> None:
        """Read B-lines into `counts` (n, 2, X, N), contiguous; no faster than the limit on reading.

        `packed` is scratch memory for 12-bit counts, of `bline_bytes` for each B-line or more.

        Raises
        ------
        CorruptInputError
            If the file cannot be read, or has become shorter.
        """
        values = counts.reshape(-1).view(np.uint8)
        size = (stop - start) * self.bline_bytes
        if self.bits == 16:
            content = values
        else:
            content = np.empty(size, np.uint8) if packed is None else packed[:size]
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + start * self.bline_bytes)
                came = throttle.read_into(file, content[:size])
        except OSError as error:
            raise CorruptInputError(
                f"raw tile {self.path} cannot be read ({error.strerror}). Check its rights and "
                "the disk."
            ) from error
        if came < size:
            raise CorruptInputError(
                f"raw tile {self.path} was cut short while it was read: B-lines {start + 1} to "
                f"{stop} need {size} bytes, {came} came. Restore the file and process it again."
            )
        if self.bits == 12:
            unpack12(content, counts.reshape(-1))


class RawBlines:
    """B-lines of a raw tile for an engine.

    Parameters
    ----------
    tile : RawTile
        Where they are.
    first, step : int
        Which A-lines belong to the illumination.
    """

    def __init__(self, tile: RawTile, first: int = 0, step: int = 1) -> None:
        self._tile = tile
        self._alines = slice(first, None, step)
        self._packed = np.empty(0, np.uint8)

    def buffer(self, rows: int) -> NDArray[np.uint16]:
        """Memory for so many B-lines."""
        return np.empty((rows, *self._tile.shape[1:]), np.uint16)

    def read(self, start: int, stop: int, buffer: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """B-lines `start` to `stop`, (n, 2, X, N)."""
        size = (stop - start) * self._tile.bline_bytes
        if self._tile.bits == 12 and self._packed.size < size:
            self._packed = np.empty(size, np.uint8)
        counts = buffer[: stop - start]
        self._tile.read_blines(start, stop, counts, self._packed)
        return counts[:, :, self._alines]


def find_spectral(
    path: str | os.PathLike[str],
    *,
    alines: int,
    blines: int,
    samples: int | None = None,
    bits: int = 16,
) -> RawTile:
    """Find a raw spectral tile and check its length; parameters and errors as `read_spectral`."""
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
    return RawTile(path, (blines, 2, alines, samples), bits)


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
    tile = find_spectral(path, alines=alines, blines=blines, samples=samples, bits=bits)
    if bits == 16 and not in_memory:
        return np.memmap(tile.path, dtype="<u2", mode="r", offset=tile.offset, shape=tile.shape)
    counts = np.empty(tile.shape, np.uint16)
    for start in range(0, blines, _READ_AT_ONCE):
        some = counts[start : start + _READ_AT_ONCE]
        tile.read_blines(start, start + len(some), some)
    return counts


def unpack12(packed: NDArray[np.uint8], counts: NDArray[np.uint16]) -> None:
    """Unpack 12-bit counts.

    Parameters
    ----------
    packed : (3M,) uint8
        Bytes b0, b1, b2 hold ``b0 + 256 (b1 mod 16)`` and ``b1 // 16 + 16 b2``.
    counts : (2M,) uint16
        The counts.
    """
    from opticstream_smk.psoct.spectrum_kernels import unpack

    unpack(packed, counts)


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
