"""Run MATLAB code in MATLAB's engine for Python; a program by itself, started once for a batch.

In a process of its own a crash of MATLAB's libraries leaves the stage alive, which then keeps the
good tiles and says what happened.
"""

import contextlib
import io
import os
import signal
import sys
import time
from types import FrameType
from typing import Any, TextIO

# EX_UNAVAILABLE of sysexits.h.
NO_ENGINE = 69
_LOOK_S = 0.1


class _EndedError(BaseException):
    """The supervisor has asked for an end."""


def main(command: str) -> int:
    """Evaluate the code; what it prints is passed on as it comes."""
    signal.signal(signal.SIGTERM, _end)
    try:
        import matlab.engine
    except Exception as error:  # noqa: BLE001  # besides ImportError: EnvironmentError, RuntimeError
        sys.stderr.write(f"matlab.engine cannot be imported: {error}\n")
        return NO_ENGINE
    try:
        engine: Any = matlab.engine.start_matlab()
        process = int(engine.feature("getpid"))
    except Exception as error:  # noqa: BLE001  # the engine's own kinds, such as EngineError
        sys.stderr.write(f"MATLAB cannot be started: {error}\n")
        return 1
    try:
        code = _evaluate(engine, command)
    except _EndedError:
        # It would not listen to `quit` before the code has come to its end.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        return 128 + signal.SIGTERM
    engine.quit()
    return code


def _evaluate(engine: Any, command: str) -> int:
    out, err = io.StringIO(), io.StringIO()
    followers = (_Follower(out, sys.stdout), _Follower(err, sys.stderr))
    future = engine.eval(command, nargout=0, background=True, stdout=out, stderr=err)
    while not future.done():
        for follower in followers:
            follower.show()
        time.sleep(_LOOK_S)
    message = ""
    try:
        future.result()
    except Exception as error:  # noqa: BLE001  # the engine's own kinds, such as MatlabExecutionError
        message = str(error).strip() or type(error).__name__
    for follower in followers:
        follower.show()
    # MATLAB mostly prints what it then raises.
    if message and message not in err.getvalue():
        sys.stderr.write(f"{message}\n")
    return 1 if message else 0


class _Follower:
    """Passes on what a text has grown by."""

    def __init__(self, text: io.StringIO, stream: TextIO) -> None:
        self._text = text
        self._stream = stream
        self._shown = 0

    def show(self) -> None:
        text = self._text.getvalue()
        self._stream.write(text[self._shown :])
        self._stream.flush()
        self._shown = len(text)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _EndedError


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
