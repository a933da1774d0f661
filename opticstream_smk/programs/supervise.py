"""Run a command that ends when its parent does; a program by itself, of the standard library only.

Standard input is a pipe whose other end the parent holds and never writes to. When it closes, by
intent or because the parent was killed in whatever way, the command is ended with everything that
it has started. The exit code is the command's; 128 and the number of the signal that ended it.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

NOT_STARTED = 127
# MATLAB, for one, hands back its licence and closes its pool meanwhile.
_GRACE_S = 10


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        # Handlers, for ignored signals would be ignored by the command as well.
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        sys.stderr.write(f"{arguments[0]} cannot be started: {error.strerror}\n")
        return NOT_STARTED
    while child.poll() is None:
        ready, _, _ = select.select([sys.stdin.fileno(), woken], [], [])
        signals = os.read(woken, 4096) if woken in ready else b""
        if sys.stdin.fileno() in ready or signal.SIGTERM in signals:
            _tell(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE_S)
            break
    # Also what a command has left that ended by itself: it would keep output and memory.
    _tell(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _tell(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
