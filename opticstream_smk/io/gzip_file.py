"""gzip files of raw data: compressed in the one read that also hashes, and read back from disk.

Raw counts are noise in their low bits: most of what deflate gains is entropy coding, and a fast
matcher loses little. igzip (ISA-L) at level 2 takes 7 % more space than gzip level 3 at a sixth of
its time; level 1 takes 10 % more space, and the bytes of level 3 depend on the CPU. The bytes of
level 2 are the same on every x86-64 CPU since SSE 4.2, which was tried by emulation; other CPUs
write other bytes of the same content.
"""

import hashlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io import throttle
from opticstream_smk.io.raw_files import unreadable_raw

_LEVEL = 2
COMPRESSOR = f"igzip level {_LEVEL}"
# Blocks are compressed by themselves, so that threads can share them and their number does not
# show: smaller ones lose history (0.1 % at 1 MiB), larger ones only take memory.
_BLOCK_BYTES = 4 * 2**20
# igzip allocates its output anew for each call; small calls stay within what is allocated already.
_STEP_BYTES = 2**20
# RFC 1952: no name, no time, no flags, unknown system: nothing but the content decides.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_END_OF_STREAM = b"\x03\x00"  # an empty last block
_RAW_DEFLATE, _GZIP = -15, 31  # window sizes, as zlib encodes the container in them


@dataclass(frozen=True)
class Digest:
    """Size in bytes and SHA-256 of some content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class GzipDigests:
    """What a gzip file is, and what it holds."""

    file: Digest
    content: Digest


def write_gzip(source: Path, target: Path, *, threads: int = 1) -> Digest:
    """Compress a raw file, reading it once, no faster than the limit of the host.

    Parameters
    ----------
    target
        Written over if it is there, and not synced; see ``io.atomic``.
    threads
        How many cores to use; the bytes do not depend on it. Each takes some 10 MiB of memory,
        whatever the size of the file.

    Returns
    -------
    Digest
        Of the content as it was read.

    Raises
    ------
    CorruptInputError
        The raw file cannot be read.
    OSError
        The other one cannot be written.
    """
    content, size, crc = hashlib.sha256(), 0, 0
    with _open_raw(source) as raw, target.open("wb") as packed:
        packed.write(_HEADER)
        # What is asked for is what there is: the limit counts what is asked for.
        left = os.fstat(raw.fileno()).st_size
        with _deflater(packed, threads) as deflater:
            while left and (count := _read_block(raw, (buffer := deflater.buffer())[:left])):
                left -= count
                block = buffer[:count]
                content.update(block)
                crc = isal_zlib.crc32(block, crc)
                size += count
                deflater.add(buffer, count)
        packed.write(_END_OF_STREAM + struct.pack("<II", crc, size & 0xFFFFFFFF))
    return Digest(size, content.hexdigest())


def _open_raw(path: Path) -> FileIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise unreadable_raw(path, error) from error


def _read_block(raw: FileIO, buffer: memoryview) -> int:
    try:
        return throttle.read_into(raw, buffer)
    except OSError as error:
        raise unreadable_raw(raw.name, error) from error


def read_gzip(path: Path) -> GzipDigests:
    """Read a gzip file from its disk, as far as the kernel lets go of what it remembers.

    It is decompressed by another library (zlib) than the one that compressed it.

    Raises
    ------
    CorruptInputError
        Truncated, damaged, or no gzip file.
    OSError
        It cannot be read.
    """
    packed, packed_size = hashlib.sha256(), 0
    content, content_size = hashlib.sha256(), 0
    stream = zlib.decompressobj(_GZIP)
    with path.open("rb", buffering=0) as file:
        forget_pages(file)
        for piece in _pieces(file):
            packed.update(piece)
            packed_size += len(piece)
            rest: bytes | memoryview = piece
            while rest:
                if stream.eof:  # a file may hold several streams one after the other
                    stream = zlib.decompressobj(_GZIP)
                try:
                    plain = stream.decompress(rest, _BLOCK_BYTES)
                except zlib.error as error:
                    raise CorruptInputError(
                        f"{path} is damaged: {error} (after {content_size} bytes of content)"
                    ) from error
                content.update(plain)
                content_size += len(plain)
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
        forget_pages(file)
    if not stream.eof:
        raise CorruptInputError(
            f"{path} is truncated: it ends after {packed_size} bytes ({content_size} of content) "
            "and its gzip stream does not"
        )
    return GzipDigests(
        Digest(packed_size, packed.hexdigest()), Digest(content_size, content.hexdigest())
    )


def read_digest(path: Path) -> Digest:
    """Hash a file as it lies on its disk; see :func:`read_gzip`.

    Raises
    ------
    OSError
        It cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        forget_pages(file)
        for piece in _pieces(file):
            digest.update(piece)
            size += len(piece)
        forget_pages(file)
    return Digest(size, digest.hexdigest())


def forget_pages(file: FileIO | BinaryIO) -> None:
    """Have the kernel forget what it holds of a file in memory; what is not synced yet stays.

    Reading it again then tells what is on the disk, and raw data that is still to be processed
    keeps its place in memory.
    """
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _pieces(file: FileIO) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_STEP_BYTES))
    while count := file.readinto(buffer):
        yield buffer[:count]


class _Deflater:
    """Writes blocks in the order in which they were added, compressed by so many threads.

    The thread that adds blocks is one of them: it compresses where all others are at work.
    """

    def __init__(self, target: BinaryIO, pool: ThreadPoolExecutor | None, others: int) -> None:
        self._target = target
        self._pool = pool
        self._others = others
        self._free: list[memoryview] = []
        self._waiting: deque[tuple[memoryview, Future[list[bytes]] | list[bytes]]] = deque()

    def buffer(self) -> memoryview:
        """A buffer for a block."""
        if self._free:
            return self._free.pop()
        return memoryview(bytearray(_BLOCK_BYTES))

    def add(self, buffer: memoryview, count: int) -> None:
        """Take the first bytes of a buffer, which is not to be touched any more."""
        block = buffer[:count]
        at_work = sum(
            isinstance(result, Future) and not result.done() for _, result in self._waiting
        )
        if self._pool is not None and at_work < self._others:
            self._waiting.append((buffer, self._pool.submit(_deflate, block)))
        else:
            self._waiting.append((buffer, _deflate(block)))
        # Two blocks for each thread: one that it works on, and one that waits to be written.
        while self._waiting and (self._is_done() or len(self._waiting) > 2 * self._others):
            self._write_next()

    def finish(self) -> None:
        """Write what is still waiting."""
        while self._waiting:
            self._write_next()

    def _is_done(self) -> bool:
        result = self._waiting[0][1]
        return not isinstance(result, Future) or result.done()

    def _write_next(self) -> None:
        buffer, result = self._waiting.popleft()
        for piece in result.result() if isinstance(result, Future) else result:
            self._target.write(piece)
        self._free.append(buffer)


@contextmanager
def _deflater(target: BinaryIO, threads: int) -> Iterator[_Deflater]:
    if threads == 1:
        deflater = _Deflater(target, None, 0)
        yield deflater
        deflater.finish()
        return
    with ThreadPoolExecutor(threads - 1, "deflate") as pool:
        deflater = _Deflater(target, pool, threads - 1)
        yield deflater
        deflater.finish()


def _deflate(block: memoryview) -> list[bytes]:
    """A block as raw deflate that ends at a byte and refers to nothing before it."""
    stream = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE)
    steps = range(0, len(block), _STEP_BYTES)
    pieces = [stream.compress(block[at : at + _STEP_BYTES]) for at in steps]
    return [*pieces, stream.flush(isal_zlib.Z_FULL_FLUSH)]
