"""Hooks that show this host what another one has written to a disk that both are attached to.

Such a disk is unmounted and mounted again after a batch was processed.
"""

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opticstream_smk.errors import ConfigError, OpticStreamError, ServiceError

RefreshHook = Callable[[], None]
Commands = Sequence[Sequence[str]]

# Longer than any mount takes; an unreachable disk may hang for ever.
TIMEOUT_S = 120.0
_GRACE_S = 5.0
_NAMES_OF_NOTHING = ("", "none")
_SCRIPTS = ("sas", "sas2", "sas3")

log = logging.getLogger(__name__)


class UnknownHookError(ConfigError, ValueError):
    """No hook of that name."""


@dataclass(frozen=True)
class Refresh:
    """A chosen hook.

    Attributes
    ----------
    name
        ``none`` when nothing is to be done.
    """

    name: str
    hook: RefreshHook | None = None

    def __bool__(self) -> bool:
        return self.hook is not None

    def run(self) -> bool:
        """Run the hook. What goes wrong is a warning: the next look shows whether it matters.

        Returns
        -------
        bool
            Whether nothing went wrong.
        """
        if self.hook is None:
            return True
        try:
            self.hook()
        except (OpticStreamError, OSError) as error:
            log.warning("refresh %s failed: %s. The watcher goes on.", self.name, error)
            return False
        except Exception:  # a hook of others must not end the watcher
            log.exception("refresh %s failed. The watcher goes on.", self.name)
            return False
        log.info("refresh %s done", self.name)
        return True


class Refresher:
    """Runs hooks beside the loop of the watcher, one at a time: a mount may take minutes."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def run(self, refresh: Refresh) -> None:
        """Run a hook, unless one is still at work: that one refreshes everything too."""
        if not refresh or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=refresh.run, name="refresh", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for a hook that is at work."""
        if self._thread is not None:
            self._thread.join()


def command_hook(commands: Commands, *, timeout_s: float = TIMEOUT_S) -> RefreshHook:
    """Hook that runs commands one after the other, up to the first that fails.

    Parameters
    ----------
    commands
        Words of each command; no shell reads them.
    timeout_s
        Seconds that each may take.

    Raises
    ------
    ServiceError
        By the hook: a command failed or took too long.
    OSError
        By the hook: a command could not be started.
    """

    def run() -> None:
        for command in commands:
            _run_command(command, timeout_s)

    return run


def _run_command(command: Sequence[str], timeout_s: float) -> None:
    shown = " ".join(command)
    # Its output goes to a file: what it leaves running would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServiceError(
                f"`{shown}` took longer than {timeout_s:g} s and was ended; is the disk reachable?"
            ) from None
        finally:
            _end(process)
        if code != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise ServiceError(f"`{shown}` ended with {code}: {said[-500:] or 'it said nothing'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with what it has started."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # Who waits for a dead disk inside the kernel cannot be ended, and is not waited for.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)


def register_refresh_hook(name: str, hook: RefreshHook, overwrite: bool = False) -> None:
    """Add a hook, for programs that bring their own.

    Parameters
    ----------
    name
        Upper and lower case and space around it do not matter.
    hook
        Called without arguments; whatever it raises becomes a warning.
    overwrite
        Replace a hook of that name.

    Raises
    ------
    UnknownHookError
        An empty name, or one that is taken.
    """
    key = _normal(name)
    if not key:
        raise UnknownHookError("a refresh hook needs a name")
    if not overwrite and (key in _hooks or key in _NAMES_OF_NOTHING):
        raise UnknownHookError(
            f"there is a refresh hook {key!r} already; choose another name, or overwrite=True"
        )
    _hooks[key] = hook


def find_refresh(name: str | None, configured: Mapping[str, Commands] | None = None) -> Refresh:
    """Choose a hook by name.

    Parameters
    ----------
    name
        None, empty and ``none``: nothing is done.
    configured
        ``watch.refresh_hooks``; these come before hooks of the same name.

    Raises
    ------
    UnknownHookError
        No such hook; lists those that there are.
    """
    key = _normal(name or "")
    own = {_normal(given): command_hook(commands) for given, commands in (configured or {}).items()}
    hook = own.get(key, _hooks.get(key))
    if hook is not None:
        return Refresh(key, hook)
    if key in _NAMES_OF_NOTHING:
        return Refresh("none")
    names = ", ".join(["none", *sorted({*_hooks, *own})])
    raise UnknownHookError(
        f"refresh hook {name!r} is not known; there are {names}. Correct --refresh or "
        "watch.refresh, or add it to watch.refresh_hooks."
    )


def _normal(name: str) -> str:
    return name.strip().lower()


_hooks: dict[str, RefreshHook] = {
    name: command_hook([("bash", f"/usr/etc/{name}_unmount"), ("bash", f"/usr/etc/{name}_mount")])
    for name in _SCRIPTS
}
