"""PS-OCT batches as the watcher sees them: what is new, what settles, what may be entered."""

import logging
import time
from collections.abc import Callable, Hashable

from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError, OpticStreamError
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.state.flags import read_flag
from opticstream_smk.trigger.batches import BatchKey, RawBatch
from opticstream_smk.trigger.discover import Discovery, RawFolders
from opticstream_smk.trigger.ready import (
    enter_batch,
    forget_problem,
    is_entered,
    late_message,
    record_problem,
    stale_message,
)
from opticstream_smk.trigger.settle import Looked, Sight
from opticstream_smk.trigger.withdrawals import Withdrawals

log = logging.getLogger(__name__)


class PsoctBatches:
    """Batches of the source folders; a domain of :class:`settle.Intake`.

    Parameters
    ----------
    force
        Enter every batch again, once for each state of its files.
    replace_results
        Process the new files of a finished batch instead of reporting them.
    allow_missing
        Tiles that a mosaic may lack; None: as ``mosaic.allow_missing_tiles`` says.
    """

    def __init__(
        self,
        config: Config,
        *,
        force: bool = False,
        replace_results: bool = False,
        allow_missing: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._plan = Plan(config, project_layout(config))
        self._folders = RawFolders(config)
        self._force = force
        self._replace_results = replace_results
        self._allow_missing = (
            config.mosaic.allow_missing_tiles if allow_missing is None else allow_missing
        )
        self._clock = clock
        self._recheck_at = clock() + config.watch.recheck_s
        # Entered batches with their files then. What is not processed yet is looked at each time:
        # an acquisition may send a tile again. Processed ones are known by what costs no stat.
        self._entered: dict[BatchKey, RawBatch] = {}
        self._finished: dict[BatchKey, int] = {}
        self._seen: dict[BatchKey, RawBatch] = {}
        # Batches that have no record of a problem with their files, and those that have one.
        self._sound: set[BatchKey] = set()
        self._recorded: dict[BatchKey, tuple[RawBatch, str]] = {}
        self._forced: set[tuple[BatchKey, str]] = set()
        self._odd: dict[Hashable, str] = {}
        self._has_looked = False
        self._withdrawals = Withdrawals(project_layout(config))
        self._told_stale: set[tuple[BatchKey, str]] = set()

    def look(self) -> Looked[BatchKey]:
        """Look at the source folders once; batches that are entered cost no stat."""
        if self._clock() >= self._recheck_at:
            self._finished.clear()
            self._recheck_at = self._clock() + self.config.watch.recheck_s
        if self._withdrawals.happened():
            # A redo from the raw files: what has no .ready any more is entered again.
            for known in (self._finished, self._entered, self._told_stale):
                known.clear()
        self._plan = Plan(self.config, project_layout(self.config))
        self._note_finished()
        found = self._folders.look(self._finished.keys())
        if self._note_signatures(found):
            found = self._folders.look(self._finished.keys())
        self._seen = {batch.key: batch for batch in found.batches}
        sights = {}
        refused: dict[Hashable, str] = {}
        for key, batch in self._seen.items():
            if self._entered.get(key) == batch:
                continue
            self._entered.pop(key, None)
            if not batch.problems and key not in self._sound:
                self._sound.add(key)
                forget_problem(self.config, key)
            if key in self._recorded:
                self._keep_recorded(batch)
            try:
                if not batch.problems and self._is_done_with(batch):
                    self._entered[key] = batch
                elif late := late_message(self._plan, batch):
                    refused["late", key] = late
                else:
                    sights[key] = self._sight(batch)
            except OpticStreamError as error:
                refused["flag", key] = str(error)
        if not self._has_looked and self._entered:
            log.info("[SKIP] %d batches have been entered before", len(self._entered))
        self._has_looked = True
        # A file that is being written says something else at every look: what stays is told.
        stays = {
            about: text for about, text in found.problems.items() if self._odd.get(about) == text
        }
        self._odd = found.problems
        return Looked(sights, found.away, stays | refused)

    def _note_finished(self) -> None:
        layout = project_layout(self.config)
        for key in list(self._entered):
            if layout.batch_flag(*key, "processed").exists():
                self._finished[key] = self._entered.pop(key).signature

    def _note_signatures(self, found: Discovery) -> bool:
        """Whether a finished batch has other files than before; it is then looked at."""
        changed = [
            key for key, signature in found.signatures.items() if self._finished[key] != signature
        ]
        for key in changed:
            del self._finished[key]
        return bool(changed)

    def _is_done_with(self, batch: RawBatch) -> bool:
        if self._told_stale and (batch.key, batch.fingerprint) in self._told_stale:
            return True
        if not is_entered(self.config, batch):
            return False
        if self._force and (batch.key, batch.fingerprint) not in self._forced:
            return False
        forget_problem(self.config, batch.key, stale=True)
        return True

    def _sight(self, batch: RawBatch) -> Sight:
        watch = self.config.watch
        fingerprint = (batch.files, batch.problems)
        if batch.problems:
            return Sight(fingerprint, watch.stability_s, f"{batch.where}: {batch.problems[0]}")
        if batch.missing and not self._is_closed(batch):
            note = f"{batch.where}: {batch.progress}"
            return Sight(fingerprint, watch.incomplete_timeout_s, note)
        return Sight(fingerprint, watch.stability_s)

    def _is_closed(self, batch: RawBatch) -> bool:
        """Whether a person has accepted the mosaic without these tiles."""
        closed = self._plan.closed_without(batch.mosaic)
        return bool(closed) and closed.issuperset(batch.missing)

    def describe(self, key: BatchKey) -> str:
        """The batch for people."""
        return f"mosaic {key[0]:03d} batch {key[1]:03d}"

    def settled(self, key: BatchKey) -> bool:
        """Enter a batch that has settled; report one that stays wrong or incomplete."""
        batch = self._seen[key]
        if batch.problems:
            for problem in batch.problems:
                log.error("%s: %s", batch.where, problem)
            self._record(batch, "\n".join(batch.problems))
            return False
        if batch.missing and not self._is_closed(batch) and not self._may_lack(batch):
            log.error("%s", self._incomplete_message(batch))
            return False
        force = self._force and (key, batch.fingerprint) not in self._forced
        try:
            entry = enter_batch(
                self.config,
                batch,
                stage="watch",
                force=force,
                replace_results=self._replace_results,
                allow_missing=self._allow_missing,
            )
        except CorruptInputError as error:
            self._record(batch, str(error))
            raise
        self._recorded.pop(key, None)
        self._forced.add((key, batch.fingerprint))
        self._entered[key] = batch
        if entry == "stale":
            self._told_stale.add((key, batch.fingerprint))
            log.error("%s", stale_message(batch))
        elif entry == "unchanged":
            log.info("[SKIP] %s: its files are known", batch.where)
        return entry == "written"

    def _record(self, batch: RawBatch, error: str) -> None:
        self._sound.discard(batch.key)
        self._recorded[batch.key] = (batch, error)
        record_problem(self.config, batch, error)

    def _keep_recorded(self, batch: RawBatch) -> None:
        """A problem that lasts stays on record, also after `optic-trigger retry`."""
        recorded, error = self._recorded[batch.key]
        if batch != recorded:
            del self._recorded[batch.key]
        elif not project_layout(self.config).batch_flag(*batch.key, "failed").exists():
            record_problem(self.config, batch, error)

    def _may_lack(self, batch: RawBatch) -> bool:
        if not batch.images or len(batch.missing) > self._allow_missing:
            return False
        layout = project_layout(self.config)
        others = (
            read_flag(path)
            for path in layout.mosaic_state(batch.mosaic).glob("batch-*.ready")
            if path != layout.batch_flag(*batch.key, "ready")
        )
        lacking = sum(len(flag.tiles.missing) for flag in others if flag)
        return lacking + len(batch.missing) <= self._allow_missing

    def _incomplete_message(self, batch: RawBatch) -> str:
        missing = ",".join(map(str, batch.missing))
        folders = ", ".join(sorted({str(file.path.parent) for file in batch.files}))
        return (
            f"{batch.where}: {batch.progress} in {folders}, and nothing has changed for "
            f"{self.config.watch.incomplete_timeout_s:g} s. If they will not come: set "
            f"mosaic.allow_missing_tiles: {len(batch.missing)} to go on, or run `optic-trigger "
            f"close --mosaic {batch.mosaic} --missing {missing}`."
        )
