"""``.ready`` of light-sheet strips: their entry into the queue, and why one is not entered."""

from pathlib import Path
from typing import Any, Literal

from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.naming.lsm import LsmStrip, strip_stem
from opticstream_smk.plan import project_layout
from opticstream_smk.state.flags import Flag, InputFile, now, read_flag
from opticstream_smk.state.lsm import (
    PRODUCTS,
    LsmPlace,
    LsmProjectState,
    LsmState,
    lsm_flag_path,
    strip_place,
)
from opticstream_smk.state.nodes import Node
from opticstream_smk.trigger.strips import StripContents

# What became of a strip that is complete: queued; as queued before; acquired again although
# something was made of it; changed under the stage that is at work on it.
StripEntry = Literal["written", "unchanged", "reacquired", "running"]

# Modification time and inode of a folder: both stay while nothing is added to it or removed.
FolderStamp = tuple[int, int]


def folder_stamp(folder: Path) -> FolderStamp | None:
    """What tells without a walk that a folder has changed; None when it cannot be seen."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def recorded_stamp(ready: Flag) -> FolderStamp | None:
    """Stamp of the folder when it was entered."""
    stamp = ready.extra.get("folder_stamp")
    return (int(stamp[0]), int(stamp[1])) if isinstance(stamp, list) and len(stamp) == 2 else None


def strip_fingerprint(ready: Flag | None) -> str | None:
    """Fingerprint of the files that were entered."""
    return None if ready is None else ready.extra.get("fingerprint")


def is_remainder(layout: ProjectLayout, key: LsmStrip, contents: StripContents) -> bool:
    """Whether these files are what the clean-up of a strip has left of it."""
    if not strip_flag(layout, key, "cleaned").exists():
        return False
    ready = read_flag(strip_flag(layout, key, "ready"))
    if ready is None or not ready.inputs:
        return False
    entered = ready.inputs[0]
    return contents.newest_ns <= entered.mtime_ns and contents.n_bytes <= entered.size


def strip_flag(layout: ProjectLayout, key: LsmStrip, state: str) -> Path:
    """File of a flag of a strip."""
    return lsm_flag_path(layout, strip_place(*key), state)


def has_products(layout: ProjectLayout, key: LsmStrip) -> bool:
    """Whether something was made of a strip."""
    return any(strip_flag(layout, key, state).exists() for state in PRODUCTS)


def enter_strip(
    config: Config,
    key: LsmStrip,
    folder: Path,
    contents: StripContents,
    *,
    stamp: FolderStamp | None = None,
    stage: str = "scan",
    force: bool = False,
) -> StripEntry:
    """Write ``.ready``. Results that are there are never silently replaced.

    The manifest names the folder, the number of its files, their total size and one fingerprint
    over all of them; a strip may have thousands.

    Parameters
    ----------
    stamp
        Of the folder, taken before its files were looked at.
    stage
        Who enters it, for the flag.
    force
        Have it processed again: what was made of it is withdrawn.
    """
    place = strip_place(*key)
    entered = InputFile(
        path=str(folder.absolute()),
        size=contents.n_bytes,
        mtime_ns=contents.newest_ns,
        files=contents.files,
    )
    extra: dict[str, Any] = {"fingerprint": contents.fingerprint, "folder_stamp": stamp}
    if force:
        extra["force_rerun"] = True
    with LsmState(project_layout(config)).open(place) as node:
        ready = node.get("ready")
        if strip_fingerprint(ready) == contents.fingerprint and not force:
            _drop_own_failure(node)
            return "unchanged"
        if ready is not None:
            if node.is_running:
                return "running"
            if not force and any(node.has(state) for state in PRODUCTS):
                _record(config, node, reacquired_message(config, key, folder, contents), stage)
                return "reacquired"
            node.withdraw_downstream("ready")
        numbers = {"files": contents.files, "bytes": contents.n_bytes}
        manifest = {"inputs": (entered,), "numbers": numbers, "extra": extra}
        node.add("ready", _flag(config, place, "ready", stage, **manifest))
        node.drop("failed")
    return "written"


def record_problem(config: Config, key: LsmStrip, error: str, *, stage: str = "watch") -> None:
    """Record why a strip cannot be taken, for ``status``. What was made of it is kept."""
    with LsmState(project_layout(config)).open(strip_place(*key)) as node:
        _record(config, node, error, stage)


def forget_problem(config: Config, key: LsmStrip) -> None:
    """Remove the record of a problem that is no more."""
    layout = project_layout(config)
    if strip_flag(layout, key, "failed").exists():
        with LsmState(layout).open(strip_place(*key)) as node:
            _drop_own_failure(node)


def recorded_problems(layout: ProjectLayout) -> set[LsmStrip]:
    """Strips that could not be taken, by their records."""
    found = set()
    for place, state in LsmProjectState(layout).present():
        if state == "failed" and place.channel is not None and place.strip is not None:
            key = LsmStrip(place.slice, place.channel, place.strip)
            try:
                record = read_flag(strip_flag(layout, key, "failed"))
            except CorruptInputError:
                continue  # doctor reports it
            if record is not None and _is_own(record, place):
                found.add(key)
    return found


def reacquired_message(config: Config, key: LsmStrip, folder: Path, contents: StripContents) -> str:
    """What to do about a folder that is used again."""
    layout = project_layout(config)
    made = ", ".join(state for state in PRODUCTS if strip_flag(layout, key, state).exists())
    return (
        f"{strip_place(*key)}: {folder} was re-acquired: it has other files now ({contents.files}, "
        f"{contents.n_bytes} bytes) than when the strip was {made}. What was made is kept and the "
        "new files are not processed. Rename the folder to a run of its own, and it is taken."
    )


def running_message(folder: Path) -> str:
    """What is told about a folder that changes under the stage that reads it."""
    return (
        f"{folder} has changed while the strip is being processed; it is looked at again "
        "when that is over"
    )


def _record(config: Config, node: Node[LsmPlace], error: str, stage: str) -> None:
    known = node.get("failed")
    if known is not None and known.extra.get("error") == error:
        return
    extra = {
        "flag": _ready_name(node.place),
        "kind": "data",
        "error": error,
        "attempts": 1,
        "next_try": None,
    }
    node.add("failed", _flag(config, node.place, "failed", stage, extra=extra))


def _drop_own_failure(node: Node[LsmPlace]) -> None:
    failed = node.get("failed")
    if failed is not None and _is_own(failed, node.place):
        node.drop("failed")


def _is_own(record: Flag, place: LsmPlace) -> bool:
    """Whether it was the entry into the queue that failed, and not a stage."""
    return record.extra.get("flag") == _ready_name(place)


def _ready_name(place: LsmPlace) -> str:
    return f"{strip_stem(place.strip or 0)}.ready"


def _flag(config: Config, place: LsmPlace, state: str, stage: str, **content: Any) -> Flag:
    at = now()
    return Flag(
        flag=lsm_flag_path(project_layout(config), place, state).name,
        project=config.project.name,
        **place.ids,
        stage=stage,
        started=at,
        finished=at,
        duration_s=0.0,
        **content,
    )
