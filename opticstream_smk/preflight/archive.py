"""The archive: there, writable, with room for the whole run, best on a disk of its own."""

import tempfile
from pathlib import Path

from opticstream_smk import estimate
from opticstream_smk.archive.folder import ArchiveFolder, archive_folder
from opticstream_smk.config import Config
from opticstream_smk.estimate import format_bytes
from opticstream_smk.io.atomic import write_error
from opticstream_smk.io.disk import existing, exists, mount_point
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.check import Check, counted, failed, failed_by, note, ok, warning


def check_archive(config: Config, slices: int, assumption: str) -> list[Check]:
    """The archive folder, and its room where it has a disk of its own.

    Parameters
    ----------
    slices, assumption
        Slices of the whole run, and where that number comes from.
    """
    folder = archive_folder(config, project_layout(config))
    if folder is None:
        return [
            note(
                "archive",
                "no archive: raw files stay where they are, and are nowhere else",
                "archive.dir has a verified copy made of each",
            )
        ]
    name = f"archive {folder.path}"
    problem = folder.problem()
    if problem:
        expected = "the archive that this project has used"
        return [failed("service", name, problem, expected, "Mount its disk")]
    try:
        _probe(folder.path)
    except OSError as error:
        return [failed_by(name, write_error(folder.path, error))]
    where = f"on the file system of {mount_point(folder.path)}"
    there = "writable" if exists(folder.path) else "can be made"
    checks = [ok(name, f"{there}, {where}")]
    sources = {existing(source.dir).stat().st_dev for source in config.acquisition.sources}
    if existing(folder.path).stat().st_dev in sources:
        checks.append(
            warning(
                "archive disk",
                f"archive and raw files both lie {where}: one broken disk takes both",
                "a disk of its own",
                "Set archive.dir to another disk",
            )
        )
    if not is_on_disk_of_project(config):  # else its room is counted with that of the products
        checks.append(_check_room(config, folder, slices, assumption))
    return checks


def archive_bytes_to_come(config: Config, slices: int) -> int:
    """Bytes that archiving the rest of a run will write."""
    plan = Plan(config, project_layout(config))
    made = sum(
        estimate.batch_archive_bytes(config, plan.acquisition(mosaic))
        for mosaic in plan.present_mosaics
        for states in plan.batch_states(mosaic).values()
        if "archived" in states
    )
    return max(estimate.run_archive_bytes(config, slices) - made, 0)


def is_on_disk_of_project(config: Config) -> bool:
    """Whether archive and products share a disk; False without an archive."""
    if config.archive.dir is None:
        return False
    archive, project = existing(config.archive.dir), existing(config.project.dir)
    return archive.stat().st_dev == project.stat().st_dev


def _check_room(config: Config, folder: ArchiveFolder, slices: int, assumption: str) -> Check:
    needed = archive_bytes_to_come(config, slices)
    free = disk.space(folder.path).free_bytes
    found = (
        f"raw files of {counted(slices, 'slice')} ({assumption}) will take {format_bytes(needed)} "
        f"more; {format_bytes(free)} are free on the disk of {folder.path}"
    )
    numbers = {"archive_bytes": needed, "archive_free_bytes": free}
    if needed <= free:
        return ok("archive space", found, **numbers)
    remedy = "Free some, or set archive.dir to another disk"
    return failed("service", "archive space", found, format_bytes(needed), remedy, **numbers)


def _probe(folder: Path) -> None:
    with tempfile.TemporaryFile(prefix=".tmp-", dir=existing(folder)) as file:
        file.write(b"probe")
