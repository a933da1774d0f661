"""What a running watcher shows: a live table on a terminal, one line per change elsewhere."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.trigger.counts import Counts, Total
from opticstream_smk.trigger.event_tail import EventTail
from opticstream_smk.trigger.snapshot import Snapshot

log = logging.getLogger(__name__)


class Progress(Protocol):
    """What the loop of the watcher tells of each round."""

    @property
    def refresh_s(self) -> float | None:
        """Seconds after which it wants to be updated although nothing has happened."""

    def update(self, snapshot: Snapshot, counts: Counts) -> None:
        """Show what has changed since the last call; nothing, when nothing has."""

    def close(self) -> None:
        """Show no more; the terminal and logging are as they were."""


def open_progress(layout: ProjectLayout, stream: TextIO | None = None) -> Progress:
    """Progress for where the messages go.

    Parameters
    ----------
    stream
        Standard error when not given. On a terminal that can move its cursor there is a table.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        from opticstream_smk.trigger.progress_table import TableProgress, can_draw

        if can_draw(stream):
            return TableProgress(layout, stream)
    return PlainProgress(layout)


class PlainProgress:
    """One line of the log per change."""

    refresh_s: float | None = None

    def __init__(self, layout: ProjectLayout) -> None:
        self._tail = EventTail(layout)
        self._told: tuple[Total, ...] = ()

    def update(self, snapshot: Snapshot, counts: Counts) -> None:  # noqa: ARG002
        """Log what has happened; what waits, and why, the watcher logs itself."""
        for event in self._tail.poll():
            message = describe(event)
            if message is not None:
                log.log(message.level, "%s", message.text)
        if counts.totals != self._told:
            self._told = counts.totals
            if any(total.total for total in counts.totals):
                log.info("%s", counts)

    def close(self) -> None:
        """Let go of the event log."""
        self._tail.close()


@dataclass(frozen=True)
class Message:
    """An event for people; ``level`` as logging has it."""

    level: int
    text: str


# Flags of these levels are told by the jobs that make them, but for the first one.
_MANY = ("batch", "strip")
_RECORDS = ("started", "failed", "stale")


def describe(event: Mapping[str, Any]) -> Message | None:
    """An event in one line; None for those that say nothing new.

    Records of failures are left out: the watcher reads them, and says when it tries again.
    """
    level, _, state = event["event"].rpartition(".")
    level = level.rpartition(".")[2]
    if level == "driver":
        return _describe_driver(event, state)
    if level == "job":
        return _describe_job(event, state)
    if state in _RECORDS or (level in _MANY and state != "ready"):
        return None
    return Message(logging.INFO, f"{where(event)} {state.replace('_', ' ')}{_tiles(event, state)}")


def where(event: Mapping[str, Any]) -> str:
    """The place of an event as people call it; empty when it has none."""
    slice_, mosaic, batch = (_number(event, f"{key}_id") for key in ("slice", "mosaic", "batch"))
    channel, strip = (_number(event, f"{key}_id") for key in ("channel", "strip"))
    if mosaic is not None:
        return f"mosaic {mosaic:03d}" + (f" batch {batch:03d}" if batch is not None else "")
    if slice_ is not None:
        light_sheet = f" channel {channel:02d}" if channel is not None else ""
        return f"slice {slice_:02d}{light_sheet}" + (f" strip {strip:04d}" if strip else "")
    acquisition = event.get("acquisition") or event.get("acq")
    return f"{acquisition} tilemap" if acquisition else ""


def is_bookkeeping(event: Mapping[str, Any]) -> bool:
    """Whether a job makes nothing: snakemake's own targets have no place."""
    return not where(event)


def _describe_driver(event: Mapping[str, Any], state: str) -> Message | None:
    run = f"snakemake run {event.get('driver')}"
    if state == "started":
        jobs = _mapping(event, "jobs")
        listed = ", ".join(f"{count} {rule}" for rule, count in jobs.items() if rule != "all")
        return Message(logging.INFO, f"{run} started: {listed}")
    if state == "failed":
        return Message(logging.ERROR, f"{run} could not begin: {_first_lines(event.get('error'))}")
    if state == "finished" and not event.get("failed_jobs"):
        progress = _mapping(event, "progress")
        if progress.get("done") != progress.get("total"):
            return Message(logging.WARNING, f"{run} ended early, {_jobs(event)} done")
    return None


def _describe_job(event: Mapping[str, Any], state: str) -> Message | None:
    what = f"{where(event)}: {event.get('rule')}"
    seconds = event.get("duration_s")
    time = f"{seconds:.1f} s" if isinstance(seconds, int | float) else "some time"
    if state == "finished" and not is_bookkeeping(event):
        return Message(logging.INFO, f"{what} done in {time}, {_jobs(event)} of its run")
    if state == "failed":
        log_file = event.get("log")
        folder = Path(str(event.get("project_base_path", "")))
        see = f", see {folder / log_file}" if isinstance(log_file, str) else ""
        return Message(logging.WARNING, f"{what} failed after {time}{see}")
    return None


def _tiles(event: Mapping[str, Any], state: str) -> str:
    tiles = _mapping(event, "tiles")
    done, missing = (tiles.get(key) for key in ("done", "missing"))
    if not isinstance(done, list) or not isinstance(missing, list):
        return ""
    if state != "ready" or not (done or missing):
        return ""
    lacking = f", missing {', '.join(map(str, missing))}" if missing else ""
    return f": {len(done)} tiles{lacking}"


def _jobs(event: Mapping[str, Any]) -> str:
    progress = _mapping(event, "progress")
    return f"{progress.get('done')} of {progress.get('total')} jobs"


def _mapping(event: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = event.get(key)
    return value if isinstance(value, Mapping) else {}


def _first_lines(text: object) -> str:
    lines = [line for line in str(text or "").splitlines() if line.strip()]
    return " ".join(lines[:2])


def _number(event: Mapping[str, Any], key: str) -> int | None:
    value = event.get(key)
    return value if isinstance(value, int) else None
