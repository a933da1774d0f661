"""State of a PS-OCT project: project -> slice -> mosaic -> batch, read from its flags.

``open_*`` lock the project and yield a mutable node, whose added and withdrawn flags are saved
at the end of the block. ``read_*`` return a frozen view under the lock, ``peek_*`` without it.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from opticstream_smk import naming
from opticstream_smk.errors import NamingError
from opticstream_smk.io.atomic import write_error
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import locks
from opticstream_smk.state.events import append_event, flag_payload
from opticstream_smk.state.flags import Flag, now, read_flag, write_flag
from opticstream_smk.state.places import (
    DONE,
    FLAGS,
    RECORDS,
    Place,
    batch_place,
    flag_path,
    mosaic_place,
    parse_flag_path,
    slice_place,
    tilemap_place,
)
from opticstream_smk.state.store import ProjectStateStore

Status = Literal["done", "running", "failed", "ready", "pending"]


@dataclass(frozen=True)
class NodeView:
    """A node as it was when it was read.

    Attributes
    ----------
    flags
        Flags and records that were present, by state.
    children
        Batches of a mosaic, mosaics of a slice, slices and templates of a project.
    running
        Whether a stage held the lock of one of the node's flags.
    """

    place: Place | None
    flags: Mapping[str, Flag]
    children: tuple["NodeView", ...] = ()
    running: bool = False

    def has(self, state: str) -> bool:
        """Whether a flag is present."""
        return state in self.flags

    @property
    def status(self) -> Status:
        """Done before running before failed before ready."""
        if self.place is not None and self.has(DONE[self.place.level]):
            return "done"
        if self.running:
            return "running"
        if self.has("failed"):
            return "failed"
        return "ready" if self.has("ready") else "pending"


class Node:
    """A mutable node. Changes are kept until the store saves them."""

    def __init__(self, project: "OctProjectState", place: Place) -> None:
        self.place = place
        self._project = project
        self.added: dict[str, Flag] = {}
        self.withdrawn: set[str] = set()
        self.dropped: set[str] = set()

    def path(self, state: str) -> Path:
        """File of a flag of this node."""
        return flag_path(self._project.layout, self.place, state)

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
        if state not in (*FLAGS[self.place.level], *RECORDS):
            raise NamingError(f"{self.place} has no flag {state!r}")
        self.dropped.discard(state)
        self.added[state] = flag

    def withdraw(self, state: str) -> None:
        """Withdraw a flag and everything downstream of it."""
        for node, name in self._project.downstream(self.place, state):
            node.withdraw(name)
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

    def to_view(self, children: tuple[NodeView, ...] = ()) -> NodeView:
        """Frozen copy of what is in the files now."""
        names = FLAGS[self.place.level]
        layout = self._project.layout
        found = {state: self.get(state) for state in (*names, *RECORDS)}
        return NodeView(
            place=self.place,
            flags=MappingProxyType({s: flag for s, flag in found.items() if flag is not None}),
            children=children,
            running=any(locks.is_held(layout.lock(self.path(state))) for state in names),
        )


class OctProjectState:
    """The mutable state of a project; nodes are read when they are asked for."""

    def __init__(self, layout: ProjectLayout, mosaics_per_slice: int = 2) -> None:
        self.layout = layout
        self.mosaics_per_slice = mosaics_per_slice
        self._nodes: dict[Place, Node] = {}

    def node(self, place: Place) -> Node:
        """The node at a place; the same object each time."""
        return self._nodes.setdefault(place, Node(self, place))

    def changed(self) -> list[Node]:
        """Nodes with changes that are not saved yet."""
        return [n for n in self._nodes.values() if n.added or n.withdrawn or n.dropped]

    def forget(self) -> None:
        """Drop all changes that are not saved yet."""
        self._nodes.clear()

    def slices(self) -> list[int]:
        """Slices that have a mosaic folder or a flag."""
        found = {
            naming.slice_of_mosaic(mosaic, self.mosaics_per_slice)[0]
            for mosaic in self.layout.mosaics()
        }
        return sorted(
            found | {place.slice for place, _ in self._files(self.layout.state) if place.slice}
        )

    def mosaics(self, slice_: int) -> list[int]:
        """Mosaics of a slice that have a folder."""
        members = naming.mosaics_of_slice(slice_, self.mosaics_per_slice)
        return [mosaic for mosaic in self.layout.mosaics() if mosaic in members]

    def batches(self, mosaic: int) -> list[int]:
        """Batches of a mosaic that have a flag."""
        files = self._files(self.layout.mosaic_state(mosaic))
        return sorted({place.batch for place, _ in files if place.batch})

    def tilemaps(self) -> list[str]:
        """Acquisitions that have a template flag."""
        files = self._files(self.layout.state)
        return sorted({place.acquisition for place, _ in files if place.acquisition})

    def present(self) -> list[tuple[Place, str]]:
        """Every flag and record in the project."""
        folders = [self.layout.state, *map(self.layout.mosaic_state, self.layout.mosaics())]
        return [entry for folder in folders for entry in self._files(folder)]

    def _files(self, folder: Path) -> list[tuple[Place, str]]:
        try:
            paths = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        parsed = (parse_flag_path(path, self.mosaics_per_slice) for path in paths)
        return [entry for entry in parsed if entry]

    def downstream(self, place: Place, state: str) -> Iterator[tuple[Node, str]]:
        """What was made directly from a flag.

        Downstream of a batch ends before the template: a template is shared by all slices, and
        only redoing the coordinates withdraws it, with everything that used it.
        """
        for target, name in _direct_downstream(place, state, self):
            yield self.node(target), name


def _direct_downstream(
    place: Place, state: str, project: OctProjectState
) -> Iterable[tuple[Place, str]]:
    per_slice = project.mosaics_per_slice
    if place.level == "batch":
        if state == "ready":
            return [(place, "complex"), (place, "processed"), (place, "qc")]
        if state == "complex":
            return [(place, "processed"), (place, "qc")]
        if state == "processed":
            return [(place, "qc"), (mosaic_place(place.mosaic or 0, per_slice), "stitched")]
    if place.level == "mosaic" and state == "closed":
        return [(place, "stitched")]
    if place.level == "mosaic" and state == "stitched":
        return [(slice_place(place.slice or 0), "registered")]
    if place.level == "tilemap" and state == "solved":
        return [
            (mosaic_place(mosaic, per_slice), "stitched")
            for mosaic in project.layout.mosaics()
            if naming.acquisition_of_mosaic(mosaic, per_slice) == place.acquisition
        ]
    return []


class OctRepository:
    """Flags in a project folder.

    Parameters
    ----------
    event_context
        What events say about a place beside its flag, such as the size of its grid.
    """

    def __init__(
        self,
        mosaics_per_slice: int = 2,
        event_context: Callable[[Place], dict[str, Any]] = lambda _place: {},
    ) -> None:
        self.mosaics_per_slice = mosaics_per_slice
        self._event_context = event_context

    def load(self, layout: ProjectLayout) -> OctProjectState:
        """State of a project; flags are read when they are asked for."""
        return OctProjectState(layout, self.mosaics_per_slice)

    def save(self, state: OctProjectState) -> None:
        """Withdraw, add, drop, in that order: a present flag is true at every moment."""
        changed = state.changed()
        folder = state.layout.withdrawn / now().strftime("%Y%m%dT%H%M%S.%fZ")
        # Levels furthest downstream go first.
        order = ("slice", "mosaic", "tilemap", "batch")
        for node in sorted(changed, key=lambda n: order.index(n.place.level)):
            for name in reversed(FLAGS[node.place.level]):
                if name in node.withdrawn:
                    _move(node.path(name), folder / node.path(name).name, node.place)
        for node in changed:
            for name, flag in node.added.items():
                write_flag(node.path(name), flag)
            for name in node.dropped:
                node.path(name).unlink(missing_ok=True)
        for node in changed:
            self._announce(state.layout, node)

    def _announce(self, layout: ProjectLayout, node: Node) -> None:
        for name, flag in node.added.items():
            append_event(
                layout,
                node.place.level,
                name,
                project=flag.project,
                ids=node.place.ids,
                payload={**self._event_context(node.place), **flag_payload(flag)},
            )


def _move(source: Path, target: Path, place: Place) -> None:
    if place.level == "batch":
        # Batches of all mosaics share their names.
        target = target.with_name(f"{naming.mosaic_folder(place.mosaic or 0)}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise write_error(source, error) from error


class OctState:
    """The state of one project, opened, read or peeked at any level.

    ``plan.project_state`` makes it from a configuration.
    """

    def __init__(self, layout: ProjectLayout, repository: OctRepository | None = None) -> None:
        self.layout = layout
        repository = repository or OctRepository()
        self.mosaics_per_slice = repository.mosaics_per_slice
        self.store = ProjectStateStore(repository)

    # -------------------------------------------------------------------------------- mutable
    def open_project(self) -> AbstractContextManager[OctProjectState]:
        """Mutable state of the whole project."""
        return self.store.locked(self.layout)

    def open(self, place: Place) -> AbstractContextManager[Node]:
        """Mutable node at a place."""
        return self.store.edit(self.layout, lambda project: project.node(place))

    def open_slice(self, slice_: int) -> AbstractContextManager[Node]:
        """Mutable slice."""
        return self.open(slice_place(slice_))

    def open_mosaic(self, mosaic: int) -> AbstractContextManager[Node]:
        """Mutable mosaic."""
        return self.open(mosaic_place(mosaic, self.mosaics_per_slice))

    def open_batch(self, mosaic: int, batch: int) -> AbstractContextManager[Node]:
        """Mutable batch."""
        return self.open(batch_place(mosaic, batch, self.mosaics_per_slice))

    # ---------------------------------------------------------------------------- under the lock
    def read_project(self) -> NodeView:
        """Frozen view of everything, consistent with concurrent writers."""
        return self.store.read(self.layout, project_view)

    def read_slice(self, slice_: int) -> NodeView | None:
        """Frozen view of a slice; None when it has neither flag nor mosaic."""
        return self.store.read(self.layout, _slice_reader(slice_))

    def read_mosaic(self, mosaic: int) -> NodeView | None:
        """Frozen view of a mosaic; None when it has neither flag nor batch."""
        return self.store.read(self.layout, _mosaic_reader(mosaic))

    def read_batch(self, mosaic: int, batch: int) -> NodeView | None:
        """Frozen view of a batch; None when it has no flag."""
        return self.store.read(self.layout, _batch_reader(mosaic, batch))

    # ---------------------------------------------------------------------------- without lock
    def peek_project(self) -> NodeView:
        """Snapshot of everything: for display."""
        return self.store.peek(self.layout, project_view)

    def peek_slice(self, slice_: int) -> NodeView | None:
        """Snapshot of a slice."""
        return self.store.peek(self.layout, _slice_reader(slice_))

    def peek_mosaic(self, mosaic: int) -> NodeView | None:
        """Snapshot of a mosaic."""
        return self.store.peek(self.layout, _mosaic_reader(mosaic))

    def peek_batch(self, mosaic: int, batch: int) -> NodeView | None:
        """Snapshot of a batch."""
        return self.store.peek(self.layout, _batch_reader(mosaic, batch))


def project_view(project: OctProjectState) -> NodeView:
    """Frozen view of a whole project: its slices, then its templates."""
    slices = tuple(_slice_view(project, slice_) for slice_ in project.slices())
    templates = tuple(
        project.node(tilemap_place(acquisition)).to_view() for acquisition in project.tilemaps()
    )
    return NodeView(place=None, flags=MappingProxyType({}), children=(*slices, *templates))


def _slice_view(project: OctProjectState, slice_: int) -> NodeView:
    mosaics = tuple(_mosaic_view(project, mosaic) for mosaic in project.mosaics(slice_))
    return project.node(slice_place(slice_)).to_view(mosaics)


def _mosaic_view(project: OctProjectState, mosaic: int) -> NodeView:
    per_slice = project.mosaics_per_slice
    batches = tuple(
        project.node(batch_place(mosaic, batch, per_slice)).to_view()
        for batch in project.batches(mosaic)
    )
    return project.node(mosaic_place(mosaic, per_slice)).to_view(batches)


def _present(view: NodeView) -> NodeView | None:
    return view if view.flags or view.children else None


def _slice_reader(slice_: int) -> Callable[[OctProjectState], NodeView | None]:
    return lambda project: _present(_slice_view(project, slice_))


def _mosaic_reader(mosaic: int) -> Callable[[OctProjectState], NodeView | None]:
    return lambda project: _present(_mosaic_view(project, mosaic))


def _batch_reader(mosaic: int, batch: int) -> Callable[[OctProjectState], NodeView | None]:
    return lambda project: _present(
        project.node(batch_place(mosaic, batch, project.mosaics_per_slice)).to_view()
    )
