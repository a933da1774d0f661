"""``optic-trigger watch-files``: run a command for each new file of a folder."""

import argparse
import contextlib
import io
import json
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opticstream_smk.cli.options import add_format
from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    from opticstream_smk.trigger.command import FileCommand

log = logging.getLogger(__name__)

STDERR = 2
# Seconds that a command gets to end after the second signal, before it is killed.
GRACE_S = 5.0
LONG_S = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "dir", type=Path, metavar="DIR", help="folder to watch, not its sub-folders"
    )
    parser.add_argument(
        "--ext",
        action="append",
        metavar=".EXT",
        help="end of the names that count, in any case; several by comma or again "
        "(.nii,.nii.gz,.raw,.dat,.tif,.tiff,.fits,.fit)",
    )
    parser.add_argument(
        "--debounce",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds without a change after which a file is complete (2)",
    )
    parser.add_argument(
        "--existing", action="store_true", help="also the files that are there at the start"
    )
    parser.add_argument(
        "--observer",
        choices=("auto", "poll", "native"),
        default="auto",
        help="poll: list the folder every second (network file systems); native: events of the "
        "operating system only; auto: both",
    )
    parser.add_argument(
        "--until-idle", type=float, metavar="S", help="end when nothing has happened for S seconds"
    )
    parser.add_argument(
        "--run",
        dest="command_line",
        metavar="COMMAND",
        help="run for each file, one after the other, without a shell; {path}, {name} and "
        "{size_kb} are filled in, each within one argument. Without it, files are only printed",
    )
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. A signal waits for the command that runs; a second one ends that, too."""
    from opticstream_smk.trigger.command import FileCommand
    from opticstream_smk.trigger.files import FileWatcher
    from opticstream_smk.trigger.wake import Sleeper

    idle_s = arguments.until_idle
    if idle_s is not None and not (math.isfinite(idle_s) and idle_s >= 0):
        raise ConfigError(f"--until-idle {idle_s}: give 0 or more seconds")
    as_json = arguments.format == "json"
    command = None
    if arguments.command_line is not None:
        # With JSON, standard output is one object a line; what commands print goes elsewhere.
        command = FileCommand(arguments.command_line, stdout=STDERR if as_json else None)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names that are no UTF-8
    sleeper = Sleeper()
    teller = _Teller(command, as_json=as_json, wake=sleeper.wake)
    watcher = FileWatcher(
        arguments.dir,
        teller.tell,
        arguments.debounce,
        _extensions(arguments.ext),
        observer=arguments.observer,
        existing=arguments.existing,
    )
    signals: list[None] = []
    with contextlib.closing(sleeper), sleeper.signals(lambda: signals.append(None)):
        watcher.start()
        if not watcher.is_running:
            return ConfigError.exit_code  # the reason is in the log
        while not signals and not teller.is_unheard:
            remaining = LONG_S if idle_s is None else idle_s - watcher.idle_s
            if remaining <= 0:
                break
            sleeper.sleep(remaining)
        if signals and teller.is_busy:
            log.info("waiting for the command that runs; a second signal ends it")
        stopped = threading.Event()

        def stop() -> None:
            watcher.stop()
            stopped.set()
            sleeper.wake()

        # In a thread, so that this one hears a second signal.
        stopping = threading.Thread(target=stop, daemon=True)
        stopping.start()
        ended_at = None
        while not stopped.is_set():
            if len(signals) > 1 and command is not None:
                ended_at = ended_at or time.monotonic()
                overdue = time.monotonic() - ended_at >= GRACE_S
                command.end(signal.SIGKILL if overdue else signal.SIGTERM)
            sleeper.sleep(LONG_S if ended_at is None else GRACE_S)
        stopping.join()
    if teller.is_unheard:
        raise BrokenPipeError
    log.info("stopped: %d files, %d commands failed", teller.told, teller.failed)
    return 0


def _extensions(given: list[str] | None) -> list[str] | None:
    if given is None:
        return None
    return [word.strip() for words in given for word in words.split(",") if word.strip()]


class _Teller:
    """What is done with each file: the command, and a line on standard output."""

    def __init__(
        self, command: "FileCommand | None", *, as_json: bool, wake: Callable[[], None]
    ) -> None:
        self._command = command
        self._as_json = as_json
        self._wake = wake
        self.told = 0
        self.failed = 0
        self.is_busy = False
        self.is_unheard = False

    def tell(self, event: dict[str, Any]) -> None:
        line = f"{event['path']}  {event['size_kb']:.1f} KB"
        if self._command is not None:
            self.is_busy = True
            code = self._command.run(event)
            self.is_busy = False
            self.failed += code != 0
            event = {**event, "exit_code": code}
            line += f"  exit {code}" if code else ""
        self.told += 1
        try:
            print(json.dumps(_strict(event), default=str) if self._as_json else line, flush=True)
        except BrokenPipeError:
            self.is_unheard = True  # nobody reads any more (`| head`): the watch ends
        except OSError as error:
            log.error("standard output cannot be written (%s): %s", error.strerror, line)
        self._wake()


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity, headers of NIfTI files do."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
