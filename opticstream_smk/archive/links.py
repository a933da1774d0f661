"""Links to archived files: from the project, and from the dandiset where there is one."""

import os
from pathlib import Path

from opticstream_smk.archive.places import ArchivePlace
from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io.atomic import link_file, write_bytes
from opticstream_smk.layout import ProjectLayout

BIDSIGNORE = ".bidsignore"


def link_archived(
    config: Config, layout: ProjectLayout, mosaic: int, place: ArchivePlace, target: Path
) -> None:
    """Link from a mosaic to an archived file, over the dandiset where there is one.

    Raises
    ------
    CorruptInputError
        There is a file in the place of a link.
    ServiceError
        A link cannot be made.
    """
    dandiset = config.project.dandiset_dir
    shown = target
    if dandiset is not None and not target.resolve().is_relative_to(dandiset.resolve()):
        shown = dandiset / place.dandiset_name
        link(target, shown)
        ignore_in_bids(dandiset, place.dandiset_name.parts[0])
    link(shown, layout.archived(mosaic, place.name.name))


def link(target: Path, place: Path) -> None:
    """Make a relative link; one that leads elsewhere is replaced, a file never.

    Raises
    ------
    CorruptInputError
        There is a file in its place.
    ServiceError
        It cannot be made.
    """
    source = relative_target(target, place)
    if place.is_symlink():
        if place.readlink() == source:
            return
    elif place.exists():
        raise CorruptInputError(
            f"{place} is a file; expected nothing or a link to {target} there. It is left alone: "
            "move it away, then run again."
        )
    link_file(source, place)


def relative_target(target: Path, place: Path) -> Path:
    """What a link at a place says to lead to a target; links of folders are followed."""
    return Path(os.path.relpath(target, place.parent.resolve()))


def ignore_in_bids(dandiset: Path, folder: str) -> None:
    """Have BIDS validators leave out a folder of the dandiset.

    Raises
    ------
    ServiceError
        The list cannot be written.
    """
    path = dandiset / BIDSIGNORE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    line = f"{folder}/"
    if line not in text.splitlines():
        ends = "" if not text or text.endswith("\n") else "\n"
        write_bytes(path, f"{text}{ends}{line}\n".encode())
