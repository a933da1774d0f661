"""Why a batch, a mosaic or a slice is (not) moving, step by step from raw to registered."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.report.failures import Failure, stale_failure
from opticstream_smk.report.look import Look
from opticstream_smk.report.progress import WatcherReport, plain, short_note, watcher_report
from opticstream_smk.report.stage_logs import STAGE_OF_FLAG
from opticstream_smk.report.text import NEVER, settling, watcher_lines
from opticstream_smk.report.times import duration, local_time
from opticstream_smk.state.flags import Flag
from opticstream_smk.state.job_files import stage_log
from opticstream_smk.state.places import (
    Place,
    flag_path,
    focus_place,
    slice_place,
    tilemap_place,
)
from opticstream_smk.trigger.discover import Discovery, discover

# Batches of a mosaic that are told one by one before "and more".
_TOLD_BATCHES = 8


@dataclass(frozen=True)
class Step:
    """One step on the way from raw to registered.

    Attributes
    ----------
    state
        ``done``, ``running``, ``failed``, ``waiting`` or ``pending`` (waits for an earlier step).
    details
        More lines.
    """

    name: str
    state: str
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Where something is on its way, and what it needs."""

    where: str
    about: str
    at: datetime
    watcher: WatcherReport
    steps: tuple[Step, ...]
    next: str

    def as_json(self) -> dict[str, Any]:
        """The explanation for programs; times are ISO 8601."""
        return plain(asdict(self))  # type: ignore[no-any-return]


def explain(
    config: Config,
    *,
    slice_: int | None = None,
    mosaic: int | None = None,
    batch: int | None = None,
    at: datetime | None = None,
    clock_s: float | None = None,
) -> Explanation:
    """Explain a slice, a mosaic, or a batch of a mosaic.

    Parameters
    ----------
    at, clock_s
        Time of day (UTC), and reading of the host's monotonic clock; now when not given.

    Raises
    ------
    ConfigError
        The ids name nothing in this project's grid.
    """
    if config.project.pipeline == "lsm":
        raise ConfigError(
            f"{config.project.name} is a light-sheet project: `optic-trigger status` tells of its "
            "strips; explain knows slices, mosaics and batches"
        )
    look = Look(config, at=at, clock_s=clock_s)
    place = _place(look, slice_, mosaic, batch)
    teller = _Teller(look)
    teller.check_known(place)
    return Explanation(
        where=str(place),
        about=_about(look, place),
        at=look.at,
        watcher=watcher_report(look),
        steps=tuple(teller.steps(place)),
        next=teller.next(place),
    )


def _place(look: Look, slice_: int | None, mosaic: int | None, batch: int | None) -> Place:
    if mosaic is None:
        if batch is not None:
            raise ConfigError("--batch needs --mosaic: all mosaics have the same batch numbers")
        if slice_ is None:
            raise ConfigError("name what to explain: --mosaic M, with --batch B, or --slice S")
        return slice_place(slice_)
    place = look.mosaic(mosaic)
    if slice_ is not None and slice_ != place.slice:
        raise ConfigError(f"mosaic {mosaic} is of slice {place.slice}, not {slice_}; leave --slice")
    if batch is None:
        return place
    columns = len(look.plan.batches(mosaic))
    if not 1 <= batch <= columns:
        raise ConfigError(
            f"batch {batch}: {place} ({look.plan.acquisition(mosaic)}) has batches 1 to {columns} "
            f"({_grid(look, mosaic)}); name one of them"
        )
    return look.batch(mosaic, batch)


def _grid(look: Look, mosaic: int) -> str:
    scan, label = look.config.acquisition, look.plan.acquisition(mosaic)
    return f"its grid is {scan.columns(label)} x {scan.rows(label)} tiles"


def _about(look: Look, place: Place) -> str:
    if place.level == "slice":
        return f"mosaics {', '.join(map(str, look.plan.mosaics(place.slice or 1)))}"
    mosaic = place.mosaic or 1
    about = f"slice {place.slice}, {look.plan.acquisition(mosaic)}"
    if place.level == "mosaic":
        return f"{about}, {_grid(look, mosaic)}"
    images = look.images(place)
    return f"{about}, tiles {images[0]} to {images[-1]}"


class _Teller:
    """Tells the steps of places of one look."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.snapshot = look.watching.snapshot

    @cached_property
    def found(self) -> Discovery:
        """The source folders as they are now."""
        return discover(self.look.config)

    # ----------------------------------------------------------------------------- what exists
    def check_known(self, place: Place) -> None:
        """Refuse a mosaic or slice of which nothing is there, unless it may be acquired next."""
        look = self.look
        known = set(look.slices())
        if place.slice in known:
            return
        tracked = self.snapshot.tracked if self.snapshot else ()
        if any(track.where.startswith(f"mosaic {place.mosaic or 0:03d} ") for track in tracked):
            return
        known |= {look.plan.slice(raw.mosaic) for raw in self.found.batches}
        newest = max(known, default=0)
        if place.slice in known or (place.slice or 0) <= newest + 1:
            return
        scan = look.config.acquisition
        grids = ", ".join(f"{n} {scan.columns(n)} x {scan.rows(n)}" for n in scan.labels)
        there = f"slices up to {newest}" if newest else "nothing yet"
        raise ConfigError(
            f"{place} is unknown: the project has {there}, {scan.mosaics_per_slice} mosaics each "
            f"(grids of tiles: {grids}), and no raw file of it is in {self._folders()}. Correct "
            "the number."
        )

    def _folders(self) -> str:
        return ", ".join(str(source.dir) for source in self.look.config.acquisition.sources)

    # ----------------------------------------------------------------------------------- steps
    def steps(self, place: Place) -> Iterator[Step]:
        """Every step of a place."""
        if place.level == "batch":
            yield self._raw(place)
            yield self._ready(place)
            for state in self.look.stage_flags(place):
                yield self._stage(place, state)
            yield from self._after_batches(place.mosaic or 1)
        elif place.level == "mosaic":
            yield self._raw_of_mosaic(place.mosaic or 1)
            yield self._batches(place.mosaic or 1)
            yield from self._after_batches(place.mosaic or 1)
        else:
            for mosaic in self.look.plan.mosaics(place.slice or 1):
                yield self._mosaic(mosaic)
            yield from self._registered(place.slice or 1)

    def _after_batches(self, mosaic: int) -> Iterator[Step]:
        place = self.look.mosaic(mosaic)
        label = self.look.plan.acquisition(mosaic)
        yield self._template(label)
        if self.look.plan.uses_coordinates(mosaic):
            yield self._coordinates(mosaic)
        step = self._stage(place, "stitched")
        if step.state == "pending":
            step = Step(step.name, "pending", f"{place} waits for {self._lacks(mosaic)}")
        yield step
        yield from self._volumes(place)
        yield from self._registered(place.slice or 1)

    def _volumes(self, place: Place) -> Iterator[Step]:
        """Focus plane and volumes of a mosaic, where any are stitched."""
        look = self.look
        label = look.plan.acquisition(place.mosaic or 1)
        if look.config.fits_focus:
            yield self._focus(label)
        for state in look.plan.volume_flags:
            what = naming.modality_of_state(state) or "all"
            step = self._stage(place, state)
            if step.state == "pending":
                lacking = [
                    f"{flag_path(look.layout, *flag).name}"
                    for flag in look.plan.inputs(place, state)
                    if not look.listing.has(*flag)
                ]
                waits = " and ".join(lacking) or "a snakemake run"
                step = Step(step.name, "pending", f"waits for {waits}")
            yield replace(step, name=f"{step.name} {what}")

    def _focus(self, label: str) -> Step:
        look = self.look
        place, template = focus_place(label), look.plan.template_mosaic(label)
        step = self._stage(place, "fitted")
        if step.state != "pending" or template is None:
            return step
        name = flag_path(look.layout, place, "fitted").name
        failure = look.failure(look.mosaic(template), name)
        if failure is not None:
            return self._failed(step.name, failure)
        solved = look.listing.has(tilemap_place(label), "solved")
        waits = "a snakemake run" if solved else "the coordinates of its tiles"
        return Step(step.name, "pending", f"fitted on mosaic {template:03d}, waits for {waits}")

    def _registered(self, slice_: int) -> Iterator[Step]:
        place = slice_place(slice_)
        for state in self.look.stage_flags(place):
            step = self._stage(place, state)
            if step.state == "pending":
                lacking = [
                    f"{m:03d}"
                    for m in self.look.plan.mosaics(slice_)
                    if not self.look.listing.has(self.look.mosaic(m), "stitched")
                ]
                waits = f"mosaic {' and '.join(lacking)}" if lacking else "a snakemake run"
                step = Step(step.name, "pending", f"{place} waits for {waits}")
            yield step

    def _mosaic(self, mosaic: int) -> Step:
        place = self.look.mosaic(mosaic)
        name = f"{place} {self.look.plan.acquisition(mosaic)}"
        step = self._stage(place, "stitched")
        if step.state == "pending":
            return Step(name, "pending", f"waits for {self._lacks(mosaic)}")
        return Step(name, step.state, step.text, step.details)

    def _template(self, label: str) -> Step:
        place = tilemap_place(label)
        step = self._stage(place, "solved")
        step = replace(step, name=f"{step.name} {label}")
        if step.state != "pending":
            return step
        templates = self.look.plan.template_mosaics(label)
        if not templates:
            return Step(step.name, "pending", f"the {label} mosaic of the first slice gives them")
        failure = self.look.failure(self.look.mosaic(max(templates)))
        if failure is not None and failure.flag.startswith("tilemap"):
            return self._failed(step.name, failure)
        waits = [
            f"mosaic {m:03d}, which waits for {self._lacks(m, template=False)}" for m in templates
        ]
        return Step(step.name, "pending", f"solved from {'; '.join(waits)}")

    def _coordinates(self, mosaic: int) -> Step:
        """Where the tiles of a mosaic lie: as its template says, or how else."""
        place = self.look.mosaic(mosaic)
        step = self._stage(place, "coordinates")
        flag = self._flag(place, "coordinates")
        if step.state == "pending" and not step.text:
            return replace(step, text=f"{place} waits for {self._lacks(mosaic)}")
        told = str(flag.extra.get("positions", "")) if flag is not None else ""
        return replace(step, text=f"{step.text}: {told}") if told else step

    def _lacks(self, mosaic: int, *, template: bool = True) -> str:
        """What stands between a mosaic and its stitching."""
        places = self._wanted(mosaic)
        lacking = [p.batch or 0 for p in places if not self.look.listing.has(p, "processed")]
        if lacking:
            done = len(places) - len(lacking)
            return (
                f"batch {_listed(lacking)}: {done} of {len(places)} batches processed"
                if len(lacking) < len(places)
                else f"its batches: 0 of {len(places)} processed"
            )
        label = self.look.plan.acquisition(mosaic)
        if template and not self.look.listing.has(tilemap_place(label), "solved"):
            return f"the coordinates of the {label} template"
        return "a snakemake run"

    def _wanted(self, mosaic: int) -> list[Place]:
        return [p for p in self.look.batches(mosaic) if not self.look.is_absent(p)]

    # ------------------------------------------------------------------------------------- raw
    def _raw(self, place: Place) -> Step:
        look = self.look
        if look.listing.has(place, "stale"):
            stale = stale_failure(look.layout, place)
            return Step("raw", "failed", stale.error)
        ready = self._flag(place, "ready")
        if look.listing.has(place, "ready"):
            lacking = list(ready.tiles.missing) if ready else []
            total = len(look.images(place))
            without = f", taken without {_listed(lacking)}" if lacking else ""
            return Step("raw", "done", f"{total - len(lacking)} of {total} tiles{without}")
        if look.is_absent(place):
            return Step("raw", "done", "none of its tiles will come: the mosaic was closed so")
        problem = look.failure(place)
        problems = problem.error.splitlines() if problem and problem.about_raw else []
        if self.snapshot is not None:
            text = self._watched(place)
            if problems:
                return Step("raw", "failed", text or problems[0], tuple(problems))
            return Step("raw", "waiting", text or f"no tile of it is seen in {self._folders()}")
        text, problems = self._fresh(place)
        where = look.watching.worker
        if where is None:
            text += "; no watcher is running"
        else:
            text += f"; the watcher runs elsewhere ({where})"
        return Step("raw", "failed" if problems else "waiting", text, tuple(problems))

    def _watched(self, place: Place) -> str:
        """What the watcher says about a batch that it has not taken."""
        track = self.look.watching.tracked(place)
        if track is None:
            return ""
        note = short_note(track.where, track.note) or "all tiles are there"
        since = track.unchanged_since
        quiet = settling(None if since is None else self.look.clock_s - since, track.quiet_s)
        return f"{note}; {quiet}"

    def _fresh(self, place: Place) -> tuple[str, list[str]]:
        """What a look into the source folders says, and what is wrong there."""
        problems = list(self.found.problems.values())
        raw = next(
            (
                raw
                for raw in self.found.batches
                if (raw.mosaic, raw.batch) == (place.mosaic, place.batch)
            ),
            None,
        )
        if raw is None or not raw.files:
            return f"no tile of it is in {self._folders()}", problems
        newest_s = max(file.mtime_ns for file in raw.files) / 1e9
        age = duration(self.look.at.timestamp() - newest_s)
        total = len(self.look.images(place))
        text = f"{len(raw.images)} of {total} tiles"
        if raw.missing:
            text += f", missing {', '.join(map(str, raw.missing))}"
        return f"{text}; the newest was written {age} ago", list(raw.problems)

    def _ready(self, place: Place) -> Step:
        ready = self._flag(place, "ready")
        if ready is not None:
            by = "by hand (close)" if ready.stage == "close" else f"by {ready.stage}"
            return Step("ready", "done", f"since {local_time(ready.finished)}, {by}")
        if self.look.listing.has(place, "ready"):
            return Step("ready", "failed", "its queue entry cannot be read; optic-trigger scan")
        return Step("ready", "pending", "when all tiles are there, right in size and at rest")

    def _raw_of_mosaic(self, mosaic: int) -> Step:
        places = self._wanted(mosaic)
        lacking = [p for p in places if not self.look.listing.has(p, "ready")]
        changed = [p for p in places if self.look.listing.has(p, "stale")]
        accepted = sorted(self.look.plan.closed_without(mosaic))
        text = f"{len(places) - len(lacking)} of {len(places)} batches ready"
        if accepted:
            text += f"; closed without tiles {_listed(accepted)}"
        details = [f"batch {p.batch}: {self._raw(p).text}" for p in [*changed, *lacking]]
        state = "failed" if changed else "waiting" if lacking else "done"
        return Step("raw", state, text, _shortened(details))

    def _batches(self, mosaic: int) -> Step:
        places = self._wanted(mosaic)
        lacking = [p for p in places if not self.look.listing.has(p, "processed")]
        states, details = set(), []
        for place in lacking:
            steps = [self._stage(place, state) for state in self.look.stage_flags(place)]
            step = next((s for s in steps if s.state in ("failed", "running", "waiting")), None)
            if step is not None:
                states.add(step.state)
                details.append(f"batch {place.batch}: {step.name} {step.text}")
        order = ("failed", "running", "waiting")
        state = next((s for s in order if s in states), "pending" if lacking else "done")
        text = f"{len(places) - len(lacking)} of {len(places)} batches processed"
        return Step("process_tiles", state, text, _shortened(details))

    # ---------------------------------------------------------------------------------- stages
    def _stage(self, place: Place, state: str) -> Step:
        """One flag: made, being made, failed, asked for, or waiting for an earlier step."""
        look = self.look
        name = STAGE_OF_FLAG[place.level, state]
        if look.listing.has(place, state):
            return self._done(name, place, state)
        worker = look.worker(place, state)
        path = flag_path(look.layout, place, state)
        if worker is not None:
            since = (
                f" for {duration((look.at - worker.since).total_seconds())}"
                if (worker.since)
                else ""
            )
            log = stage_log(look.layout, name, place, state)
            told = (f"log: {log}",) if log.is_file() else ()
            return Step(name, "running", f"running{since} ({worker}){self._attempt(place)}", told)
        shared = place.level in ("tilemap", "focus")
        failure = None if shared else look.failure(place, path.name)
        if failure is not None:
            return self._failed(name, failure)
        return self._asked_for(name, look.layout.relative(path))

    def _done(self, name: str, place: Place, state: str) -> Step:
        try:
            flag = self.look.flag(place, state)
        except CorruptInputError as error:
            return Step(name, "failed", str(error))
        if flag is None:
            return Step(name, "pending", "withdrawn a moment ago")
        if flag.extra.get("marked_by_hand"):
            return Step(name, "done", f"{local_time(flag.finished)}, marked by hand")
        took = f"{flag.duration_s:.1f} s on {flag.host}"
        return Step(name, "done", f"{local_time(flag.finished)} in {took}")

    def _failed(self, name: str, failure: Failure) -> Step:
        watched = self.look.watching.is_running
        text = (
            f"failed ({failure.kind}), {failure.told_attempt()}, "
            f"{failure.told_next(self.look.at, watched=watched)}"
        )
        log = (f"log: {failure.log}",) if failure.log else ()
        return Step(name, "failed", text, (*failure.error.splitlines(), *log))

    def _asked_for(self, name: str, goal: str) -> Step:
        if self.snapshot is None:
            return Step(name, "pending", "")
        for driver in self.snapshot.drivers:
            if goal in driver.goals:
                ago = duration(self.look.clock_s - driver.since)
                return Step(name, "waiting", f"asked for by snakemake run {driver.id}, {ago} ago")
        for waiting in self.snapshot.waiting:
            if waiting.goal == goal:
                until = waiting.until
                when = f"; retry in {duration(until - self.look.clock_s)}" if until else ""
                return Step(name, "waiting", f"{waiting.reason}{when}")
        if goal in self.snapshot.queued:
            return Step(name, "waiting", "queued: starts when a snakemake run is free")
        return Step(name, "pending", "")

    def _attempt(self, place: Place) -> str:
        started = self._flag(place, "started")
        attempt = started.extra.get("attempt") if started else None
        return f", attempt {attempt}" if isinstance(attempt, int) and attempt > 1 else ""

    def _flag(self, place: Place, state: str) -> Flag | None:
        try:
            return self.look.flag(place, state)
        except CorruptInputError:
            return None  # doctor's matter

    # ------------------------------------------------------------------------------------ next
    def next(self, place: Place) -> str:
        """The one command to type, or that there is none."""
        for scope in self._scopes(place):
            needed = self._needed(scope)
            if needed:
                return needed
        return "nothing to do: it is done"

    def _scopes(self, place: Place) -> Iterator[list[Place]]:
        """What must be done, from the place on: its batches, its mosaic, its slice."""
        if place.level == "batch":
            yield [place]
        mosaics = self.look.plan.mosaics(place.slice or 1)
        if place.mosaic is not None:
            yield self._mosaic_scope(place.mosaic)
        yield [p for mosaic in mosaics for p in self._mosaic_scope(mosaic)]
        yield [slice_place(place.slice or 1)]

    def _mosaic_scope(self, mosaic: int) -> list[Place]:
        """A mosaic with its batches, and those that coordinates and focus plane come from."""
        label = self.look.plan.acquisition(mosaic)
        own = [*self._wanted(mosaic), self.look.mosaic(mosaic)]
        listing = self.look.listing
        focused = not self.look.config.fits_focus or listing.has(focus_place(label), "fitted")
        if listing.has(tilemap_place(label), "solved") and focused:
            return own
        others = [m for m in self.look.plan.template_mosaics(label) if m != mosaic]
        return [p for m in others for p in (*self._wanted(m), self.look.mosaic(m))] + own

    def _needed(self, scope: list[Place]) -> str:
        """What these places need; empty when all are done."""
        look, watching = self.look, self.look.watching
        failures = [f for place in scope for f in look.failures_at(place)]
        failures += [stale_failure(look.layout, p) for p in scope if look.listing.has(p, "stale")]
        stuck = [f for f in failures if f.is_set_aside or not watching.is_running]
        if stuck:
            return stuck[0].remedy
        unfinished = [
            p for p in scope if any(not look.listing.has(p, s) for s in look.stage_flags(p))
        ]
        if not unfinished:
            return ""
        closing = next((c for p in unfinished if (c := self._closing(p))), "")
        if closing:
            return closing
        if watching.is_running and watching.pause is not None:
            return f"optic-trigger resume   (paused {watching.pause})"
        if not watching.is_running:
            queued = any(look.listing.has(p, "ready") for p in unfinished if p.level == "batch")
            can_go = queued or all(p.level != "batch" for p in unfinished)
            return "snakemake --profile zircon" if can_go else "optic-trigger watch"
        if self.snapshot is not None and self.snapshot.holds:
            return f"nothing to type: it goes on when this is gone: {self.snapshot.holds[0]}"
        return "nothing to do: it moves by itself"

    def _closing(self, place: Place) -> str:
        """How to go on without tiles that have not come for long."""
        track = self.look.watching.tracked(place)
        command = self.look.watching.close_command(track, self.look.clock_s) if track else ""
        return f"{command}   ({NEVER})" if command else ""


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:_TOLD_BATCHES]))
    more = len(numbers) - _TOLD_BATCHES
    return f"{shown} and {more} more" if more > 0 else shown


def _shortened(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= _TOLD_BATCHES:
        return tuple(lines)
    return (*lines[:_TOLD_BATCHES], f"and {len(lines) - _TOLD_BATCHES} more")


def explain_lines(explanation: Explanation) -> Iterator[str]:
    """The explanation as text."""
    yield f"{explanation.where}  ({explanation.about})"
    width = max(len(step.name) for step in explanation.steps)
    for step in explanation.steps:
        text = "not yet" if step.state == "pending" and not step.text else step.text
        yield f"  {step.name:<{width}}  {step.state:<8} {text}"
        yield from (f"  {'':<{width}}           {line}" for line in step.details)
    yield from watcher_lines(explanation.watcher, explanation.at)
    yield f"next: {explanation.next}"
