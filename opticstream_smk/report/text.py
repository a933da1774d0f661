"""Reports as lines of text."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from opticstream_smk.report.failures import Failure
from opticstream_smk.report.progress import (
    Acquiring,
    MosaicProgress,
    ProjectReport,
    WatcherReport,
)
from opticstream_smk.report.times import duration, local_time, parse_time

_SIGNS = {
    "done": "#",
    "running": ">",
    "failed": "!",
    "ready": ".",
    "acquiring": "+",
    "absent": "-",
    "pending": " ",
}
# Lines of an error, and jobs at work, that are printed before "and more".
_ERROR_LINES = 4
_RUNNING_LINES = 16
# When to go on without tiles.
NEVER = "only if these tiles will never come"


def status_lines(report: ProjectReport) -> Iterator[str]:
    """The report of ``status``."""
    yield f"{report.project}  {report.dir}"
    yield from watcher_lines(report.watcher, report.at)
    if not report.slices and not report.channels:
        yield "  nothing is ready yet"
    for channel in report.channels:
        yield (
            f"  {channel.where}  {channel.strips_ready} of {channel.strips_total} strips ready, "
            f"{channel.strips_done} compressed"
        )
    for slice_ in report.slices:
        yield f"  slice {slice_.slice:02d}  {slice_.status}  {slice_.percent} % of all tiles"
        for mosaic in slice_.mosaics:
            yield f"    {_mosaic_line(mosaic)}"
    if report.slices:
        yield (
            "  # processed   > running   ! failed   . ready   + being acquired   - accepted as "
            "missing   (blank) not acquired yet"
        )
        templates = ", ".join(f"{label} {status}" for label, status in report.templates.items())
        yield f"  coordinates  {templates}"
        if report.focus:
            planes = ", ".join(f"{label} {status}" for label, status in report.focus.items())
            yield f"  focus planes {planes}"
    for number, job in enumerate(report.running):
        if number == _RUNNING_LINES:
            yield f"RUNNING  and {len(report.running) - number} more"
            break
        since = f" for {duration((report.at - job.since).total_seconds())}" if job.since else ""
        slurm = f", SLURM job {job.slurm_job}" if job.slurm_job else ""
        yield f"RUNNING  {job.where}: {job.stage}{since} (process {job.pid} on {job.host}{slurm})"
    for batch in report.watcher.acquiring:
        yield from _acquiring_lines(batch)
    for held in report.held_back():
        when = "" if held.in_s is None else f"; next try in {duration(held.in_s)}"
        yield f"HELD     {held.goal}: {held.reason}{when}"
    for message in report.waiting:
        yield f"WAITING  {message}"
    for message in report.warnings:
        yield f"WARNING  {message}"
    for failure in report.failures:
        yield from failure_lines(failure, report)
    yield f"next: {report.next}"


def _acquiring_lines(batch: Acquiring) -> Iterator[str]:
    note = f"{batch.note}; " if batch.note else ""
    if batch.command and batch.unchanged_s is not None:
        yield f"LATE     {batch.where}: {note}nothing has come for {duration(batch.unchanged_s)}"
        yield f"         type: {batch.command}   ({NEVER})"
    else:
        yield f"ACQUIRING {batch.where}: {note}{settling(batch.unchanged_s, batch.quiet_s)}"


def settling(unchanged_s: float | None, quiet_s: float) -> str:
    """How long something has been at rest."""
    if unchanged_s is None:
        return f"still changing (must rest for {quiet_s:g} s)"
    return f"stable for {unchanged_s:.0f} s of {quiet_s:g}"


def watcher_lines(watcher: WatcherReport, at: datetime) -> Iterator[str]:
    """The watcher, pause and holds."""
    yield f"watcher  {_watcher_text(watcher, at)}"
    if watcher.paused is not None:
        yield f"PAUSED   {watcher.paused_text}; nothing is started: optic-trigger resume"
    for hold in watcher.holds:
        if not (watcher.paused is not None and hold.startswith("paused")):
            yield f"HOLD     {hold}"


def _watcher_text(watcher: WatcherReport, at: datetime) -> str:
    if not watcher.running:
        return "not running; optic-trigger watch starts it"
    since = parse_time(watcher.since)
    long = ""
    if since is not None:
        long = f", since {local_time(since)} ({duration((at - since).total_seconds())})"
    elsewhere = "" if watcher.known else "; what it sees is known on that host only"
    who = f"process {watcher.pid} on {watcher.host}" if watcher.pid is not None else watcher.host
    return f"running: {who}{long}{elsewhere}"


def _mosaic_line(mosaic: MosaicProgress) -> str:
    bar = "".join(_SIGNS[status] for status in mosaic.batches.values())
    lacking = ""
    if mosaic.missing_tiles:
        how = "closed" if mosaic.is_closed else "taken"
        tiles = ", ".join(map(str, mosaic.missing_tiles))
        lacking = f", {how} without {len(mosaic.missing_tiles)} tiles ({tiles})"
    safe = "yes" if mosaic.raw.safe_to_delete else "no"
    return (
        f"mosaic {mosaic.mosaic:03d} {mosaic.acquisition:<8} {mosaic.status:<8} [{bar}] "
        f"{mosaic.batches_done} of {mosaic.batches_total} batches processed "
        f"({mosaic.percent} % of {mosaic.tiles_total} tiles){lacking}{_volumes(mosaic.volumes)}; "
        f"safe to delete raw: {safe} ({mosaic.raw.reason})"
    )


def _volumes(statuses: Mapping[str, str]) -> str:
    """Volumes with their status, those of one status together; nothing before any has begun."""
    if all(status == "pending" for status in statuses.values()):
        return ""
    if all(status == "done" for status in statuses.values()):
        return "; volumes done"
    told = ", ".join(f"{modality} {status}" for modality, status in statuses.items())
    return f"; volumes {told}"


def failure_lines(failure: Failure, report: ProjectReport) -> Iterator[str]:
    """One failure: what, when it goes on, the error, the log, the command."""
    goes_on = failure.told_next(report.at, watched=report.watcher.running)
    yield (
        f"FAILED   {failure.where} in {failure.stage} ({failure.kind}), {failure.told_attempt()}, "
        f"{goes_on}"
    )
    lines = failure.error.splitlines()
    yield from (f"         {line}" for line in lines[:_ERROR_LINES])
    if len(lines) > _ERROR_LINES:
        yield f"         ... ({len(lines) - _ERROR_LINES} more lines)"
    if failure.log:
        yield f"         log:  {failure.log}"
    yield f"         type: {failure.remedy}"
