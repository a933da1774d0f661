"""What is recorded about an archive: by flags, which say what was verified, and by manifests."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from opticstream_smk.archive.faults import Fault
from opticstream_smk.archive.files import ArchivedFile, Row
from opticstream_smk.archive.folder import MARKER, read_marker
from opticstream_smk.archive.manifest import archived_files, read_manifest
from opticstream_smk.archive.places import manifest_path
from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.state import locks
from opticstream_smk.state.flags import read_flag


@dataclass(frozen=True)
class Selection:
    """Which batches; None: all."""

    slice: int | None = None
    mosaic: int | None = None
    batch: int | None = None


@dataclass(frozen=True)
class Record:
    """What is recorded about one archived file.

    Attributes
    ----------
    path
        Where it is.
    raw, link
        The raw file as it was, and the link in the project; None where only a manifest knows it.
    """

    path: Path
    size: int
    sha256: str
    content_size: int
    content_sha256: str
    raw: Path | None = None
    link: Path | None = None


class Records:
    """The records of a project's archive.

    Parameters
    ----------
    faults
        Takes what is wrong with the records themselves.
    """

    def __init__(self, config: Config, selection: Selection, faults: list[Fault]) -> None:
        self._config = config
        self._asked = selection
        self._faults = faults
        self._layout = project_layout(config)
        self._plan = Plan(config, self._layout)
        self._folders: dict[tuple[str, str], Path | None] = {}

    def all(self) -> list[Record]:
        """Every file that a flag or a manifest vouches for, in order of the paths."""
        flagged: dict[Path, Record] = {}
        own: dict[Path, set[Path]] = {}
        for file, record in self._of_flags():
            flagged[record.path] = record
            folder = record.path.parents[len(PurePosixPath(file.name).parts) - 1]
            manifest = manifest_path(self._config, folder, file.mosaic)
            own.setdefault(manifest, set()).add(record.path)
        listed: dict[Path, Record] = {}
        for manifest in sorted({*own, *self._manifests}):
            listed |= self._of_manifest(manifest, flagged, own.get(manifest, set()))
        return [record for _, record in sorted((listed | flagged).items())]

    def being_made(self) -> bool:
        """Whether a batch is being archived now: its files have no record yet."""
        return any(
            locks.is_held(self._layout.lock(self._layout.batch_flag(mosaic, batch, "archived")))
            for mosaic in self._mosaics
            for batch in self._plan.batch_states(mosaic)
        )

    @cached_property
    def _mosaics(self) -> list[int]:
        return [
            mosaic
            for mosaic in self._plan.present_mosaics
            if self._asked.mosaic in (None, mosaic)
            and self._asked.slice in (None, self._plan.slice(mosaic))
        ]

    @cached_property
    def _manifests(self) -> set[Path]:
        """Manifests in today's archive of what is asked for."""
        folder = self._config.archive.dir
        if folder is None:
            return set()
        found = {manifest_path(self._config, folder, mosaic) for mosaic in self._mosaics}
        return {path for path in found if path.exists()}

    # -------------------------------------------------------------------------------- flags
    def _of_flags(self) -> Iterator[tuple[ArchivedFile, Record]]:
        for mosaic in self._mosaics:
            for batch, states in sorted(self._plan.batch_states(mosaic).items()):
                if "archived" in states and self._asked.batch in (None, batch):
                    yield from self._of_flag(mosaic, batch)

    def _of_flag(self, mosaic: int, batch: int) -> Iterator[tuple[ArchivedFile, Record]]:
        path = self._layout.batch_flag(mosaic, batch, "archived")
        try:
            flag = read_flag(path)
            files = archived_files(flag.extra) if flag else []
        except (CorruptInputError, ValueError) as error:
            remedy = "`optic-trigger doctor --fix` withdraws it, and it is made again"
            self._faults.append(Fault("corrupted", path, str(error), remedy))
            return
        archive = flag.extra.get("archive", {}) if flag else {}
        folder = self._folder(str(archive.get("dir", "")), str(archive.get("id", "")))
        if folder is None:
            return
        for file in files:
            yield (
                file,
                Record(
                    folder / file.name,
                    file.size,
                    file.sha256,
                    file.source.size,
                    file.source.sha256 or "",
                    Path(file.source.path),
                    self._layout.archived(mosaic, PurePosixPath(file.name).name),
                ),
            )

    def _folder(self, recorded: str, identity: str) -> Path | None:
        """Where an archive is now; a fault, told once, when it is not there."""
        key = recorded, identity
        if key not in self._folders:
            today = self._config.archive.dir
            places = [Path(recorded), *([today] if today else [])]
            self._folders[key] = next((p for p in places if read_marker(p) == identity), None)
            if self._folders[key] is None:
                problem = f"archive {identity} is not there (no {MARKER} that says so)"
                remedy = "Mount its disk, or set archive.dir to where it is now"
                self._faults.append(Fault("away", Path(recorded), problem, remedy))
        return self._folders[key]

    # ---------------------------------------------------------------------------- manifests
    def _of_manifest(
        self, path: Path, flagged: dict[Path, Record], own: set[Path]
    ) -> dict[Path, Record]:
        """Files that only a manifest knows; where flags know them too, both must agree.

        Parameters
        ----------
        own
            Files that flags say it must list.
        """
        remedy = "`optic-trigger redo --from archive_batch` verifies the files and writes it again"
        try:
            rows = {path.parent / row["asset_path"]: row for row in read_manifest(path)}
            records = {file: _of_row(file, row) for file, row in rows.items()}
        except (CorruptInputError, ValueError) as error:
            self._faults.append(Fault("manifest", path, str(error), remedy))
            return {}
        for file in sorted(own - rows.keys()):
            self._faults.append(
                Fault("manifest", path, f"does not list {file.name}, which was archived", remedy)
            )
        for file in sorted(flagged.keys() & rows.keys()):
            if _digests(records[file]) != _digests(flagged[file]):
                problem = f"lists {file.name} with other sizes or SHA-256 than its flag"
                self._faults.append(Fault("manifest", path, problem, remedy))
        return {file: record for file, record in records.items() if self._is_asked(rows[file])}

    def _is_asked(self, row: Row) -> bool:
        if self._asked.batch is None:
            return True
        images = self._plan.images_of_batch(int(row["mosaic"]), self._asked.batch)
        return int(row["image"]) in images


def _of_row(path: Path, row: Row) -> Record:
    return Record(
        path, int(row["size"]), row["sha256"], int(row["content_size"]), row["content_sha256"]
    )


def _digests(record: Record) -> tuple[int, str, int, str]:
    return record.size, record.sha256, record.content_size, record.content_sha256
