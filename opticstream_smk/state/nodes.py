"""Nodes of a project's hierarchy and their flags, whatever the hierarchy is.

A :class:`Scheme` says which levels and flags a pipeline has. Here is what they have in common: a
mutable node collects changes, the repository saves them in the order that keeps flags true, a view
is a frozen copy.
"""

import shutil
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, Protocol, TypeVar

from opticstream_smk.errors import NamingError
from opticstream_smk.io.atomic import write_error
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import locks
from opticstream_smk.state.events import Pipeline, append_event, flag_payload
from opticstream_smk.state.flags import Flag, now, read_flag, write_flag

Status = Literal["done", "running", "failed", "ready", "pending"]


class AnyPlace(Hashable, Protocol):
    """One node of a hierarchy."""

    @property
    def level(self) -> str:
        """Level of the hierarchy."""

    @property
    def ids(self) -> dict[str, int | None]:
        """Ids as flags and events carry them."""


P = TypeVar("P", bound=AnyPlace)


@dataclass(frozen=True)
class Scheme(Generic[P]):
    """The flags of a pipeline.

    Attributes
    ----------
    levels
        In the order in which they are done.
    flags
        Flags of each level in the order in which the stages write them.
    done
        The flag that says that a level is done; levels that have no flags have none.
    records
        What is replaced at each attempt and proves nothing.
    path
        File of a flag or record.
    downstream
        What was made directly from a flag.
    withdrawn_name
        Name of a withdrawn flag; unique in the project.
    """

    pipeline: Pipeline
    levels: tuple[str, ...]
    flags: Mapping[Any, tuple[str, ...]]
    done: Mapping[Any, str]
    records: tuple[str, ...]
    path: Callable[[ProjectLayout, P, str], Path]
    downstream: Callable[[ProjectLayout, P, str], Iterable[tuple[P, str]]]
    withdrawn_name: Callable[[P, str], str]


@dataclass(frozen=True)
class NodeView(Generic[P]):
    """A node as it was when it was read.

    Attributes
    ----------
    place
        None for the whole project.
    flags
        Flags and records that were present, by state.
    children
        Nodes of the level below.
    running
        Whether a stage held the lock of one of the node's flags.
    done
        The flag that says that the node is done; None when it has no flags of its own.
    """

    place: P | None
    flags: Mapping[str, Flag]
    children: tuple["NodeView[P]", ...] = ()
    running: bool = False
    done: str | None = None

    def has(self, state: str) -> bool:
        """Whether a flag is present."""
        return state in self.flags

    @property
    def status(self) -> Status:
        """Done before running before failed before ready."""
        if self.place is not None and self.done is None:
            return _status_together([child.status for child in self.children])
        if self.done is not None and self.has(self.done):
            return "done"
        if self.running:
            return "running"
        if self.has("failed"):
            return "failed"
        return "ready" if self.has("ready") else "pending"


def _status_together(parts: list[Status]) -> Status:
    if parts and all(part == "done" for part in parts):
        return "done"
    if "running" in parts:
        return "running"
    if "failed" in parts:
        return "failed"
    return "ready" if "ready" in parts or "done" in parts else "pending"


class Node(Generic[P]):
    """A mutable node. Changes are kept until the store saves them."""

    def __init__(self, project: "ProjectNodes[P]", place: P) -> None:
        self.place = place
        self._project = project
        self.added: dict[str, Flag] = {}
        self.withdrawn: set[str] = set()
        self.dropped: set[str] = set()
        self.amended: set[str] = set()

    def path(self, state: str) -> Path:
        """File of a flag of this node."""
        return self._project.scheme.path(self._project.layout, self.place, state)

    def get(self, state: str) -> Flag | None:
        """A flag, with the changes that are not saved yet."""
        if state in self.added:
            return self.added[state]
        if state in self.withdrawn or state in self.dropped:
            return None
        return read_flag(self.path(state))

    def has(self, state: str) -> bool:
        """Whether a flag is present, with the changes that are not saved yet."""
        if state in self.added:
            return True
        if state in self.withdrawn or state in self.dropped:
            return False
        return self.path(state).exists()

    def add(self, state: str, flag: Flag) -> None:
        """Add a flag, or replace a record."""
        scheme = self._project.scheme
        if state not in (*scheme.flags[self.place.level], *scheme.records):
            raise NamingError(f"{self.place} has no flag {state!r}")
        self.dropped.discard(state)
        self.amended.discard(state)
        self.added[state] = flag

    def amend(self, record: str, flag: Flag) -> None:
        """Replace a record without an event: it says less now, and nothing new."""
        self.add(record, flag)
        self.amended.add(record)

    def withdraw(self, state: str) -> None:
        """Withdraw a flag and everything downstream of it."""
        self.withdraw_downstream(state)
        if self.has(state):
            self.added.pop(state, None)
            self.withdrawn.add(state)

    def withdraw_downstream(self, state: str) -> None:
        """Withdraw everything downstream of a flag, and leave the flag."""
        for node, name in self._project.downstream(self.place, state):
            node.withdraw(name)

    def drop(self, record: str) -> None:
        """Remove a record."""
        self.added.pop(record, None)
        self.dropped.add(record)

    @property
    def is_running(self) -> bool:
        """Whether a stage holds the lock of one of the node's flags."""
        names = self._project.scheme.flags[self.place.level]
        lock = self._project.layout.lock
        return any(locks.is_held(lock(self.path(state))) for state in names)

    def to_view(self, children: tuple[NodeView[P], ...] = ()) -> NodeView[P]:
        """Frozen copy of what is in the files now."""
        scheme = self._project.scheme
        names = scheme.flags[self.place.level]
        found = {state: self.get(state) for state in (*names, *scheme.records)} if names else {}
        return NodeView(
            place=self.place,
            flags=MappingProxyType({s: flag for s, flag in found.items() if flag is not None}),
            children=children,
            running=self.is_running,
            done=scheme.done.get(self.place.level),
        )


class ProjectNodes(Generic[P]):
    """The mutable nodes of a project; they are read when they are asked for."""

    def __init__(self, layout: ProjectLayout, scheme: Scheme[P]) -> None:
        self.layout = layout
        self.scheme = scheme
        self._nodes: dict[P, Node[P]] = {}

    def node(self, place: P) -> Node[P]:
        """The node at a place; the same object each time."""
        return self._nodes.setdefault(place, Node(self, place))

    def changed(self) -> list[Node[P]]:
        """Nodes with changes that are not saved yet."""
        return [n for n in self._nodes.values() if n.added or n.withdrawn or n.dropped]

    def forget(self) -> None:
        """Drop all changes that are not saved yet."""
        self._nodes.clear()

    def downstream(self, place: P, state: str) -> Iterator[tuple[Node[P], str]]:
        """What was made directly from a flag."""
        for target, name in self.scheme.downstream(self.layout, place, state):
            yield self.node(target), name


S = TypeVar("S", bound=ProjectNodes[Any])


class FlagRepository(Generic[S]):
    """Flags in a project folder.

    Parameters
    ----------
    load
        Makes the state of a project.
    event_payload
        What an event says beside what the flag itself does.
    """

    def __init__(
        self,
        load: Callable[[ProjectLayout], S],
        event_payload: Callable[[Any, str, Flag], dict[str, Any]] = lambda *_: {},
    ) -> None:
        self._load = load
        self._event_payload = event_payload

    def load(self, layout: ProjectLayout) -> S:
        """State of a project; flags are read when they are asked for."""
        return self._load(layout)

    def save(self, state: S) -> None:
        """Withdraw, add, drop, in that order: a present flag is true at every moment.

        Events come last: whoever hears of a flag finds it.
        """
        changed = state.changed()
        folder = state.layout.withdrawn / now().strftime("%Y%m%dT%H%M%S.%fZ")
        levels = state.scheme.levels
        # What lies furthest downstream goes first.
        for node in sorted(changed, key=lambda n: levels.index(n.place.level), reverse=True):
            for name in reversed(state.scheme.flags[node.place.level]):
                if name in node.withdrawn:
                    source = node.path(name)
                    _move(source, folder / state.scheme.withdrawn_name(node.place, source.name))
        for node in changed:
            for name, flag in node.added.items():
                write_flag(node.path(name), flag)
            for name in node.dropped:
                node.path(name).unlink(missing_ok=True)
        for node in changed:
            for name, flag in node.added.items():
                if name in node.amended:
                    continue
                append_event(
                    state.layout,
                    node.place.level,
                    name,
                    project=flag.project,
                    ids=node.place.ids,
                    payload={**self._event_payload(node.place, name, flag), **flag_payload(flag)},
                    pipeline=state.scheme.pipeline,
                )


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise write_error(source, error) from error
