"""One pass over the raw folders that writes ``.ready`` for every complete, settled batch."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opticstream_smk.config import Config
from opticstream_smk.plan import Plan, project_layout, project_state
from opticstream_smk.state.flags import Flag, TileCount, fingerprint, now
from opticstream_smk.state.places import batch_place, flag_path
from opticstream_smk.trigger.discover import Discovery, RawBatch, discover

log = logging.getLogger(__name__)


@dataclass
class ScanResult:
    """What a pass found and did; lists hold (mosaic, batch).

    Attributes
    ----------
    written
        ``.ready`` is new, or replaced one of a batch that was not processed yet.
    unchanged
        ``.ready`` is there with the same fingerprint.
    stale
        The raw files of a finished batch have changed; its results are kept.
    waiting, problems
        For people: what is not complete yet, and what is wrong.
    """

    written: list[tuple[int, int]] = field(default_factory=list)
    unchanged: list[tuple[int, int]] = field(default_factory=list)
    stale: list[tuple[int, int]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def scan(
    config: Config,
    *,
    assume_stable: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> ScanResult:
    """Write ``.ready`` for every batch whose tiles are all there, right in size and at rest.

    Parameters
    ----------
    assume_stable
        Take every complete batch at once. Otherwise batches that have no ``.ready`` yet are
        looked at twice, ``watch.stability_s`` apart.
    """
    Plan(config, project_layout(config)).check_grid()
    result = ScanResult()
    found = discover(config)
    result.problems += found.problems
    candidates = _candidates(config, found, result)
    if candidates and not assume_stable and config.watch.stability_s > 0:
        log.info(
            "watching %d batches for %g s: nothing may change",
            len(candidates),
            config.watch.stability_s,
        )
        sleep(config.watch.stability_s)
        candidates = _settled(candidates, discover(config), result)
    for batch in candidates:
        _write_ready(config, batch, result)
    return result


def _candidates(config: Config, found: Discovery, result: ScanResult) -> list[RawBatch]:
    """Complete batches whose ``.ready`` is missing or lists other files."""
    candidates = []
    state = project_state(config)
    for batch in found.batches:
        result.problems += batch.problems
        if batch.problems:
            continue
        if batch.missing:
            complete = len(batch.images)
            result.waiting.append(
                f"mosaic {batch.mosaic:03d} batch {batch.batch:03d}: {complete} of "
                f"{complete + len(batch.missing)} tiles, missing "
                f"{', '.join(map(str, batch.missing))}"
            )
            continue
        view = state.peek_batch(batch.mosaic, batch.batch)
        ready = view.flags.get("ready") if view else None
        if ready is not None and ready.extra.get("fingerprint") == _fingerprint(batch):
            result.unchanged.append((batch.mosaic, batch.batch))
        else:
            candidates.append(batch)
    return candidates


def _fingerprint(batch: RawBatch) -> str:
    return fingerprint(file.as_input() for file in batch.files)


def _settled(before: list[RawBatch], found: Discovery, result: ScanResult) -> list[RawBatch]:
    after = {(batch.mosaic, batch.batch): batch for batch in found.batches}
    settled = []
    for batch in before:
        if after.get((batch.mosaic, batch.batch)) == batch:
            settled.append(batch)
        else:
            result.waiting.append(
                f"mosaic {batch.mosaic:03d} batch {batch.batch:03d}: still being written"
            )
    return settled


def _write_ready(config: Config, batch: RawBatch, result: ScanResult) -> None:
    layout = project_layout(config)
    per_slice = config.acquisition.mosaics_per_slice
    place = batch_place(batch.mosaic, batch.batch, per_slice)
    at = now()
    manifest = Flag(
        flag=flag_path(layout, place, "ready").name,
        project=config.project.name,
        **place.ids,
        stage="scan",
        started=at,
        finished=at,
        duration_s=0.0,
        inputs=tuple(file.as_input() for file in batch.files),
        tiles=TileCount(done=batch.images),
        extra={"fingerprint": _fingerprint(batch)},
    )
    key = (batch.mosaic, batch.batch)
    with project_state(config).open_batch(*key) as node:
        processed = node.get("processed")
        ready = node.get("ready")
        if processed is not None and ready is not None:
            # Results are never silently replaced: what was processed stays until it is redone.
            node.add("stale", manifest.model_copy(update={"flag": node.path("stale").name}))
            result.stale.append(key)
            result.problems.append(
                f"{place}: raw tiles have changed since the batch was processed; its results are "
                f"kept. To process the new files: optic-trigger redo --from scan --mosaic "
                f"{batch.mosaic} --batch {batch.batch}, then scan and snakemake."
            )
            return
        if ready is not None:
            # Complex tiles of the files that were replaced are not those of the new ones.
            node.withdraw_downstream("ready")
        node.add("ready", manifest)
        node.drop("stale")
        result.written.append(key)
