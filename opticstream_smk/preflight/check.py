"""One thing that was looked at before a run, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from opticstream_smk.errors import OpticStreamError

Verdict = Literal["ok", "note", "warning", "FAILED"]
Cause = Literal["config", "data", "service"]

_EXIT_CODES: Mapping[Cause, int] = {"config": 2, "data": 3, "service": 4}


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, what was expected, what to do.

    Attributes
    ----------
    name
        What was looked at.
    verdict
        ``note``: nothing is wrong, but it could not be looked at, or is good to know.
    found, expected, remedy
        For people; `expected` and `remedy` are empty where nothing is wrong.
    cause
        Of a check that failed: it decides the exit code.
    numbers
        What was measured, for programs.
    """

    name: str
    verdict: Verdict
    found: str
    expected: str = ""
    remedy: str = ""
    cause: Cause | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Exit code that this check alone would give."""
        return _EXIT_CODES[self.cause] if self.cause else 0

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        remedy = f". {self.remedy}" if self.remedy else ""
        return f"{self.verdict:<8} {self.name}: {self.found}{expected}{remedy}"


def ok(name: str, found: str, **numbers: Any) -> Check:
    """Everything is as it should be."""
    return Check(name, "ok", found, numbers=numbers)


def note(name: str, found: str, remedy: str = "", **numbers: Any) -> Check:
    """Nothing is wrong, but it is good to know."""
    return Check(name, "note", found, remedy=remedy, numbers=numbers)


def warning(name: str, found: str, expected: str, remedy: str, **numbers: Any) -> Check:
    """The run can begin, but somebody should look at this."""
    return Check(name, "warning", found, expected, remedy, numbers=numbers)


def failed(
    cause: Cause, name: str, found: str, expected: str, remedy: str, **numbers: Any
) -> Check:
    """The run would fail here."""
    return Check(name, "FAILED", found, expected, remedy, cause, numbers)


def failed_by(name: str, error: OpticStreamError) -> Check:
    """A step that raised: its message says what was found, what was expected and what to do."""
    causes: dict[int, Cause] = {code: cause for cause, code in _EXIT_CODES.items()}
    return Check(name, "FAILED", str(error).rstrip("."), cause=causes[error.exit_code])


def exit_code(checks: list[Check]) -> int:
    """Exit code of all checks: a wrong configuration explains wrong data, and that the rest."""
    return min((check.exit_code for check in checks if check.cause), default=0)


def some(items: list[str], limit: int = 3) -> str:
    """The first few of a list, for messages."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def counted(count: int, what: str) -> str:
    """Number with its noun: 1 slice, 19 slices."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
