"""What can be wrong with an archive, and the report about it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal[
    "missing", "corrupted", "checksum", "manifest", "link", "raw", "extra", "unreadable", "away"
]
# What could not be looked at may be right.
_NOT_SEEN = ("unreadable", "away")


@dataclass(frozen=True)
class Fault:
    """Something about an archive that is not as it should be.

    Attributes
    ----------
    kind
        ``missing``, ``corrupted``: the archived file itself. ``checksum``, ``manifest``, ``link``:
        what goes with it. ``raw``: the raw file is another one now. ``extra``: nobody vouches for
        it. ``unreadable``, ``away``: it could not be looked at.
    """

    kind: Kind
    path: Path
    problem: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """The fault for programs."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "problem": self.problem,
            "remedy": self.remedy,
        }


@dataclass
class Verification:
    """What was found.

    Attributes
    ----------
    files, content_bytes
        Archived files that are right, and the bytes of the raw files that they hold.
    raw_files
        Raw files that were there and the same, where that was asked for.
    """

    files: int = 0
    content_bytes: int = 0
    raw_files: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """3 when something is wrong, 4 when it only could not be looked at."""
        kinds = {fault.kind for fault in self.faults}
        if kinds.difference(_NOT_SEEN):
            return 3
        return 4 if kinds else 0

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "files": self.files,
            "content_bytes": self.content_bytes,
            "raw_files": self.raw_files,
            "faults": [fault.as_json() for fault in self.faults],
            "exit_code": self.exit_code,
        }
