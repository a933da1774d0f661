"""State of a PS-OCT project: project -> slice -> mosaic -> batch, read from its flags.

``open_*`` lock the project and yield a mutable node, whose added and withdrawn flags are saved
at the end of the block. ``read_*`` return a frozen view under the lock, ``peek_*`` without it.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opticstream_smk import naming
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import nodes
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.nodes import FlagRepository, ProjectNodes, Scheme
from opticstream_smk.state.places import (
    DONE,
    FLAGS,
    RECORDS,
    Place,
    batch_place,
    flag_path,
    focus_place,
    mosaic_place,
    parse_flag_path,
    slice_place,
)
from opticstream_smk.state.store import ProjectStateStore

# Children: batches of a mosaic, mosaics of a slice; of a project slices, templates, focus planes.
NodeView = nodes.NodeView[Place]
Node = nodes.Node[Place]


class OctProjectState(ProjectNodes[Place]):
    """The mutable state of a project; nodes are read when they are asked for."""

    def __init__(self, layout: ProjectLayout, mosaics_per_slice: int = 2) -> None:
        super().__init__(layout, _scheme(mosaics_per_slice))
        self.mosaics_per_slice = mosaics_per_slice

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

    def shared_places(self) -> list[Place]:
        """Templates and focus planes that have a flag."""
        files = self._files(self.layout.state)
        found = {place for place, _ in files if place.acquisition}
        return sorted(found, key=lambda place: (place.level != "tilemap", place.acquisition))

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


def _scheme(per_slice: int) -> Scheme[Place]:
    return Scheme(
        pipeline="psoct",
        levels=("batch", "tilemap", "focus", "mosaic", "slice"),
        flags=FLAGS,
        done=DONE,
        records=RECORDS,
        path=flag_path,
        downstream=lambda layout, place, state: _downstream(layout, place, state, per_slice),
        withdrawn_name=_withdrawn_name,
    )


def _withdrawn_name(place: Place, name: str) -> str:
    # Batches of all mosaics share their names.
    return f"{naming.mosaic_folder(place.mosaic or 0)}.{name}" if place.level == "batch" else name


def _downstream(
    layout: ProjectLayout, place: Place, state: str, per_slice: int
) -> Iterable[tuple[Place, str]]:
    """What was made directly from a flag.

    Downstream of a batch ends before the template and the focus plane: these are shared by all
    slices, and only redoing them withdraws them, with everything that used them.
    """
    if place.level == "batch":
        if state == "ready":
            made = ("complex", "processed", "qc", "archived")
            return [(place, name) for name in made]
        if state == "complex":
            return [(place, "processed"), (place, "qc")]
        if state == "processed":
            return [(place, "qc"), (mosaic_place(place.mosaic or 0, per_slice), "coordinates")]
    if place.level == "mosaic" and state == "closed":
        return [(place, "coordinates")]
    if place.level == "mosaic" and state == "coordinates":
        return [(place, "stitched")]
    volumes = [naming.volume_state(modality) for modality in naming.VOLUME_MODALITIES]
    if place.level == "mosaic" and state == "stitched":
        own = [(place, volume) for volume in volumes]
        return [(slice_place(place.slice or 0), "registered"), *own]
    if place.level == "mosaic" and state in volumes:
        return [(place, "volume_stitched")]
    own_mosaics = [
        mosaic_place(mosaic, per_slice)
        for mosaic in (layout.mosaics() if place.acquisition else ())
        if naming.acquisition_of_mosaic(mosaic, per_slice) == place.acquisition
    ]
    if place.level == "tilemap" and state == "solved":
        mosaics = [(mosaic, "coordinates") for mosaic in own_mosaics]
        return [(focus_place(place.acquisition or ""), "fitted"), *mosaics]
    if place.level == "focus" and state == "fitted":
        return [
            (mosaic, volume)
            for mosaic in own_mosaics
            for volume in volumes
            if _used_focus_plane(flag_path(layout, mosaic, volume))
        ]
    return []


def _used_focus_plane(path: Path) -> bool:
    """Whether a volume was, or may have been, stitched along the focus plane."""
    try:
        flag = read_flag(path)
    except CorruptInputError:
        return True
    return flag is None or flag.extra.get("focus_sha256") is not None


class OctRepository(FlagRepository[OctProjectState]):
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
        super().__init__(
            lambda layout: OctProjectState(layout, mosaics_per_slice),
            lambda place, _name, _flag: event_context(place),
        )
        self.mosaics_per_slice = mosaics_per_slice


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
    """Frozen view of a whole project: its slices, then its templates and focus planes."""
    slices = tuple(_slice_view(project, slice_) for slice_ in project.slices())
    shared = tuple(project.node(place).to_view() for place in project.shared_places())
    return NodeView(place=None, flags=MappingProxyType({}), children=(*slices, *shared))


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
