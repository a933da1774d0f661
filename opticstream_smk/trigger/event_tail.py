"""What is new in this host's event log since the last look."""

import json
import os
from io import FileIO
from typing import Any

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.host import host_name


class EventTail:
    """Follows the event log of this host, from its present end on.

    A look at a log that has not grown costs one stat. A log that is moved away is read to its end,
    one that is cut is read from its beginning.
    """

    def __init__(self, layout: ProjectLayout) -> None:
        self._path = layout.events / f"{host_name()}.jsonl"
        # Kept open: what is appended to a log while it is moved away is not lost.
        self._file: FileIO | None = None
        self._identity: tuple[int, int] | None = None
        self._read = 0
        self._status()
        if self._file is not None:
            self._read = self._file.seek(0, os.SEEK_END)

    def poll(self) -> list[dict[str, Any]]:
        """Events since the last look, in the order of the log.

        Lines that are no events are passed over: a process that dies leaves a part of one. The
        last line counts once it is whole.
        """
        before, read = self._file, self._read
        size = self._status()
        lines = []
        if before is not None and before is not self._file:
            lines += _rest(before, read).splitlines()
            before.close()
        if self._file is not None and size != self._read:
            if size < self._read:
                self._read = 0
            whole, newline, _ = _rest(self._file, self._read).rpartition(b"\n")
            self._read += len(whole) + len(newline)
            lines += whole.splitlines()
        return _events(lines)

    def close(self) -> None:
        """Let go of the log."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _status(self) -> int:
        """Size of the log; another file under its name is opened, to be read from its beginning."""
        try:
            status = self._path.stat()
            identity = (status.st_dev, status.st_ino)
            if self._file is None or identity != self._identity:
                self._file = self._path.open("rb", buffering=0)
                self._identity = identity
                self._read = 0
        except OSError:
            # Not there yet, or its folder is away: the next look tries again.
            return self._read
        return status.st_size


def _rest(file: FileIO, start: int) -> bytes:
    file.seek(start)
    return file.read()


def _events(lines: list[bytes]) -> list[dict[str, Any]]:
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
    return events
