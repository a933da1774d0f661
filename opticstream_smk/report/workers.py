"""Who holds a lock: the process that is at work."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from opticstream_smk.state import locks
from opticstream_smk.state.host import boot_id, host_name


@dataclass(frozen=True)
class Worker:
    """A process that holds a lock.

    Attributes
    ----------
    since
        When it was started; None when that cannot be seen from this host.
    """

    host: str
    pid: int | None
    slurm_job: str = ""
    since: datetime | None = None

    def __str__(self) -> str:
        job = f", SLURM job {self.slurm_job}" if self.slurm_job else ""
        who = f"process {self.pid}" if self.pid is not None else "a process"
        return f"{who} on {self.host}{job}"


def worker_at(lock: Path) -> Worker | None:
    """The living process that holds a lock; None when none does."""
    if not locks.is_held(lock):
        return None
    try:
        content = json.loads(lock.read_bytes())
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        # A lock that could not be written (disk full), or is being taken: flock tells it is ours.
        return Worker(host_name(), None)
    pid = content.get("pid")
    here = (content.get("host"), content.get("boot_id")) == (host_name(), boot_id())
    return Worker(
        str(content.get("host")),
        pid if isinstance(pid, int) else None,
        str(content.get("slurm_job", "")),
        _started(pid) if here and isinstance(pid, int) else None,
    )


def _started(pid: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC)
    except psutil.Error:
        return None
