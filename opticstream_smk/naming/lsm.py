"""Names of light-sheet (LSM) strips: folders of the camera, flags and folders of a project.

Ids are 1-based. ``parse_x(build(x)) == x`` holds for every pair here.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from opticstream_smk.errors import NamingError

CHANNELS = (1, 2)


def _at_least_one(**ids: int) -> None:
    for name, value in ids.items():
        if value < 1:
            raise NamingError(f"{name} {value}: ids are counted from 1")


# -------------------------------------------------------------------- folders of the camera
class LsmFolder(NamedTuple):
    """What the name of a camera folder says. The run is a slice, before any offset."""

    run: int
    strip: int
    channel: int


class LsmStrip(NamedTuple):
    """One strip of one camera, as the project numbers it."""

    slice: int
    channel: int
    strip: int


_FOLDER = re.compile(r"([A-Za-z]+)([0-9]+)(_C2)?(?:_([0-9]+))?", re.IGNORECASE)


def lsm_folder_name(run: int, strip: int, channel: int = 1, prefix: str = "Run") -> str:
    """Name of the folder of a strip, as the camera software writes it.

    ``Run1`` is the first strip of run 1, ``Run1_4`` its fifth, ``Run1_C2_4`` that of the second
    camera.
    """
    _at_least_one(strip=strip)
    if run < 0:
        raise NamingError(f"run {run}: expected 0 or more")
    if channel not in CHANNELS:
        raise NamingError(f"channel {channel}: a light-sheet strip has channel 1 or 2")
    if not re.fullmatch(r"[A-Za-z]+", prefix):
        raise NamingError(f"prefix {prefix!r}: expected letters, such as Run")
    camera = "_C2" if channel == 2 else ""
    number = f"_{strip - 1}" if strip > 1 else ""
    return f"{prefix}{run}{camera}{number}"


def parse_lsm_folder(name: str) -> LsmFolder:
    """Run, strip and channel of a camera folder; the inverse of :func:`lsm_folder_name`.

    Parameters
    ----------
    name
        Name or path of the folder, upper or lower case, with any letters before the run.

    Raises
    ------
    NamingError
        The name is no such name.
    """
    folder = PurePath(name).name
    match = _FOLDER.fullmatch(folder)
    if not match:
        raise NamingError(
            f"Folder name does not match LSM run pattern: {folder!r}; expected names such as Run1, "
            "Run1_2, Run1_C2 or Run1_C2_2"
        )
    return LsmFolder(int(match[2]), int(match[4] or 0) + 1, 2 if match[3] else 1)


def parse_lsm_strip_index(strip: int, channel: int, strips_per_slice: int = 1) -> LsmStrip:
    """Slice and strip of a strip number that runs on from slice to slice.

    Parameters
    ----------
    strip
        Running number, from 1.
    strips_per_slice
        Strips of one slice.
    """
    _at_least_one(strip=strip, channel=channel, strips_per_slice=strips_per_slice)
    slices, within = divmod(strip - 1, strips_per_slice)
    return LsmStrip(slices + 1, channel, within + 1)


def lsm_strip_of_folder(name: str, *, slice_offset: int = 0, strips_per_slice: int = 1) -> LsmStrip:
    """Strip of the project that a camera folder holds.

    Parameters
    ----------
    slice_offset
        Added to the run, which gives the slice.
    strips_per_slice
        With more than one, strips beyond that number belong to the slices that follow. With one,
        a run is one slice, however many strips it has.

    Raises
    ------
    NamingError
        No such name, or the offset makes the slice less than 1.
    """
    run, strip, channel = parse_lsm_folder(name)
    beyond = 0
    if strips_per_slice > 1:
        first, _, strip = parse_lsm_strip_index(strip, channel, strips_per_slice)
        beyond = first - 1
    slice_ = run + beyond + slice_offset
    if slice_ < 1:
        raise NamingError(
            f"{PurePath(name).name} is slice {run + beyond}; slice_offset {slice_offset} makes "
            f"that slice {slice_}, expected 1 or more"
        )
    return LsmStrip(slice_, channel, strip)


# -------------------------------------------------------------------- folders of the project
def channel_stem(channel: int) -> str:
    """Folder of a channel, and the stem of its flags."""
    _at_least_one(channel=channel)
    return f"channel-{channel:02d}"


def strip_stem(strip: int) -> str:
    """Stem of a strip's flags."""
    _at_least_one(strip=strip)
    return f"strip-{strip:04d}"


def parse_slice_folder(name: str) -> int | None:
    """Slice of a folder name, whatever its padding; None for other names."""
    return _number(name, "slice")


def parse_channel_folder(name: str) -> int | None:
    """Channel of a folder name, whatever its padding; None for other names."""
    return _number(name, "channel")


def _number(name: str, level: str) -> int | None:
    match = re.fullmatch(rf"{level}-([0-9]+)", name)
    return int(match[1]) if match else None


# ------------------------------------------------------------------------------------- flags
_FLAG = re.compile(r"(strip|channel)-([0-9]+)\.([a-z_A-Z0-9]+)")


@dataclass(frozen=True)
class LsmFlagName:
    """A flag's level (``strip`` or ``channel``), the id in its name, and its state."""

    level: str
    id: int
    state: str

    def __str__(self) -> str:
        stem = {"strip": strip_stem, "channel": channel_stem}[self.level]
        return f"{stem(self.id)}.{self.state}"


def parse_lsm_flag(name: str) -> LsmFlagName | None:
    """Parse the name of a flag, whatever its padding; None for other names."""
    match = _FLAG.fullmatch(name)
    return LsmFlagName(match[1], int(match[2]), match[3]) if match else None
