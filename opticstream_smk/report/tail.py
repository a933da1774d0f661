"""The end of a file, and what is written to files from now on, without reading them whole."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK_BYTES = 64 * 1024
# A line that never ends (a progress bar) is cut here.
_LONGEST_LINE_BYTES = 1024 * 1024


def last_lines(path: Path, n_lines: int) -> list[str]:
    """The last lines of a file. It is read from its end, block by block."""
    with path.open("rb") as stream:
        end = _read_end(stream.fileno(), n_lines)
    lines = [*end.lines, end.rest] if end.rest else end.lines
    return [_text(line) for line in lines[-n_lines:]] if n_lines else []


@dataclass(frozen=True)
class _End:
    """The last complete lines of a file, what follows them, and where the file ended."""

    lines: list[bytes]
    rest: bytes
    size: int


def _read_end(descriptor: int, n_lines: int) -> _End:
    size = os.fstat(descriptor).st_size
    blocks: deque[bytes] = deque()
    at, newlines = size, 0
    # One newline more than lines: that before the first one.
    while at > 0 and newlines <= n_lines and size - at < _LONGEST_LINE_BYTES * (n_lines + 1):
        step = min(_BLOCK_BYTES, at)
        at -= step
        block = os.pread(descriptor, step, at)
        blocks.appendleft(block)
        newlines += block.count(b"\n")
    *lines, rest = b"".join(blocks).split(b"\n")
    return _End(lines[-n_lines:] if n_lines else [], rest, size)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


@dataclass
class _Position:
    identity: tuple[int, int]
    offset: int
    rest: bytes = b""


class Follower:
    """What is appended to a changing set of files.

    A file that was truncated or replaced is read from its start, and so is one that is new.

    Parameters
    ----------
    find
        The files of now; asked at every look.
    """

    def __init__(self, find: Callable[[], list[Path]]) -> None:
        self._find = find
        self._positions: dict[Path, _Position] = {}

    def begin(self, n_lines: int) -> list[tuple[Path, list[str]]]:
        """The last complete lines of the files that are there; :meth:`look` goes on behind them."""
        found = []
        for path in self._find():
            try:
                with path.open("rb") as stream:
                    status = os.fstat(stream.fileno())
                    end = _read_end(stream.fileno(), n_lines)
            except OSError:
                continue  # removed since, or not ours to read
            identity = (status.st_dev, status.st_ino)
            # A line that is being written is told when it is complete.
            self._positions[path] = _Position(identity, end.size, end.rest)
            found.append((path, [_text(line) for line in end.lines]))
        return found

    def look(self) -> Iterator[tuple[Path, list[str]]]:
        """New lines of each file that has any."""
        for path in self._find():
            lines = self._new_lines(path)
            if lines:
                yield path, lines

    def _new_lines(self, path: Path) -> list[str]:
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            position = self._positions.get(path)
            if position is None or position.identity != identity:
                position = self._positions[path] = _Position(identity, 0)
            elif status.st_size < position.offset:
                position.offset, position.rest = 0, b""
            if status.st_size == position.offset:
                return []
            with path.open("rb") as stream:
                stream.seek(position.offset)
                content = position.rest + stream.read()
                position.offset = stream.tell()
        except OSError:
            return []
        *lines, position.rest = content.split(b"\n")
        if len(position.rest) > _LONGEST_LINE_BYTES:
            lines, position.rest = [*lines, position.rest], b""
        return [_text(line) for line in lines]
