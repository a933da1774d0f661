"""How far a project is: slices, mosaics, batches, failures, warnings, what to type next."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.plan import makes_archive, makes_complex
from opticstream_smk.report.failures import Failure
from opticstream_smk.report.light_sheet import (
    ChannelProgress,
    channel_progress,
    strip_failures,
)
from opticstream_smk.report.look import Look
from opticstream_smk.report.stage_logs import STAGE_OF_FLAG
from opticstream_smk.state.places import parse_flag_path, slice_place, tilemap_place
from opticstream_smk.trigger.snapshot import Tracked

WATCH = "optic-trigger watch"


@dataclass(frozen=True)
class RawStatus:
    """Whether the raw files of a mosaic may be deleted."""

    safe_to_delete: bool
    reason: str


@dataclass(frozen=True)
class MosaicProgress:
    """One mosaic; denominators are those of the configured grid.

    Attributes
    ----------
    status
        Of the stitched mosaic.
    batches
        Status of every batch of the grid: ``done``, ``running``, ``failed``, ``ready``,
        ``acquiring``, ``absent`` (accepted as missing) or ``pending``.
    percent
        Share of the grid's tiles that are processed, rounded down.
    missing_tiles
        Tiles that the mosaic is made without.
    is_closed
        Whether a person accepted the grid as it is.
    volumes
        Status of the stitched volume of each modality: ``done``, ``running``, ``failed`` or
        ``pending``; empty where none are stitched.
    """

    mosaic: int
    acquisition: str
    status: str
    batches: Mapping[int, str]
    batches_done: int
    batches_total: int
    tiles_done: int
    tiles_total: int
    percent: int
    missing_tiles: tuple[int, ...]
    is_closed: bool
    raw: RawStatus
    volumes: Mapping[str, str]


@dataclass(frozen=True)
class SliceProgress:
    """One slice with all its mosaics, those that have not begun too."""

    slice: int
    status: str
    tiles_done: int
    tiles_total: int
    percent: int
    mosaics: tuple[MosaicProgress, ...]


@dataclass(frozen=True)
class Running:
    """A flag that is being made. ``since``: when the process started, if that can be seen."""

    where: str
    stage: str
    host: str
    pid: int | None
    slurm_job: str
    since: datetime | None


@dataclass(frozen=True)
class Acquiring:
    """A batch that the watcher sees and has not taken.

    Attributes
    ----------
    unchanged_s
        For how long nothing has changed; None while it changes.
    command
        How to go on without tiles that have not come for long; empty before that.
    """

    where: str
    note: str
    unchanged_s: float | None
    quiet_s: float
    command: str = ""


@dataclass(frozen=True)
class WaitingFor:
    """A goal that the watcher holds back. ``in_s`` None: until a person says so."""

    goal: str
    reason: str
    in_s: float | None


@dataclass(frozen=True)
class DriverReport:
    """One snakemake run of the watcher."""

    id: str
    pid: int | None
    goals: tuple[str, ...]
    for_s: float
    adopted: bool


@dataclass(frozen=True)
class WatcherReport:
    """The watcher.

    Attributes
    ----------
    known
        Whether it could be asked; a watcher on another host cannot.
    paused
        Who paused the project, since when and why; None when it is not paused.
    holds
        Why nothing is started at all.
    """

    running: bool
    known: bool
    host: str | None
    pid: int | None
    since: str | None
    paused: dict[str, str | None] | None
    paused_text: str
    holds: tuple[str, ...]
    acquiring: tuple[Acquiring, ...]
    queued: tuple[str, ...]
    waiting: tuple[WaitingFor, ...]
    drivers: tuple[DriverReport, ...]


@dataclass(frozen=True)
class ProjectReport:
    """Everything that ``status`` tells.

    Attributes
    ----------
    focus
        Status of the focus plane of each acquisition; empty where none are fitted.
    channels
        Those of a light-sheet project.
    """

    project: str
    dir: str
    at: datetime
    watcher: WatcherReport
    slices: tuple[SliceProgress, ...]
    templates: Mapping[str, str]
    running: tuple[Running, ...]
    waiting: tuple[str, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    next: str
    channels: tuple[ChannelProgress, ...] = ()
    focus: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The report for programs; times are ISO 8601."""
        return plain(asdict(self))  # type: ignore[no-any-return]

    def held_back(self) -> list[WaitingFor]:
        """Goals that the watcher holds back for another reason than a failure that is listed."""
        failed = {_key(f.slice, f.mosaic, f.batch) for f in self.failures}
        return [w for w in self.watcher.waiting if _key_of_goal(w.goal) not in failed]


def _key(slice_: int | None, mosaic: int | None, batch: int | None) -> tuple[int | None, ...]:
    """What tells a place from others; the slice of a mosaic is not needed for it."""
    return (slice_,) if mosaic is None else (mosaic, batch)


def _key_of_goal(goal: str) -> tuple[int | None, ...] | None:
    """Key of the place that a flag is of; None for pictures."""
    parsed = parse_flag_path(Path(goal))
    return _key(parsed[0].slice, parsed[0].mosaic, parsed[0].batch) if parsed else None


def project_report(look: Look) -> ProjectReport:
    """Report on a whole project."""
    if look.config.project.pipeline == "lsm":
        return _light_sheet_report(look)
    slices = tuple(_slice(look, slice_) for slice_ in look.slices())
    failures = tuple(look.failures())
    waiting = tuple(look.plan.waiting())
    return ProjectReport(
        project=look.config.project.name,
        dir=str(look.layout.root),
        at=look.at,
        watcher=watcher_report(look),
        slices=slices,
        templates={
            label: look.status(tilemap_place(label)) for label in look.config.acquisition.labels
        },
        running=tuple(_running(look)),
        waiting=waiting,
        failures=failures,
        warnings=tuple(look.warnings()),
        next=_next(look, slices, failures),
        focus={label: look.focus_status(label) for label in look.config.acquisition.labels}
        if look.config.fits_focus
        else {},
    )


def _light_sheet_report(look: Look) -> ProjectReport:
    failures = tuple(strip_failures(look.layout))
    watched = look.watching.is_running
    if watched and look.watching.pause is not None:
        needed = "optic-trigger resume"
    elif failures:
        needed = "mend the folders that the failures name" + ("" if watched else f", then: {WATCH}")
    else:
        needed = "nothing to type: the watcher is at work" if watched else WATCH
    return ProjectReport(
        project=look.config.project.name,
        dir=str(look.layout.root),
        at=look.at,
        watcher=watcher_report(look),
        slices=(),
        templates={},
        running=(),
        waiting=(),
        failures=failures,
        warnings=(),
        next=needed,
        channels=channel_progress(look.config),
    )


# --------------------------------------------------------------------------------------- parts
def _slice(look: Look, slice_: int) -> SliceProgress:
    mosaics = tuple(mosaic_progress(look, mosaic) for mosaic in look.plan.mosaics(slice_))
    done = sum(mosaic.tiles_done for mosaic in mosaics)
    total = sum(mosaic.tiles_total for mosaic in mosaics)
    status = look.status(slice_place(slice_))
    if not look.config.registration.enabled and all(m.status == "done" for m in mosaics):
        status = "done"
    return SliceProgress(slice_, status, done, total, 100 * done // total, mosaics)


def mosaic_progress(look: Look, mosaic: int) -> MosaicProgress:
    """Report on a mosaic."""
    places = look.batches(mosaic)
    statuses = {place.batch or 0: look.status(place) for place in places}
    tiles_done = 0
    missing = set(look.plan.closed_without(mosaic))
    for place in places:
        if look.listing.has(place, "ready"):
            # What came after all is no longer missing.
            lacking = look.missing_tiles(place)
            missing = missing.difference(look.images(place)).union(lacking)
            if statuses[place.batch or 0] == "done":
                tiles_done += len(look.images(place)) - len(lacking)
    total = len(look.plan.images(mosaic))
    return MosaicProgress(
        mosaic=mosaic,
        acquisition=look.plan.acquisition(mosaic),
        status=look.status(look.mosaic(mosaic)),
        batches=statuses,
        batches_done=sum(status == "done" for status in statuses.values()),
        batches_total=len(places),
        tiles_done=tiles_done,
        tiles_total=total,
        percent=100 * tiles_done // total,
        missing_tiles=tuple(sorted(missing)),
        is_closed=look.listing.has(look.mosaic(mosaic), "closed"),
        raw=_raw_status(look, mosaic, statuses),
        volumes={
            modality: look.flag_status(look.mosaic(mosaic), naming.volume_state(modality))
            for modality in look.config.volume_modalities
        },
    )


def _raw_status(look: Look, mosaic: int, statuses: Mapping[int, str]) -> RawStatus:
    """Only what is archived as a whole, processed, unchanged and not linked to may go."""
    if not makes_archive(look.config):
        return RawStatus(False, "keep raw: no archive")
    wanted = [look.batch(mosaic, b) for b, status in statuses.items() if status != "absent"]
    archived = sum(look.listing.has(place, "archived") for place in wanted)
    processed = sum(look.listing.has(place, "processed") for place in wanted)
    changed = [place for place in wanted if look.listing.has(place, "stale")]
    if archived < len(wanted):
        return RawStatus(False, f"keep raw: {archived} of {len(wanted)} batches archived")
    if processed < len(wanted):
        return RawStatus(False, f"keep raw: {processed} of {len(wanted)} batches processed")
    if changed:
        return RawStatus(False, f"keep raw: files of {changed[0]} have changed since")
    linked = _linked_folder(look.config)
    if linked:
        return RawStatus(False, f"keep raw: {linked} holds links to it")
    if look.archive_problem:
        return RawStatus(False, "keep raw: the archive is not there now")
    scan = look.config.acquisition
    spectra_only = scan.complex_is_input and scan.saves_spectra and not look.config.archive.complex
    what = "archived (spectra, not complex tiles)" if spectra_only else "archived"
    return RawStatus(True, f"all {len(wanted)} batches {what} and processed")


def _linked_folder(config: Config) -> str:
    """Folder of a mosaic that holds links to raw files instead of products; empty without one."""
    if config.acquisition.maps_are_input:
        return "processed/"
    return "complex/" if config.acquisition.complex_is_input and makes_complex(config) else ""


def _running(look: Look) -> list[Running]:
    return [
        Running(
            str(place),
            STAGE_OF_FLAG.get((place.level, state), state),
            worker.host,
            worker.pid,
            worker.slurm_job,
            worker.since,
        )
        for place, state, worker in look.running()
    ]


def watcher_report(look: Look) -> WatcherReport:
    """Report on the watcher."""
    watching = look.watching
    worker, snapshot, pause = watching.worker, watching.snapshot, watching.pause
    clock_s = look.clock_s
    return WatcherReport(
        running=worker is not None,
        known=snapshot is not None,
        host=worker.host if worker else None,
        pid=worker.pid if worker else None,
        since=snapshot.started if snapshot else None,
        paused=None
        if pause is None
        else {
            "since": pause.since.isoformat() if pause.since else None,
            "by": pause.by,
            "reason": pause.reason,
            "problem": pause.problem,
        },
        paused_text=str(pause) if pause else "",
        holds=snapshot.holds if snapshot else (),
        acquiring=tuple(_acquiring(look, t) for t in (snapshot.tracked if snapshot else ())),
        queued=snapshot.queued if snapshot else (),
        waiting=tuple(
            WaitingFor(w.goal, w.reason, None if w.until is None else max(0.0, w.until - clock_s))
            for w in (snapshot.waiting if snapshot else ())
        ),
        drivers=tuple(
            DriverReport(d.id, d.pid, d.goals, clock_s - d.since, d.adopted)
            for d in (snapshot.drivers if snapshot else ())
        ),
    )


def _acquiring(look: Look, track: Tracked) -> Acquiring:
    since = track.unchanged_since
    return Acquiring(
        track.where,
        short_note(track.where, track.note),
        None if since is None else look.clock_s - since,
        track.quiet_s,
        look.watching.close_command(track, look.clock_s),
    )


def short_note(where: str, note: str) -> str:
    """A note of the watcher without the place that it starts with."""
    return note.removeprefix(f"{where}: ")


# ----------------------------------------------------------------------------------------- next
def _next(look: Look, slices: tuple[SliceProgress, ...], failures: tuple[Failure, ...]) -> str:
    watching = look.watching
    stuck = [f for f in failures if f.is_set_aside or not watching.is_running]
    unfinished = any(not look.listing.has(*wanted) for wanted in look.plan.flags())
    if watching.is_running and watching.pause is not None:
        return "optic-trigger resume"
    if stuck:
        return _next_of_failures(stuck, watched=watching.is_running)
    if watching.is_running:
        holds = watching.snapshot.holds if watching.snapshot else ()
        if holds:
            return "nothing to type: work goes on when the hold above is gone"
        return "nothing to type: the watcher is at work"
    if unfinished:
        return "snakemake --profile zircon"
    if not slices:
        return "optic-trigger scan"
    if all(slice_.status == "done" for slice_ in slices):
        return "nothing to do"
    return f"{WATCH}   (takes what is acquired next)"


def _next_of_failures(failures: list[Failure], *, watched: bool) -> str:
    commands = list(dict.fromkeys(failure.command for failure in failures))
    if len(commands) == 1 and (watched or not commands[0].startswith("optic-trigger retry")):
        return failures[0].remedy
    if not watched:
        return "mend what the failures name, then: snakemake --profile zircon"
    if any(command.startswith("optic-trigger retry") for command in commands):
        return "mend what the failures name, then: optic-trigger retry --all"
    return "type what the failures above say"


def plain(value: Any) -> Any:
    """A value for JSON: times as ISO 8601."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
