"""Running MATLAB code: one process, its output into the log as it comes, ended with this one."""

import contextlib
import logging
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.config.processing import ProcessingSection
from opticstream_smk.errors import ConfigError
from opticstream_smk.matlab import supervise

log = logging.getLogger(__name__)

# Lines that are kept to say what went wrong; all of them are in the log.
_LINES_KEPT = 2000
_LOOK_S = 0.5
# Linux takes no longer argument (MAX_ARG_STRLEN).
_LONGEST_ARGUMENT = 128 * 1024 - 1


@dataclass(frozen=True)
class MatlabRun:
    """How some MATLAB code ended.

    Attributes
    ----------
    code
        Exit code; 128 and the number of the signal that ended it; None: it took too long.
    lines
        What it said, standard output and error as they came, the last 2000 lines.
    """

    code: int | None
    lines: tuple[str, ...]


def arguments(processing: ProcessingSection, command: str) -> list[str]:
    """Program and arguments that run MATLAB code with the configured engine."""
    if processing.engine == "matlab-engine":
        # -P: a folder `matlab` where the stage was started is not the engine.
        return [sys.executable, "-P", "-m", "opticstream_smk.matlab.engine_process", command]
    return processing.matlab.arguments(command)


def run_matlab(
    words: list[str],
    *,
    limit_s: float,
    folder: Path | None = None,
    show: Callable[[str], None] | None = None,
) -> MatlabRun:
    """Run a command to its end.

    Whatever ends this process ends the command as well, with all that it has started.

    Parameters
    ----------
    words
        Program and arguments; no shell reads them.
    limit_s
        After so many seconds it is ended.
    folder
        Where it works; by default where this process does. What MATLAB and Octave write when they
        are ended or crash goes there.
    show
        Gets each line of its output as it comes; by default the log does.

    Raises
    ------
    ConfigError
        The command is too long for this system.
    """
    longest = max(len(os.fsencode(word)) for word in words)
    if longest > _LONGEST_ARGUMENT:
        raise ConfigError(
            f"the MATLAB code of this batch has {longest} bytes, {_LONGEST_ARGUMENT} fit on a "
            "command line; make acquisition.grid_size_y smaller, shorten the paths, or set "
            "processing.engine: native"
        )
    lines = _Lines(show or (lambda line: log.info("matlab: %s", line)))
    deadline = time.monotonic() + limit_s
    with _supervised(words, folder) as process:
        assert process.stdout is not None
        is_in_time = _follow(process, process.stdout.fileno(), lines, deadline)
    lines.end()
    return MatlabRun(process.returncode if is_in_time else None, tuple(lines.last))


@contextlib.contextmanager
def _supervised(words: list[str], folder: Path | None) -> Iterator[subprocess.Popen[bytes]]:
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
    # Not to the end of the pipe: what MATLAB has left running may hold it open for days.
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
