"""Keeping up the CPU priority of the acquisition software where it runs on this host."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    import psutil

# The classes of Windows and the niceness that stands for them elsewhere.
NICE_OF_CLASS: Mapping[str, int] = MappingProxyType(
    {
        "idle": 10,
        "below_normal": 5,
        "normal": 0,
        "above_normal": -2,
        "high": -5,
        "realtime": -15,
    }
)
ROUND_S = 60.0

log = logging.getLogger(__name__)


class PriorityError(ConfigError, ValueError):
    """No class of priority and no niceness."""


def parse_nice(text: str) -> int:
    """Niceness, -20 to 19, of the name of a class or of a number.

    Raises
    ------
    PriorityError
        It is neither.
    """
    name = text.strip().lower()
    if name in NICE_OF_CLASS:
        return NICE_OF_CLASS[name]
    try:
        nice = int(name)
    except ValueError:
        nice = None
    if nice is None or not -20 <= nice <= 19:
        raise PriorityError(
            f"priority {text!r}: expected {', '.join(NICE_OF_CLASS)}, or a nice value from -20 to "
            "19"
        )
    return nice


def system_priority(text: str) -> int:
    """Priority as this operating system takes it: niceness, or a class on Windows.

    Raises
    ------
    PriorityError
        No class and no niceness, or a niceness on Windows.
    """
    nice = parse_nice(text)
    if sys.platform == "win32":
        import psutil

        name = text.strip().lower()
        if name not in NICE_OF_CLASS:
            raise PriorityError(
                f"priority {text!r}: Windows knows {', '.join(NICE_OF_CLASS)} and no nice values"
            )
        return int(getattr(psutil, f"{name.upper()}_PRIORITY_CLASS"))
    return nice


def name_matches(found: str | None, wanted: str) -> bool:
    """Whether a process is the one that is meant: upper and lower case and ``.exe`` are the same.

    Parameters
    ----------
    found
        Name that the operating system gives; None where it gives none.
    """
    if not found or not wanted:
        return False
    return found.lower().removesuffix(".exe") == wanted.lower().removesuffix(".exe")


class PriorityKeeper:
    """Sets the priority of all processes of a name, round after round, in a thread of its own.

    Parameters
    ----------
    name
        As the operating system lists it; see :func:`name_matches`.
    priority
        See :func:`system_priority`.
    interval_s
        Seconds between two rounds: the software may be started again at any time.
    processes
        Lists the processes of this host.

    Raises
    ------
    ConfigError
        An empty name, or an interval that is not positive.
    """

    def __init__(
        self,
        name: str,
        priority: int,
        *,
        interval_s: float = ROUND_S,
        processes: "Callable[[], Iterable[psutil.Process]] | None" = None,
    ) -> None:
        if not name.strip():
            raise ConfigError("no process is named; give the name of the acquisition software")
        if not interval_s > 0:
            raise ConfigError(f"interval of {interval_s:g} s: expected more than 0")
        self.name = name.strip()
        self.priority = priority
        self.interval_s = interval_s
        self._processes = processes or _all_processes
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # By process and time of its start, as its number is given to another one some day.
        self._told: set[tuple[int, float]] = set()

    def start(self) -> None:
        """Begin; does nothing when it has begun."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, name=f"priority of {self.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End and wait for the end; does nothing when it has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def apply(self) -> tuple[int, int]:
        """One round.

        Returns
        -------
        (int, int)
            Processes of that name, and how many of them have the priority now.
        """
        import psutil

        seen: set[tuple[int, float]] = set()
        done = 0
        for process in self._processes():
            try:
                if not name_matches(process.name(), self.name):
                    continue
                who = (process.pid, process.create_time())
            except psutil.Error:  # ended while we looked, or hidden from us
                continue
            seen.add(who)
            try:
                before = process.nice()
                _set_priority(process, self.priority)
                done += 1
                if before != self.priority:
                    log.info(
                        "priority of %s (process %d) set to %d, was %d",
                        *(self.name, process.pid, self.priority, before),
                    )
            except psutil.AccessDenied:
                self._tell(
                    who,
                    "no permission to raise its priority. Run this as the user of that process; "
                    "to raise it above normal also as root, or with the right to (CAP_SYS_NICE)",
                )
            except psutil.NoSuchProcess:
                self._tell(who, "it ended before its priority could be set")
        self._told &= seen
        return len(seen), done

    def _run(self) -> None:
        missing = False
        while True:
            try:
                found, _ = self.apply()
                if found == 0 and not missing:
                    log.warning(
                        "no process called %s runs; it is looked for every %g s",
                        *(self.name, self.interval_s),
                    )
                missing = found == 0
            except Exception:  # the watcher outlives any defect of this thread
                log.exception("internal error about the priority of %s; it goes on", self.name)
            if self._stop.wait(self.interval_s):
                return

    def _tell(self, who: tuple[int, float], problem: str) -> None:
        if who not in self._told:
            self._told.add(who)
            log.warning("%s (process %d): %s", self.name, who[0], problem)


def _set_priority(process: "psutil.Process", priority: int) -> None:
    import psutil

    if process.nice() != priority:
        process.nice(priority)
    if sys.platform != "linux":
        return
    # Linux keeps niceness by thread: the process's own is that of its first thread.
    for thread in process.threads():
        with contextlib.suppress(ProcessLookupError):
            if os.getpriority(os.PRIO_PROCESS, thread.id) != priority:
                try:
                    os.setpriority(os.PRIO_PROCESS, thread.id, priority)
                except PermissionError as error:
                    raise psutil.AccessDenied(process.pid) from error


def _all_processes() -> "Iterable[psutil.Process]":
    import psutil

    return psutil.process_iter()
