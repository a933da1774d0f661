"""What both commands share: logging, and errors to exit codes."""

import logging
import os
import sys
from collections.abc import Callable

from opticstream_smk.errors import OpticStreamError

log = logging.getLogger("opticstream_smk")

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a defect of ours, not one of the four causes


def set_up_logging(*, verbose: bool) -> None:
    """Log to standard error, one line an entry."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    for noisy in ("numba", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def guard(command: Callable[[], int]) -> int:
    """Run a command; turn what it raises into a message and an exit code."""
    try:
        return command()
    except OpticStreamError as error:
        log.error("%s", error)
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe has gone (`| head`): silence the interpreter's own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception:
        log.exception("internal error; please report it with the lines above")
        return INTERNAL_ERROR
