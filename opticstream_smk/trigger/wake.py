"""What ends the watcher's sleep: signals, file system events, drivers that end, the next look."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Literal

log = logging.getLogger(__name__)

Observer = Literal["auto", "poll", "native"]


class Sleeper:
    """Sleeps until something happens."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)

    def wake(self) -> None:
        """End the sleep; from any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"w")

    def sleep(self, seconds: float, sentinels: Sequence[int] = ()) -> None:
        """Sleep until somebody wakes, a sentinel becomes readable, or the time is over."""
        wait([self._reader, *sentinels], timeout=max(0.0, seconds))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._reader)
        os.close(self._writer)

    @contextmanager
    def signals(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call ``stop`` at SIGINT and SIGTERM, and wake."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            stop()
            self.wake()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def observe(folders: Sequence[Path], how: Observer, wake: Callable[[], None]) -> Iterator[bool]:
    """Let events of the operating system wake the watcher.

    Yields
    ------
    bool
        Whether there are events. Looking stays the truth: network file systems send none.
    """
    if how == "poll":
        yield False
        return
    from watchdog import events
    from watchdog.observers import Observer as NativeObserver

    # Writes are many, and the stages open the same files: what matters is that one appears, gets
    # its name, is closed after writing, or goes.
    kinds: list[type[events.FileSystemEvent]] = [
        events.FileCreatedEvent,
        events.FileMovedEvent,
        events.FileClosedEvent,
        events.FileDeletedEvent,
        events.DirCreatedEvent,
        events.DirMovedEvent,
    ]

    class Handler(events.FileSystemEventHandler):
        def on_any_event(self, _event: events.FileSystemEvent) -> None:
            wake()

    observer = NativeObserver()
    try:
        for folder in folders:
            observer.schedule(Handler(), str(folder), event_filter=kinds)
        observer.start()
    except OSError as error:
        if how == "native":
            log.warning("no events from %s (%s); it is looked at by the clock", folders, error)
        yield False
        return
    try:
        yield True
    finally:
        observer.stop()
        observer.join()


def notify_systemd(message: str) -> None:
    """Tell systemd, if it has started this process, that it is ready or alive."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    import socket

    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(message.encode(), address)


def beat(path: Path) -> None:
    """Write the time of day into a heartbeat file, for whoever watches the watcher."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.write_text(f"{time.time():.3f} {os.getpid()}\n")
        temporary.replace(path)
    except OSError as error:
        log.warning("heartbeat %s cannot be written: %s", path, error.strerror)
