"""What the watcher can ask snakemake for now, and what it must wait with."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opticstream_smk import estimate, naming
from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError, OpticStreamError
from opticstream_smk.plan import Plan, Target, project_layout
from opticstream_smk.state.failures import failure_about, is_beside
from opticstream_smk.state.flags import Flag, now, read_flag
from opticstream_smk.state.places import Place, flag_path
from opticstream_smk.trigger.drivers import Kind
from opticstream_smk.trigger.snapshot import WaitingGoal
from opticstream_smk.trigger.withdrawals import Withdrawals

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Goal:
    """One file that snakemake can make now, because all that it is made from is there.

    Attributes
    ----------
    path
        A flag or a picture, relative to the project folder.
    kind
        Volumes, pictures and archives have drivers of their own, so that they never hold up the
        other work.
    n_bytes
        Estimate of what making it will write.
    disk
        A folder on the disk that it will write to; it need not be there yet.
    """

    path: str
    kind: Kind
    place: Place
    n_bytes: int
    disk: Path


@dataclass
class _Retry:
    """When a failed place is tried again; ``until`` None: when a person says so."""

    record: Flag
    until: float | None


class Goals:
    """The goals of a project.

    Parameters
    ----------
    clock
        Seconds of a clock that is never set.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By place, kind of goal and, beside the computation, the goal: what runs beside each other
        # fails by itself.
        self._retries: dict[tuple[Place, Kind, str], _Retry] = {}
        # Mosaics and slices that have everything; they are looked at again after a withdrawal.
        self._finished: set[Place] = set()
        self._withdrawals = Withdrawals(project_layout(config))
        self._told: dict[Place, str] = {}
        self.waiting: tuple[WaitingGoal, ...] = ()
        self.use(config)

    def use(self, config: Config) -> None:
        """Take a new configuration; what failed because of the old one is tried at once."""
        self._config = config
        self._layout = project_layout(config)
        self._finished.clear()
        for retry in self._retries.values():
            if retry.record.extra.get("kind") == "config":
                retry.until = self._clock()

    def look(self) -> list[Goal]:
        """Everything that can be asked for now; `waiting` then says what is held back, and why."""
        if self._withdrawals.happened():
            self._finished.clear()
        goals, waiting = [], []
        for goal in self._startable():
            held = self._held_back(goal)
            if held is None:
                goals.append(goal)
            else:
                waiting.append(held)
        self.waiting = tuple(waiting)
        return goals

    def _startable(self) -> Iterator[Goal]:
        plan = Plan(self._config, self._layout)
        mosaics = self._layout.mosaics()
        for mosaic in mosaics:
            place = Place("mosaic", plan.slice(mosaic), mosaic)
            yield from self._of(place, plan.startable, plan.is_finished, mosaic)
        for slice_ in sorted({plan.slice(mosaic) for mosaic in mosaics}):
            place = Place("slice", slice_)
            yield from self._of(place, plan.startable_slice, plan.is_slice_finished, slice_)

    def _of(
        self,
        place: Place,
        startable: Callable[[int], list[Target]],
        is_finished: Callable[[int], bool],
        number: int,
    ) -> Iterator[Goal]:
        if place in self._finished:
            return
        try:
            targets = startable(number)
            if is_finished(number):
                self._finished.add(place)
        except OpticStreamError as error:
            # A damaged flag stops its own place only.
            if self._told.get(place) != str(error):
                log.error("%s", error)
            self._told[place] = str(error)
            return
        self._told.pop(place, None)
        for target in targets:
            if target.goal in self._config.run.goals:
                yield self._goal(target)

    def _goal(self, target: Target) -> Goal:
        place, path, root = target.place, target.path, self._layout.root
        if target.goal == "qc":
            return Goal(path, "qc", place, 0, root)
        if target.goal == "archive":
            label = Plan(self._config, self._layout).acquisition(place.mosaic or 1)
            n_bytes = estimate.batch_archive_bytes(self._config, label)
            return Goal(path, "archive", place, n_bytes, self._config.archive.dir or root)
        if target.goal == "volume":
            modality = naming.modality_of_state(Path(path).suffix.removeprefix("."))
            label = Plan(self._config, self._layout).acquisition(place.mosaic or 1)
            n_bytes = estimate.volume_bytes(self._config, label) if modality else 0
            # A focus plane is soon fitted, and volumes wait for it.
            return Goal(path, "volume" if modality else "compute", place, n_bytes, root)
        return Goal(path, "compute", place, self._n_bytes(place), root)

    def _n_bytes(self, place: Place) -> int:
        if place.level == "slice":
            return estimate.slice_product_bytes(self._config)
        acquisition = Plan(self._config, self._layout).acquisition(place.mosaic or 1)
        if place.level == "mosaic":
            return estimate.mosaic_product_bytes(self._config, acquisition)
        return estimate.batch_product_bytes(self._config, acquisition)

    # --------------------------------------------------------------------------------- failures
    def _held_back(self, goal: Goal) -> WaitingGoal | None:
        key = goal.place, goal.kind, goal.path if is_beside(Path(goal.path).name) else ""
        record = self._failure(goal.place, goal.path)
        if record is None:
            self._retries.pop(key, None)
            return None
        about_qc = str(record.extra.get("flag", "")).endswith(".qc")
        if about_qc != (goal.kind == "qc"):
            return None
        retry = self._retries.get(key)
        if retry is None or retry.record.finished != record.finished:
            retry = self._retries[key] = _Retry(record, self._next_try(record))
            self._announce(goal, retry)
        if retry.until is not None and retry.until <= self._clock():
            return None
        attempts, kind = record.extra.get("attempts", 1), record.extra.get("kind")
        what = f"{record.stage} failed {attempts} times ({kind})"
        if retry.until is None:
            what += "; set aside until `optic-trigger retry`"
        return WaitingGoal(goal=goal.path, reason=what, until=retry.until)

    def failure_id(self, place: Place, path: str) -> str | None:
        """What tells one failure of a place from the next; None when none is on record.

        Parameters
        ----------
        path
            Goal that it stands in the way of.
        """
        record = self._failure(place, path)
        return None if record is None else f"{record.stage} {record.finished.isoformat()}"

    def _failure(self, place: Place, path: str) -> Flag | None:
        try:
            record = read_flag(flag_path(self._layout, place, "failed"))
            return failure_about(record, Path(path).name)
        except CorruptInputError as error:
            log.warning("%s", error)
            return None

    def _next_try(self, record: Flag) -> float | None:
        """Reading of the clock; the time of day, which may be set, only ever shortens the wait."""
        kind, attempts = str(record.extra.get("kind")), int(record.extra.get("attempts", 1))
        wait_s = self._config.run.retry.rule(kind).wait_s(attempts)
        if wait_s is None:
            return None
        planned = record.extra.get("next_try")
        if isinstance(planned, str):
            left_s = (datetime.fromisoformat(planned) - now()).total_seconds()
            wait_s = min(wait_s, max(0.0, left_s))
        return self._clock() + wait_s

    def _announce(self, goal: Goal, retry: _Retry) -> None:
        error = str(retry.record.extra.get("error", "")).splitlines() or [""]
        then = (
            "set aside: mend it, then `optic-trigger retry`"
            if retry.until is None
            else f"next try in {retry.until - self._clock():.0f} s"
        )
        log.error("%s failed in %s: %s (%s)", goal.place, retry.record.stage, error[0], then)
