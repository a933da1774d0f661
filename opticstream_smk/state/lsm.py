"""State of a light-sheet project: project -> slice -> channel -> strip, read from its flags.

``open_*`` lock the project and yield a mutable node, whose added and withdrawn flags are saved
at the end of the block. ``read_*`` return a frozen view under the lock, ``peek_*`` without it.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from opticstream_smk import naming
from opticstream_smk.errors import NamingError, ServiceError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.naming.lsm import channel_stem, parse_lsm_flag, strip_stem
from opticstream_smk.state.flags import Flag
from opticstream_smk.state.nodes import FlagRepository, Node, NodeView, ProjectNodes, Scheme
from opticstream_smk.state.store import ProjectStateStore

LsmLevel = Literal["strip", "channel", "slice"]

# Flags in the order in which the stages write them. A slice has none: it is its channels.
FLAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "strip": ("ready", "compressed", "archived", "uploaded", "cleaned"),
        "channel": ("mip_stitched", "volume_stitched", "volume_uploaded"),
        "slice": (),
    }
)
DONE: Mapping[str, str] = MappingProxyType({"strip": "compressed", "channel": "mip_stitched"})
RECORDS = ("started", "failed")
# Flags that say that something was made of a strip: its folder must not change any more.
PRODUCTS = FLAGS["strip"][1:]


@dataclass(frozen=True, order=True)
class LsmPlace:
    """One node of the hierarchy; ids that a level does not have are None."""

    level: LsmLevel
    slice: int
    channel: int | None = None
    strip: int | None = None

    @property
    def ids(self) -> dict[str, int | None]:
        """Ids as flags and events carry them."""
        return {"slice": self.slice, "channel": self.channel, "strip": self.strip}

    def __str__(self) -> str:
        parts = [f"slice {self.slice:02d}"]
        if self.channel is not None:
            parts.append(f"channel {self.channel:02d}")
        if self.strip is not None:
            parts.append(f"strip {self.strip:04d}")
        return " ".join(parts)


def lsm_slice_place(slice_: int) -> LsmPlace:
    """Place of a slice."""
    naming.slice_stem(slice_)
    return LsmPlace("slice", slice_)


def channel_place(slice_: int, channel: int) -> LsmPlace:
    """Place of a channel."""
    naming.slice_stem(slice_)
    channel_stem(channel)
    return LsmPlace("channel", slice_, channel)


def strip_place(slice_: int, channel: int, strip: int) -> LsmPlace:
    """Place of a strip."""
    channel_place(slice_, channel)
    strip_stem(strip)
    return LsmPlace("strip", slice_, channel, strip)


def lsm_flag_path(layout: ProjectLayout, place: LsmPlace, state: str) -> Path:
    """File of a flag or record.

    Raises
    ------
    NamingError
        A slice has no flags of its own.
    """
    if place.channel is None:
        raise NamingError(f"{place} has no flag {state!r}; its channels have")
    if place.strip is None:
        return layout.channel_flag(place.slice, place.channel, state)
    return layout.strip_flag(place.slice, place.channel, place.strip, state)


def _direct_downstream(
    _layout: ProjectLayout, place: LsmPlace, state: str
) -> Iterable[tuple[LsmPlace, str]]:
    if place.level == "strip" and place.channel is not None:
        channel = channel_place(place.slice, place.channel)
        return {
            "ready": [(place, "compressed"), (place, "archived")],
            "compressed": [(place, "uploaded"), (place, "cleaned"), (channel, "mip_stitched")],
            "archived": [(place, "cleaned")],
        }.get(state, [])
    return {
        "mip_stitched": [(place, "volume_stitched")],
        "volume_stitched": [(place, "volume_uploaded")],
    }.get(state, [])


def _withdrawn_name(place: LsmPlace, name: str) -> str:
    # The flags of all channels share their names.
    return f"{naming.slice_stem(place.slice)}.{channel_stem(place.channel or 0)}.{name}"


SCHEME: Scheme[LsmPlace] = Scheme(
    pipeline="lsm",
    levels=("strip", "channel", "slice"),
    flags=FLAGS,
    done=DONE,
    records=RECORDS,
    path=lsm_flag_path,
    downstream=_direct_downstream,
    withdrawn_name=_withdrawn_name,
)

LsmView = NodeView[LsmPlace]


class LsmProjectState(ProjectNodes[LsmPlace]):
    """The mutable state of a project; nodes are read when they are asked for."""

    def __init__(self, layout: ProjectLayout) -> None:
        super().__init__(layout, SCHEME)

    def slices(self) -> list[int]:
        """Slices that have a channel folder."""
        return sorted({slice_ for slice_, _ in self.layout.channels()})

    def channels(self, slice_: int) -> list[int]:
        """Channels of a slice that have a folder."""
        return [channel for number, channel in self.layout.channels() if number == slice_]

    def strips(self, slice_: int, channel: int) -> list[int]:
        """Strips of a channel that have a flag or a record."""
        found = self._files(slice_, channel)
        return sorted({place.strip for place, _ in found if place.strip is not None})

    def present(self) -> list[tuple[LsmPlace, str]]:
        """Every flag and record in the project."""
        return [entry for key in self.layout.channels() for entry in self._files(*key)]

    def _files(self, slice_: int, channel: int) -> list[tuple[LsmPlace, str]]:
        folder = self.layout.channel_state(slice_, channel)
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ServiceError(
                f"{folder} cannot be listed ({error.strerror}); correct its permissions, or mount "
                "the disk again"
            ) from error
        found = []
        for name in names:
            flag = parse_lsm_flag(name)
            # Names of another padding do not count: nobody finds them by their path.
            if flag is None or not flag.id or str(flag) != name:
                continue
            if flag.level == "strip":
                found.append((strip_place(slice_, channel, flag.id), flag.state))
            elif flag.id == channel:
                found.append((channel_place(slice_, channel), flag.state))
        return found


def _event_payload(place: LsmPlace, state: str, flag: Flag) -> dict[str, Any]:
    """What OpticStream's light-sheet events carry."""
    if place.level != "strip":
        ident = {"project_name": flag.project, "slice_id": place.slice, "channel_id": place.channel}
        return {"channel_ident": ident}
    ident = {
        "project_name": flag.project,
        "slice_id": place.slice,
        "channel_id": place.channel,
        "strip_id": place.strip,
    }
    payload: dict[str, Any] = {"strip_ident": ident}
    if state == "ready" and flag.inputs:
        payload["strip_path"] = flag.inputs[0].path
        if flag.extra.get("force_rerun"):
            payload["force_rerun"] = True
    return payload


class LsmState:
    """The state of one project, opened, read or peeked at any level."""

    def __init__(self, layout: ProjectLayout) -> None:
        self.layout = layout
        self.store = ProjectStateStore(FlagRepository(LsmProjectState, _event_payload))

    # -------------------------------------------------------------------------------- mutable
    def open_project(self) -> AbstractContextManager[LsmProjectState]:
        """Mutable state of the whole project."""
        return self.store.locked(self.layout)

    def open(self, place: LsmPlace) -> AbstractContextManager[Node[LsmPlace]]:
        """Mutable node at a place."""
        return self.store.edit(self.layout, lambda project: project.node(place))

    def open_slice(self, slice_: int) -> AbstractContextManager[Node[LsmPlace]]:
        """Mutable slice."""
        return self.open(lsm_slice_place(slice_))

    def open_channel(self, slice_: int, channel: int) -> AbstractContextManager[Node[LsmPlace]]:
        """Mutable channel."""
        return self.open(channel_place(slice_, channel))

    def open_strip(
        self, slice_: int, channel: int, strip: int
    ) -> AbstractContextManager[Node[LsmPlace]]:
        """Mutable strip."""
        return self.open(strip_place(slice_, channel, strip))

    def reset(self, place: LsmPlace) -> bool:
        """Withdraw all flags of a place and of what lies in it, and remove its records.

        Returns
        -------
        bool
            Whether there was any.
        """
        with self.open_project() as project:
            found = [(p, name) for p, name in project.present() if _within(p, place)]
            for p, name in found:
                if name in FLAGS[p.level]:
                    project.node(p).withdraw(name)
                elif name in RECORDS:
                    project.node(p).drop(name)
        return bool(found)

    # ------------------------------------------------------------------------- under the lock
    def read_project(self) -> LsmView:
        """Frozen view of everything, consistent with concurrent writers."""
        return self.store.read(self.layout, lsm_project_view)

    def read_slice(self, slice_: int) -> LsmView | None:
        """Frozen view of a slice; None when it has neither channel nor strip."""
        return self.store.read(self.layout, _slice_reader(slice_))

    def read_channel(self, slice_: int, channel: int) -> LsmView | None:
        """Frozen view of a channel; None when it has neither flag nor strip."""
        return self.store.read(self.layout, _channel_reader(slice_, channel))

    def read_strip(self, slice_: int, channel: int, strip: int) -> LsmView | None:
        """Frozen view of a strip; None when it has no flag."""
        return self.store.read(self.layout, _strip_reader(slice_, channel, strip))

    # --------------------------------------------------------------------------- without lock
    def peek_project(self) -> LsmView:
        """Snapshot of everything: for display."""
        return self.store.peek(self.layout, lsm_project_view)

    def peek_slice(self, slice_: int) -> LsmView | None:
        """Snapshot of a slice."""
        return self.store.peek(self.layout, _slice_reader(slice_))

    def peek_channel(self, slice_: int, channel: int) -> LsmView | None:
        """Snapshot of a channel."""
        return self.store.peek(self.layout, _channel_reader(slice_, channel))

    def peek_strip(self, slice_: int, channel: int, strip: int) -> LsmView | None:
        """Snapshot of a strip."""
        return self.store.peek(self.layout, _strip_reader(slice_, channel, strip))


def has_all_strips(channel: LsmView, count: int, flag: str = DONE["strip"]) -> bool:
    """Whether strips 1 to ``count`` of a channel all have a flag."""
    having = {view.place.strip for view in channel.children if view.place and view.has(flag)}
    return set(range(1, count + 1)) <= having


def lsm_project_view(project: LsmProjectState) -> LsmView:
    """Frozen view of a whole project: its slices."""
    slices = tuple(_slice_view(project, slice_) for slice_ in project.slices())
    return NodeView(place=None, flags=MappingProxyType({}), children=slices)


def _slice_view(project: LsmProjectState, slice_: int) -> LsmView:
    channels = tuple(
        _channel_view(project, slice_, channel) for channel in project.channels(slice_)
    )
    return project.node(lsm_slice_place(slice_)).to_view(channels)


def _channel_view(project: LsmProjectState, slice_: int, channel: int) -> LsmView:
    strips = tuple(
        project.node(strip_place(slice_, channel, strip)).to_view()
        for strip in project.strips(slice_, channel)
    )
    return project.node(channel_place(slice_, channel)).to_view(strips)


def _within(inner: LsmPlace, outer: LsmPlace) -> bool:
    ids = ((inner.ids[name], wanted) for name, wanted in outer.ids.items())
    return all(wanted is None or found == wanted for found, wanted in ids)


def _present(view: LsmView) -> LsmView | None:
    return view if view.flags or view.children else None


def _slice_reader(slice_: int) -> Callable[[LsmProjectState], LsmView | None]:
    return lambda project: _present(_slice_view(project, slice_))


def _channel_reader(slice_: int, channel: int) -> Callable[[LsmProjectState], LsmView | None]:
    return lambda project: _present(_channel_view(project, slice_, channel))


def _strip_reader(
    slice_: int, channel: int, strip: int
) -> Callable[[LsmProjectState], LsmView | None]:
    return lambda project: _present(project.node(strip_place(slice_, channel, strip)).to_view())
