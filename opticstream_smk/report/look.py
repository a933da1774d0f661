"""One look at a project: what is there, who is at work, what failed, what the watcher knows."""

import json
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.archive.folder import archive_folder
from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import Plan
from opticstream_smk.report.failures import (
    Failure,
    damaged_failure,
    flag_place,
    read_failure,
    stale_failure,
)
from opticstream_smk.report.listing import Listing, list_states
from opticstream_smk.report.workers import Worker, worker_at
from opticstream_smk.state.failures import BESIDE, failures_in, is_beside
from opticstream_smk.state.flags import Flag, now, read_flag
from opticstream_smk.state.places import (
    DONE,
    FLAGS,
    RECORDS,
    Place,
    batch_place,
    flag_path,
    focus_place,
    mosaic_place,
    slice_place,
    tilemap_place,
)
from opticstream_smk.trigger.control import Paused, paused
from opticstream_smk.trigger.snapshot import Snapshot, Tracked, read_snapshot

# How a flag's file spells that no tile is missing, and that there are warnings.
_NONE_MISSING = b'"missing": []'
_WARNINGS = b'"warnings"'
# How the watcher writes about a batch that lacks tiles.
_WHERE = re.compile(r"mosaic (\d+) batch")
_MISSING = re.compile(r"missing ([\d, ]+)")


@dataclass(frozen=True)
class Watching:
    """The watcher of a project, and whether it may start work.

    Attributes
    ----------
    worker
        The watcher's process; None when none runs.
    snapshot
        What it knows; None when none runs, or on another host.
    pause
        Who paused the project; also without a watcher.
    """

    worker: Worker | None
    snapshot: Snapshot | None
    pause: Paused | None

    @property
    def is_running(self) -> bool:
        """Whether a watcher works on the project."""
        return self.worker is not None

    def tracked(self, place: Place) -> Tracked | None:
        """What the watcher says about a batch that it sees and has not taken yet."""
        return self._tracked.get(str(place))

    def close_command(self, track: Tracked, clock_s: float) -> str:
        """How to go on without tiles that have not come for long; empty before that."""
        place, missing = _WHERE.match(track.where), _MISSING.search(track.note)
        since = track.unchanged_since
        if not place or not missing or since is None or clock_s - since < track.quiet_s:
            return ""
        images = ",".join(re.findall(r"\d+", missing[1]))
        return f"optic-trigger close --mosaic {int(place[1])} --missing {images}"

    @cached_property
    def _tracked(self) -> dict[str, Tracked]:
        return {track.where: track for track in (self.snapshot.tracked if self.snapshot else ())}


class Look:
    """What a project looks like now. Everything is read when it is first asked for.

    Parameters
    ----------
    only
        Mosaics that are asked about; None: all. Others are not listed.
    at, clock_s
        Time of day (UTC), and reading of the host's monotonic clock; now when not given.
    """

    def __init__(
        self,
        config: Config,
        only: Collection[int] | None = None,
        *,
        at: datetime | None = None,
        clock_s: float | None = None,
    ) -> None:
        self.config = config
        self.layout = ProjectLayout(config.project.dir)
        self.plan = Plan(config, self.layout)
        self.at = at or now()
        self.clock_s = time.monotonic() if clock_s is None else clock_s
        self.listing: Listing = list_states(self.layout, self.per_slice, only)
        self._workers: dict[tuple[Place, str], Worker | None] = {}
        self._failures: dict[Place, tuple[Failure, ...]] = {}

    # ------------------------------------------------------------------------------- places
    @property
    def per_slice(self) -> int:
        """Mosaics of a slice."""
        return self.config.acquisition.mosaics_per_slice

    def batch(self, mosaic: int, batch: int) -> Place:
        """Place of a batch."""
        return batch_place(mosaic, batch, self.per_slice)

    def mosaic(self, mosaic: int) -> Place:
        """Place of a mosaic."""
        return mosaic_place(mosaic, self.per_slice)

    def batches(self, mosaic: int) -> list[Place]:
        """Every batch of a mosaic's grid."""
        return [self.batch(mosaic, batch) for batch in self.plan.batches(mosaic)]

    def slices(self) -> list[int]:
        """Slices of which anything is there."""
        found = {self.plan.slice(mosaic) for mosaic in self.listing.mosaics}
        return sorted(found | {place.slice for place in self.listing.files if place.slice})

    def stage_flags(self, place: Place) -> tuple[str, ...]:
        """Flags that enabled stages write at a level, in order."""
        if place.level == "batch":
            return self.plan.batch_flags
        if place.level == "slice" and not self.config.registration.enabled:
            return ()
        if place.level == "mosaic":
            return (DONE["mosaic"], *self.plan.volume_flags)
        return (DONE[place.level],)

    # ------------------------------------------------------------------------------- watcher
    @cached_property
    def watching(self) -> Watching:
        """The watcher now."""
        worker = worker_at(self.layout.watcher_lock)
        snapshot = read_snapshot(self.layout) if worker else None
        return Watching(worker, snapshot, paused(self.layout))

    @cached_property
    def archive_problem(self) -> str:
        """Why nothing can be archived now; empty when it can, or when there is no archive."""
        folder = archive_folder(self.config, self.layout)
        return folder.problem() if folder else ""

    # -------------------------------------------------------------------------------- status
    def status(self, place: Place) -> str:
        """``done``, ``running``, ``failed``, ``ready``, ``acquiring``, ``absent`` or ``pending``.

        It tells of the computation, not of what runs beside it.
        ``acquiring`` is what the watcher sees and has not taken; ``absent`` a batch of which a
        person has accepted that no tile will come.
        """
        if self.listing.has(place, DONE[place.level]):
            return "done"
        focus = place.level == "focus"
        states = (state for state in FLAGS[place.level] if focus or state not in BESIDE)
        if any(self.worker(place, state) for state in states):
            return "running"
        if any(not is_beside(failure.flag) for failure in self.failures_at(place)):
            return "failed"
        if self.listing.has(place, "ready"):
            return "ready"
        if place.level == "batch" and self.watching.tracked(place):
            return "acquiring"
        return "absent" if self.is_absent(place) else "pending"

    def flag_status(self, place: Place, state: str, recorded_at: Place | None = None) -> str:
        """``done``, ``running``, ``failed`` or ``pending``: one flag by itself.

        Parameters
        ----------
        recorded_at
            Where its failures are on record; the place itself when not given.
        """
        if self.listing.has(place, state):
            return "done"
        if self.worker(place, state):
            return "running"
        name = flag_path(self.layout, place, state).name
        return "failed" if self.failure(recorded_at or place, name) else "pending"

    def focus_status(self, acquisition: str) -> str:
        """Status of a focus plane, whose failures are on record at its template mosaic."""
        template = self.plan.template_mosaic(acquisition)
        recorded_at = None if template is None else self.mosaic(template)
        return self.flag_status(focus_place(acquisition), "fitted", recorded_at)

    def is_absent(self, place: Place) -> bool:
        """Whether a person has closed a mosaic without any tile of this batch."""
        if place.level != "batch" or place.mosaic is None:
            return False
        closed = self.listing.has(self.mosaic(place.mosaic), "closed")
        return closed and place.batch not in self.plan.counted_batches(place.mosaic)

    def worker(self, place: Place, state: str) -> Worker | None:
        """Who makes a flag now. A flag that is there is not being made."""
        if self.listing.has(place, state):
            return None
        key = (place, state)
        if key not in self._workers:
            lock = self.layout.lock(flag_path(self.layout, place, state))
            self._workers[key] = worker_at(lock)
        return self._workers[key]

    def running(self) -> Iterator[tuple[Place, str, Worker]]:
        """Every flag that is being made, of places that are known."""
        slices = {self.plan.slice(mosaic) for mosaic in self.listing.mosaics}
        places = [
            *(batch for mosaic in self.listing.mosaics for batch in self.batches(mosaic)),
            *(self.mosaic(mosaic) for mosaic in self.listing.mosaics),
            *(slice_place(slice_) for slice_ in sorted(slices)),
            *(tilemap_place(label) for label in self.config.acquisition.labels),
            *(focus_place(label) for label in self.config.acquisition.labels),
        ]
        for place in places:
            for state in FLAGS[place.level]:
                worker = self.worker(place, state)
                if worker is not None:
                    yield place, state, worker

    def flag(self, place: Place, state: str) -> Flag | None:
        """What a flag says; None when it is not there.

        Raises
        ------
        CorruptInputError
            It is damaged.
        """
        path = self.listing.of(place).get(state)
        return read_flag(Path(path)) if path else None

    # ------------------------------------------------------------------------------ failures
    def failure(self, place: Place, flag: str | None = None) -> Failure | None:
        """What failed at a place and is not being tried again right now.

        Parameters
        ----------
        flag
            Name of the flag that is not there because of it; None: any, the computation first.
        """
        found = self.failures_at(place)
        return next((f for f in found if flag in (None, f.flag)), None)

    def failures_at(self, place: Place) -> tuple[Failure, ...]:
        """Everything that failed at a place; see :meth:`failure`."""
        if place not in self._failures:
            found = sorted(self._read_failures(place), key=lambda f: is_beside(f.flag))
            self._failures[place] = tuple(found)
        return self._failures[place]

    def _read_failures(self, place: Place) -> Iterator[Failure]:
        path = self.listing.of(place).get("failed")
        if path is None:
            return
        try:
            records = failures_in(read_flag(Path(path)))  # none when it was removed meanwhile
        except CorruptInputError as error:
            yield damaged_failure(self.layout, place, str(error))
            return
        watched = self.watching.is_running
        for record in records:
            failure = read_failure(self.config, self.layout, place, record, watched=watched)
            about, state = self._failed_flag(place, failure.flag)
            if not self._is_wanted(about, state) or self.listing.has(about, state):
                continue
            if self.worker(about, state) is None:
                yield failure

    def _is_wanted(self, place: Place, state: str) -> bool:
        """Whether a flag is made by today's configuration: what is switched off is no failure."""
        if place.level == "focus":
            return self.config.fits_focus
        return not state.startswith(naming.VOLUME) or state in self.plan.volume_flags

    def _failed_flag(self, place: Place, name: str) -> tuple[Place, str]:
        flag = naming.parse_flag(name)
        if flag is None:
            return place, DONE[place.level]
        return flag_place(place, flag), flag.state

    def failures(self) -> list[Failure]:
        """Everything that failed, and finished batches with other raw files now; by their ids."""
        failed = self.listing.with_state("failed")
        found = [failure for place in failed for failure in self.failures_at(place)]
        found += [stale_failure(self.layout, place) for place in self.listing.with_state("stale")]
        return sorted(found, key=lambda f: (f.slice, f.mosaic or 0, f.batch or 0))

    # --------------------------------------------------------------------------------- tiles
    def images(self, batch: Place) -> range:
        """Tiles of a batch."""
        return self.plan.images_of_batch(batch.mosaic or 1, batch.batch or 1)

    def missing_tiles(self, batch: Place) -> tuple[int, ...]:
        """Tiles that a batch was taken without."""
        path = self.listing.of(batch).get("ready")
        content = _content(path) if path else b""
        if not content or _NONE_MISSING in content:
            return ()
        try:
            return tuple(map(int, json.loads(content)["tiles"]["missing"]))
        except (ValueError, KeyError, TypeError):
            return ()  # doctor's matter

    # ------------------------------------------------------------------------------ warnings
    def warnings(self) -> list[str]:
        """Warnings of stages that succeeded, in order of the places.

        Every flag is read and none is parsed that does not hold the word: parsing takes twenty
        times as long as reading.
        """
        found = []
        for place in sorted(self.listing.files, key=_order):
            for state, path in self.listing.of(place).items():
                if state in RECORDS or state == "ready":
                    continue
                content = _content(path)
                if content is None:
                    found.append(f"{place}: {path} cannot be read; correct its permissions")
                elif _WARNINGS in content:
                    found += [f"{place}: {text}" for text in _warnings(content)]
        return found


def _content(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""  # withdrawn since the folder was listed
    except OSError:
        return None


def _warnings(content: bytes) -> list[str]:
    try:
        warnings = json.loads(content)["extra"].get("warnings", ())
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # a damaged flag is doctor's matter
    return [str(warning) for warning in warnings]


def _order(place: Place) -> tuple[int, int, int]:
    return place.slice or 0, place.mosaic or 0, place.batch or 0
