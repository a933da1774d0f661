"""Who is writing: host, boot and process."""

import getpass
import os
import platform
from functools import cache
from pathlib import Path

from opticstream_smk import __version__


@cache
def host_name() -> str:
    """Short name of this host."""
    return platform.node().split(".")[0] or "localhost"


@cache
def boot_id() -> str:
    """Identity of this boot: a process id of an earlier boot means nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def operator() -> str:
    """Who types commands: ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{host_name()}"


def identity() -> dict[str, str | int]:
    """What locks and records say about their writer."""
    return {
        "host": host_name(),
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
        "version": __version__,
    }
