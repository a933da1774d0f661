"""Files that do not belong: other paddings, orphans, dangling links, what dead processes left."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from opticstream_smk import naming
from opticstream_smk.doctor.finding import Finding
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.layout import FIJI_FOLDER, MATLAB_FOLDER
from opticstream_smk.state import locks
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.places import flag_path, parse_flag_path
from opticstream_smk.state.psoct import OctProjectState
from opticstream_smk.state.receipts import read_receipt

_ZARR, _TEMPORARY, _PREVIOUS = ".zarr", ".tmp-", ".old-"


def file_findings(project: OctProjectState) -> Iterator[Finding]:
    """Everything in a project folder that is not as this version writes it."""
    yield from _mosaic_folders(project)
    for folder in _state_folders(project):
        yield from _flag_names(project, folder)
        yield from _dead_locks(folder)
    known = _known_products(project)
    running = any(
        locks.is_held(path)
        for folder in _state_folders(project)
        for path in _files(folder / ".locks")
        if path != project.layout.project_lock  # doctor itself may hold it
    )
    for folder in _product_folders(project):
        yield from _products(folder, known, running=running)


def _mosaic_folders(project: OctProjectState) -> Iterator[Finding]:
    for folder in _files(project.layout.root):
        mosaic = naming.parse_mosaic_folder(folder.name)
        if not mosaic or folder.name == naming.mosaic_folder(mosaic):
            continue
        target = project.layout.mosaic(mosaic)
        if target.exists():
            yield Finding(
                str(folder),
                f"is mosaic {mosaic}, as is {target.name}",
                "Move what you need into one of them and remove the other",
            )
        else:
            yield Finding(
                str(folder),
                f"has another padding than {target.name}",
                "--fix renames it",
                mend=partial(folder.rename, target),
            )


def _flag_names(project: OctProjectState, folder: Path) -> Iterator[Finding]:
    for path in _files(folder):
        if path.is_dir() or path.name.startswith("."):
            continue
        parsed = parse_flag_path(path, project.mosaics_per_slice)
        if parsed is None:
            yield Finding(str(path), "is no flag of this version", "Remove it")
            continue
        target = flag_path(project.layout, *parsed)
        if path == target:
            continue
        if target.exists():
            yield Finding(str(path), f"is a second {target.name}", "Remove the wrong one")
        else:
            yield Finding(
                str(path),
                f"has another padding than {target.name}",
                "--fix renames it",
                mend=partial(path.rename, target),
            )


def _dead_locks(folder: Path) -> Iterator[Finding]:
    for path in _files(folder / ".locks"):
        if path.suffix == ".lock" and path.stat().st_size and not locks.is_held(path):
            yield Finding(
                str(path),
                f"left by {locks.describe_holder(path)}, which has died",
                "Nothing waits for it; --fix clears it",
                mend=partial(os.truncate, path, 0),
                advisory=True,
            )


def _products(folder: Path, known: set[Path], *, running: bool) -> Iterator[Finding]:
    orphans = []
    for path in _files(folder):
        if path.is_dir():
            if not running:
                yield from _left_folder(path, known)
            if path.suffix == _ZARR and not path.name.startswith(".") and path not in known:
                orphans.append(path)
            continue
        if path.name.startswith(_TEMPORARY):
            if not running:
                yield Finding(
                    str(path),
                    "was left by a process that died while it wrote",
                    "--fix removes it",
                    mend=partial(path.unlink, missing_ok=True),
                    advisory=True,
                )
        elif path.is_symlink() and not path.exists():
            if folder.name == "archived" and path in known:
                continue  # a flag vouches for what is behind it, and is looked at with it
            yield Finding(
                str(path),
                f"is a link to {os.readlink(path)}, which is not there",  # noqa: PTH115
                "Bring the target back (is the disk mounted?), or remove the link",
            )
        elif path not in known:
            orphans.append(path)
    if orphans and not running:
        yield Finding(
            str(folder),
            f"{len(orphans)} files belong to no flag or receipt, such as {orphans[0].name}",
            "They are left alone; remove them if nobody needs them",
            advisory=True,
        )


def _left_folder(path: Path, known: set[Path]) -> Iterator[Finding]:
    """A folder that a stage left when it died."""
    if path.name.startswith((MATLAB_FOLDER, FIJI_FOLDER)):
        problem = "was left by a stage that died while MATLAB or Fiji worked"
    elif path.suffix == _ZARR and path.name.startswith(_PREVIOUS):
        problem = "is a volume that another one has replaced"
        if not (path.parent / path.name.removeprefix(_PREVIOUS)).exists():
            return  # its successor is ready and has not got the name yet
    elif path.suffix == _ZARR and path.name.startswith(_TEMPORARY):
        if path.parent / path.name.removeprefix(_TEMPORARY) not in known:
            yield Finding(
                str(path),
                "is a volume that is not complete",
                "Nothing to do: stitch_volume goes on where it was",
                advisory=True,
            )
            return
        problem = "is a volume that is not complete, and there is a complete one"
    else:
        return
    yield Finding(
        str(path),
        problem,
        "--fix removes it",
        mend=partial(shutil.rmtree, path, ignore_errors=True),
        advisory=True,
    )


def _known_products(project: OctProjectState) -> set[Path]:
    layout = project.layout
    known: set[Path] = set()
    for place, name in project.present():
        try:
            flag = read_flag(flag_path(layout, place, name))
        except CorruptInputError:
            continue
        known |= {layout.root / output.path for output in flag.outputs} if flag else set()
    for mosaic in layout.mosaics():
        for kind in ("complex", "processed", "archived"):
            for path in _files(layout.mosaic(mosaic) / kind / ".receipts"):
                receipt = read_receipt(path)
                known |= {layout.root / o.path for o in receipt.outputs} if receipt else set()
    return known


def _state_folders(project: OctProjectState) -> list[Path]:
    layout = project.layout
    return [layout.state, *map(layout.mosaic_state, layout.mosaics())]


def _product_folders(project: OctProjectState) -> list[Path]:
    layout = project.layout
    inner = ("complex", "processed", "stitched", "archived")
    return [
        *(layout.mosaic(mosaic) / name for mosaic in layout.mosaics() for name in inner),
        layout.registered,
    ]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
