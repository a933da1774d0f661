"""Names of archived raw files, by the templates of the configuration.

A template is a path below the archive (or the dandiset) with ``{slice_id}``, ``{tile_id}`` and
others in braces, as ``str.format`` has them::

    {project_name}_sample-slice{slice_id:02d}_chunk-{tile_id:04d}_acq-{acq}_OCT.nii.gz
"""

import re
from pathlib import PurePosixPath
from typing import Any

from opticstream_smk.errors import NamingError

PLACEHOLDERS = ("project_name", "subject", "slice_id", "mosaic_id", "tile_id", "acq")
SUFFIX = ".nii.gz"
MANIFEST_SUFFIX = "_manifest.csv"
# 255 bytes are what file systems take; a temporary name adds 5 before, a checksum file 7 after.
_LONGEST_BYTES = 240
_SAMPLE: dict[str, Any] = {
    "project_name": "p",
    "subject": "s",
    "slice_id": 1,
    "mosaic_id": 1,
    "tile_id": 1,
    "acq": "normal",
}


def check_template(template: str) -> None:
    """Refuse a template that gives two tiles one name, or names outside its folder.

    Raises
    ------
    NamingError
        Says what is wrong with it.
    """
    name = _format(template, _SAMPLE)
    needed: dict[str, Any] = {"slice_id": 2, "acq": "tilted"}
    if _format(template, {**_SAMPLE, "mosaic_id": 2}) != name:
        needed = {}  # the number of a mosaic says both
    for key, value in needed.items():
        if _format(template, {**_SAMPLE, key: value}) == name:
            raise NamingError(
                f"template {template!r} lacks {{{key}}}: two raw files would get one name"
            )
    other = _format(template, {**_SAMPLE, "tile_id": 2})
    if PurePosixPath(other).name == PurePosixPath(name).name:
        raise NamingError(
            f"template {template!r} lacks {{tile_id}} in the name of the file: two raw files of a "
            "mosaic would get one name"
        )


def archive_name(template: str, **values: Any) -> PurePosixPath:
    """Path of an archived file, relative to the archive.

    Parameters
    ----------
    values
        One for each of ``PLACEHOLDERS``.

    Raises
    ------
    NamingError
        No path below the archive, or a name that file systems or ``sha256sum`` cannot hold.
    """
    return PurePosixPath(_format(template, values))


def with_kind(name: PurePosixPath, suffix: str, modality: str | None) -> PurePosixPath:
    """The name for a raw file that is no spectral NIfTI file.

    Parameters
    ----------
    suffix
        Of the raw file: the name says what comes out, ``.raw.gz`` for packed spectra.
    modality
        Told in the name as ``proc-complex``; None: the one raw file of its tile.
    """
    stem = name.name.removesuffix(SUFFIX)
    if modality is not None:
        front, mark, back = stem.rpartition("_OCT")
        # BIDS has entities before the kind of image.
        stem = f"{front}_proc-{modality}{mark}{back}" if mark else f"{stem}_proc-{modality}"
    return name.with_name(f"{stem}{suffix}.gz")


def manifest_name(project: str, slice_: int, acquisition: str) -> str:
    """Name of the list of a mosaic's archived files."""
    return f"{project}_sample-slice{slice_:02d}_acq-{acquisition}{MANIFEST_SUFFIX}"


def subject_label(text: str) -> str:
    """A BIDS label: letters and digits only."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def _format(template: str, values: dict[str, Any]) -> str:
    try:
        name = template.format_map(values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise NamingError(
            f"template {template!r} cannot be used ({error}); expected text with any of "
            f"{', '.join(f'{{{key}}}' for key in PLACEHOLDERS)}"
        ) from error
    path = PurePosixPath(name)
    if not name.endswith(SUFFIX):
        raise NamingError(f"template {template!r} gives {name!r}; expected a name in {SUFFIX}")
    if path.is_absolute() or ".." in path.parts or any(p.startswith(".") for p in path.parts):
        raise NamingError(
            f"template {template!r} gives {name!r}; expected a path below the archive without "
            "hidden folders or files"
        )
    if re.search(r"[\x00-\x1f\x7f\\]", name):
        raise NamingError(
            f"template {template!r} gives {name!r}; control characters and backslashes cannot "
            "stand in a checksum file. Correct project.name or the template."
        )
    longest = max(len(part.encode()) for part in path.parts)
    if longest > _LONGEST_BYTES:
        raise NamingError(
            f"template {template!r} gives a name of {longest} bytes; expected at most "
            f"{_LONGEST_BYTES}, as file systems take 255. Shorten project.name or the template."
        )
    return name
