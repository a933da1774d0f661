"""Paths that wait until nothing has happened to them for a while."""

import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Size, time of the last change (ns), inode: equal as long as nobody has written.
Signature = tuple[int, int, int]


def signature(path: str, *, ask_server: bool = False) -> Signature | None:
    """What a file looks like now; None when it is not there or no regular file.

    Parameters
    ----------
    ask_server
        Open the file for it: a client of a network file system may answer a mere stat from its
        memory of some seconds ago, and asks the server when a file is opened.
    """
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            return None  # a pipe, which would block
        if ask_server:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except PermissionError:
                pass  # unreadable, and there all the same
            else:
                try:
                    found = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass
class _Wait:
    deadline: float
    order: int
    signature: Signature


class Debouncer:
    """Deadlines of any number of paths.

    One heap in place of a ``threading.Timer`` for each event: a burst of 10,000 files would be
    10,000 threads, each started anew with every write. Here an event changes one number; the heap
    finds out when the old deadline is reached.
    """

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._count = 0

    def arm(self, path: str, deadline: float, seen: Signature) -> None:
        """Let a path wait until ``deadline`` (clock reading, s), in place of an earlier one.

        Paths of equal deadline come in the order in which they were first armed.
        """
        wait = self._waits.get(path)
        if wait is None:
            self._count += 1
            wait = self._waits[path] = _Wait(deadline, self._count, seen)
            heapq.heappush(self._heap, (deadline, wait.order, path))
            return
        if deadline < wait.deadline:
            heapq.heappush(self._heap, (deadline, wait.order, path))
        wait.deadline, wait.signature = deadline, seen

    def forget(self, path: str) -> None:
        """A path waits no more."""
        self._waits.pop(path, None)

    def next_deadline(self) -> float | None:
        """When the next path is due; None when none waits."""
        self._tidy()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> tuple[str, Signature] | None:
        """Take out the first path that is due, with what it looked like when it was armed."""
        self._tidy()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, path = heapq.heappop(self._heap)
        return path, self._waits.pop(path).signature

    def _tidy(self) -> None:
        """Bring the first entry of the heap in line with what became of its path."""
        while self._heap:
            deadline, order, path = self._heap[0]
            wait = self._waits.get(path)
            if wait is None or wait.order != order:
                heapq.heappop(self._heap)
            elif wait.deadline > deadline:
                heapq.heapreplace(self._heap, (wait.deadline, order, path))
            else:
                return

    def __contains__(self, path: str) -> bool:
        return path in self._waits

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._waits))

    def __len__(self) -> int:
        return len(self._waits)
