"""Large files written past the page cache, where the file system can do that.

Through the page cache, the kernel copies every byte and finds a page for it: as much CPU time as
a fifth of computing the volumes of a tile, and as much again to write the pages back. Past it, the
disk takes the bytes from where they are. In return it wants whole pages, at places in the file and
in memory that are multiples of a page; and who reads the file next has it from the disk.
"""

import ctypes
import errno
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Disks ask for multiples of 512 or 4096 bytes, file systems for their blocks.
PAGE = 4096
# One write waits for the disk; with three the next is there when it is done.
_IN_FLIGHT = 3
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_at(file: int, content: memoryview, offset: int) -> None:
    """Write bytes at a place of a file."""
    while content:
        # Fewer bytes are written where the disk is nearly full; the next call says so.
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written


class DirectRows:
    """A header and rows of one length, written past the page cache some columns at a time.

    Every page is written once, whole: the bytes after the last whole page of a row wait for the
    columns that follow, and those before the first one for the end of the row above.

    Parameters
    ----------
    path
        The file; it is there, and empty.
    header
        Less than a page.
    rows, row_bytes
        Number and length of the rows; a row has a page or more.

    Raises
    ------
    DirectRefusedError
        The file system does not write past the page cache, or does not reserve space.
    OSError
        There is not so much space.
    """

    def __init__(self, path: Path, header: bytes, rows: int, row_bytes: int) -> None:
        self._offset, self._rows, self._row_bytes = len(header), rows, row_bytes
        self._heads = np.empty((rows, PAGE), np.uint8)
        self._tails = np.empty((rows, PAGE), np.uint8)
        self._tails[0, : len(header)] = np.frombuffer(header, np.uint8)
        self._plain = os.open(path, os.O_WRONLY)
        try:
            # Else the file would grow at every write, and lie on the disk in as many pieces.
            _reserve(self._plain, len(header) + rows * row_bytes)
            self._direct = _open_direct(path)
        except BaseException:
            os.close(self._plain)
            raise
        self._is_refused = False

    def write(self, start: int, columns: NDArray[np.uint8]) -> None:
        """Write the columns (rows, n) that follow those before, from byte `start` of each row.

        A row of `columns` is contiguous.
        """
        if start < PAGE:
            for row in range(self._rows):
                some = columns[row, : max(self._head_bytes(row) - start, 0)]
                self._heads[row, start : start + some.size] = some
        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            # What fails is raised when nothing is in work any more.
            list(pool.map(partial(self._write_rows, start, columns), range(_IN_FLIGHT)))

    def close(self) -> None:
        """Close the file."""
        os.close(self._direct)
        os.close(self._plain)

    def _head_bytes(self, row: int) -> int:
        """Bytes of a row that end a page of the row above."""
        return -self._place(row) % PAGE if row else 0

    def _place(self, row: int) -> int:
        return self._offset + row * self._row_bytes

    def _write_rows(self, start: int, columns: NDArray[np.uint8], first: int) -> None:
        # Memory of its own pages.
        buffer = np.frombuffer(mmap.mmap(-1, columns.shape[1] + 2 * PAGE), np.uint8)
        for row in range(first, self._rows, _IN_FLIGHT):
            self._write_row(row, start, columns[row], buffer)

    def _write_row(
        self, row: int, start: int, values: NDArray[np.uint8], buffer: NDArray[np.uint8]
    ) -> None:
        stop = start + values.size
        values = values[max(self._head_bytes(row) - start, 0) :]
        if not values.size:
            return
        place = self._place(row) + stop - values.size
        end = place % PAGE
        place -= end
        buffer[:end] = self._tails[row, :end]
        buffer[end : end + values.size] = values
        end += values.size
        is_last = stop == self._row_bytes
        if is_last and row + 1 < self._rows:
            head = self._heads[row + 1, : self._head_bytes(row + 1)]
            buffer[end : end + head.size] = head
            end += head.size
        rest = end % PAGE
        self._write_pages(buffer[: end - rest].data, place)
        tail = buffer[end - rest : end]
        if is_last:
            # The end of the file, if anything, is less than a page.
            write_at(self._plain, tail.data, place + end - rest)
        else:
            self._tails[row, :rest] = tail

    def _write_pages(self, pages: memoryview, place: int) -> None:
        written = 0
        if pages and not self._is_refused:
            try:
                written = os.pwrite(self._direct, pages, place)
            except OSError as error:
                # Some file systems refuse only what is written.
                if error.errno != errno.EINVAL:
                    raise
                self._is_refused = True
        # What is left where the disk is nearly full; this says so.
        write_at(self._plain, pages[written:], place + written)


class DirectRefusedError(Exception):
    """The file must be written through the page cache."""


def _open_direct(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT)
    except OSError as error:
        raise DirectRefusedError from error


def _reserve(file: int, size: int) -> None:
    if not hasattr(os, "O_DIRECT"):
        raise DirectRefusedError
    # Not os.posix_fallocate: it writes to every block where the file system cannot reserve any.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(file, 0, ctypes.c_int64(0), ctypes.c_int64(size)) != 0:
        code = ctypes.get_errno()
        if code in _FULL:
            raise OSError(code, os.strerror(code))
        raise DirectRefusedError
