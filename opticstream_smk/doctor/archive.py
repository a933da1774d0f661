"""Archived flags whose files are not seen: away with their disk, linked wrongly, or gone."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from opticstream_smk.archive.files import ArchivedFile
from opticstream_smk.archive.folder import read_marker
from opticstream_smk.archive.links import link_archived
from opticstream_smk.archive.manifest import archived_files
from opticstream_smk.archive.places import place_of
from opticstream_smk.config import Config
from opticstream_smk.doctor.finding import Finding
from opticstream_smk.io.disk import size_on_disk
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.flags import Flag
from opticstream_smk.state.places import Place


class ArchiveDoctor:
    """Looks after the archived flags of a project; tells of a disk that is away once."""

    def __init__(self, config: Config, layout: ProjectLayout) -> None:
        self._config = config
        self._layout = layout
        self._markers: dict[Path, str | None] = {}
        self._away: dict[tuple[str, str], list[Place]] = defaultdict(list)

    def explains(self, place: Place, flag: Flag) -> bool:
        """Whether files of a flag are not seen because their archive is away."""
        folder, identity = _archive_of(flag)
        if not folder or identity in map(self._marker, self._folders(flag)):
            return False
        self._away[folder, identity].append(place)
        return True

    def relink(self, place: Place, flag: Flag, where: str) -> Finding | None:
        """Links that lead nowhere while their files are there; None when a file is not."""
        lost = []
        for file in archived_files(flag.extra):
            link = self._layout.archived(place.mosaic or 0, PurePosixPath(file.name).name)
            if size_on_disk(link) == file.size:
                continue
            found = (folder / file.name for folder in self._folders(flag))
            target = next((path for path in found if size_on_disk(path) == file.size), None)
            if target is None or (link.exists() and not link.is_symlink()):
                return None
            lost.append((file, target))
        if not lost:
            return None
        return Finding(
            where,
            f"{len(lost)} links of {place} lead elsewhere than to its archived files, such as "
            f"{lost[0][1]}",
            "--fix makes them again; the files are there",
            mend=partial(self._link, place, lost),
        )

    def findings(self) -> Iterator[Finding]:
        """What was found to be away."""
        for (folder, identity), places in self._away.items():
            yield Finding(
                folder,
                f"archive {identity} of {len(places)} batches, such as {places[0]}, is not there",
                "Mount its disk, or set archive.dir to where it is now; its flags are left alone",
            )

    def _link(self, place: Place, lost: list[tuple[ArchivedFile, Path]]) -> None:
        for file, target in lost:
            today = place_of(
                self._config, place.mosaic or 1, file.image, file.modality, file.source
            )
            kept = replace(today, name=PurePosixPath(file.name))
            link_archived(self._config, self._layout, place.mosaic or 1, kept, target)

    def _folders(self, flag: Flag) -> list[Path]:
        """Where the archive of a flag may be: where it was, and where archives are today."""
        folders = [Path(_archive_of(flag)[0])]
        if self._config.archive.dir is not None:
            folders.append(self._config.archive.dir)
        return folders

    def _marker(self, folder: Path) -> str | None:
        if folder not in self._markers:
            self._markers[folder] = read_marker(folder)
        return self._markers[folder]


def _archive_of(flag: Flag) -> tuple[str, str]:
    archive = flag.extra.get("archive", {})
    return str(archive.get("dir", "")), str(archive.get("id", ""))
