"""Light-sheet (LSM) projects: strip folders and the space that their copies may take."""

import os
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.errors import NamingError
from opticstream_smk.estimate import format_bytes
from opticstream_smk.naming.lsm import parse_lsm_folder
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.check import Check, counted, failed, note, ok, some, warning


@dataclass(frozen=True)
class StripFolder:
    """A strip folder with what lies in it, at any depth."""

    path: Path
    files: int
    n_bytes: int


def check_strips(config: Config, slices: int | None) -> list[Check]:
    """Strip folders by name and number of files; space for compressed copies of all of them."""
    found, odd = _look(config)
    least = config.lsm.min_files
    whole = [strip for strip in found if strip.files >= least]
    small = [f"{strip.path.name} ({strip.files})" for strip in found if strip.files < least]
    checks = [
        ok(
            "strips",
            f"{len(whole)} strip folders with {format_bytes(sum(s.n_bytes for s in whole))}",
            strips=len(whole),
        )
        if whole
        else note("strips", "no strip yet")
    ]
    if small:
        checks.append(
            note(
                "strips",
                f"{len(small)} folders have fewer than lsm.min_files {least} files: {some(small)}",
            )
        )
    if odd:
        checks.append(
            warning(
                "strip names",
                f"{len(odd)} folders are left out: {some(odd)}",
                f"{config.lsm.folder_prefix}1, {config.lsm.folder_prefix}1_2, "
                f"{config.lsm.folder_prefix}1_C2_2",
                "Rename them if they are strips",
            )
        )
    if whole:
        checks.append(_check_room(config, whole, slices))
    checks.append(note("first tile", "light-sheet strips are not decoded here; they have no tiles"))
    return checks


def _look(config: Config) -> tuple[list[StripFolder], list[str]]:
    strips, odd = [], []
    prefix = config.lsm.folder_prefix.lower()
    for source in config.acquisition.sources:
        try:
            folders = sorted(path for path in source.dir.iterdir() if path.is_dir())
        except OSError:
            continue  # the check of the folder says why
        for folder in folders:
            if not folder.name.lower().startswith(prefix):
                continue
            try:
                parse_lsm_folder(folder.name)
            except NamingError:
                odd.append(folder.name)
            else:
                strips.append(_measure(folder))
    return strips, odd


def _measure(folder: Path) -> StripFolder:
    files = n_bytes = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                n_bytes += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118  # 10^5 files
            except OSError:
                continue  # gone since the listing
            files += 1
    return StripFolder(folder, files, n_bytes)


def _check_room(config: Config, strips: list[StripFolder], slices: int | None) -> Check:
    present = sum(strip.n_bytes for strip in strips)
    needed, told = present, f"a compressed copy of the {len(strips)} strips that are there"
    if slices is not None:
        count = slices * config.lsm.strips_per_slice
        needed = count * present // len(strips)
        told = f"a compressed copy of {count} strips ({counted(slices, 'slice')}, of one camera)"
    space = disk.space(config.project.dir)
    found = (
        f"{told} takes at most {format_bytes(needed)}; {format_bytes(space.free_bytes)} are free "
        f"on the disk of {config.project.dir}"
    )
    wanted = needed + config.run.reserve_free_mb * 10**6
    numbers = {"needed_bytes": needed, "free_bytes": space.free_bytes}
    if wanted <= space.free_bytes:
        return ok("space", found, **numbers)
    return failed(
        "service",
        "space",
        found,
        f"{format_bytes(wanted)} (run.reserve_free_mb included)",
        "Free some, or choose another project.dir",
        **numbers,
    )
