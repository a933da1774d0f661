"""Which flags and records a project has, by their names alone."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.naming import FlagName
from opticstream_smk.state.places import (
    Place,
    batch_place,
    focus_place,
    mosaic_place,
    present_states,
    slice_place,
    tilemap_place,
)


@dataclass(frozen=True)
class Listing:
    """Names in the state folders of a project. No file was opened.

    Attributes
    ----------
    files
        Path of every flag and record, by place and state.
    mosaics
        Mosaics that have a folder and were listed.
    """

    files: Mapping[Place, Mapping[str, str]] = field(default_factory=dict)
    mosaics: tuple[int, ...] = ()

    def of(self, place: Place) -> Mapping[str, str]:
        """Paths of the flags and records of a place, by state."""
        return self.files.get(place, {})

    def has(self, place: Place, state: str) -> bool:
        """Whether a flag or record is there."""
        return state in self.of(place)

    def with_state(self, state: str) -> Iterator[Place]:
        """Every place that has a flag or record."""
        return (place for place, files in self.files.items() if state in files)


def list_states(
    layout: ProjectLayout, mosaics_per_slice: int, only: Collection[int] | None = None
) -> Listing:
    """List the state folders once.

    Parameters
    ----------
    only
        Mosaics to list; None: all. Slices and templates are listed in any case.

    Raises
    ------
    ServiceError
        A folder is there and cannot be listed.
    """
    files: dict[Place, Mapping[str, str]] = {}
    mosaics = [m for m in layout.mosaics() if only is None or m in only]
    for mosaic, folder in [(0, layout.state), *((m, layout.mosaic_state(m)) for m in mosaics)]:
        for (level, number), states in present_states(folder).items():
            place = _place(level, number, mosaic, mosaics_per_slice)
            if place is not None:
                paths = {state: f"{folder}/{FlagName(level, number, state)}" for state in states}
                files[place] = paths
    return Listing(files, tuple(mosaics))


def _place(level: str, number: int | str, mosaic: int, per_slice: int) -> Place | None:
    """Place of a flag; None where it lies in a folder that is not its own."""
    if level == "tilemap":
        return None if mosaic else tilemap_place(str(number))
    if level == "focus":
        return None if mosaic else focus_place(str(number))
    if level == "slice":
        return None if mosaic else slice_place(int(number))
    if level == "mosaic":
        return mosaic_place(mosaic, per_slice) if number == mosaic else None
    return batch_place(mosaic, int(number), per_slice) if mosaic else None
