"""``snakemake --logger optic``: jobs as lines of the project's event log, as they happen.

Snakemake finds the package by its name. It is imported at every start of snakemake, asked for or
not, and imports nothing that snakemake has not imported already; what writes the log is imported
with the first event.

The events are ``job.started``, ``job.finished`` and ``job.failed``, between ``driver.started`` and
``driver.finished`` of the run; ``driver.failed`` is a watcher's run that ends before it begins. A
run that has nothing to do, and a dry run, leave none.

Environment
-----------
OPTIC_PROJECT_DIR
    Project folder; else the current folder, which is the workflow's ``workdir``.
OPTIC_PROJECT_NAME
    Name of the project; else that of its folder.
OPTIC_DRIVER
    Id of the run, as its watcher knows it; else ``snakemake-`` and the process id.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

_ID_WILDCARDS = ("slice", "mosaic", "batch", "channel", "strip")
# Enough to name the mistake; the whole of it is in the log of the run.
_LONGEST_ERROR = 2000


@dataclass(frozen=True)
class _Job:
    """What is known of a job that runs; snakemake tells it only at its start."""

    ids: dict[str, int | None]
    payload: dict[str, Any]
    since: float


@dataclass
class _Run:
    """The run so far, and where its events go."""

    total: int
    folder: Path
    project: str
    driver: str
    since: float
    done: int = 0
    n_failed: int = 0
    error: str = ""
    jobs: dict[int, _Job] = field(default_factory=dict)

    @property
    def progress(self) -> dict[str, int]:
        return {"done": self.done, "total": self.total}


class LogHandler(LogHandlerBase):
    """Appends what happens to jobs to ``state/events/<host>.jsonl``.

    Nothing raises: a log that cannot be written is told once, on standard error, and the run goes
    on. Snakemake calls it in one thread, in the order of what happened.
    """

    def __post_init__(self) -> None:
        """Prepare for a run; called by snakemake's base class."""
        self._run: _Run | None = None
        self._broken = False
        self._handlers: Mapping[str, Callable[[LogRecord], None]] = {
            LogEvent.RUN_INFO: self._run_started,
            LogEvent.JOB_INFO: self._job_started,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.JOB_ERROR: self._job_failed,
            LogEvent.PROGRESS: self._progressed,
            LogEvent.ERROR: self._went_wrong,
        }

    # ------------------------------------------------------------------- asked for by snakemake
    @property
    def writes_to_stream(self) -> bool:
        """No: snakemake's own messages stay as they are."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """No: snakemake would list the file as a log of this run."""
        return False

    @property
    def has_filter(self) -> bool:
        """Yes, none: ``--quiet`` is about what people see."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Yes: lines of JSON."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """No."""
        return False

    def emit(self, record: LogRecord) -> None:
        """Take one message of snakemake's."""
        handler = self._handlers.get(getattr(record, "event", None) or "")
        if handler is not None and not self.common_settings.dryrun:
            self._guard(lambda: handler(record))

    def close(self) -> None:
        """End of the run: snakemake closes its handlers last."""
        if self._run is not None:
            self._guard(self._run_finished)
            self._run = None
        super().close()

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  # the log must never stop the work
            if not self._broken:
                self._broken = True
                sys.stderr.write(
                    f"--logger optic: {error} (events of this run are missing; the work goes on)\n"
                )

    # ----------------------------------------------------------------------------------- events
    def _run_started(self, record: LogRecord) -> None:
        if self._run is not None:
            return  # snakemake repeats its statistics at the end
        stats = dict(_of(record, "stats") or {})
        self._run = _new_run(int(stats.pop("total", 0)))
        payload = {"jobs": stats, "progress": self._run.progress}
        self._append(self._run, "driver", "started", payload)

    def _job_started(self, record: LogRecord) -> None:
        if self._run is None:
            return
        wildcards = dict(_of(record, "wildcards") or {})
        job = _Job(
            ids={name: _number(wildcards.get(name)) for name in _ID_WILDCARDS},
            payload={
                "rule": _of(record, "rule_name"),
                "jobid": _of(record, "jobid"),
                "log": next(iter(_of(record, "log") or ()), None),
                **{key: wildcards[key] for key in ("acquisition", "modality") if key in wildcards},
            },
            since=time.monotonic(),
        )
        self._run.jobs[_of(record, "jobid")] = job
        payload = {**job.payload, "threads": _of(record, "threads")}
        self._append(self._run, "job", "started", payload, job)

    def _job_finished(self, record: LogRecord) -> None:
        if self._run is not None:
            self._run.done += 1
            self._job_ended(_of(record, "job_id"), "finished")

    def _job_failed(self, record: LogRecord) -> None:
        if self._run is not None:
            self._run.n_failed += 1
            self._job_ended(_of(record, "jobid"), "failed")

    def _job_ended(self, jobid: int, state: str) -> None:
        assert self._run is not None
        job = self._run.jobs.pop(jobid, None)
        if job is None:
            return  # told twice, as of a group
        payload = {
            **job.payload,
            "duration_s": round(time.monotonic() - job.since, 3),
            "progress": self._run.progress,
        }
        self._append(self._run, "job", state, payload, job)

    def _progressed(self, record: LogRecord) -> None:
        if self._run is not None:
            self._run.done, self._run.total = _of(record, "done"), _of(record, "total")

    def _went_wrong(self, record: LogRecord) -> None:
        error = record.getMessage()[:_LONGEST_ERROR]
        if self._run is not None:
            self._run.error = self._run.error or error
        elif "OPTIC_PROJECT_DIR" in os.environ:
            # A person reads it anyway; and the current folder may not be the project's yet.
            self._append(_new_run(0), "driver", "failed", {"error": error})

    def _run_finished(self) -> None:
        assert self._run is not None
        run = self._run
        payload = {
            "progress": run.progress,
            "failed_jobs": run.n_failed,
            "duration_s": round(time.monotonic() - run.since, 3),
            **({"error": run.error} if run.error else {}),
        }
        self._append(run, "driver", "finished", payload)

    def _append(
        self,
        run: _Run,
        level: str,
        state: str,
        payload: dict[str, Any],
        job: _Job | None = None,
    ) -> None:
        # Here and not above: it takes a tenth of a second, and most starts of snakemake need none.
        from opticstream_smk.layout import ProjectLayout
        from opticstream_smk.state.events import append_event

        append_event(
            ProjectLayout(run.folder),
            level,
            state,
            project=run.project,
            ids=job.ids if job else {},
            payload={**payload, "driver": run.driver, "pid": os.getpid()},
        )


def _new_run(total: int) -> _Run:
    """A run of so many jobs, of the project that the environment names."""
    folder = Path(os.environ.get("OPTIC_PROJECT_DIR") or Path.cwd())
    return _Run(
        total=total,
        folder=folder,
        project=os.environ.get("OPTIC_PROJECT_NAME") or folder.name,
        driver=os.environ.get("OPTIC_DRIVER") or f"snakemake-{os.getpid()}",
        since=time.monotonic(),
    )


def _of(record: LogRecord, name: str) -> Any:
    """What snakemake adds to a message; None when this version does not."""
    return getattr(record, name, None)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
