"""Tokens: what each job takes of this host, so that all projects together keep to its limits.

A token is a locked file of one job. Its name says what the job asks for and how far it has come;
the kernel frees the lock when the job dies, and a file that nobody locks counts for nothing. Names
are read and changed under one lock, the gate. A job first queues for a place among those of its
kind, holding nothing. With that place it queues for cores and memory, which it gets together: so
nobody waits for one who waits. Both queues are strict: who needs much is not overtaken by those
who need little.
"""

import contextlib
import fcntl
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from opticstream_smk.config.run import RunSection
from opticstream_smk.host.limits import HostLimits, Kind, host_limits, under_slurm
from opticstream_smk.io.atomic import write_error
from opticstream_smk.io.shared import create_shared, hold_shared, make_shared_folder

# queued: for a place of its kind; next: has it, waits for cores and memory; working: has all.
State = Literal["queued", "next", "working"]

FIRST_LOOK_S = 0.05
LONGEST_LOOK_S = 0.5
_GATE = "gate.lock"
_HOLDERS_NAMED = 4
_NAME = re.compile(
    r"(?P<ticket>\d{20})-(?P<state>\w+)-(?P<kind>\w+)-(?P<cores>\d+)cores-(?P<memory_mb>\d+)MB"
    r"-(?P<pid>\d+)\.token"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """What a job asks for or has.

    Attributes
    ----------
    ticket
        Order of asking.
    """

    ticket: int
    state: State
    kind: Kind | None
    cores: int
    memory_mb: int
    pid: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return (
            f"{self.ticket:020d}-{self.state}-{self.kind or 'other'}-{self.cores}cores"
            f"-{self.memory_mb}MB-{self.pid}.token"
        )


def token_folder(run: RunSection) -> Path:
    """Folder that the jobs of this host share."""
    return run.token_dir or Path(tempfile.gettempdir()) / "opticstream-tokens"


@contextmanager
def take(
    run: RunSection, kind: Kind | None, *, cores: int, memory_mb: int, label: str = ""
) -> Iterator[None]:
    """Hold a share of this host; wait until there is one.

    Jobs under SLURM take none: SLURM has given them theirs.

    Parameters
    ----------
    kind
        What the number of jobs at a time is limited for; None: only cores and memory count.
    cores, memory_mb
        What the job uses at most. Who asks for more than the limit gets all of it, alone.
    label
        What the job is, for the messages of those who wait for it.

    Raises
    ------
    ConfigError, ServiceError
        The folder of the tokens cannot be used.
    """
    if under_slurm():
        yield
        return
    limits = host_limits(run)
    if memory_mb > limits.memory_mb:
        log.warning(
            "%s is estimated to need %d MB; the jobs of this host may use %d MB together "
            "(run.memory_mb). It runs alone and may run out of memory.",
            label or "this job",
            memory_mb,
            limits.memory_mb,
        )
    token = Token(
        ticket=0,
        state="queued",
        kind=kind,
        cores=min(cores, limits.cores),
        memory_mb=min(memory_mb, limits.memory_mb),
        pid=os.getpid(),
    )
    holder = _Holder(token_folder(run), token, limits, label)
    try:
        holder.wait()
        yield
    finally:
        holder.release()


def living_tokens(folder: Path) -> dict[Token, str]:
    """Tokens of living jobs, in the order in which they asked, and what each job is.

    Raises
    ------
    OSError
        The folder cannot be listed.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        token = _parse(path.name)
        label = None if token is None else _living_label(path)
        if token is not None and label is not None:
            found[token] = label
    return found


class _Holder:
    """The token of one job of this process."""

    def __init__(self, folder: Path, token: Token, limits: HostLimits, label: str) -> None:
        self._folder = folder
        self._token = token
        self._limits = limits
        self._label = label
        self._descriptor: int | None = None

    def wait(self) -> None:
        """Advance until the job may work."""
        make_shared_folder(self._folder)
        started, pause = time.monotonic(), FIRST_LOOK_S
        told = False
        while (obstacle := self._look()) is not None:
            if not told:
                log.info("waiting for %s", obstacle)
                told = True
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_LOOK_S)
        if told:
            log.info("waited %.1f s; going on", time.monotonic() - started)

    def release(self) -> None:
        """Give everything back."""
        if self._descriptor is None or self._token.pid != os.getpid():
            return
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        _held.discard(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None

    @property
    def _path(self) -> Path:
        return self._folder / self._token.name

    def _look(self) -> str | None:
        """Advance as far as possible; say what is in the way of working."""
        try:
            with hold_shared(self._folder / _GATE):
                _clear_dead(self._folder)
                others = living_tokens(self._folder)
                others.pop(self._token, None)
                if self._descriptor is None:
                    self._create()
                return self._advance(others)
        except OSError as error:
            raise write_error(self._folder / _GATE, error) from error

    def _create(self) -> None:
        # All processes of one boot read the same clock, so tickets are in the order of asking.
        self._token = replace(self._token, ticket=time.monotonic_ns())
        descriptor = create_shared(self._path)
        _held.add(descriptor)
        self._descriptor = descriptor
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # On a full disk the token still counts; it only stays nameless.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, self._label.encode(), 0)

    def _advance(self, others: dict[Token, str]) -> str | None:
        if self._token.state == "queued":
            obstacle = self._class_obstacle(others)
            if obstacle is not None:
                return obstacle
            self._become("next")
        obstacle = self._share_obstacle(others)
        if obstacle is None:
            self._become("working")
        return obstacle

    def _class_obstacle(self, others: dict[Token, str]) -> str | None:
        kind = self._token.kind
        limit = None if kind is None else self._limits.jobs[kind]
        if limit is None:
            return None
        same = {token: label for token, label in others.items() if token.kind == kind}
        placed = [token for token in same if token.state != "queued"]
        ahead = [token for token in same if self._is_ahead(token, "queued")]
        if not ahead and len(placed) < limit:
            return None
        return (
            f"a place among {limit} {kind} jobs (run.max_{kind}_jobs), "
            f"{_named(same, placed, ahead)}"
        )

    def _share_obstacle(self, others: dict[Token, str]) -> str | None:
        mine, limits = self._token, self._limits
        working = [token for token in others if token.state == "working"]
        ahead = [token for token in others if self._is_ahead(token, "next")]
        cores = limits.cores - sum(token.cores for token in working)
        memory_mb = limits.memory_mb - sum(token.memory_mb for token in working)
        if not ahead and mine.cores <= cores and mine.memory_mb <= memory_mb:
            return None
        return (
            f"cores ({mine.cores}) and memory ({mine.memory_mb} MB): {max(cores, 0)} of "
            f"{limits.cores} cores (run.cores) and {max(memory_mb, 0)} of {limits.memory_mb} MB "
            f"(run.memory_mb) are free; {_named(others, working, ahead)}"
        )

    def _is_ahead(self, token: Token, state: State) -> bool:
        return token.state == state and token.ticket < self._token.ticket

    def _become(self, state: State) -> None:
        advanced = replace(self._token, state=state)
        # Where the file was cleared away the token is only unseen: the job itself is not stopped.
        with contextlib.suppress(FileNotFoundError):
            self._path.rename(self._folder / advanced.name)
        self._token = advanced


def _named(labels: dict[Token, str], holders: list[Token], ahead: list[Token]) -> str:
    parts = []
    for what, tokens in (("held by", holders), ("asked for before by", ahead)):
        if tokens:
            named = [_described(token, labels[token]) for token in tokens[:_HOLDERS_NAMED]]
            more = len(tokens) - len(named)
            parts.append(f"{what} {', '.join(named)}{f' and {more} more' if more else ''}")
    return "; ".join(parts)


def _described(token: Token, label: str) -> str:
    return f"process {token.pid} ({label or token.kind or 'another job'})"


def _parse(name: str) -> Token | None:
    match = _NAME.fullmatch(name)
    if match is None or match["state"] not in get_args(State):
        return None
    kind = match["kind"]
    if kind not in get_args(Kind) and kind != "other":
        return None
    return Token(
        ticket=int(match["ticket"]),
        state=match["state"],  # type: ignore[arg-type]  # checked above
        kind=None if kind == "other" else kind,  # type: ignore[arg-type]
        cores=int(match["cores"]),
        memory_mb=int(match["memory_mb"]),
        pid=int(match["pid"]),
    )


def _living_label(path: Path) -> str | None:
    """What the job of a token is; None when it is dead."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # given back this moment, or put there by something else
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return " ".join(os.pread(descriptor, 200, 0).decode(errors="replace").split())
    else:
        return None
    finally:
        os.close(descriptor)


def _clear_dead(folder: Path) -> None:
    """Remove the tokens of the dead; only with the gate held, before which none is locked yet."""
    for path in folder.iterdir():
        if _parse(path.name) is not None and _living_label(path) is None:
            # That of another user stays in a folder such as /tmp; it counts for nothing.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


_held: set[int] = set()


def _forget_held() -> None:
    """A forked process must not keep the tokens of its parent after the parent's death."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_held)
