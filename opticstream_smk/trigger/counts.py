"""How far everything is, counted from the names of flags."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.errors import ServiceError
from opticstream_smk.naming.lsm import parse_lsm_flag
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.state.lsm import DONE as LSM_DONE
from opticstream_smk.state.places import DONE, present_states

_States = Mapping[tuple[str, int | str], frozenset[str]]


@dataclass(frozen=True)
class Total:
    """So many of so many, of the whole project: ``3 of 4 mosaics stitched``."""

    what: str
    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.done} of {self.total} {self.what}"


@dataclass(frozen=True)
class Bar:
    """How far one mosaic or channel is.

    Attributes
    ----------
    where
        As people call it: ``mosaic 003 normal``.
    done, ready, total
        Batches (or strips) that are processed, that have come, and that there will be.
    what
        What is done with them: ``processed``.
    """

    where: str
    done: int
    ready: int
    total: int
    what: str


@dataclass(frozen=True)
class Counts:
    """How far a project is.

    Attributes
    ----------
    bars
        Of what is not finished, in order.
    """

    totals: tuple[Total, ...] = ()
    bars: tuple[Bar, ...] = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self.totals))


class StateCounter:
    """Counts the flags of a project again and again.

    A folder whose time has not changed is not listed again, so that a count costs one stat for each
    mosaic or channel.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._layout = project_layout(config)
        self._folders: dict[Path, _Folder] = {}

    def count(self) -> Counts:
        """Count now."""
        if self._config.project.pipeline == "lsm":
            return self._count_strips()
        return self._count_batches()

    def _count_batches(self) -> Counts:
        plan = Plan(self._config, self._layout)
        bars, stitched, slices = [], 0, set()
        mosaics = self._layout.mosaics()
        for mosaic in mosaics:
            states = self._states(self._layout.mosaic_state(mosaic))
            slices.add(plan.slice(mosaic))
            if DONE["mosaic"] in states.get(("mosaic", mosaic), ()):
                stitched += 1
                continue
            batches = [states.get(("batch", batch), frozenset()) for batch in plan.batches(mosaic)]
            bars.append(
                Bar(
                    where=f"mosaic {mosaic:03d} {plan.acquisition(mosaic)}",
                    done=sum(DONE["batch"] in batch for batch in batches),
                    ready=sum("ready" in batch for batch in batches),
                    total=len(batches),
                    what="processed",
                )
            )
        totals = [Total("mosaics stitched", stitched, len(mosaics))]
        if self._config.registration.enabled:
            states = self._states(self._layout.state)
            done = sum(DONE["slice"] in states.get(("slice", slice_), ()) for slice_ in slices)
            totals.insert(0, Total("slices registered", done, len(slices)))
        return Counts(tuple(totals), tuple(bars))

    def _count_strips(self) -> Counts:
        bars, stitched = [], 0
        channels = self._layout.channels()
        for slice_, channel in channels:
            states = self._states(self._layout.channel_state(slice_, channel), _present_strips)
            if LSM_DONE["channel"] in states.get(("channel", channel), ()):
                stitched += 1
                continue
            strips = [found for (level, _), found in states.items() if level == "strip"]
            bars.append(
                Bar(
                    where=f"slice {slice_:02d} channel {channel:02d}",
                    done=sum(LSM_DONE["strip"] in strip for strip in strips),
                    ready=sum("ready" in strip for strip in strips),
                    total=max(self._config.lsm.strips_per_slice, len(strips)),
                    what="compressed",
                )
            )
        return Counts((Total("channels stitched", stitched, len(channels)),), tuple(bars))

    def _states(self, path: Path, read: Callable[[Path], _States] = present_states) -> _States:
        return self._folders.setdefault(path, _Folder(path, read)).look()


def _present_strips(folder: Path) -> _States:
    """Flags and records of a channel and its strips: their states by level and number."""
    found: dict[tuple[str, int | str], set[str]] = {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        flag = parse_lsm_flag(name)
        if flag is not None:
            found.setdefault((flag.level, flag.id), set()).add(flag.state)
    return {key: frozenset(states) for key, states in found.items()}


class _Folder:
    """A folder of flags, listed when its time has changed."""

    def __init__(self, path: Path, read: Callable[[Path], _States]) -> None:
        self._path = path
        self._read = read
        self._states: _States = {}
        self._listed_at: int | None = None
        self._is_sure = False

    def look(self) -> _States:
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._listed_at or not self._is_sure:
                states = self._read(self._path)
                # A change within the clock tick of a listing leaves the time: list once more.
                self._is_sure = changed_at == self._listed_at
                self._listed_at, self._states = changed_at, states
        except FileNotFoundError:
            self._listed_at, self._states = None, {}
        except (OSError, ServiceError):
            self._listed_at = None  # what was known stays until it can be listed again
        return self._states
