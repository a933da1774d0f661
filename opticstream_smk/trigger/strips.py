"""What a strip folder of the light-sheet camera holds. Nothing but its metadata is opened."""

import configparser
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

METADATA = "acquisitionmetadata.ini"
_SPOOL = "spool.dat"


@dataclass(frozen=True)
class StripContents:
    """The files of a strip folder and of all folders in it, without hidden ones.

    Attributes
    ----------
    files, n_bytes
        Number and total size of the files.
    newest_ns
        Latest modification time of a file.
    fingerprint
        Hash of names, sizes and modification times, as ``.ready`` records it.
    state
        The same with inodes and change times: it also changes when a file is replaced by one of
        equal size and time, and when its permissions change.
    spool_sizes
        Sizes of the camera's spool files, each with the name of the first such file.
    unreadable
        A file or folder that cannot be read, when there is one.
    reason
        Why it cannot.
    """

    files: int
    n_bytes: int
    newest_ns: int
    fingerprint: str
    state: str
    spool_sizes: Mapping[int, str]
    unreadable: Path | None = None
    reason: str = ""

    @property
    def problem(self) -> str | None:
        """Why the folder cannot be judged, for people."""
        if self.unreadable is None:
            return None
        return f"{self.unreadable} is not readable ({self.reason}); correct its permissions"


def look_into(folder: Path, *, check_access: bool = False) -> StripContents:
    """Look at every file of a strip folder.

    Hidden files are left out, with the ``._`` twins that macOS leaves on shares. A link to a file
    counts as that file; links to folders are not followed, so that no loop is ever walked, and
    links to nothing are left out. What vanishes while it is looked at was not there.

    Parameters
    ----------
    check_access
        Also see whether every file may be read, which takes one more call for each.
    """
    refused: list[tuple[str, str]] = []
    found = sorted(_walk(folder, refused), key=lambda item: item[0])
    recorded, seen = hashlib.sha256(), hashlib.sha256()
    spool_sizes: dict[int, str] = {}
    for name, status in found:
        text = os.fsencode(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n")
        recorded.update(text)
        seen.update(text + b"%d %d\n" % (status.st_ino, status.st_ctime_ns))
        if name.endswith(_SPOOL) and "/" not in name:
            spool_sizes.setdefault(status.st_size, name)
        if check_access and not os.access(folder / name, os.R_OK, effective_ids=True):
            refused.append((name, "no permission"))
    name, reason = min(refused, default=("", ""))
    return StripContents(
        files=len(found),
        n_bytes=sum(status.st_size for _, status in found),
        newest_ns=max((status.st_mtime_ns for _, status in found), default=0),
        fingerprint=recorded.hexdigest(),
        state=seen.hexdigest(),
        spool_sizes=spool_sizes,
        unreadable=folder / name if refused else None,
        reason=reason,
    )


def has_files(folder: Path) -> bool:
    """Whether a folder, or a folder in it, has a file that counts, or cannot be seen."""
    refused: list[tuple[str, str]] = []
    return any(True for _ in _walk(folder, refused)) or bool(refused)


def _walk(folder: Path, refused: list[tuple[str, str]]) -> Iterator[tuple[str, os.stat_result]]:
    """Names relative to the folder, and what they are; what cannot be seen is put in `refused`."""
    inner = [""]
    while inner:
        below = inner.pop()
        try:
            with os.scandir(folder / below) as listing:
                entries = list(listing)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused.append((below, error.strerror or str(error)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(name)
                    continue
                status = entry.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                if not entry.is_symlink():
                    refused.append((name, error.strerror or str(error)))
                continue
            if stat.S_ISREG(status.st_mode):
                yield name, status


def check_spool(folder: Path, contents: StripContents) -> tuple[str | None, str | None]:
    """Compare the sizes of the camera's spool files with each other and with its metadata.

    The camera writes files of equal size and pads the last one: a shorter one is not complete. In
    a folder without the camera's metadata nothing is known about sizes.

    Returns
    -------
    tuple
        Why the strip cannot be taken; what else is odd. None where all is well.
    """
    metadata = _read_metadata(folder / METADATA)
    if metadata is None or not contents.spool_sizes:
        return None, None
    header = _file_bytes(metadata)
    sizes = contents.spool_sizes
    if len(sizes) > 1:
        expected = header if header is not None and header in sizes else max(sizes)
        size, name = next((size, name) for size, name in sizes.items() if size != expected)
        how = "truncated or still being written" if size < expected else "too long"
        return (
            f"{folder / name} has {size} bytes, other spool files have {expected}: {how}. Wait "
            "for it or restore it.",
            None,
        )
    (size,) = sizes
    if header is not None and size != header:
        return None, (
            f"the spool files of {folder} have {size} bytes each, {METADATA} says {header} "
            "(ImageSizeBytes x ImagesPerFile); they are taken as they are"
        )
    return None, None


def _read_metadata(path: Path) -> configparser.ConfigParser | None:
    metadata = configparser.ConfigParser(interpolation=None)
    try:
        metadata.read_string(path.read_text("utf-8-sig"))
    except (OSError, ValueError, configparser.Error):
        return None
    return metadata


def _file_bytes(metadata: configparser.ConfigParser) -> int | None:
    """Size of a spool file by the camera's metadata; None when they do not say."""
    try:
        frame = metadata.getint("data", "ImageSizeBytes")
        return frame * metadata.getint("multiimage", "ImagesPerFile")
    except (ValueError, configparser.Error):
        return None
