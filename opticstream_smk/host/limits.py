"""What all jobs on this host may use together, by the configuration or as much as there is."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opticstream_smk.config.run import RunSection, parse_cores

Kind = Literal["tile", "stitch", "volume", "register", "upload"]

# The rest is for the system, the page cache and, on its host, the acquisition.
USED_SHARE_OF_MEMORY = 0.85


@dataclass(frozen=True)
class HostLimits:
    """What the jobs of all projects use together at most.

    Attributes
    ----------
    jobs
        Jobs of each kind at a time; None: as cores and memory allow.
    """

    cores: int
    memory_mb: int
    jobs: dict[Kind, int | None]


def under_slurm() -> bool:
    """Whether this is a job of SLURM, which has given it cores and memory of its own."""
    return bool(os.environ.get("SLURM_JOB_ID"))


def host_limits(run: RunSection) -> HostLimits:
    """Limits of this host for a project."""
    return HostLimits(
        cores=run.cores or _usable_cores(run.cpu_affinity),
        memory_mb=run.memory_mb or int(host_memory_mb() * USED_SHARE_OF_MEMORY),
        jobs={
            "tile": run.max_tile_jobs,
            "stitch": run.max_stitch_jobs,
            "volume": run.max_volume_jobs,
            "register": run.max_register_jobs,
            "upload": run.max_upload_jobs,
        },
    )


def _usable_cores(affinity: str | None) -> int:
    cores = os.sched_getaffinity(0)
    if affinity is not None:
        cores &= parse_cores(affinity)
    return max(len(cores), 1)


def host_memory_mb(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int:
    """Memory of this host, or less where a control group (container, SLURM, systemd) limits it.

    Parameters
    ----------
    groups, mounted
        The control groups of this process, and where their files are.
    """
    import psutil

    total: int = psutil.virtual_memory().total
    return min([total, *_group_limits(groups, mounted)]) // 2**20


def _group_limits(groups: Path, mounted: Path) -> list[int]:
    """Memory limits in bytes of the groups of this process and of those around them."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        # `0::/path` is the group of version 2, `4:memory:/path` one of version 1.
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.lstrip("/")
        # Inside a container the path may be that of the host, and only the root is there.
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            found += _read_limit(group / name)
    return found


def _read_limit(path: Path) -> list[int]:
    try:
        return [int(path.read_text())]
    except (OSError, ValueError):  # not there, or `max`
        return []
