"""``.ready``: the entry of a batch into the queue, written by ``scan`` and by the watcher."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.plan import Plan, image_list, project_layout, project_state
from opticstream_smk.state.failures import add_failure, drop_failure, failure_about
from opticstream_smk.state.flags import Flag, TileCount, now, read_flag
from opticstream_smk.state.places import batch_place, flag_path
from opticstream_smk.state.psoct import Node
from opticstream_smk.trigger.batches import BatchKey, RawBatch
from opticstream_smk.trigger.content import check_content
from opticstream_smk.trigger.discover import Discovery, discover

log = logging.getLogger(__name__)

# What became of a batch that is complete: queued; as queued before; its results are kept.
Entry = Literal["written", "unchanged", "stale"]


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

    written: list[BatchKey] = field(default_factory=list)
    unchanged: list[BatchKey] = field(default_factory=list)
    stale: list[BatchKey] = field(default_factory=list)
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
    result.problems += found.problems.values()
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
        try:
            entry = enter_batch(config, batch)
        except CorruptInputError as error:
            result.problems.append(f"{batch.where}: {error}")
            continue
        if entry == "stale":
            result.stale.append(batch.key)
            result.problems.append(stale_message(batch))
        else:
            result.written.append(batch.key)
    return result


def _candidates(config: Config, found: Discovery, result: ScanResult) -> list[RawBatch]:
    """Complete batches whose ``.ready`` is missing or lists other files."""
    candidates = []
    plan = Plan(config, project_layout(config))
    for batch in found.batches:
        result.problems += batch.problems
        if batch.problems:
            continue
        if is_entered(config, batch):
            result.unchanged.append(batch.key)
        elif late := late_message(plan, batch):
            result.problems.append(late)
        elif batch.missing:
            result.waiting.append(f"{batch.where}: {batch.progress}")
        else:
            candidates.append(batch)
    return candidates


def _settled(before: list[RawBatch], found: Discovery, result: ScanResult) -> list[RawBatch]:
    after = {batch.key: batch for batch in found.batches}
    settled = []
    for batch in before:
        if after.get(batch.key) == batch:
            settled.append(batch)
        else:
            result.waiting.append(f"{batch.where}: still being written")
    return settled


def is_entered(config: Config, batch: RawBatch) -> bool:
    """Whether ``.ready`` lists exactly these files."""
    ready = read_flag(project_layout(config).batch_flag(*batch.key, "ready"))
    return ready is not None and ready.extra.get("fingerprint") == batch.fingerprint


def enter_batch(
    config: Config,
    batch: RawBatch,
    *,
    stage: str = "scan",
    force: bool = False,
    replace_results: bool = False,
    allow_missing: int = 0,
) -> Entry:
    """Write ``.ready``. Results that are there are never silently replaced.

    Parameters
    ----------
    stage
        Who enters it, for the flag.
    force
        Have it processed again, although it was with the same files: nothing that was made of it
        is kept.
    replace_results
        Have changed files processed although results of the old ones are there.
    allow_missing
        Tiles that its mosaic may lack, when that is more than the configuration says.

    Raises
    ------
    CorruptInputError
        The content of a file is not what its header or its checksum says.
    """
    layout = project_layout(config)
    place = batch_place(*batch.key, config.acquisition.mosaics_per_slice)
    inputs = tuple(check_content(file) for file in batch.files)
    extra: dict[str, object] = {"fingerprint": batch.fingerprint}
    if force:
        extra["force_rerun"] = True
    if batch.missing and allow_missing:
        extra["allow_missing"] = allow_missing
    at = now()
    manifest = Flag(
        flag=flag_path(layout, place, "ready").name,
        project=config.project.name,
        **place.ids,
        stage=stage,
        started=at,
        finished=at,
        duration_s=0.0,
        inputs=inputs,
        tiles=TileCount(done=batch.images, missing=batch.missing),
        extra=extra,
    )
    with project_state(config).open_batch(*batch.key) as node:
        ready = node.get("ready")
        same = ready is not None and ready.extra.get("fingerprint") == batch.fingerprint
        if same and not force:
            _drop_own_failure(node)
            return "unchanged"
        if node.has("processed") and ready is not None and not (force or replace_results):
            node.add("stale", manifest.model_copy(update={"flag": node.path("stale").name}))
            return "stale"
        if ready is not None:
            # What was made of files that were replaced is not that of the new ones.
            node.withdraw_downstream("ready")
        if force:
            for kind in ("complex", "processed", "archived"):
                for image in batch.images:
                    layout.receipt(batch.mosaic, image, kind).unlink(missing_ok=True)
        node.add("ready", manifest)
        node.drop("stale")
        node.drop("failed")
    return "written"


def close_batches(config: Config, mosaic: int, missing: Collection[int]) -> list[int]:
    """Write ``.ready`` for the incomplete batches of a mosaic that is accepted as it is.

    Parameters
    ----------
    missing
        Images that will not come.

    Returns
    -------
    list of int
        The batches that became ready; those without any tile do not.

    Raises
    ------
    IncompleteInputError
        A batch lacks other images too, or has a file that is wrong.
    """
    entered = []
    batches = [batch for batch in discover(config).batches if batch.mosaic == mosaic]
    for batch in batches:
        others = sorted(set(batch.missing) - set(missing))
        if batch.problems or others:
            wrong = batch.problems[0] if batch.problems else f"images {others} are missing too"
            raise IncompleteInputError(
                f"{batch.where}: {wrong}. Wait for them, or name all that will not come: "
                f"optic-trigger close --mosaic {mosaic} --missing "
                f"{','.join(map(str, sorted({*missing, *others})))}"
            )
    for batch in batches:
        if batch.missing and batch.images and not is_entered(config, batch):
            enter_batch(config, batch, stage="close", replace_results=True)
            entered.append(batch.batch)
    return entered


def record_problem(config: Config, batch: RawBatch, error: str) -> None:
    """Record why a batch cannot be taken, for ``status``. What was made of it is kept."""
    layout = project_layout(config)
    place = batch_place(*batch.key, config.acquisition.mosaics_per_slice)
    with project_state(config).open_batch(*batch.key) as node:
        known = failure_about(node.get("failed"), node.path("ready").name)
        if known is not None and known.extra.get("error") == error:
            return
        at = now()
        flag = Flag(
            flag=flag_path(layout, place, "failed").name,
            project=config.project.name,
            **place.ids,
            stage="watch",
            started=at,
            finished=at,
            duration_s=0.0,
            extra={
                "flag": node.path("ready").name,
                "kind": "data",
                "error": error,
                "attempts": 1,
                "next_try": None,
            },
        )
        add_failure(node, flag)


def forget_problem(config: Config, key: BatchKey, *, stale: bool = False) -> None:
    """Remove the record of a problem that is no more, and on request that of changed files."""
    layout = project_layout(config)
    names = ("failed", "stale") if stale else ("failed",)
    if not any(layout.batch_flag(*key, name).exists() for name in names):
        return
    with project_state(config).open_batch(*key) as node:
        _drop_own_failure(node)
        if stale:
            node.drop("stale")


def _drop_own_failure(node: Node) -> None:
    ready = node.path("ready").name
    failed = failure_about(node.get("failed"), ready)
    if failed is not None and failed.extra.get("flag") == ready:
        drop_failure(node, ready)


def late_message(plan: Plan, batch: RawBatch) -> str:
    """What to do about tiles that a mosaic was closed without and that have come after all."""
    late = sorted(plan.closed_without(batch.mosaic).intersection(batch.images))
    if not late:
        return ""
    return (
        f"{batch.where}: images {image_list(late)} have come after mosaic {batch.mosaic:03d} was "
        f"closed without them; it stays as it is. To take them: optic-trigger close --mosaic "
        f"{batch.mosaic} (or --undo, when nothing is missing any more); the watcher, or scan and "
        "snakemake, then makes the mosaic again."
    )


def stale_message(batch: RawBatch) -> str:
    """What to do about a finished batch whose raw files have changed."""
    late = f"{batch.progress} now; " if batch.missing else ""
    return (
        f"{batch.where}: raw tiles have changed since the batch was processed ({late}replaced, "
        f"acquired again, or late); its results are kept. To process the new files: optic-trigger "
        f"redo --from scan --mosaic {batch.mosaic} --batch {batch.batch}; the watcher, or scan and "
        "snakemake, then does the rest."
    )
