"""The limit on reading raw data: one for all processes of a host, asked before each piece.

The acquisition writes to the disks that processing reads from. All readers share one time, from
which on the next piece may be read; it lies in a small locked file. Without a limit nothing here
costs anything.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from io import FileIO
from pathlib import Path
from typing import Protocol

from opticstream_smk.errors import OpticStreamError
from opticstream_smk.io.shared import hold_shared, make_shared_folder
from opticstream_smk.state.host import boot_id

# Small beside a tile, so that readers take turns; large beside the cost of asking, some 50 us.
PIECE_BYTES = 8 * 2**20
STATE_NAME = "reading.next"
# No queue is longer: 1024 readers, each with a piece of its own, at the reader's own limit.
_LONGEST_QUEUE = 1024

log = logging.getLogger(__name__)


class _Buffer(Protocol):
    """What can be read into: a memoryview or an array of bytes."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> "_Buffer": ...


def limit_reading(mb_s: float | None, folder: Path, sources: Iterable[Path] = ()) -> None:
    """Limit the reading of raw data by this process, together with all others of this host.

    Parameters
    ----------
    mb_s
        10^6 bytes per second; None lifts the limit.
    folder
        Folder that the processes of this host share. Where it cannot be used, there is one
        warning, and the limit is this process's own.
    sources
        Folders of raw data, for :func:`read_ahead`.
    """
    global _limiter
    _limiter = None if mb_s is None else _Limiter(mb_s, folder, sources)


def wait_for(n_bytes: int) -> None:
    """Wait until so many bytes of raw data may be read; at most a piece of them at a time."""
    if _limiter is not None:
        _limiter.wait_for(n_bytes)


def wait_for_raw(path: Path, n_bytes: int) -> None:
    """Wait until so many bytes of a file may be read, if it lies in a folder of raw data."""
    if _limiter is not None and _limiter.is_raw(path):
        while n_bytes > 0:
            _limiter.wait_for(min(n_bytes, PIECE_BYTES))
            n_bytes -= PIECE_BYTES


def read_into(file: FileIO, buffer: _Buffer) -> int:
    """Fill a buffer from an unbuffered file of raw data, piece by piece.

    Parameters
    ----------
    buffer
        Bytes, contiguous.

    Returns
    -------
    int
        Bytes that came: fewer than fit where the file ends before.
    """
    done, size = 0, len(buffer)
    while done < size:
        piece = buffer[done : done + PIECE_BYTES]
        wait_for(len(piece))
        got = file.readinto(piece)  # type: ignore[arg-type]  # has the buffer protocol
        if not got:
            break
        done += got
    return done


def read_ahead(path: Path) -> None:
    """Before a file is mapped: bring it into the page cache no faster than the limit allows.

    Does nothing without a limit, and for files that do not lie in a folder of raw data, links
    followed.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if _limiter is None or not _limiter.is_raw(path):
        return
    buffer = memoryview(bytearray(PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        # What is asked for is what there is: the last piece is a small one.
        left = os.fstat(file.fileno()).st_size
        while left > 0:
            got = read_into(file, buffer[: min(left, PIECE_BYTES)])
            if not got:
                break
            left -= got


class _Limiter:
    """A leaky bucket whose level is a time that all processes of one boot understand."""

    def __init__(
        self,
        mb_s: float,
        folder: Path,
        sources: Iterable[Path] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_s = mb_s * 1e6
        self._state = folder / STATE_NAME
        self._sources = tuple(source.resolve() for source in sources)
        self._clock = clock
        self._sleep = sleep
        self._own_next = 0.0
        self._own_lock = threading.Lock()
        self._is_shared = True
        try:
            make_shared_folder(folder)
        except OpticStreamError as error:
            self._limit_only_this_process(error)

    def is_raw(self, path: Path) -> bool:
        found = path.resolve()
        return any(found.is_relative_to(source) for source in self._sources)

    def wait_for(self, n_bytes: int) -> None:
        start = self._reserve(n_bytes / self._bytes_s)
        while (left := start - self._clock()) > 0:
            self._sleep(left)

    def _reserve(self, duration_s: float) -> float:
        """Clock reading from which on the disk is ours for so long."""
        if self._is_shared:
            try:
                with hold_shared(self._state) as descriptor:
                    start = self._start(_read_state(descriptor))
                    _write_state(descriptor, start + duration_s)
                return start
            except OSError as error:
                self._limit_only_this_process(error)
        with self._own_lock:
            start = self._start(self._own_next)
            self._own_next = start + duration_s
        return start

    def _start(self, next_free: float) -> float:
        now = self._clock()
        longest = _LONGEST_QUEUE * PIECE_BYTES / self._bytes_s
        # A time that no queue can explain was not written by a reader of this boot.
        return now if next_free > now + longest else max(now, next_free)

    def _limit_only_this_process(self, error: Exception) -> None:
        self._is_shared = False
        log.warning(
            "run.read_limit_mb_s holds for this process alone, not for all of this host: %s: %s. "
            "Correct the folder or set run.token_dir.",
            self._state,
            error,
        )


def _read_state(descriptor: int) -> float:
    """Clock reading in the file; 0 when it is from an earlier boot or no such thing."""
    try:
        boot, reading = os.pread(descriptor, 200, 0).decode().split()
        return float(reading) if boot == boot_id() else 0.0
    except ValueError:
        return 0.0


def _write_state(descriptor: int, reading: float) -> None:
    # Always of one length, so that nothing of an older one is left behind it.
    os.pwrite(descriptor, f"{boot_id():<40}{reading:20.6f}\n".encode(), 0)


_limiter: _Limiter | None = None
