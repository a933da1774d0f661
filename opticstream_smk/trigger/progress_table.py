"""The live table of a watcher on a terminal. Nothing else imports rich."""

import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.trigger.counts import Bar, Counts, Total
from opticstream_smk.trigger.event_tail import EventTail
from opticstream_smk.trigger.progress import describe, is_bookkeeping, where
from opticstream_smk.trigger.snapshot import Snapshot

# The table has to fit above the last lines of a terminal of 24.
_MOST_BARS = 5
_MOST_JOBS = 8
_MOST_NOTES = 3
_MOST_MESSAGES = 4
_BAR_WIDTH = 28
_TICK_S = 1.0

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red"}


def can_draw(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    console = Console(file=stream)
    return console.is_terminal and not console.is_dumb_terminal


@dataclass(frozen=True)
class _Job:
    """A row of what runs; ``since`` is a reading of the monotonic clock."""

    what: str
    where: str
    since: float


@dataclass(frozen=True)
class _Line:
    """A message with its time of day."""

    clock: str
    level: int
    text: str


@dataclass(frozen=True)
class _View:
    """Everything that the table shows, but for the time that jobs have taken."""

    totals: tuple[Total, ...]
    bars: tuple[Bar, ...]
    jobs: tuple[_Job, ...]
    n_drivers: int
    n_queued: int
    n_settling: int
    notes: tuple[str, ...]
    messages: tuple[_Line, ...]


class TableProgress:
    """A table that is drawn again when something in it has changed.

    While jobs run, their times are brought up to date once a second at most, by calls of
    `update`: there is no thread, and an idle watcher draws nothing. Log records appear above the
    table.

    Parameters
    ----------
    console
        Instead of one on ``stream``.
    """

    def __init__(
        self,
        layout: ProjectLayout,
        stream: TextIO | None = None,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tail = EventTail(layout)
        self._clock = clock
        self._console = console or Console(file=stream or sys.stderr)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            # What goes to a file or a pipe stays there.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._routing = _Routing(self._console)
        self._jobs: dict[tuple[object, object], _Job] = {}
        self._messages: deque[_Line] = deque(maxlen=_MOST_MESSAGES)
        self._drawn: _View | None = None
        self._drawn_at = 0.0

    @property
    def refresh_s(self) -> float | None:
        """A second while jobs run, for the times that they have taken."""
        return _TICK_S if self._drawn is not None and self._drawn.jobs else None

    def update(self, snapshot: Snapshot, counts: Counts) -> None:
        """Draw the table if it shows something else than before."""
        for event in self._tail.poll():
            self._take(event)
        view = self._view(snapshot, counts)
        now = self._clock()
        if view == self._drawn and not (view.jobs and now - self._drawn_at >= _TICK_S):
            return
        # A terminal that was closed must not end the watcher, which goes on unseen.
        with contextlib.suppress(OSError):
            if self._drawn is None:
                self._routing.begin()
                self._live.start()
            self._live.update(_draw(view, now), refresh=True)
        self._drawn, self._drawn_at = view, now

    def close(self) -> None:
        """Leave the last table where it is and give the terminal back."""
        with contextlib.suppress(OSError):
            self._live.stop()
        self._routing.end()
        self._tail.close()

    def _take(self, event: Mapping[str, Any]) -> None:
        job = (str(event.get("driver")), str(event.get("jobid")))
        if event["event"].endswith(".job.started"):
            if not is_bookkeeping(event):
                self._jobs[job] = _Job(str(event.get("rule")), where(event), self._clock())
        elif event["event"].endswith((".job.finished", ".job.failed")):
            self._jobs.pop(job, None)
        message = describe(event)
        if message is not None:
            self._messages.append(_Line(_time_of_day(event), message.level, message.text))

    def _view(self, snapshot: Snapshot, counts: Counts) -> _View:
        living = {driver.id for driver in snapshot.drivers}
        # Runs of others, and those that were killed, do not say how their jobs end.
        self._jobs = {key: job for key, job in self._jobs.items() if key[0] in living}
        at_work = {driver for driver, _ in self._jobs}
        silent = [
            _Job("snakemake", f"{len(driver.goals)} goals", driver.since)
            for driver in snapshot.drivers
            if driver.id not in at_work
        ]
        notes = [
            *snapshot.holds,
            *(tracked.note for tracked in snapshot.tracked if tracked.note),
            *(f"{waiting.goal}: {waiting.reason}" for waiting in snapshot.waiting),
        ]
        return _View(
            totals=counts.totals,
            bars=counts.bars,
            jobs=(*self._jobs.values(), *silent),
            n_drivers=len(snapshot.drivers),
            n_queued=len(snapshot.queued),
            n_settling=sum(not tracked.note for tracked in snapshot.tracked),
            notes=tuple(notes),
            messages=tuple(self._messages),
        )


class _Routing:
    """Sends what logging writes to the terminal through the console, above the table."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._replaced: list[logging.Handler] = []
        self._own: RichHandler | None = None

    def begin(self) -> None:
        root = logging.getLogger()
        streams = (sys.__stderr__, sys.stderr, self._console.file)
        self._replaced = [
            handler
            for handler in root.handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream in streams
        ]
        self._own = RichHandler(
            console=self._console,
            show_path=False,
            omit_repeated_times=False,
            log_time_format="%Y-%m-%d %H:%M:%S",
            highlighter=NullHighlighter(),
        )
        self._own.setFormatter(logging.Formatter("%(message)s"))
        for handler in self._replaced:
            root.removeHandler(handler)
        root.addHandler(self._own)

    def end(self) -> None:
        root = logging.getLogger()
        if self._own is not None:
            root.removeHandler(self._own)
            self._own.close()
            self._own = None
        for handler in self._replaced:
            root.addHandler(handler)
        self._replaced = []


# ---------------------------------------------------------------------------------------- drawing
def _draw(view: _View, now: float) -> RenderableType:
    parts: list[RenderableType] = [Rule(style="dim"), _bars(view)]
    if view.jobs:
        parts.append(_jobs(view, now))
    parts.append(_queue(view))
    parts += _shortened([Text(note, "yellow") for note in view.notes], _MOST_NOTES)
    for line in view.messages:
        parts.append(
            Text.assemble((line.clock, "dim"), "  ", (line.text, _STYLES.get(line.level, "")))
        )
    return Group(*parts)


def _bars(view: _View) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(width=_BAR_WIDTH)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for total in view.totals:
        grid.add_row(
            Text(total.what, style="bold"),
            _bar(total.done, total.total),
            f"{total.done} of {total.total}",
        )
    for bar in view.bars[-_MOST_BARS:]:
        grid.add_row(
            bar.where,
            _bar(bar.done, bar.total),
            f"{bar.done} of {bar.total} {bar.what}, {bar.ready} ready",
        )
    if len(view.bars) > _MOST_BARS:
        grid.add_row(Text(f"and {len(view.bars) - _MOST_BARS} before", style="dim"), "", "")
    return grid


def _bar(done: int, total: int) -> ProgressBar:
    # Red, rich's colour for what is under way, is that of errors here.
    return ProgressBar(
        max(total, 1), done, _BAR_WIDTH, complete_style="cyan", finished_style="green"
    )


def _jobs(view: _View, now: float) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    for job in view.jobs[:_MOST_JOBS]:
        grid.add_row(job.what, job.where, _elapsed(now - job.since))
    if len(view.jobs) > _MOST_JOBS:
        grid.add_row(Text(f"and {len(view.jobs) - _MOST_JOBS} more", style="dim"), "", "")
    return grid


def _queue(view: _View) -> Text:
    return Text(
        f"{view.n_queued} goals queued, {view.n_drivers} snakemake runs, "
        f"{view.n_settling} settling",
        style="bold",
    )


def _shortened(lines: list[Text], most: int) -> list[Text]:
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], Text(f"and {len(lines) - most + 1} more that wait", style="dim")]


def _elapsed(seconds: float) -> str:
    minutes, left = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def _time_of_day(event: Mapping[str, Any]) -> str:
    try:
        return f"{datetime.fromisoformat(str(event.get('time'))).astimezone():%H:%M:%S}"
    except ValueError:
        return "--:--:--"
