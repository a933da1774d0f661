"""What a running watcher knows that no flag says, for ``status`` and ``explain``.

The watcher replaces the file whenever it changes. Times are readings of the host's monotonic clock,
which all processes of one boot share; they mean nothing on another host or after a reboot.
"""

import contextlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import locks
from opticstream_smk.state.host import boot_id, host_name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Tracked(_Part):
    """A batch or strip that is seen and not ready.

    Attributes
    ----------
    where
        As people call it: ``mosaic 003 batch 007``.
    unchanged_since
        Clock reading; None while it changes.
    quiet_s
        How long it must stay unchanged.
    note
        What it waits for or what is wrong; empty when it only has to settle.
    """

    where: str
    unchanged_since: float | None
    quiet_s: float
    note: str = ""


class RunningDriver(_Part):
    """One snakemake run of the watcher. ``adopted``: started by an earlier watcher."""

    id: str
    pid: int | None
    goals: tuple[str, ...]
    since: float
    adopted: bool = False


class WaitingGoal(_Part):
    """A goal (a flag's path, relative to the project) that is not asked for now, and why."""

    goal: str
    reason: str
    until: float | None = None


class Snapshot(_Part):
    """State of a watcher in memory.

    Attributes
    ----------
    holds
        Why no driver is started at all: paused, disk space, stale locks.
    """

    host: str
    boot_id: str
    pid: int
    started: str
    tracked: tuple[Tracked, ...] = ()
    queued: tuple[str, ...] = ()
    waiting: tuple[WaitingGoal, ...] = ()
    drivers: tuple[RunningDriver, ...] = ()
    holds: tuple[str, ...] = ()


def snapshot_path(layout: ProjectLayout) -> Path:
    """File of the snapshot."""
    return layout.control / "watcher.json"


def write_snapshot(layout: ProjectLayout, snapshot: Snapshot) -> None:
    """Replace the snapshot. It is not synced and may fail: nothing depends on it."""
    path = snapshot_path(layout)
    temporary = path.with_name(f".tmp-{path.name}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(snapshot.model_dump_json(indent=1) + "\n")
        temporary.replace(path)


def read_snapshot(layout: ProjectLayout) -> Snapshot | None:
    """What the watcher of a project knows now; None when none runs, or on another host."""
    if not locks.is_held(layout.watcher_lock):
        return None
    try:
        snapshot = Snapshot.model_validate_json(snapshot_path(layout).read_bytes())
    except (OSError, ValidationError):
        return None
    here = (host_name(), boot_id())
    return snapshot if (snapshot.host, snapshot.boot_id) == here else None


def new_snapshot(started: str) -> Snapshot:
    """Snapshot of this process, to be completed by ``model_copy``."""
    return Snapshot(host=host_name(), boot_id=boot_id(), pid=os.getpid(), started=started)
