"""``optic-trigger logs``: what happened, and what the stages, the runs and the watcher wrote."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from opticstream_smk.cli.options import add_config, given_config
from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError, NamingError

if TYPE_CHECKING:
    from opticstream_smk.layout import ProjectLayout

# Lines of the event log and of one log file, and of each when there are several.
_LINES, _LINES_EACH = 40, 10
_FILES_SHOWN = 8
_LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    parser.add_argument("--mosaic", type=int, metavar="M", help="logs of this mosaic")
    parser.add_argument("--batch", type=int, metavar="B", help="logs of this batch of --mosaic")
    parser.add_argument("--slice", type=int, metavar="S", help="logs of this slice")
    parser.add_argument("--stage", metavar="NAME", help="logs of this stage")
    parser.add_argument("--driver", metavar="ID", help="log of this snakemake run of the watcher")
    parser.add_argument("--watcher", action="store_true", help="log of the watcher")
    parser.add_argument("-n", "--lines", type=int, metavar="LINES", help="last lines to print")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines are written")


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when there is no such log."""
    from opticstream_smk.plan import project_layout

    layout = project_layout(given_config(arguments))
    if arguments.lines is not None and arguments.lines < 0:
        raise ConfigError(f"-n {arguments.lines}: expected 0 or more lines")
    try:
        find = _finder(layout, arguments)
        if find is None:
            return _events(layout, arguments)
        return _files(find, arguments)
    except NamingError as error:
        raise ConfigError(str(error)) from error
    except PermissionError as error:
        raise CorruptInputError(
            f"{error.filename} cannot be read ({error.strerror}); correct its permissions"
        ) from error


def _finder(
    layout: "ProjectLayout", arguments: argparse.Namespace
) -> Callable[[], list[Path]] | None:
    """What finds the log files that are asked for, newest first; None is the event log."""
    from opticstream_smk import naming

    logs = layout.logs
    ids = [getattr(arguments, name) for name in ("mosaic", "batch", "slice", "stage")]
    by_place = any(value is not None for value in ids)
    if by_place + (arguments.driver is not None) + arguments.watcher > 1:
        raise ConfigError("name a place or a stage, or --driver, or --watcher; not several")
    if arguments.driver is not None:
        driver = layout.driver_log(arguments.driver)
        if driver.parent != logs / "drivers":
            raise ConfigError(f"--driver {arguments.driver}: expected an id, as status names it")
        return lambda: _newest_first([driver])
    if arguments.watcher:
        newest = layout.watcher_log
        return lambda: _newest_first([newest])
    if not by_place:
        return None
    stem = "*"
    if arguments.mosaic is not None:
        stem = f"{naming.mosaic_folder(arguments.mosaic)}*"
        if arguments.batch is not None:
            stem = f"{naming.mosaic_folder(arguments.mosaic)}_{naming.batch_stem(arguments.batch)}"
    elif arguments.batch is not None:
        raise ConfigError("--batch needs --mosaic: batches of all mosaics have the same numbers")
    elif arguments.slice is not None:
        stem = naming.slice_stem(arguments.slice)
    pattern = f"{arguments.stage or '*'}/{stem}.log"
    known = sorted(path.name for path in logs.glob("*/")) if arguments.stage else []
    if known and arguments.stage not in known:
        raise ConfigError(
            f"--stage {arguments.stage}: no such logs; there are those of {', '.join(known)}"
        )

    def find() -> list[Path]:
        found = [p for p in logs.glob(pattern) if p.parent.name != "drivers"]
        if arguments.mosaic is not None and arguments.batch is None:
            mosaic = naming.mosaic_folder(arguments.mosaic)
            found = [p for p in found if p.stem == mosaic or p.stem.startswith(f"{mosaic}_")]
        return _newest_first(found)

    return find


def _newest_first(paths: list[Path]) -> list[Path]:
    times: dict[Path, int] = {}
    for path in paths:
        try:
            times[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return sorted(times, key=lambda path: times[path], reverse=True)


def _files(find: Callable[[], list[Path]], arguments: argparse.Namespace) -> int:
    from opticstream_smk.report.tail import Follower, last_lines

    found = find()
    if not found and not arguments.follow:
        raise IncompleteInputError(_nothing(arguments))
    several = len(found) > 1
    n_lines = arguments.lines
    if n_lines is None:
        n_lines = _LINES_EACH if several else _LINES
    printer = _Printer(with_names=several or arguments.follow)
    if not arguments.follow:
        for path in found[:_FILES_SHOWN]:
            printer.print(path, last_lines(path, n_lines))
        if len(found) > _FILES_SHOWN:
            print(f"({len(found) - _FILES_SHOWN} older logs: name --batch or --stage)")
        return 0

    follower = Follower(find)
    # The newest last: what is written next follows it.
    for path, lines in reversed(follower.begin(n_lines)[:_FILES_SHOWN]):
        printer.print(path, lines)

    def look() -> None:
        for path, lines in follower.look():
            printer.print(path, lines)

    return _follow(look)


def _nothing(arguments: argparse.Namespace) -> str:
    if arguments.watcher:
        return (
            "the watcher has written no log file in this project; its messages are where it was "
            "started (the terminal, or journalctl)"
        )
    if arguments.driver is not None:
        return (
            f"there is no log of the snakemake run {arguments.driver}; logs of runs that ended "
            "well are not kept"
        )
    return (
        "there is no such log yet: nothing has run there. `optic-trigger explain` says what it "
        "waits for."
    )


class _Printer:
    """Prints lines under the name of the file that they are of."""

    def __init__(self, *, with_names: bool) -> None:
        self._with_names = with_names
        self._last: Path | None = None

    def print(self, path: Path, lines: list[str]) -> None:
        """Print lines of a file."""
        if self._with_names and path != self._last:
            print(f"==> {path} <==")
        self._last = path
        _print_all(lines)


def _events(layout: "ProjectLayout", arguments: argparse.Namespace) -> int:
    from opticstream_smk.report.event_lines import event_files, event_lines, last_events
    from opticstream_smk.report.tail import Follower

    n_lines = _LINES if arguments.lines is None else arguments.lines
    if not arguments.follow:
        lines = last_events(layout, n_lines)
        if not lines and n_lines:
            raise IncompleteInputError(
                f"nothing has happened in {layout.root} yet: its event log is empty"
            )
        _print_all(lines)
        return 0

    follower = Follower(lambda: event_files(layout))
    past = event_lines(line for _, lines in follower.begin(n_lines) for line in lines)
    _print_all(past[-n_lines:] if n_lines else [])

    def look() -> None:
        _print_all(event_lines(line for _, lines in follower.look() for line in lines))

    return _follow(look)


def _print_all(lines: list[str]) -> None:
    for line in lines:
        print(line)


def _follow(look: Callable[[], object]) -> int:
    """Look again and again until somebody ends it."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        while True:
            look()
            sys.stdout.flush()
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
