"""What a ``.failed`` record says: kind, error, attempts in a row, and when it is tried again.

A place has one such record. Work that runs beside the computation of a place (its archive, its
volumes, the focus plane that is fitted on it) may fail while that fails too: its failure then
stands in the record of the other, and neither is lost or counted for the other.
"""

from datetime import timedelta
from typing import Any

from opticstream_smk import naming
from opticstream_smk.config.run import RetrySection
from opticstream_smk.state.flags import Flag, now
from opticstream_smk.state.nodes import Node

# Flags that are made beside the computation of a place: no batch, mosaic or slice waits for them.
BESIDE = (
    "archived",
    "fitted",
    *map(naming.volume_state, naming.VOLUME_MODALITIES),
    "volume_stitched",
)
_KEY = "beside"


def failure_extra(
    retry: RetrySection, *, flag: str, kind: str, error: str, attempts: int
) -> dict[str, Any]:
    """The part of a record that says what to expect.

    Parameters
    ----------
    flag
        Name of the flag that was not written.
    kind
        As errors have it: ``data``, ``service``, ``config``, ``resource``, ``internal``.
    attempts
        Failures in a row of this flag, this one included.
    """
    wait_s = retry.rule(kind).wait_s(attempts)
    extra: dict[str, Any] = {"flag": flag, "kind": kind, "error": error, "attempts": attempts}
    if wait_s is None:
        return {**extra, "next_try": None, "quarantined": True}
    return {**extra, "next_try": (now() + timedelta(seconds=wait_s)).isoformat()}


def earlier_attempts(failed: Flag | None, flag: str) -> int:
    """Failures in a row of a flag before this one; stages of one level share their record."""
    failure = failure_about(failed, flag)
    if failure is None or failure.extra.get("flag") != flag:
        return 0
    return int(failure.extra.get("attempts", 0))


def failures_in(failed: Flag | None) -> list[Flag]:
    """The failures that a record holds, each as a record of its own."""
    if failed is None:
        return []
    extra = {key: value for key, value in failed.extra.items() if key != _KEY}
    beside = [Flag.model_validate(flag) for flag in failed.extra.get(_KEY, ())]
    return [failed.model_copy(update={"extra": extra}), *beside]


def failure_about(failed: Flag | None, flag: str) -> Flag | None:
    """The failure of the work that a flag belongs to: the computation, or what runs beside it."""
    asked = _work_of(flag)
    found = (failure for failure in failures_in(failed) if _work_of_failure(failure) == asked)
    return next(found, None)


def add_failure(node: Node[Any], failure: Flag) -> None:
    """Record a failure in place of an earlier one of the same work."""
    work = _work_of_failure(failure)
    others = [f for f in failures_in(node.get("failed")) if _work_of_failure(f) != work]
    node.add("failed", _record([failure, *others]))


def drop_failure(node: Node[Any], flag: str) -> None:
    """Remove the failure of the work that a flag belongs to from the record of a node."""
    work = _work_of(flag)
    found = failures_in(node.get("failed"))
    left = [failure for failure in found if _work_of_failure(failure) != work]
    if not left:
        node.drop("failed")
    elif len(left) < len(found):
        node.amend("failed", _record(left))


def is_beside(flag: str) -> bool:
    """Whether a flag is made beside the computation."""
    return bool(_work_of(flag))


def is_same_work(flag: str, other: str) -> bool:
    """Whether two flags are both of the computation, or of the same work beside it."""
    return _work_of(flag) == _work_of(other)


def _record(failures: list[Flag]) -> Flag:
    """One record of failures, the newest first: the event of the record tells of that one."""
    first, *beside = failures
    if not beside:
        return first
    extra = {**first.extra, _KEY: [failure.as_json() for failure in beside]}
    return first.model_copy(update={"extra": extra})


def _work_of_failure(failure: Flag) -> str:
    return _work_of(str(failure.extra.get("flag", "")))


def _work_of(flag: str) -> str:
    """Empty for the computation, else the flag."""
    name = naming.parse_flag(flag)
    return str(name) if name is not None and name.state in BESIDE else ""
