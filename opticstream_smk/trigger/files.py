"""New files of one folder, handed to a callback when nobody writes to them any more."""

import errno
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

from watchdog.events import (
    DirDeletedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

from opticstream_smk.errors import ConfigError
from opticstream_smk.trigger.debounce import Debouncer, Signature, signature
from opticstream_smk.trigger.headers import prepare, read_header
from opticstream_smk.trigger.wake import Observer

log = logging.getLogger(__name__)

# Seconds by which events may come later than a look at the folder: watchdog holds a name that went
# away for 0.5 s, to see where it went, and everything after it with it. A file that a look finds
# first waits at least so long, so that its events meet it waiting and it is told once.
EVENT_DELAY_S = 1.0
# A look at a huge folder may take as much of the time as 1 in 20.
LOOK_SHARE = 20
# Opening and reading are left out: the header is read here, which would wake the watcher again.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileMovedEvent,
    FileModifiedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    DirDeletedEvent,
]

Callback = Callable[[dict[str, Any]], object]


class FileWatcher:
    """Tells a callback of each new file of a folder, once, when it is complete.

    A file is new when it appears under a name with one of the extensions: created there, moved
    there, or renamed from another name. It is told when its size and time have not changed for
    ``debounce_delay``; writing, closing and renaming start that time again. A file that was told is
    not told again when it is changed in place, only when another file takes its name. Files of
    sub-folders and hidden files (``.name``, the ``._name`` twins of macOS) are left out.

    Callbacks run one after the other, in a thread of the watcher, in the order in which the files
    became complete. What a callback raises is logged; the next file is told all the same.

    A folder that goes away while it is watched (unmounted, renamed, no permission) is reported in
    the log once; what appeared in the meantime is told when it is back.

    Parameters
    ----------
    watch_path
        Folder, absolute or relative to the working directory of now.
    callback
        Called with a dict: ``path`` (absolute, str), ``header`` (dict; see
        :func:`opticstream_smk.trigger.headers.read_header`), ``size_kb`` (float, bytes / 1024).
    debounce_delay
        Seconds without a change before a file counts as complete. 0: it is told at once.
    extensions
        Ends of names, with their dot, in any case: ``.fits``, ``.nii.gz``. Default: those of
        ``default_extensions``.
    observer
        ``native``: events of the operating system only. ``poll``: the folder is listed every
        ``poll_interval_s``; for network file systems, which send no events for what other hosts
        write. (A file that is deleted and written anew between two listings may then pass for one
        that was changed in place.) ``auto``: both; events are fast, the listing finds what they
        miss.
    existing
        Also tell what is in the folder at the start, in the order of the names.
    poll_interval_s
        Seconds between two looks at the folder.

    Raises
    ------
    ConfigError
        An argument makes no sense.
    """

    default_extensions: ClassVar[tuple[str, ...]] = (
        ".nii",
        ".nii.gz",
        ".raw",
        ".dat",
        ".tif",
        ".tiff",
        ".fits",
        ".fit",
    )

    def __init__(
        self,
        watch_path: str | os.PathLike[str],
        callback: Callback,
        debounce_delay: float = 2.0,
        extensions: Iterable[str] | None = None,
        *,
        observer: Observer = "auto",
        existing: bool = False,
        poll_interval_s: float = 1.0,
    ) -> None:
        if not (math.isfinite(debounce_delay) and debounce_delay >= 0):
            raise ConfigError(f"debounce delay {debounce_delay} s: give 0 or more seconds")
        if not (math.isfinite(poll_interval_s) and poll_interval_s > 0):
            raise ConfigError(f"poll interval {poll_interval_s} s: give more than 0 seconds")
        if observer not in get_args(Observer):
            raise ConfigError(f"observer {observer!r}: one of {', '.join(get_args(Observer))}")
        if not callable(callback):
            raise ConfigError(f"callback {callback!r} cannot be called; give a function of a dict")
        self._settings = _Settings(
            folder=os.path.abspath(watch_path),  # noqa: PTH100  # keeps links
            callback=callback,
            delay_s=float(debounce_delay),
            extensions=_checked_extensions(
                self.default_extensions if extensions is None else extensions
            ),
            observer=observer,
            existing=existing,
            interval_s=float(poll_interval_s),
        )
        self._run: _Run | None = None

    @property
    def is_running(self) -> bool:
        """Whether files are being watched: started, and not stopped since."""
        return self._run is not None and not self._run.is_stopped

    @property
    def idle_s(self) -> float:
        """Seconds since anything happened; 0 while a file waits or a callback runs."""
        return 0.0 if self._run is None else self._run.idle_s

    def start(self) -> None:
        """Begin to watch; from here on no new file is missed.

        A folder that is not there or cannot be listed is logged, and nothing is started; call
        again when it is there. Does nothing when running.
        """
        if self.is_running:
            return
        run = _Run(self._settings)
        try:
            run.start()
        except OSError as error:
            log.error(
                "cannot watch %s (%s): nothing was started. Create or mount the folder, check its "
                "permissions, and start again.",
                self._settings.folder,
                error.strerror,
            )
            return
        self._run = run

    def stop(self) -> None:
        """End watching; files that still wait are not told.

        Waits for a callback that runs; none is called after it returns. Called inside the callback
        it returns at once, and that callback is the last. May be called again, and before a start.
        """
        if self._run is not None:
            self._run.stop()


class ImageWatcher(FileWatcher):
    """Tells a callback of each new FITS image of a folder; see :class:`FileWatcher`."""

    default_extensions = (".fits", ".fit")


def _checked_extensions(given: Iterable[str]) -> tuple[str, ...]:
    extensions = []
    for extension in [given] if isinstance(given, str) else given:
        if not extension.startswith(".") or len(extension) < 2 or set("/*?\0") & set(extension):
            raise ConfigError(
                f"extension {extension!r}: write the end of the name with its dot, such as .fits "
                "or .nii.gz, without wildcards"
            )
        extensions.append(extension.lower())
    if not extensions:
        raise ConfigError("no extension is given, no file would be told; give one, such as .fits")
    return tuple(dict.fromkeys(extensions))


@dataclass(frozen=True)
class _Settings:
    folder: str
    callback: Callback
    delay_s: float
    extensions: tuple[str, ...]
    observer: Observer
    existing: bool
    interval_s: float


@dataclass
class _News:
    """What events said about a name since they were last taken in.

    Attributes
    ----------
    at
        Clock reading of the last one.
    appeared, left
        Whether it was created or moved here; whether it was deleted or moved away. Both: what is
        there now decides.
    """

    at: float
    appeared: bool = False
    left: bool = False


@dataclass
class _Known:
    """A file that is waiting, was told, or was there before.

    Attributes
    ----------
    listed
        Inode in the listing; None until a listing has it.
    seen
        What it looked like when it was last looked at.
    """

    listed: int | None
    seen: Signature


class _Run:
    """Watching, from one start to one stop.

    One thread decides everything: what appeared, what is due, and it calls the callback. The
    threads of the observer only leave their events in ``_news``.
    """

    def __init__(self, settings: _Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._waiting = Debouncer()
        self._known: dict[str, _Known] = {}
        self._events = _Events(settings.folder, self._note)
        # Of the folder that is watched: device and inode; is a disk mounted on it.
        self._place: tuple[int, int] | None = None
        self._was_mount = False
        self._away = False
        self._look_at = 0.0

        self._lock = threading.Lock()  # of the news
        self._news: dict[str, _News] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_stopped = False
        self._is_telling = False
        self._last_activity = clock()

    # ------------------------------------------------------------------ start, stop
    def start(self) -> None:
        """Look once and start the thread. Raises OSError when the folder cannot be listed."""
        try:
            self.open()
        except OSError:
            self._events.stop()
            raise
        self._thread = threading.Thread(
            target=self._loop, name=f"watch {self._settings.folder}", daemon=True
        )
        self._thread.start()

    def open(self) -> None:
        """Take in what is there; from here on everything else is new."""
        self._place = self._find_place()
        # Events first: a file that appears between the two is in both, and told once.
        self._events.start(self._settings.observer)
        now = self._clock()
        for name, listed in sorted(self._list().items()):
            if (seen := signature(self._path(name))) is None:
                continue
            self._known[name] = _Known(listed, seen)
            if self._settings.existing:
                self._waiting.arm(name, now + self._settings.delay_s, seen)
        self._look_at = now + self._settings.interval_s
        log.info(
            "watching %s for %s (%s)",
            self._settings.folder,
            ", ".join(self._settings.extensions),
            "events" if self._events.are_alive else "polling",
        )

    def stop(self) -> None:
        self.is_stopped = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def idle_s(self) -> float:
        if self._is_telling or (len(self._waiting) and not self._away):
            return 0.0
        return self._clock() - self._last_activity

    def _loop(self) -> None:
        try:
            while not self.is_stopped:
                try:
                    pause = self.turn()
                except Exception:  # the watcher outlives any defect of ours
                    log.exception("internal error while watching %s", self._settings.folder)
                    pause = self._settings.interval_s
                self._wake.wait(pause)
                self._wake.clear()
        finally:
            self._events.stop()

    def turn(self) -> float:
        """Do what is due now, at most one callback. Returns seconds until something is due."""
        self._take_news()
        if self._clock() >= self._look_at:
            self._look()
        if not self._away:
            due = self._waiting.pop_due(self._clock())
            if due is not None:
                self._settle(*due)
        deadline = None if self._away else self._waiting.next_deadline()
        next_at = self._look_at if deadline is None else min(deadline, self._look_at)
        return max(0.0, next_at - self._clock())

    # ------------------------------------------------------------------ events
    def _note(self, event: FileSystemEvent) -> None:
        """Leave an event for the thread; called by the threads of the observer."""
        now = self._clock()
        if event.is_directory:
            if os.fsdecode(event.src_path) == self._settings.folder:
                self._look_at = now
                self._wake.set()
            return
        appeared = touched = left = None
        if isinstance(event, FileMovedEvent):
            left, appeared = self._name(event.src_path), self._name(event.dest_path)
        elif isinstance(event, FileCreatedEvent):
            appeared = self._name(event.src_path)
        elif isinstance(event, FileDeletedEvent):
            left = self._name(event.src_path)
        else:
            touched = self._name(event.src_path)
        with self._lock:
            for name in filter(None, (left, appeared, touched)):
                news = self._news.setdefault(name, _News(now))
                news.at = self._last_activity = now
                news.left |= name == left
                news.appeared |= name == appeared
        if appeared:
            # Writing alone needs no waking: the old deadline does, and finds the new one.
            self._wake.set()

    def _name(self, path: str | bytes) -> str | None:
        """Name of a file that is to be told; None for any other path."""
        folder, name = os.path.split(os.fsdecode(path))
        return name if folder == self._settings.folder and self._is_wanted(name) else None

    def _is_wanted(self, name: str) -> bool:
        return not name.startswith(".") and name.lower().endswith(self._settings.extensions)

    def _take_news(self) -> None:
        with self._lock:
            news, self._news = self._news, {}
        for name, item in news.items():
            if item.left:
                self._forget(name)
            # Writing to a file that is neither waiting nor known: the event of its creation was
            # lost, as happens when the kernel's queue overflows.
            if item.appeared or name in self._waiting or not (item.left or name in self._known):
                self._arm(name, item.at + self._settings.delay_s)
            elif name in self._known:
                self._remember_change(name)

    # ------------------------------------------------------------------ what waits
    def _arm(self, name: str, deadline: float, listed: int | None = None) -> None:
        seen = signature(self._path(name))
        if seen is None:
            self._forget(name)
            return
        self._known[name] = _Known(listed, seen)
        self._waiting.arm(name, deadline, seen)
        self._last_activity = self._clock()
        # The reader's import runs while the file waits, not when it is due.
        prepare(Path(name))

    def _forget(self, name: str) -> None:
        self._waiting.forget(name)
        self._known.pop(name, None)

    def _remember_change(self, name: str) -> None:
        """Take in what a file that was told looks like after it was changed in place."""
        known, seen = self._known[name], signature(self._path(name))
        if seen is not None and seen[2] == known.seen[2]:  # else it is another file
            known.seen = seen

    def _settle(self, name: str, armed: Signature) -> None:
        """Tell of a file whose time is over, unless it has changed without an event."""
        path = self._path(name)
        seen = signature(path, ask_server=True)
        if seen is None:
            self._forget(name)
        elif seen != armed and self._settings.delay_s > 0:
            self._arm(name, self._clock() + self._settings.delay_s)
        else:
            self._known[name].seen = seen
            self._is_telling = True
            try:
                self._tell(path)
                self._remember_change(name)
            finally:
                self._last_activity = self._clock()
                self._is_telling = False

    def _tell(self, path: str) -> None:
        header = read_header(Path(path))
        try:
            size_kb = Path(path).stat().st_size / 1024.0
        except OSError:
            return  # deleted while its header was read
        if self.is_stopped:
            return
        try:
            self._settings.callback({"path": path, "header": header, "size_kb": size_kb})
        except (Exception, SystemExit):
            log.exception("the callback failed for %s; the next file is told", path)

    def _path(self, name: str) -> str:
        return os.path.join(self._settings.folder, name)  # noqa: PTH118  # a str is what is told

    # ------------------------------------------------------------------ looking at the folder
    def _look(self) -> None:
        """See whether the folder is there; unless events are all that is asked for, list it."""
        began = self._clock()
        try:
            place = self._find_place()
            is_new = self._away or place != self._place or self._events.are_lost
            if is_new:
                self._events.start(self._settings.observer)
            if is_new or self._settings.observer != "native" or not self._events.are_alive:
                listing = self._list()
                # Else it was unmounted or replaced in between; the next look sees that.
                if self._find_place() == place:
                    self._compare(listing, is_new=is_new)
        except OSError as error:
            if not self._away:
                log.warning(
                    "%s cannot be looked at any more (%s); is the disk mounted? Watching goes on "
                    "when it is back.",
                    self._settings.folder,
                    error.strerror,
                )
                self._away = True
                self._events.stop()
        else:
            if self._away:
                log.warning("%s is back; watching goes on", self._settings.folder)
                self._come_back()
            self._place = place
        now = self._clock()
        self._look_at = now + max(self._settings.interval_s, LOOK_SHARE * (now - began))

    def _come_back(self) -> None:
        """What waited when the folder went away starts to wait again."""
        self._away = False
        for name in self._waiting:
            listed = self._known[name].listed
            self._arm(name, self._clock() + self._settings.delay_s, listed)

    def _find_place(self) -> tuple[int, int]:
        """Device and inode of the folder. Raises OSError when it is away."""
        folder = Path(self._settings.folder)
        found = folder.stat()
        is_mount = folder.is_mount()
        if self._was_mount and not is_mount:
            # What is there now is the empty folder on which the disk was mounted.
            raise OSError(errno.ENODEV, "no disk is mounted on it any more")
        self._was_mount = is_mount
        return found.st_dev, found.st_ino

    def _list(self) -> dict[str, int]:
        """Names and inodes of the files that are wanted. No file is looked at: 10,000 are cheap."""
        found = {}
        with os.scandir(self._settings.folder) as entries:
            for entry in entries:
                if self._is_wanted(entry.name) and _is_file(entry):
                    found[entry.name] = entry.inode()
        return found

    def _compare(self, listing: dict[str, int], *, is_new: bool) -> None:
        """Take in a listing: what appeared, what has gone, what was replaced.

        Parameters
        ----------
        is_new
            The folder was away or replaced, or its events were: a name and an inode, which are
            used again, are then not enough to know a file by.
        """
        for name in self._known.keys() - listing.keys():
            self._forget(name)
        delay_s = self._settings.delay_s
        if self._events.are_alive:
            delay_s = max(delay_s, EVENT_DELAY_S)
        deadline = self._clock() + delay_s
        for name, listed in sorted(listing.items()):
            known = self._known.get(name)
            if known is None:
                self._arm(name, deadline, listed)
            elif is_new or known.listed not in (None, listed):
                # Some network file systems give a file another inode now and then. Another file
                # has another size or time, too.
                known.listed = listed
                seen = signature(self._path(name))
                if seen is not None and seen[:2] != known.seen[:2]:
                    self._arm(name, deadline, listed)
            else:
                known.listed = listed


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


class _Events(FileSystemEventHandler):
    """Events of the operating system about one folder."""

    def __init__(self, folder: str, note: Callable[[FileSystemEvent], None]) -> None:
        self._folder = folder
        self._note = note
        self._observer: Any = None

    def start(self, how: Observer) -> None:
        """Begin, or begin anew after the folder was replaced."""
        self.stop()
        if how == "poll":
            return
        from watchdog.observers import Observer as NativeObserver

        observer = NativeObserver()
        observer.schedule(self, self._folder, recursive=False, event_filter=_EVENTS)
        try:
            observer.start()
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
                raise
            log.warning(
                "no events from %s (%s): the folder is looked at by the clock instead. On Linux, "
                "fs.inotify.max_user_instances and max_user_watches are the limits to raise.",
                self._folder,
                error.strerror,
            )
            return
        self._observer = observer

    def stop(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    @property
    def are_alive(self) -> bool:
        return self._observer is not None and any(
            emitter.is_alive() for emitter in self._observer.emitters
        )

    @property
    def are_lost(self) -> bool:
        """Whether events were there and have ended, as they do when the folder is deleted."""
        return self._observer is not None and not self.are_alive

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._note(event)
