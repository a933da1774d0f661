"""The watcher's snakemake runs: started, followed, adopted after a crash, ended."""

import contextlib
import itertools
import logging
import multiprocessing as mp
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from opticstream_smk.errors import ServiceError
from opticstream_smk.io.atomic import write_json
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import locks
from opticstream_smk.state.flags import now
from opticstream_smk.state.host import boot_id, host_name
from opticstream_smk.trigger.drive import PRELOAD, Order, drive, read_record
from opticstream_smk.workflow import workflow_folder

log = logging.getLogger(__name__)

Kind = Literal["compute", "volume", "qc", "archive"]

# Logs of drivers that ended well are not needed; the newest of the others, and of snakemake, are.
_KEPT_LOGS = 100


@dataclass
class Driver:
    """A snakemake run that lives, as far as is known.

    Attributes
    ----------
    goals
        Flags and pictures that it makes, relative to the project folder.
    since
        Reading of the monotonic clock.
    process
        None for a run that an earlier watcher started.
    """

    id: str
    kind: Kind
    goals: tuple[str, ...]
    record: Path
    lock: Path
    log: Path
    since: float
    process: ForkServerProcess | None = field(default=None, repr=False)

    @property
    def is_adopted(self) -> bool:
        """Whether an earlier watcher started it."""
        return self.process is None

    @property
    def pid(self) -> int | None:
        """Its process, which leads a session of its own."""
        return self.process.pid if self.process else locks.holder_pid(self.lock)

    def lives(self) -> bool:
        """Whether it is still at work."""
        return self.process.is_alive() if self.process else locks.is_held(self.lock)


@dataclass(frozen=True)
class Ended:
    """A driver that is no more.

    Attributes
    ----------
    code
        Exit code of snakemake; None when it was killed.
    """

    driver: Driver
    code: int | None


class Drivers:
    """The snakemake runs of one project.

    Parameters
    ----------
    config
        Configuration file that they read.
    profile
        Profile folder.
    """

    def __init__(self, layout: ProjectLayout, project: str, config: Path, profile: Path) -> None:
        self._layout = layout
        self._project = project
        self._config = config
        self._profile = profile
        self._context = mp.get_context("forkserver")
        self._living: list[Driver] = []
        self._numbers = itertools.count(1)

    @property
    def living(self) -> tuple[Driver, ...]:
        """Every run that has not been reaped."""
        return tuple(self._living)

    @property
    def sentinels(self) -> list[int]:
        """What becomes readable when a run ends; adopted ones have none."""
        return [driver.process.sentinel for driver in self._living if driver.process]

    def warm_up(self) -> None:
        """Start the server, which then imports snakemake, before the first run is needed."""
        self._context.set_forkserver_preload(PRELOAD)
        forkserver.ensure_running()

    def start(self, kind: Kind, goals: Sequence[str], cores: int | None) -> Driver:
        """Start snakemake for some goals.

        Raises
        ------
        ServiceError
            The record of the run cannot be written, or there is no room for another process.
        """
        name = f"{now():%Y%m%dT%H%M%S}-{os.getpid()}-{next(self._numbers)}"
        driver = Driver(
            id=name,
            kind=kind,
            goals=tuple(goals),
            record=self._layout.driver_record(name),
            lock=self._layout.driver_lock(name),
            log=self._layout.driver_log(name),
            since=time.monotonic(),
        )
        write_json(
            driver.record,
            {
                "id": name,
                "kind": kind,
                "goals": list(goals),
                "host": host_name(),
                "boot_id": boot_id(),
                "since": driver.since,
            },
        )
        order = Order(
            argv=self._command_line(goals, cores),
            folder=self._layout.root,
            record=driver.record,
            lock=driver.lock,
            log=driver.log,
            environment={
                "OPTIC_DRIVER": name,
                "OPTIC_PROJECT_DIR": str(self._layout.root),
                "OPTIC_PROJECT_NAME": self._project,
            },
        )
        driver.process = self._context.Process(target=drive, args=(order,), name=f"driver {name}")
        try:
            driver.process.start()
        except OSError as error:
            driver.record.unlink(missing_ok=True)
            raise ServiceError(
                f"a snakemake run cannot be started ({error.strerror or error}); free memory or "
                "end other processes. It is tried again."
            ) from error
        self._living.append(driver)
        return driver

    def _command_line(self, goals: Sequence[str], cores: int | None) -> tuple[str, ...]:
        return (
            *("--snakefile", str(workflow_folder() / "Snakefile")),
            *("--profile", str(self._profile)),
            *("--configfile", str(self._config)),
            *(("--cores", str(cores)) if cores else ()),
            # Snakemake's own locks: a run that ends removes those of all others, and a killed one
            # leaves them. The watcher's runs have disjoint goals, and every stage locks its flag.
            "--nolock",
            # A stage writes its flag last and at once: one that is there is complete, also when
            # its snakemake was killed before it could make a note of that.
            "--ignore-incomplete",
            *("--logger", "optic", "--nocolor"),
            *("--", *goals),
        )

    def reap(self) -> list[Ended]:
        """Take note of runs that have ended."""
        ended = []
        for driver in [driver for driver in self._living if not driver.lives()]:
            self._living.remove(driver)
            record = read_record(driver.record) or {}
            code = record.get("code")
            if driver.process is not None:
                driver.process.join()
                driver.process.close()
            if code is None:
                end_session(locks.holder_pid(driver.lock), driver.id)
            self._forget(driver, keep_log=code != 0)
            ended.append(Ended(driver, code))
        return ended

    def recover(self) -> list[Driver]:
        """Find the runs of an earlier watcher: adopt those that live, clean up after the others.

        Returns
        -------
        list of Driver
            Those that were dead; stages that they left behind have been ended.
        """
        dead = []
        for path in sorted(self._layout.drivers.glob("*.json")):
            driver = self._recorded(path)
            if locks.is_held(driver.lock):
                self._living.append(driver)
                log.info("driver %s of an earlier watcher is still at work", driver.id)
                continue
            record = read_record(path) or {}
            if (record.get("host"), record.get("boot_id")) == (host_name(), boot_id()):
                end_session(locks.holder_pid(driver.lock), driver.id)
            self._forget(driver, keep_log=record.get("code") != 0)
            dead.append(driver)
        return dead

    def _recorded(self, path: Path) -> Driver:
        record: dict[str, Any] = read_record(path) or {}
        same_boot = record.get("boot_id") == boot_id()
        return Driver(
            id=path.stem,
            kind=next((kind for kind in get_args(Kind) if kind == record.get("kind")), "compute"),
            goals=tuple(map(str, record.get("goals", ()))),
            record=path,
            lock=self._layout.driver_lock(path.stem),
            log=self._layout.driver_log(path.stem),
            since=float(record.get("since", 0)) if same_boot else time.monotonic(),
        )

    def _forget(self, driver: Driver, *, keep_log: bool) -> None:
        # The record goes first: a run that has not taken its lock yet then ends by itself.
        for path in (driver.record, driver.lock, *(() if keep_log else (driver.log,))):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        _prune(driver.log.parent)
        _prune(self._layout.root / ".snakemake" / "log")

    def finish(self) -> None:
        """Ask every run to let its jobs finish and to start no more."""
        for driver in self._living:
            _signal(driver.pid, signal.SIGTERM)

    def end(self) -> None:
        """End every run and all its stages now."""
        for driver in self._living:
            pid = driver.pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


def _prune(logs: Path) -> None:
    """Keep the newest logs of a folder: a project of weeks has thousands of runs."""
    paths = sorted(logs.glob("*.log"))
    # Some at a time: the folder is listed at each end of a run, but seldom changed.
    for old in paths[:-_KEPT_LOGS] if len(paths) > 2 * _KEPT_LOGS else ():
        with contextlib.suppress(OSError):
            old.unlink(missing_ok=True)


def end_session(leader: int | None, driver: str) -> None:
    """End what a dead driver left behind: the stages in its session.

    Parameters
    ----------
    leader
        Its process id, which was also the number of its session.
    driver
        Its id, which its stages carry in their environment: a number may have been used again.
    """
    if leader is None:
        return
    left = [process for process in _session(leader) if _belongs_to(process, driver)]
    for process in left:
        log.warning("ending process %d, left by driver %s", process.pid, driver)
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def _session(leader: int) -> Iterable[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader:
                yield process


def _belongs_to(process: psutil.Process, driver: str) -> bool:
    try:
        return bool(process.environ().get("OPTIC_DRIVER") == driver)
    except psutil.Error:
        return False


def _signal(pid: int | None, number: int) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
