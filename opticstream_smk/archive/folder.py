"""The folder of an archive: the right disk is mounted, and there is room."""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.errors import ServiceError
from opticstream_smk.estimate import format_bytes
from opticstream_smk.io.atomic import write_error, write_json
from opticstream_smk.io.disk import existing, exists, mount_point
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import locks
from opticstream_smk.state.flags import now

# What tells an archive from the empty folder that its disk leaves behind when it is unmounted.
MARKER = ".opticstream-archive.json"


@dataclass(frozen=True)
class ArchiveFolder:
    """Where a project archives to.

    Attributes
    ----------
    path
        ``archive.dir``.
    """

    path: Path
    layout: ProjectLayout

    def open(self, project: str) -> str:
        """Make sure that this is the archive that is meant; make it at its first use.

        Parameters
        ----------
        project
            Name of the project, for the marker.

        Returns
        -------
        str
            Identity of the archive, which stays when it is mounted elsewhere.

        Raises
        ------
        ServiceError
            It was used before and is not there now, or cannot be written.
        """
        problem = self.problem()
        if problem:
            raise ServiceError(problem)
        known = self._known_id()
        if known is not None:
            return known
        with locks.hold(self.layout.archives_lock):
            found = read_marker(self.path) or self._make(project)
            write_json(self.layout.archives, {**self._known(), str(self.path): found})
        return found

    def problem(self) -> str:
        """Why nothing can be archived here now; empty when it can, or when it was never used."""
        try:
            known = self._known_id()
        except ServiceError as error:
            return str(error)
        if known is None:
            return ""
        found = read_marker(self.path)
        if found == known:
            return ""
        what = (
            "is not there"
            if not exists(self.path)
            else f"has no {MARKER}"
            if found is None
            else f"is another archive ({found}, not {known})"
        )
        return (
            f"archive {self.path} {what}, and this project has archived to it; is the right disk "
            "mounted? Nothing is written until it is back. If a new disk takes its place for good, "
            f"remove its line from {self.layout.archives}."
        )

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self.layout.archives.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            # Without it an empty mount point would pass for a new archive.
            raise ServiceError(
                f"{self.layout.archives} cannot be read ({error}); it says which archives this "
                "project has used. Restore it, or remove it when all of them are mounted."
            ) from error
        return known if isinstance(known, dict) else {}

    def _known_id(self) -> str | None:
        return self._known().get(str(self.path))

    def _make(self, project: str) -> str:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error
        identity = uuid.uuid4().hex
        made = {"id": identity, "made": now().isoformat(), "project": project}
        write_json(self.path / MARKER, made)
        return identity


def archive_folder(config: Config, layout: ProjectLayout) -> ArchiveFolder | None:
    """The archive of a project; None when it has none."""
    return None if config.archive.dir is None else ArchiveFolder(config.archive.dir, layout)


def read_marker(folder: Path) -> str | None:
    """Identity of the archive in a folder; None when there is none, or it cannot be seen."""
    try:
        content = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        return None
    found = content.get("id") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what may not fit.

    Parameters
    ----------
    folder
        Where it would be written; need not be there yet.
    needed
        Bytes.

    Raises
    ------
    ServiceError
        Names the file system, what is needed and what is free.
    """
    space = os.statvfs(existing(folder))
    free = space.f_bavail * space.f_frsize
    if free < needed:
        raise ServiceError(
            f"{what} may take {format_bytes(needed)} on the file system of "
            f"{mount_point(folder)} (archive {folder}), where {format_bytes(free)} are free. Free "
            "some, or set archive.dir to another disk; what is archived stays valid."
        )
