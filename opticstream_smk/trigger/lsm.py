"""Light-sheet strips as the watcher sees them: what is new, what settles, what may be entered."""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.config.acquisition import Source
from opticstream_smk.errors import NamingError, OpticStreamError
from opticstream_smk.naming.lsm import LsmStrip, lsm_strip_of_folder
from opticstream_smk.plan import project_layout
from opticstream_smk.state.flags import Flag, read_flag
from opticstream_smk.state.lsm import LsmProjectState, strip_place
from opticstream_smk.trigger.settle import Looked, Sight
from opticstream_smk.trigger.sources import SourceFolder
from opticstream_smk.trigger.strip_ready import (
    FolderStamp,
    enter_strip,
    folder_stamp,
    forget_problem,
    has_products,
    is_remainder,
    reacquired_message,
    record_problem,
    recorded_problems,
    recorded_stamp,
    running_message,
    strip_fingerprint,
    strip_flag,
)
from opticstream_smk.trigger.strips import StripContents, check_spool, has_files, look_into

log = logging.getLogger(__name__)

# Where a clean-up moves the folders of finished strips.
_CLEANED_UP = "processed"


@dataclass(frozen=True)
class _Held:
    """Why a folder that is at rest is not entered; `is_over` says when to look at it again."""

    state: str
    problem: str
    is_over: Callable[[], bool]


@dataclass
class _Folder:
    """A strip folder, and what is known of it from earlier looks.

    Attributes
    ----------
    done
        How the folder and its ``.ready`` looked when nothing was left to do; None: something is.
    recheck_at
        When its files are compared again all the same.
    reacquired
        Fingerprint of new files that were reported.
    restarts
        How often it was found changed just when it had settled.
    """

    path: Path
    key: LsmStrip
    is_new: bool = True
    done: Hashable = None
    recheck_at: float = 0.0
    reacquired: str | None = None
    held: _Held | None = None
    restarts: int = 0


@dataclass(frozen=True)
class _Seen:
    """A strip that is not dealt with yet, as last seen."""

    folder: _Folder
    contents: StripContents | None = None
    problem: str | None = None
    is_small: bool = False


class LsmStrips:
    """Strip folders of the source folders; a domain of :class:`settle.Intake`.

    A look lists every source folder and walks the strip folders that are not dealt with. Those
    that are cost one look at the folder itself and one at its ``.ready``; one of them at a time is
    walked again after ``watch.recheck_s``.

    Parameters
    ----------
    force
        Enter every strip again, once for each state of its files.
    """

    def __init__(
        self,
        config: Config,
        *,
        force: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.force = force
        self._layout = project_layout(config)
        self._clock = clock
        self._sources = [_Source(config, source) for source in config.acquisition.sources]
        self._seen: dict[LsmStrip, _Seen] = {}
        self._forced: set[tuple[LsmStrip, str]] = set()
        self._rechecked = False
        # Strips whose problem is on record, on disk; None: not looked up yet.
        self._recorded: set[LsmStrip] | None = None
        self._reported: dict[LsmStrip, str] = {}

    def describe(self, key: LsmStrip) -> str:
        """The strip for people."""
        return str(strip_place(*key))

    # --------------------------------------------------------------------------------- looking
    def look(self) -> Looked[LsmStrip]:
        """Look at the source folders once; strips that are entered are not walked."""
        messages: dict[Hashable, str] = {}
        folders: dict[LsmStrip, dict[Path, _Folder]] = defaultdict(dict)
        away: set[LsmStrip] = set()
        for source in self._sources:
            source.look(messages)
            for folder in source.folders:
                folders[folder.key].setdefault(folder.path, folder)
                if source.is_away:
                    away.add(folder.key)
        self._rechecked = False
        self._seen = {}
        sights = {}
        unclear: set[LsmStrip] = set()
        for key in sorted(folders.keys() - away):
            try:
                sight = self._look_at(key, list(folders[key].values()))
            except (OpticStreamError, OSError) as error:
                messages["state", key] = f"{self.describe(key)}: {error}"
                unclear.add(key)
                continue
            if sight is not None:
                sights[key] = sight
        if not any(source.is_away for source in self._sources):
            reacquired = {
                key for key, twins in folders.items() for f in twins.values() if f.reacquired
            }
            try:
                self._forget_problems({*sights, *reacquired, *unclear})
            except (OpticStreamError, OSError) as error:
                messages["records", str(self._layout.root)] = str(error)
        return Looked(sights, away, messages)

    def _look_at(self, key: LsmStrip, folders: list[_Folder]) -> Sight | None:
        """What there is to wait for in the folders of one strip; None when there is nothing."""
        if len(folders) > 1:
            # The empty folder that a clean-up leaves is no rival.
            folders = [folder for folder in folders if has_files(folder.path)]
        if len(folders) > 1:
            return self._twice(key, folders)
        return self._look_at_folder(key, folders[0]) if folders else None

    def _look_at_folder(self, key: LsmStrip, folder: _Folder) -> Sight | None:
        ready_path = strip_flag(self._layout, key, "ready")
        stamp = folder_stamp(folder.path)
        stamps = (stamp, folder_stamp(ready_path))
        if self._is_done(folder, stamps):
            return None
        ready = read_flag(ready_path)
        is_new, folder.is_new = folder.is_new, False
        if is_new and self._is_as_entered(key, ready, stamp):
            # A watcher that starts does not walk all strips at once.
            folder.done, folder.recheck_at = stamps, self._clock()
            return None
        contents = look_into(folder.path)
        problem = contents.problem or _held_problem(folder, contents)
        if problem is None:
            if contents.files < self.config.lsm.min_files:
                folder.reacquired = None
                return self._small(key, folder, contents)
            if self._is_dealt_with(folder, contents, ready):
                folder.done = stamps
                folder.recheck_at = self._clock() + self.config.watch.recheck_s
                return None
            folder.reacquired = None
        self._seen[key] = _Seen(folder, contents, problem)
        fingerprint = (folder.path, contents.state, problem, folder.restarts)
        note = f"{self.describe(key)}: {problem}" if problem else ""
        return Sight(fingerprint, self.config.watch.stability_s, note)

    def _is_done(self, folder: _Folder, stamps: Hashable) -> bool:
        """Whether a folder needs no walk in this look."""
        if folder.done is None or folder.done != stamps:
            return False
        if self._clock() < folder.recheck_at or self._rechecked:
            return True
        self._rechecked = True
        return False

    def _is_as_entered(self, key: LsmStrip, ready: Flag | None, stamp: FolderStamp | None) -> bool:
        """Whether a folder seems to be as ``.ready`` has it, without a walk."""
        return (
            ready is not None
            and not self.force
            and recorded_stamp(ready) == stamp
            and not strip_flag(self._layout, key, "failed").exists()
        )

    def _is_dealt_with(self, folder: _Folder, contents: StripContents, ready: Flag | None) -> bool:
        if is_remainder(self._layout, folder.key, contents):
            return True
        if self._must_force(folder.key, contents):
            return False
        if contents.fingerprint == strip_fingerprint(ready):
            folder.reacquired = None
            return True
        told = contents.fingerprint == folder.reacquired
        return told and ready is not None and has_products(self._layout, folder.key)

    def _must_force(self, key: LsmStrip, contents: StripContents) -> bool:
        return self.force and (key, contents.fingerprint) not in self._forced

    def _twice(self, key: LsmStrip, folders: list[_Folder]) -> Sight:
        names = sorted(str(folder.path) for folder in folders)
        problem = (
            f"the strip is there twice: {' and '.join(names)}. Move the wrong one out of the "
            "source folder, or correct slice_offset; which one is wrong is not guessed."
        )
        self._seen[key] = _Seen(folders[0], problem=problem)
        note = f"{self.describe(key)}: {problem}"
        return Sight(("twice", *names), self.config.watch.stability_s, note)

    def _small(self, key: LsmStrip, folder: _Folder, contents: StripContents) -> Sight | None:
        """A folder with too few files: not yet a strip, or what is left of one."""
        if contents.files == 0 or has_products(self._layout, key):
            return None
        self._seen[key] = _Seen(folder, contents, is_small=True)
        watch = self.config.watch
        note = (
            f"{self.describe(key)}: {folder.path} has fewer than {self.config.lsm.min_files} files"
        )
        return Sight((folder.path, contents.state), watch.incomplete_timeout_s, note)

    def _forget_problems(self, present: Collection[LsmStrip]) -> None:
        """Remove the records of problems that are no more."""
        if self._recorded is None:
            self._recorded = recorded_problems(self._layout)
        for key in self._recorded - set(present):
            forget_problem(self.config, key)
            self._forget_report(key)

    def _forget_report(self, key: LsmStrip) -> None:
        self._reported.pop(key, None)
        if self._recorded is not None:
            self._recorded.discard(key)

    # -------------------------------------------------------------------------------- entering
    def settled(self, key: LsmStrip) -> bool:
        """Enter a strip that has settled; report one that stays wrong or small."""
        seen = self._seen[key]
        folder = seen.folder
        if seen.problem is not None:
            self._report(key, seen.problem)
            return False
        if seen.contents is None or seen.is_small:
            log.error("%s", self._small_message(key, seen))
            return False
        stamp = folder_stamp(folder.path)
        contents = look_into(folder.path, check_access=True)
        if contents.state != seen.contents.state:
            folder.restarts += 1
            return False
        problem, odd = contents.problem, None
        if problem is None:
            problem, odd = check_spool(folder.path, contents)
        if problem is not None:
            folder.held = _Held(contents.state, problem, _access_again(contents))
            self._report(key, problem)
            return False
        if odd:
            log.warning("%s: %s", self.describe(key), odd)
        entry = enter_strip(
            self.config,
            key,
            folder.path,
            contents,
            stamp=stamp,
            stage="watch",
            force=self._must_force(key, contents),
        )
        if entry == "running":
            problem = running_message(folder.path)
            folder.held = _Held(contents.state, problem, lambda: not self._is_running(key))
            return False
        self._forced.add((key, contents.fingerprint))
        folder.done = (stamp, folder_stamp(strip_flag(self._layout, key, "ready")))
        folder.recheck_at = self._clock() + self.config.watch.recheck_s
        if entry == "reacquired":
            folder.reacquired = contents.fingerprint
            if self._recorded is not None:
                self._recorded.add(key)
            log.error("%s", reacquired_message(self.config, key, folder.path, contents))
            return False
        self._forget_report(key)
        if entry == "unchanged":
            log.info("[SKIP] %s: its files are known", self.describe(key))
            return False
        log.info(
            "%s is ready: %d files, %.2f GB in %s",
            self.describe(key),
            contents.files,
            contents.n_bytes / 1e9,
            folder.path,
        )
        return True

    def _is_running(self, key: LsmStrip) -> bool:
        return LsmProjectState(self._layout).node(strip_place(*key)).is_running

    def _report(self, key: LsmStrip, problem: str) -> None:
        """Tell a problem and put it on record, once."""
        message = f"{self.describe(key)}: {problem}"
        if self._reported.get(key) == message:
            return
        log.error("%s", message)
        record_problem(self.config, key, message)
        self._reported[key] = message
        if self._recorded is not None:
            self._recorded.add(key)

    def _small_message(self, key: LsmStrip, seen: _Seen) -> str:
        files = seen.contents.files if seen.contents else 0
        return (
            f"{self.describe(key)}: {seen.folder.path} has {files} files, and nothing has changed "
            f"for {self.config.watch.incomplete_timeout_s:g} s; a strip has at least "
            f"{self.config.lsm.min_files}. If it is complete, lower lsm.min_files; else acquire it "
            "again or remove it."
        )


def _held_problem(folder: _Folder, contents: StripContents) -> str | None:
    held = folder.held
    if held is not None and (held.state != contents.state or held.is_over()):
        held = folder.held = None
    return held.problem if held else None


def _access_again(contents: StripContents) -> Callable[[], bool]:
    """Whether what could not be read can be; what is wrong with its content stays so."""
    path = contents.unreadable
    return lambda: path is not None and os.access(path, os.R_OK, effective_ids=True)


class _Source:
    """A source folder and the strip folders in it."""

    def __init__(self, config: Config, source: Source) -> None:
        self.is_away = False
        self._folder = SourceFolder(source.dir)
        self._slice_offset = source.slice_offset
        self._strips_per_slice = config.lsm.strips_per_slice
        self._prefix = config.lsm.folder_prefix.casefold()
        # By folder name: the strip; a message about a name that is none.
        self._known: dict[str, _Folder | str] = {}

    @property
    def folders(self) -> Iterator[_Folder]:
        """Strip folders as last seen."""
        return (known for known in self._known.values() if isinstance(known, _Folder))

    def look(self, messages: dict[Hashable, str]) -> None:
        """List the folder once."""
        entries = self._folder.entries(in_use=any(True for _ in self.folders))
        self.is_away = entries is None
        if entries is None:
            path = str(self._folder.path)
            messages["source", path] = self._folder.message or f"{path} is away"
            return
        # Names that have gone are forgotten with the old dictionary.
        before, self._known = self._known, {}
        for entry in entries:
            if not self._is_candidate(entry):
                continue
            known = before[entry.name] if entry.name in before else self._parse(entry)
            self._known[entry.name] = known
            if isinstance(known, str):
                messages["name", entry.path] = known

    def _is_candidate(self, entry: os.DirEntry[str]) -> bool:
        name = entry.name.casefold()
        if not name.startswith(self._prefix) or name.startswith(_CLEANED_UP):
            return False
        try:
            return entry.is_dir()
        except OSError:
            return False  # a link that leads nowhere

    def _parse(self, entry: os.DirEntry[str]) -> _Folder | str:
        try:
            key = lsm_strip_of_folder(
                entry.name,
                slice_offset=self._slice_offset,
                strips_per_slice=self._strips_per_slice,
            )
        except NamingError as error:
            return f"{entry.path} is ignored: {error}"
        return _Folder(Path(entry.path), key)
