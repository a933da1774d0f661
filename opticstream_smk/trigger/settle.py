"""When something has stopped changing: one engine for tiles, strips and whatever comes.

Nothing here knows what is looked at. A domain says what it sees (:class:`Sight`: a fingerprint and
how long it must stay the same) and is told when that time has passed.
"""

import logging
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from opticstream_smk.errors import OpticStreamError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Sight:
    """One thing as it was seen in one look.

    Attributes
    ----------
    fingerprint
        Equal as long as nothing has changed.
    quiet_s
        Seconds that it must stay unchanged.
    note
        For people: what it waits for or what is wrong; empty when it only has to settle.
    """

    fingerprint: Hashable
    quiet_s: float
    note: str = ""


@dataclass
class _Track:
    fingerprint: Hashable
    unchanged_since: float | None = None
    told: bool = False


class Settler(Generic[K]):
    """Follows what is seen from look to look.

    The first sight starts nothing. The clock runs from the first look that finds a thing unchanged,
    so with looks every P seconds something quiet settles P + quiet_s after its first sight.

    Parameters
    ----------
    clock
        Seconds of a clock that is never set, as the time of day is.

    Attributes
    ----------
    is_busy
        Whether the last look saw a change, or something that only has to settle.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tracks: dict[K, _Track] = {}
        self.is_busy = False

    def look(self, sights: Mapping[K, Sight], suspended: Collection[K] = ()) -> list[K]:
        """Take in one look.

        Parameters
        ----------
        sights
            Everything that is seen now. What is no longer seen is forgotten.
        suspended
            Things that cannot be seen because their folder is away: they are neither forgotten nor
            do they grow older.

        Returns
        -------
        list
            What has now been unchanged for its time; each thing once until it changes.
        """
        now = self._clock()
        self.is_busy = False
        for key in self._tracks.keys() - sights.keys() - set(suspended):
            del self._tracks[key]
        for key in suspended:
            if key in self._tracks and key not in sights:
                self._tracks[key].unchanged_since = None
        settled = []
        for key, sight in sights.items():
            track = self._tracks.get(key)
            if track is None or track.fingerprint != sight.fingerprint:
                self._tracks[key] = _Track(sight.fingerprint)
                self.is_busy = True
                continue
            if track.unchanged_since is None:
                track.unchanged_since = now
            if not track.told and now - track.unchanged_since >= sight.quiet_s:
                track.told = True
                settled.append(key)
            self.is_busy |= not track.told and not sight.note
        return settled

    def forget(self, key: K) -> None:
        """Start afresh with a thing at its next sight."""
        self._tracks.pop(key, None)

    def unchanged_since(self, key: K) -> float | None:
        """Clock reading from which a thing is unchanged; None while it changes or is unknown."""
        track = self._tracks.get(key)
        return track.unchanged_since if track else None

    def __len__(self) -> int:
        return len(self._tracks)


@dataclass(frozen=True)
class Looked(Generic[K]):
    """What a domain saw in one look.

    Attributes
    ----------
    sights
        Everything that is not dealt with yet.
    suspended
        What cannot be seen now because its folder is away.
    messages
        For people, by what they are about; each is logged once until it changes.
    """

    sights: Mapping[K, Sight] = field(default_factory=dict)
    suspended: Collection[K] = ()
    messages: Mapping[Hashable, str] = field(default_factory=dict)


class Domain(Protocol[K]):
    """What is looked at: PS-OCT batches, LSM strips."""

    def look(self) -> Looked[K]:
        """Look at the source folders once."""

    def describe(self, key: K) -> str:
        """What people call it."""

    def settled(self, key: K) -> bool:
        """Deal with something that has settled, as last seen.

        Returns
        -------
        bool
            Whether it is ready for processing now.
        """


class Intake(Generic[K]):
    """Look after look: what has settled is handed to its domain, what is odd is told once."""

    def __init__(self, domain: Domain[K], settler: Settler[K]) -> None:
        self.domain = domain
        self.settler = settler
        self.last = Looked[K]()
        self._told: dict[int, dict[Hashable, str]] = {}
        self._failed: dict[K, str] = {}

    def look(self) -> list[K]:
        """Look once; returns what became ready. An error about one thing stops no other."""
        self.last = self.domain.look()
        notes: dict[Hashable, str] = {
            key: sight.note for key, sight in self.last.sights.items() if sight.note
        }
        self._tell(logging.INFO, notes)
        self._tell(logging.WARNING, self.last.messages)
        ready = []
        for key in self.settler.look(self.last.sights, self.last.suspended):
            try:
                if self.domain.settled(key):
                    ready.append(key)
                self._failed.pop(key, None)
            except OpticStreamError as error:
                if self._failed.get(key) != str(error):
                    log.error("%s", error)
                self._failed[key] = str(error)
                self.settler.forget(key)
            except Exception:  # the loop outlives any defect about one thing
                log.exception("internal error about %s; it is looked at again", key)
                self.settler.forget(key)
        return ready

    def _tell(self, level: int, messages: Mapping[Hashable, str]) -> None:
        told = self._told.get(level, {})
        for about, message in messages.items():
            if told.get(about) != message:
                log.log(level, "%s", message)
        self._told[level] = dict(messages)
