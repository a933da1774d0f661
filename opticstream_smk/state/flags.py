"""Flags: immutable JSON files whose presence says that something was done."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opticstream_smk import __version__
from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io.atomic import write_json
from opticstream_smk.io.disk import size_on_disk
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.host import host_name

SCHEMA = 1


class _Record(BaseModel):
    # Unknown keys are kept: a newer version may have written them.
    model_config = ConfigDict(frozen=True, extra="allow")


class InputFile(_Record):
    """A file that a stage read, as it was then."""

    path: str
    size: int
    mtime_ns: int
    sha256: str | None = None


class OutputFile(_Record):
    """A file or Zarr folder that a stage made; the path is relative to the project folder."""

    path: str
    size: int


class TileCount(_Record):
    """Image numbers that were done, and those that were not."""

    done: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()


class Flag(_Record):
    """What a flag file says."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    flag: str
    project: str
    slice: int | None = None
    mosaic: int | None = None
    batch: int | None = None
    stage: str
    version: str = __version__
    host: str = Field(default_factory=host_name)
    started: datetime
    finished: datetime
    duration_s: float
    params_sha256: str = ""
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[OutputFile, ...] = ()
    tiles: TileCount = TileCount()
    numbers: dict[str, Any] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The flag as it stands in its file."""
        return self.model_dump(mode="json", by_alias=True)


def now() -> datetime:
    """Time for flags, UTC."""
    return datetime.now(UTC)


def read_flag(path: Path) -> Flag | None:
    """Read a flag; None when it is not there.

    Raises
    ------
    CorruptInputError
        Unreadable, not JSON, or of a schema that this version does not know.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CorruptInputError(
            f"flag {path} cannot be read ({error}); `optic-trigger doctor --fix` withdraws it"
        ) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise CorruptInputError(
            f"flag {path} has schema {schema!r}, this version knows {SCHEMA}; update "
            "opticstream-smk, or let `optic-trigger doctor --fix` withdraw it"
        )
    try:
        return Flag.model_validate(content)
    except ValidationError as error:
        raise CorruptInputError(
            f"flag {path} is incomplete ({error.errors()[0]['loc']}); "
            "`optic-trigger doctor --fix` withdraws it"
        ) from error


def write_flag(path: Path, flag: Flag) -> None:
    """Write a flag atomically and durably."""
    write_json(path, flag.as_json())


def file_input(path: Path, **known: Any) -> InputFile:
    """Describe a file that is about to be read."""
    status = path.stat()
    return InputFile(path=str(path), size=status.st_size, mtime_ns=status.st_mtime_ns, **known)


def file_outputs(layout: ProjectLayout, paths: Iterable[Path]) -> tuple[OutputFile, ...]:
    """Describe files that were made."""
    found = []
    for path in paths:
        size = size_on_disk(path)
        if size is None:
            raise IncompleteInputError(
                f"{path} is not there any more although it was made just now: somebody removed it. "
                "Run the stage again."
            )
        found.append(OutputFile(path=layout.relative(path), size=size))
    return tuple(found)


def canonical_sha256(value: Any) -> str:
    """Hash of a JSON value that does not depend on key order or spacing."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(files: Iterable[InputFile]) -> str:
    """Hash over name, size and modification time of files."""
    return canonical_sha256(
        sorted([Path(file.path).name, file.size, file.mtime_ns] for file in files)
    )
