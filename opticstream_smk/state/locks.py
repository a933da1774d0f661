"""Locks: flock within a host, a heartbeat where flock does not reach across hosts."""

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opticstream_smk.io.atomic import write_error
from opticstream_smk.state.host import host_name, identity

HEARTBEAT_S = 5.0
# A holder that has not beaten for this long is dead: 12 beats, more than NFS caches attributes.
DEAD_AFTER_S = 60.0
_POLL_S = 0.2
_TRIES = 3

log = logging.getLogger(__name__)


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold a lock; wait for it as long as a living process holds it.

    Parameters
    ----------
    path
        Lock file; it stays behind, empty.

    Yields
    ------
    bool
        Whether somebody else held the lock first.
    """
    waited = False
    while True:
        descriptor = _open(path)
        if not _try_flock(descriptor):
            if not waited:
                log.info("waiting for %s, held by %s", path.name, describe_holder(path))
            waited = True
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not _held_elsewhere(descriptor, path):
            break
        os.close(descriptor)
        waited = True
        time.sleep(_POLL_S)
    with _held(descriptor):
        yield waited


@contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody does.

    Yields
    ------
    bool
        Whether it is held now; False when a living process has it.
    """
    descriptor = _open(path)
    for _ in range(_TRIES):
        is_free = _try_flock(descriptor)
        if is_free:
            break
        time.sleep(_POLL_S)  # somebody who only asks `is_held` has the lock for an instant
    if not is_free or _held_elsewhere(descriptor, path):
        os.close(descriptor)
        yield False
        return
    with _held(descriptor):
        yield True


@contextmanager
def _held(descriptor: int) -> Iterator[None]:
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(descriptor, stop), daemon=True)
    try:
        os.ftruncate(descriptor, 0)
        # On a full disk the lock still excludes everybody on this host; it only stays nameless.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, json.dumps(identity()).encode(), 0)
        beat.start()
        yield
    finally:
        stop.set()
        if beat.ident is not None:
            beat.join()
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock. A snapshot, for display and for doctor."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # those who may only look ask too
    except OSError:
        return False
    try:
        if not _try_flock(descriptor, fcntl.LOCK_SH):
            return True
        return _held_elsewhere(descriptor, path)
    finally:
        os.close(descriptor)


def describe_holder(path: Path) -> str:
    """Host and process in a lock file, for messages."""
    holder = _read_holder(path)
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}"


def holder_pid(path: Path) -> int | None:
    """Process that holds a lock, or died with it, on this host; None when the file does not say."""
    holder = _read_holder(path)
    pid = holder.get("pid")
    return pid if isinstance(pid, int) and holder.get("host") == host_name() else None


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
    except OSError as error:
        raise write_error(path, error) from error


def _try_flock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held_elsewhere(descriptor: int, path: Path) -> bool:
    """Whether, with flock in hand, the file says that another host still beats it."""
    holder = _read_holder(path)
    if not holder or holder.get("host") == host_name():
        return False
    beaten = os.fstat(descriptor).st_mtime
    # Both times come from the file server, so that the clocks of the hosts do not matter.
    now_file = path.with_name(f".{path.name}.{host_name()}.now")
    try:
        now_file.touch()
        now = now_file.stat().st_mtime
        now_file.unlink(missing_ok=True)
    except OSError:  # those who may only look have to believe their own clock
        now = time.time()
    return now - beaten < DEAD_AFTER_S


def _read_holder(path: Path) -> dict[str, object]:
    try:
        holder = json.loads(path.read_text() or "{}")
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _beat(descriptor: int, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        os.utime(descriptor)
