"""Running a program: one process, its output into the log as it comes, ended with this one."""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.programs import supervise

log = logging.getLogger(__name__)

# Lines that are kept to say what went wrong; all of them are in the log.
_LINES_KEPT = 2000
_LINES_SHOWN = 6
_LOOK_S = 0.5


@dataclass(frozen=True)
class ProgramRun:
    """How a program ended.

    Attributes
    ----------
    code
        Exit code; 128 and the number of the signal that ended it; None: it took too long.
    lines
        What it said, standard output and error as they came, the last 2000 lines.
    """

    code: int | None
    lines: tuple[str, ...]


def run_program(
    words: Sequence[str],
    *,
    limit_s: float,
    name: str,
    folder: Path | None = None,
    show: Callable[[str], None] | None = None,
) -> ProgramRun:
    """Run a command to its end.

    Whatever ends this process ends the command as well, with all that it has started.

    Parameters
    ----------
    words
        Program and arguments; no shell reads them.
    limit_s
        After so many seconds it is ended.
    name
        What its lines begin with in the log.
    folder
        Where it works; by default where this process does. What programs write when they are ended
        or crash goes there.
    show
        Gets each line of its output as it comes; by default the log does.
    """
    lines = _Lines(show or (lambda line: log.info("%s: %s", name, line)))
    deadline = time.monotonic() + limit_s
    with _supervised(words, folder) as process:
        assert process.stdout is not None
        is_in_time = _follow(process, process.stdout.fileno(), lines, deadline)
    lines.end()
    return ProgramRun(process.returncode if is_in_time else None, tuple(lines.last))


def last_lines(lines: Sequence[str]) -> str:
    """The end of some output for a message; lines without text are left out."""
    told = [line for line in lines if line.strip()]
    return indented(told[-_LINES_SHOWN:]) or "    (nothing)"


def indented(lines: Sequence[str]) -> str:
    """Lines as they stand in a message."""
    return "\n".join(f"    {line.strip()}" for line in lines)


def signal_name(number: int) -> str:
    """Name of a signal: SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def _supervised(words: Sequence[str], folder: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    # -I -S: it needs the standard library only, and starts in a few ms.
    supervisor = [sys.executable, "-I", "-S", str(Path(supervise.__file__)), *words]
    # A session of its own: it outlives the signal that ends this process, to end the command.
    with subprocess.Popen(
        supervisor,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def _follow(
    process: subprocess.Popen[bytes], output: int, lines: "_Lines", deadline: float
) -> bool:
    """Pass output on until the process has ended; False when it was late."""
    os.set_blocking(output, False)
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while process.poll() is None:
            if time.monotonic() > deadline:
                return False
            # At its end the output is readable for ever; then there is only to wait.
            if selector.select(_LOOK_S) and not lines.take_from(output):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_S)
    # Not to the end of the pipe: what it has left running may hold it open for days.
    while lines.take_from(output):
        pass
    return True


class _Lines:
    """Output, passed on by lines."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._rest = b""
        self.last: deque[str] = deque(maxlen=_LINES_KEPT)

    def take_from(self, output: int) -> bool:
        """Take what is there; False when there is nothing."""
        try:
            piece = os.read(output, 65536)
        except BlockingIOError:
            return False
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            self._pass_on(line)
        return bool(piece)

    def end(self) -> None:
        """Pass on a last line without its end."""
        if self._rest:
            self._pass_on(self._rest)
            self._rest = b""

    def _pass_on(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self.last.append(text)
        self._show(text)
