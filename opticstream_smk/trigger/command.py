"""A command that is run for each new file, without a shell."""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from string import Formatter
from typing import Any

from opticstream_smk.errors import ConfigError

log = logging.getLogger(__name__)

PLACEHOLDERS = ("path", "name", "size_kb")
# As shells answer a command that cannot be executed, and one that is not there.
NOT_EXECUTABLE, NOT_FOUND = 126, 127


class FileCommand:
    """A command line with placeholders for the file.

    The template is split into arguments first, as a shell would, and the placeholders are filled in
    afterwards: each stays within its argument. A file name with blanks, quotes, ``;`` or ``$()`` is
    a name and nothing else.

    Parameters
    ----------
    template
        Such as ``convert --quiet {path} /out/{name}.png``. Placeholders: ``path`` (absolute),
        ``name`` (without the folder), ``size_kb``; a brace that is meant is doubled.
    stdout
        File descriptor for what the command prints; None for that of this process.

    Raises
    ------
    ConfigError
        A quotation that does not end, an unknown placeholder, no such command.
    """

    def __init__(self, template: str, *, stdout: int | None = None) -> None:
        self._arguments = _split(template)
        self._stdout = stdout
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ended = False
        program = self._arguments[0]
        if "{" not in program and shutil.which(program) is None:
            raise ConfigError(
                f"command {program} is not there or cannot be executed; give its full path, or "
                "check PATH"
            )

    def arguments(self, event: dict[str, Any]) -> list[str]:
        """The command for one file, given the dict that a file's callback gets."""
        path = event["path"]
        values = {"path": path, "name": Path(path).name, "size_kb": event["size_kb"]}
        return [argument.format(**values) for argument in self._arguments]

    def run(self, event: dict[str, Any]) -> int:
        """Run the command for one file and wait for it.

        Returns
        -------
        int
            Its exit code, which is logged unless it is 0; negative: the signal that ended it; 126,
            127: it could not be started.
        """
        arguments = self.arguments(event)
        if self._is_ended:
            return -signal.SIGTERM
        try:
            # A session of its own: Ctrl-C in the terminal reaches this process, not the command.
            child = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=self._stdout, start_new_session=True
            )
        except OSError as error:
            log.error(
                "%s: the command cannot be started (%s): %s",
                event["path"],
                error.strerror,
                shlex.join(arguments),
            )
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        self._child = child
        if self._is_ended:  # by a signal that came while it was being started
            self.end()
        code = child.wait()
        self._child = None
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
            log.error(
                "%s: the command ended with %s: %s", event["path"], how, shlex.join(arguments)
            )
        return code

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End a command that runs, with all that it has started; no other one starts."""
        self._is_ended = True
        child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, how)


def _split(template: str) -> list[str]:
    try:
        arguments = shlex.split(template)
    except ValueError as error:
        raise ConfigError(f"command {template!r}: {error}; check its quotation marks") from error
    if not arguments:
        raise ConfigError("the command is empty; give one such as 'process {path}'")
    for argument in arguments:
        _check(argument)
    return arguments


def _check(argument: str) -> None:
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    try:
        fields = [field for _, field, _, _ in Formatter().parse(argument) if field is not None]
        for field in fields:
            if field not in PLACEHOLDERS:
                raise ConfigError(
                    f"placeholder {{{field}}} in {argument!r} is not known; known are {known}. "
                    "Double a brace that is meant."
                )
        argument.format(path="", name="", size_kb=0.0)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"argument {argument!r}: {error}; placeholders are {known}. Double a brace that is "
            "meant."
        ) from error
