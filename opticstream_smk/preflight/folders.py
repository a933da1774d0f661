"""Source folders and the project folder: there, readable or writable, apart from each other."""

import os
import stat
import time
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.io.disk import existing, exists
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.check import Check, counted, failed, failed_by, note, ok, warning

_CLOCK_TOLERANCE_S = 2.0  # FAT counts in steps of 2 s


def check_sources(config: Config) -> list[Check]:
    """Every source folder."""
    checks = []
    for folder in dict.fromkeys(source.dir for source in config.acquisition.sources):
        checks += _check_source(config, folder)
    return checks


def check_project(config: Config) -> Check:
    """The project folder: what stages do there is tried, and removed again."""
    folder = config.project.dir
    name = f"project folder {folder}"
    scan = config.acquisition
    try:
        disk.probe(folder, links=scan.complex_is_input or scan.maps_are_input)
    except OpticStreamError as error:
        return failed_by(name, error)
    kind = disk.filesystem(folder)
    there = "writable" if exists(folder) else f"can be made in {existing(folder)}"
    if disk.is_network(kind):
        return note(
            name,
            f"{there}; locks and renames work; on {kind}, where locks of other hosts are told by "
            "their heartbeat",
        )
    return ok(name, f"{there}; locks and renames work{f' ({kind})' if kind else ''}")


def _check_source(config: Config, folder: Path) -> list[Check]:
    name = f"source folder {folder}"
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return [
            failed(
                "config",
                name,
                "does not exist",
                "the folder that the acquisition host writes to",
                "Mount its disk, or correct acquisition.sources",
            )
        ]
    except OSError as error:
        return [_unreadable(name, error)]
    if not is_folder:
        return [failed("config", name, "is no folder", "a folder", "Correct acquisition.sources")]
    overlap = _overlap(config.project.dir, folder)
    if overlap:
        return [
            failed(
                "config",
                name,
                overlap,
                "raw data and products apart from each other: products are written and removed",
                "Correct project.dir or acquisition.sources",
            )
        ]
    try:
        newest, count = _newest(folder)
    except OSError as error:
        return [_unreadable(name, error)]
    kind = disk.filesystem(folder)
    where = f" ({kind})" if kind else ""
    checks = [ok(name, f"readable, {counted(count, 'item')}{where}; it is only ever read")]
    if disk.is_network(kind):
        checks.append(_events(config, name, kind))
    ahead = newest - time.time()
    if ahead > _CLOCK_TOLERANCE_S:
        checks.append(
            note(
                name,
                f"its newest file is {ahead:.0f} s in the future: the clock of the acquisition "
                "host is ahead of this one. Nothing depends on it",
                "Set both by NTP",
                clock_ahead_s=round(ahead, 1),
            )
        )
    return checks


def _unreadable(name: str, error: OSError) -> Check:
    return failed(
        "service",
        name,
        f"is not readable ({error.strerror})",
        "a folder that this user may list and read; writing is not needed",
        "Correct its permissions (r and x), and those of the folders above it",
    )


def _events(config: Config, name: str, kind: str) -> Check:
    found = f"{kind} is a network file system, which sends no events of what others write"
    if config.watch.observer == "native":
        return warning(
            name,
            found,
            "watch.observer auto or poll",
            f"The folder is looked at every {config.watch.poll_interval_s:g} s all the same",
        )
    return note(name, f"{found}: it is looked at every {config.watch.poll_interval_s:g} s")


def _overlap(project: Path, source: Path) -> str:
    ours, theirs = project.resolve(), source.resolve()
    if ours == theirs:
        return f"is the project folder {project}"
    if ours.is_relative_to(theirs):
        return f"holds the project folder {project}"
    if theirs.is_relative_to(ours):
        return f"lies in the project folder {project}"
    return ""


def _newest(folder: Path) -> tuple[float, int]:
    """Latest modification time in a folder, and its number of entries."""
    if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
        raise PermissionError(13, "Permission denied")
    newest, count = 0.0, 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += 1
            try:
                newest = max(newest, entry.stat().st_mtime)
            except OSError:
                continue  # a dangling link, or gone since the listing
    return newest, count
