"""Places of a PS-OCT project that have flags, and the files of those flags."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from opticstream_smk import naming
from opticstream_smk.errors import NamingError, ServiceError
from opticstream_smk.layout import ProjectLayout

Level = Literal["batch", "mosaic", "slice", "tilemap", "focus"]

# Flags in the order in which they are written: by the stages, `closed` by an operator.
FLAGS: Mapping[Level, tuple[str, ...]] = MappingProxyType(
    {
        "batch": ("ready", "complex", "processed", "qc", "archived"),
        "mosaic": (
            "closed",
            "coordinates",
            "stitched",
            *map(naming.volume_state, naming.VOLUME_MODALITIES),
            "volume_stitched",
        ),
        "slice": ("registered",),
        "tilemap": ("solved",),
        "focus": ("fitted",),
    }
)
# The flag that says that a level is done.
DONE: Mapping[Level, str] = MappingProxyType(
    {
        "batch": "processed",
        "mosaic": "stitched",
        "slice": "registered",
        "tilemap": "solved",
        "focus": "fitted",
    }
)
# Records say what is or was going on. They are replaced at each attempt and prove nothing.
RECORDS = ("started", "failed", "stale")


@dataclass(frozen=True, order=True)
class Place:
    """One node of the hierarchy; ids that a level does not have are None."""

    level: Level
    slice: int | None = None
    mosaic: int | None = None
    batch: int | None = None
    acquisition: str | None = None

    @property
    def ids(self) -> dict[str, int | None]:
        """Ids as flags and events carry them."""
        return {"slice": self.slice, "mosaic": self.mosaic, "batch": self.batch}

    def __str__(self) -> str:
        if self.level == "batch":
            return f"mosaic {self.mosaic:03d} batch {self.batch:03d}"
        if self.level == "mosaic":
            return f"mosaic {self.mosaic:03d}"
        if self.level == "slice":
            return f"slice {self.slice:02d}"
        return f"{self.acquisition} {'focus plane' if self.level == 'focus' else self.level}"


def batch_place(mosaic: int, batch: int, mosaics_per_slice: int = 2) -> Place:
    """Place of a batch."""
    slice_, _ = naming.slice_of_mosaic(mosaic, mosaics_per_slice)
    naming.batch_stem(batch)
    return Place("batch", slice_, mosaic, batch)


def mosaic_place(mosaic: int, mosaics_per_slice: int = 2) -> Place:
    """Place of a mosaic."""
    return Place("mosaic", naming.slice_of_mosaic(mosaic, mosaics_per_slice)[0], mosaic)


def slice_place(slice_: int) -> Place:
    """Place of a slice."""
    naming.slice_stem(slice_)
    return Place("slice", slice_)


def tilemap_place(acquisition: str) -> Place:
    """Place of a coordinate template."""
    naming.tilemap_stem(acquisition)
    return Place("tilemap", acquisition=acquisition)


def focus_place(acquisition: str) -> Place:
    """Place of a focus plane."""
    naming.focus_stem(acquisition)
    return Place("focus", acquisition=acquisition)


def flag_path(layout: ProjectLayout, place: Place, state: str) -> Path:
    """File of a flag or record."""
    if place.level == "batch":
        return layout.batch_flag(place.mosaic or 0, place.batch or 0, state)
    if place.level == "mosaic":
        return layout.mosaic_flag(place.mosaic or 0, state)
    if place.level == "slice":
        return layout.slice_flag(place.slice or 0, state)
    if place.level == "focus":
        return layout.focus_flag(place.acquisition or "", state)
    return layout.tilemap_flag(place.acquisition or "", state)


def parse_flag_path(path: Path, mosaics_per_slice: int = 2) -> tuple[Place, str] | None:
    """Place and state of a flag file in its folder; None for other files."""
    name = naming.parse_flag(path.name)
    if name is None:
        return None
    try:
        if name.level == "tilemap":
            return tilemap_place(str(name.id)), name.state
        if name.level == "focus":
            return focus_place(str(name.id)), name.state
        if name.level == "slice":
            return slice_place(int(name.id)), name.state
        if name.level == "mosaic":
            return mosaic_place(int(name.id), mosaics_per_slice), name.state
        mosaic = naming.parse_mosaic_folder(path.parent.parent.name)
        return (
            (batch_place(mosaic, int(name.id), mosaics_per_slice), name.state) if mosaic else None
        )
    except NamingError:
        return None


def present_states(folder: Path) -> dict[tuple[str, int | str], frozenset[str]]:
    """Flags and records in one folder: their states by level and the id in their names.

    Names alone decide: one listing, nothing is opened. Names of another padding do not count,
    because nobody finds them by their path; ``doctor --fix`` renames them.

    Raises
    ------
    ServiceError
        The folder is there and cannot be listed.
    """
    found: dict[tuple[str, int | str], set[str]] = {}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ServiceError(
            f"{folder} cannot be listed ({error.strerror}); correct its permissions, or mount the "
            "disk again"
        ) from error
    for name in names:
        flag = naming.parse_flag(name)
        if flag is not None and flag.id and str(flag) == name:
            found.setdefault((flag.level, flag.id), set()).add(flag.state)
    return {key: frozenset(states) for key, states in found.items()}
