"""What a ``.failed`` record says: kind, error, attempts in a row, and when it is tried again."""

from datetime import timedelta
from typing import Any

from opticstream_smk.config.run import RetrySection
from opticstream_smk.state.flags import Flag, now


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
    if failed is None or failed.extra.get("flag") != flag:
        return 0
    return int(failed.extra.get("attempts", 0))
