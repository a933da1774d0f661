"""Where and how willingly the processes of this project run: cores and niceness."""

import logging
import os
from pathlib import Path

from opticstream_smk.config.run import RunSection, parse_cores
from opticstream_smk.errors import ConfigError
from opticstream_smk.host.limits import under_slurm

log = logging.getLogger(__name__)


def settle_process(run: RunSection) -> None:
    """Confine this process to ``run.cpu_affinity`` and give it ``run.nice``.

    Both are inherited by the threads and processes that it starts later, so this comes before
    the numerical libraries are imported, which start theirs. Niceness never goes down: a process
    that was started nicer stays so. Under SLURM, which gives each job cores of its own, the cores
    of the configuration are those of another host and are left alone.

    Raises
    ------
    ConfigError
        A core that this host does not have, or none of them may be used.
    """
    if run.cpu_affinity is not None and not under_slurm():
        _confine(run.cpu_affinity)
    current = os.getpriority(os.PRIO_PROCESS, 0)
    if run.nice > current:
        os.setpriority(os.PRIO_PROCESS, 0, run.nice)


def _confine(affinity: str) -> None:
    wanted = parse_cores(affinity)
    present = present_cores()
    missing = sorted(wanted - present)
    if missing:
        raise ConfigError(
            f"run.cpu_affinity {affinity}: this host has no core "
            f"{', '.join(map(str, missing))}; it has {len(present)}, numbered "
            f"{min(present)} to {max(present)}. Correct it in the configuration."
        )
    allowed = os.sched_getaffinity(0)
    if not wanted & allowed:
        raise ConfigError(
            f"run.cpu_affinity {affinity}: this process may only use the cores "
            f"{', '.join(map(str, sorted(allowed)))} (taskset, container or service). Choose among "
            "them, or start it without that restriction."
        )
    os.sched_setaffinity(0, wanted & allowed)
    log.debug("confined to the cores %s", affinity)


def present_cores() -> frozenset[int]:
    """Cores of this host, whoever may use them."""
    try:
        return parse_cores(Path("/sys/devices/system/cpu/present").read_text())
    except (OSError, ValueError):
        return frozenset(range(os.cpu_count() or 1))
