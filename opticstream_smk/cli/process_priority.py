"""``optic-trigger process-priority``: keep up the CPU priority of the acquisition software."""

import argparse
import sys

from opticstream_smk.cli.main import log

CLASSES = ("idle", "below_normal", "normal", "above_normal", "high", "realtime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name", metavar="NAME", help="process, such as AndorSolis; .exe does not matter"
    )
    parser.add_argument(
        "-i",
        "--interval-s",
        "--interval-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds between two looks (60): it may be started again at any time",
    )
    parser.add_argument(
        "-w",
        "--priority-class",
        "--windows-priority",
        choices=CLASSES,
        metavar="CLASS",
        help=f"{', '.join(CLASSES)}; on Linux these stand for nice values. Default: normal",
    )
    parser.add_argument(
        "-n",
        "--nice",
        type=int,
        metavar="NICE",
        help="nice value from -20 to 19 instead of a class; not on Windows",
    )
    parser.add_argument("--once", action="store_true", help="look once and end")


def run(arguments: argparse.Namespace) -> int:
    """Run the command until it is interrupted, or once."""
    import signal
    import threading

    from opticstream_smk.errors import IncompleteInputError, ServiceError
    from opticstream_smk.host.priority import PriorityKeeper, system_priority

    keeper = PriorityKeeper(
        arguments.name, system_priority(_wanted(arguments)), interval_s=arguments.interval_s
    )
    if arguments.once:
        found, done = keeper.apply()
        if found == 0:
            raise IncompleteInputError(f"no process called {keeper.name} runs on this host")
        if done < found:
            raise ServiceError(
                f"{done} of {found} processes called {keeper.name} have the priority; the others "
                "could not be changed, see above"
            )
        print(f"{found} processes called {keeper.name} have priority {keeper.priority}")
        return 0
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    keeper.start()
    try:
        ended.wait()
    finally:
        keeper.stop()
    return 0


def _wanted(arguments: argparse.Namespace) -> str:
    """Class or nice value; where one of them means nothing, the other counts."""
    if arguments.nice is not None and sys.platform == "win32":
        log.warning("--nice means nothing on Windows; --priority-class counts")
    elif arguments.nice is not None:
        if arguments.priority_class is not None:
            log.warning("--nice %d counts, --priority-class does not", arguments.nice)
        return str(arguments.nice)
    return arguments.priority_class or "normal"
