"""The process of a driver: one snakemake run, in a session of its own.

It is forked from a server that has snakemake imported already, which takes a start from one second
of CPU to a fifth. It outlives the watcher: a new watcher finds its record and its lock.
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opticstream_smk.io.atomic import write_json
from opticstream_smk.state import locks

# What the server imports before it forks.
PRELOAD = [
    "snakemake.cli",
    "snakemake_logger_plugin_optic",
    "opticstream_smk.state.events",
    "opticstream_smk.trigger.drive",
    "opticstream_smk.workflow",
]


@dataclass(frozen=True)
class Order:
    """What a driver is to do.

    Attributes
    ----------
    argv
        Command line of snakemake, without the program's name.
    record, lock
        Files of the driver: what it was asked for and how it ended; held as long as it lives.
    log
        Where its output goes.
    environment
        Variables that snakemake and the stages get.
    """

    argv: tuple[str, ...]
    folder: Path
    record: Path
    lock: Path
    log: Path
    environment: dict[str, str]


def drive(order: Order) -> None:
    """Run snakemake and end the process; the record then holds its exit code."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _redirect(order.log)
    os.environ.update(order.environment)
    os.chdir(order.folder)
    with locks.hold(order.lock):
        record = read_record(order.record)
        if record is None:
            os._exit(0)  # a new watcher has taken this driver for dead and given its goals away
        code = _snakemake(order.argv)
        write_json(order.record, {**record, "code": code, "cpu_s": time.process_time()})
        sys.stdout.flush()
        sys.stderr.flush()
        # Interpreter shutdown would wait a second for one of snakemake's threads.
        os._exit(code)


def read_record(path: Path) -> dict[str, Any] | None:
    """What a driver was asked for; None when there is no such record."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o664)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, descriptor in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(source, descriptor)


def _snakemake(argv: tuple[str, ...]) -> int:
    from snakemake.cli import main

    try:
        main(list(argv))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
