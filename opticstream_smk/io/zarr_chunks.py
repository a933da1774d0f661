"""Chunks of a Zarr array to files, as they come: shards need no memory for what is in them.

A shard is the chunks one after the other in any order, then their places, then a checksum of these
(Zarr version 3, codec ``sharding_indexed`` with the index at the end). So a chunk is appended when
it is made. zarr-python keeps a whole shard in memory and writes it at once.
"""

from __future__ import annotations

import os
import struct
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.io.atomic import sync_folder, write_error
from opticstream_smk.io.ome_zarr import LevelLayout, Shape, ZarrOptions, compressor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ABSENT = 2**64 - 1
# What is written is brought to disk while the next is made, not all at the end.
_SYNC_BYTES = 64 * 2**20


class ChunkWriter:
    """Writes chunks of one array from several threads; `finish` makes them last.

    Parameters
    ----------
    folder
        The array; its metadata are somebody else's.
    syncer
        Brings files to disk in the background.

    Raises
    ------
    ServiceError
        The disk refuses.
    """

    def __init__(
        self, folder: Path, layout: LevelLayout, options: ZarrOptions, syncer: ThreadPoolExecutor
    ) -> None:
        self._folder = folder
        self._layout = layout
        self._codec = compressor(options)
        self._prefix = ("c",) if options.zarr_version == 3 else ()
        self._syncer = syncer
        self._lock = threading.Lock()
        self._open: dict[tuple[int, ...], _Shard] = {}
        self._single: list[Path] = []

    def write(self, chunk: Shape, values: NDArray[np.float32]) -> None:
        """Write chunk `chunk` (z, y, x index in the array), contiguous, whole."""
        content: Any = values if self._codec is None else self._codec.encode(values)
        if self._layout.shard is None:
            path = self._path(chunk)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except OSError as error:
                raise write_error(path, error) from error
            with self._lock:
                self._single.append(path)
            return
        per_shard = [s // c for s, c in zip(self._layout.shard, self._layout.chunk, strict=True)]
        shard = tuple(i // n for i, n in zip(chunk, per_shard, strict=True))
        inside = tuple(i % n for i, n in zip(chunk, per_shard, strict=True))
        with self._lock:
            if shard not in self._open:
                self._open[shard] = _Shard(self._path(shard), per_shard, self._syncer)
            file = self._open[shard]
        file.append(inside, content)

    def take(self) -> Unfinished:
        """What was written so far, to be finished; what comes later is something else."""
        with self._lock:
            taken = Unfinished(list(self._open.values()), self._single)
            self._open, self._single = {}, []
        return taken

    def _path(self, index: tuple[int, ...]) -> Path:
        return self._folder.joinpath(*self._prefix, *map(str, index))


class Unfinished:
    """Files that have all their chunks, and are not on disk yet."""

    def __init__(self, shards: list[_Shard], single: list[Path]) -> None:
        self._shards = shards
        self._single = single

    def finish(self) -> list[Path]:
        """Bring the files to disk, complete."""
        for shard in self._shards:
            shard.close()
        paths = [shard.path for shard in self._shards] + self._single
        for path in self._single:
            _sync_file(path)
        for folder in {path.parent for path in paths}:
            sync_folder(folder)
        return paths

    def abandon(self) -> None:
        """Close the files as they are: without an index nobody can read them."""
        for shard in self._shards:
            shard.abandon()


class _Shard:
    """One file of many chunks."""

    def __init__(self, path: Path, per_shard: list[int], syncer: ThreadPoolExecutor) -> None:
        self.path = path
        self._index = np.full((*per_shard, 2), _ABSENT, "<u8")
        self._end = 0
        self._synced = 0
        self._lock = threading.Lock()
        self._syncer = syncer
        self._syncs: list[Future[None]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
        except OSError as error:
            raise write_error(path, error) from error

    def append(self, inside: tuple[int, ...], content: Any) -> None:
        size = memoryview(content).nbytes
        with self._lock:
            start = self._end
            self._end += size
            self._index[inside] = start, size
            is_due = self._end - self._synced >= _SYNC_BYTES
            if is_due:
                self._synced = self._end
        self._put(content, start)
        if is_due:
            self._syncs.append(self._syncer.submit(os.fdatasync, self._file))

    def close(self) -> None:
        # Imported with zarr, of which it is a part.
        import google_crc32c

        index = self._index.tobytes()
        try:
            self._put(index + struct.pack("<I", google_crc32c.value(index)), self._end)
            # A write that failed in the background is reported once: to whoever syncs next.
            for sync in self._syncs:
                sync.result()
            os.fsync(self._file)
        except OSError as error:
            raise write_error(self.path, error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        wait(self._syncs)
        # Closed once: the number may be somebody else's file by now.
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _put(self, content: Any, offset: int) -> None:
        left = memoryview(content).cast("B")
        try:
            while left:
                written = os.pwrite(self._file, left, offset)
                left, offset = left[written:], offset + written
        except OSError as error:
            raise write_error(self.path, error) from error


def _sync_file(path: Path) -> None:
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise write_error(path, error) from error
