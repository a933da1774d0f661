"""From goals to drivers: how many, with which goals, and what their end means."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.archive.folder import archive_folder
from opticstream_smk.config import Config
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.estimate import format_bytes
from opticstream_smk.io.disk import existing
from opticstream_smk.plan import project_layout, project_state
from opticstream_smk.state import locks
from opticstream_smk.state.failures import (
    add_failure,
    earlier_attempts,
    failure_extra,
    is_same_work,
)
from opticstream_smk.state.flags import Flag, now
from opticstream_smk.state.places import FLAGS, Place, flag_path, focus_place, tilemap_place
from opticstream_smk.trigger.control import paused
from opticstream_smk.trigger.drivers import Driver, Drivers, Ended, Kind
from opticstream_smk.trigger.goals import Goal, Goals
from opticstream_smk.trigger.snapshot import RunningDriver, WaitingGoal

log = logging.getLogger(__name__)

# Snakemake itself failed: wait before the same goals are asked for again.
_TROUBLE_FIRST_S = 5.0
_TROUBLE_LONGEST_S = 300.0
_LOG_TAIL_BYTES = 4000


@dataclass
class _Trouble:
    """Runs in a row that ended without a result for a goal and without a failure of its stage."""

    times: int
    until: float
    reason: str


class Dispatcher:
    """Gives goals to drivers.

    A new goal gets a driver at once while fewer than ``run.max_drivers`` are at work; beyond that,
    goals wait and share the next one. Archives have as many of their own, so that a batch is
    archived while it is processed and is read from memory the second time. Pictures have one, and
    so have volumes, which take long: neither keeps a batch or a mosaic waiting.
    """

    def __init__(
        self,
        config: Config,
        drivers: Drivers,
        goals: Goals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.drivers = drivers
        self.goals = goals
        self.holds: tuple[str, ...] = ()
        self.queued: tuple[str, ...] = ()
        self._clock = clock
        self._trouble: dict[str, _Trouble] = {}
        self._places: dict[str, Place] = {}
        # Which failure was on record, and which file was there, when a goal was given to a driver.
        self._failures: dict[str, str | None] = {}
        self._before: dict[str, int | None] = {}
        # What goals will write, and the device that they write to; None: no disk is there.
        self._writes: dict[str, tuple[int, int | None]] = {}
        self.use(config)

    def use(self, config: Config) -> None:
        """Take a new configuration."""
        self._config = config
        self._layout = project_layout(config)
        self._trouble.clear()
        self.goals.use(config)

    # ------------------------------------------------------------------------------------ state
    @property
    def waiting(self) -> tuple[WaitingGoal, ...]:
        """Goals that are held back, and why."""
        troubled = (
            WaitingGoal(goal=path, reason=trouble.reason, until=trouble.until)
            for path, trouble in self._trouble.items()
            if trouble.until > self._clock()
        )
        return (*self.goals.waiting, *troubled)

    @property
    def running(self) -> tuple[RunningDriver, ...]:
        """Drivers at work, for the snapshot."""
        return tuple(
            RunningDriver(
                id=driver.id,
                pid=driver.pid,
                goals=driver.goals,
                since=driver.since,
                adopted=driver.is_adopted,
            )
            for driver in self.drivers.living
        )

    @property
    def next_try(self) -> float | None:
        """Clock reading at which something that is held back may go on by itself."""
        times = [waiting.until for waiting in self.waiting if waiting.until is not None]
        return min(times, default=None)

    # ------------------------------------------------------------------------------------ ended
    def reap(self) -> list[Ended]:
        """Take note of drivers that have ended, and of what they did not make."""
        ended = self.drivers.reap()
        for end in ended:
            missing = [path for path in end.driver.goals if not self._is_made(path)]
            for path in set(end.driver.goals) - set(missing):
                self._trouble.pop(path, None)
            for path in missing:
                self._understand(end, path)
        return ended

    def _is_made(self, path: str) -> bool:
        """Whether a file is there that was not when it was asked for; pictures are replaced."""
        written = self._written_ns(path)
        return written is not None and written != self._before.get(path)

    def _written_ns(self, path: str) -> int | None:
        try:
            return (self._layout.root / path).stat().st_mtime_ns
        except OSError:
            return None

    def _understand(self, end: Ended, path: str) -> None:
        """Why a goal was not made: its stage failed, its stage died, or snakemake did."""
        place = self._places.get(path)
        if place is not None and self._has_new_failure(path, place):
            return
        if end.code is None:
            self._set_back(path, "its snakemake run was killed", at_once=True)
            return
        died = self._died_holding(place, path) if place is not None else None
        if place is not None and died is not None:
            self._record_death(place, died)
            return
        reason = f"snakemake ended with {end.code}; see {end.driver.log}"
        if self._set_back(path, reason) == 1:
            log.error("%s: %s\n%s", path, reason, _tail(end.driver.log))

    def _has_new_failure(self, path: str, place: Place) -> bool:
        return self.goals.failure_id(place, path) not in (None, self._failures.get(path))

    def _died_holding(self, place: Place, path: str) -> Path | None:
        """Lock that a stage of a place held when it died, of the work that a goal belongs to."""
        places = [place]
        if place.level == "mosaic" and place.mosaic:
            labels = self._config.acquisition.labels
            places += [make(label) for label in labels for make in (tilemap_place, focus_place)]
        for candidate in places:
            for state in FLAGS[candidate.level]:
                flag = flag_path(self._layout, candidate, state)
                if not is_same_work(flag.name, Path(path).name):
                    continue
                lock = self._layout.lock(flag)
                if locks.holder_pid(lock) is not None and not locks.is_held(lock):
                    return lock
        return None

    def _record_death(self, place: Place, lock: Path) -> None:
        flag = lock.name.removesuffix(".lock")
        error = (
            f"{place}: the stage that makes {flag} ended without a word ("
            f"{locks.describe_holder(lock)}): killed, or out of memory. Its log is under "
            f"{self._layout.logs}; run.memory_mb and run.cores limit what runs at a time."
        )
        os.truncate(lock, 0)
        at = now()
        with project_state(self._config).open(place) as node:
            failed = Flag(
                flag=node.path("failed").name,
                project=self._config.project.name,
                **place.ids,
                stage="watch",
                started=at,
                finished=at,
                duration_s=0.0,
                extra=failure_extra(
                    self._config.run.retry,
                    flag=flag,
                    kind="resource",
                    error=error,
                    attempts=earlier_attempts(node.get("failed"), flag) + 1,
                ),
            )
            add_failure(node, failed)

    def _set_back(self, path: str, reason: str, *, at_once: bool = False) -> int:
        trouble = self._trouble.get(path)
        times = trouble.times + 1 if trouble else 1
        wait_s = min(_TROUBLE_FIRST_S * 2.0 ** (times - 1), _TROUBLE_LONGEST_S)
        if at_once and times <= 3:
            wait_s = 0.0
        self._trouble[path] = _Trouble(times, self._clock() + wait_s, reason)
        return times

    # ---------------------------------------------------------------------------------- started
    def dispatch(self) -> list[Driver]:
        """Start drivers for what can be made now."""
        owned = {path for driver in self.drivers.living for path in driver.goals}
        now_s = self._clock()
        self._trouble = {p: t for p, t in self._trouble.items() if not self._is_made(p)}
        pending = []
        for goal in self.goals.look():
            self._places[goal.path] = goal.place
            self._writes[goal.path] = goal.n_bytes, _device(goal.disk)
            trouble = self._trouble.get(goal.path)
            if goal.path not in owned and (trouble is None or trouble.until <= now_s):
                pending.append(goal)
        self._forget_done(owned | {goal.path for goal in pending})
        self.queued = tuple(goal.path for goal in pending)
        if not pending:
            self.holds = ()
            return []
        started: list[Driver] = []
        pause = self._paused()
        if pause is not None:
            self._tell_holds((pause,))
            return started
        # Neither disk keeps the work on the other one waiting.
        hold = self._start("compute", pending, started)
        archive_hold = self._start("archive", pending, started)
        hold = self._start("volume", pending, started) or hold
        hold = hold or self._start("qc", pending, started)
        self._tell_holds(tuple(held for held in (hold, archive_hold) if held))
        return started

    def _forget_done(self, current: set[str]) -> None:
        held = {waiting.goal for waiting in self.waiting}
        for path in self._places.keys() - current - held - self._trouble.keys():
            del self._places[path], self._writes[path]
            self._failures.pop(path, None)
            self._before.pop(path, None)

    def _paused(self) -> str | None:
        pause = paused(self._layout)
        return None if pause is None else f"paused: {pause}"

    def _tell_holds(self, holds: tuple[str, ...]) -> None:
        for hold in holds:
            if hold not in self.holds:
                log.warning("no work is started: %s", hold)
        if self.holds and not holds:
            log.info("work goes on")
        self.holds = holds

    def _start(self, kind: Kind, pending: Sequence[Goal], started: list[Driver]) -> str | None:
        goals = [goal for goal in pending if goal.kind == kind]
        busy = sum(driver.kind == kind for driver in self.drivers.living)
        free = (1 if kind in ("qc", "volume") else self._config.run.max_drivers) - busy
        goals, hold = self._that_fit(goals)
        for share in share_out(goals, free):
            self._before |= {goal.path: self._written_ns(goal.path) for goal in share}
            self._failures |= {
                goal.path: self.goals.failure_id(goal.place, goal.path) for goal in share
            }
            try:
                driver = self.drivers.start(
                    kind, [goal.path for goal in share], self._config.run.cores
                )
            except OpticStreamError as error:
                return str(error)
            started.append(driver)
            self.queued = tuple(path for path in self.queued if path not in driver.goals)
        return hold

    def _that_fit(self, goals: Sequence[Goal]) -> tuple[list[Goal], str | None]:
        """Goals for which there is disk space, beside what running drivers may still write."""
        fitting: list[Goal] = []
        for goal in goals:
            hold = self._archive_away(goal) or self._lacks_space(goal, fitting)
            if hold:
                return fitting, hold
            fitting.append(goal)
        return fitting, None

    def _archive_away(self, goal: Goal) -> str | None:
        folder = archive_folder(self._config, self._layout) if goal.kind == "archive" else None
        return folder.problem() if folder else None

    def _lacks_space(self, goal: Goal, fitting: Sequence[Goal]) -> str | None:
        space = os.statvfs(existing(goal.disk))
        free = space.f_bavail * space.f_frsize
        device = _device(goal.disk)
        at_work = [path for driver in self.drivers.living for path in driver.goals]
        others = [self._writes.get(path, (0, None)) for path in at_work]
        others += [self._writes[other.path] for other in fitting]
        needed = goal.n_bytes + sum(n_bytes for n_bytes, other in others if other == device)
        kept = ""
        if device == _device(self._layout.root):
            needed += self._config.run.reserve_free_mb * 10**6
            kept = " and run.reserve_free_mb"
        if needed <= free:
            return None
        return (
            f"disk space: {goal.path} needs {format_bytes(needed)} on the disk of "
            f"{goal.disk} ({format_bytes(goal.n_bytes)} for itself, the rest for "
            f"running work{kept}), {format_bytes(free)} are free. Free "
            "some; it goes on by itself."
        )


def _device(folder: Path) -> int | None:
    """Device that a folder lies on, or will."""
    try:
        return existing(folder).stat().st_dev
    except OSError:
        return None


def share_out(goals: Sequence[Goal], free: int) -> list[list[Goal]]:
    """Goals for each of the drivers that may start now.

    One each while there are enough drivers. Otherwise the goals are shared, and one driver is kept
    back, so that the next batch need not wait for a long queue.
    """
    if free <= 0 or not goals:
        return []
    if len(goals) <= free:
        return [[goal] for goal in goals]
    shares = max(1, free - 1)
    return [list(goals[n::shares]) for n in range(shares)]


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError as error:
        return f"({path} cannot be read: {error.strerror})"
    return "\n".join(text.splitlines()[-12:])
