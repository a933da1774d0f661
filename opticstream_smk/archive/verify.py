"""Is everything that was archived still there and right? Every byte is read again."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opticstream_smk.archive.faults import Fault, Verification
from opticstream_smk.archive.files import checksum_line, checksum_path
from opticstream_smk.archive.manifest import read_manifest
from opticstream_smk.archive.records import Record, Records, Selection
from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io.checksum import raw_sha256
from opticstream_smk.io.gzip_file import read_gzip
from opticstream_smk.naming.archive import MANIFEST_SUFFIX

_AGAIN = (
    "Bring it back from a copy; or, while the raw file is there, move what is left of it out of "
    "the archive and run `optic-trigger redo --from archive_batch`"
)
_TOLD_EVERY = 100

log = logging.getLogger(__name__)


def verify_archive(
    config: Config, selection: Selection, *, against_raw: bool = False, threads: int = 1
) -> Verification:
    """Read archived files again and compare them with flags, manifests and checksum files.

    Parameters
    ----------
    against_raw
        Also read raw files that are still there, no faster than the limit of the host.
    threads
        Files that are read at a time.

    Raises
    ------
    IncompleteInputError
        Nothing is archived of what is asked for.
    """
    found = Verification()
    known = Records(config, selection, found.faults)
    records = known.all()
    if not records and not found.faults:
        raise IncompleteInputError(
            f"nothing is archived of what is asked for in {config.project.dir}; `optic-trigger "
            "status` says what is"
        )
    with ThreadPoolExecutor(threads, "verify") as pool:
        checked = pool.map(lambda record: list(_check(record)), records)
        for number, (record, faults) in enumerate(zip(records, checked, strict=True), start=1):
            found.faults += faults
            if not any(fault.path == record.path for fault in faults):
                found.files += 1
                found.content_bytes += record.content_size
            if number % _TOLD_EVERY == 0:
                log.info("%d of %d files read", number, len(records))
    for record in records if against_raw else ():
        if record.raw is not None and os.path.lexists(record.raw):
            faults = list(_check_raw(record.raw, record))
            found.faults += faults
            found.raw_files += not faults
    if selection == Selection() and config.archive.dir is not None and not known.being_made():
        found.faults += _extra(config.archive.dir, config.project.name, records)
    return found


def _check(record: Record) -> Iterator[Fault]:
    """The file, its checksum file and its link."""
    path = record.path
    try:
        digests = read_gzip(path)
    except FileNotFoundError:
        yield Fault("missing", path, "is not there", _AGAIN)
        return
    except OSError as error:
        remedy = "Check its permissions and the disk"
        yield Fault("unreadable", path, f"cannot be read ({error.strerror})", remedy)
        return
    except CorruptInputError as error:
        yield Fault("corrupted", path, str(error).removeprefix(f"{path} "), _AGAIN)
        return
    expected = (record.sha256, record.content_sha256)
    if (digests.file.sha256, digests.content.sha256) != expected:
        problem = (
            f"has SHA-256 {digests.file.sha256} (content {digests.content.sha256}), recorded is "
            f"{record.sha256} (content {record.content_sha256})"
        )
        yield Fault("corrupted", path, problem, _AGAIN)
        return
    yield from _check_checksum_file(record)
    if record.link is not None and not _leads_to(record.link, path):
        problem = f"does not lead to {path}"
        yield Fault("link", record.link, problem, "`optic-trigger doctor --fix` makes it again")


def _check_checksum_file(record: Record) -> Iterator[Fault]:
    path = checksum_path(record.path)
    remedy = "`optic-trigger redo --from archive_batch` writes it again"
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        yield Fault("checksum", path, f"cannot be read ({error.strerror})", remedy)
        return
    if text != checksum_line(record.path.name, record.sha256):
        problem = f"says {text.strip()[:200]!r}, expected {record.sha256}  {record.path.name}"
        yield Fault("checksum", path, problem, remedy)


def _leads_to(link: Path, path: Path) -> bool:
    try:
        return link.samefile(path)
    except OSError:
        return False


def _check_raw(raw: Path, record: Record) -> Iterator[Fault]:
    remedy = "Keep both until it is known which one is right"
    try:
        content = raw_sha256(raw)
    except OSError as error:
        yield Fault("unreadable", raw, f"cannot be read ({error.strerror})", remedy)
        return
    if content != record.content_sha256:
        problem = f"has SHA-256 {content}, archived is {record.content_sha256} in {record.path}"
        yield Fault("raw", raw, problem, remedy)


def _extra(folder: Path, project: str, records: Iterable[Record]) -> Iterator[Fault]:
    """Files that nobody vouches for: no flag, and no manifest of any project that archives here."""
    known = {record.path for record in records}
    found: list[Path] = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if name.endswith(MANIFEST_SUFFIX):
                known |= _listed(path)
            elif re.search(r"\.(nii|raw)\.gz(\.sha256)?$", name):
                found.append(path)
    known |= {checksum_path(path) for path in known}
    for path in sorted(set(found) - known):
        if path.name.startswith(".tmp-"):
            problem = "was left by a process that died while it wrote"
            yield Fault("extra", path, problem, "Remove it; it is no archive")
            continue
        problem = f"is in no flag of {project} and in no manifest"
        remedy = (
            "If its batch was being archived, run archive_batch again, which verifies it; else "
            "move it away"
        )
        yield Fault("extra", path, problem, remedy)


def _listed(manifest: Path) -> set[Path]:
    try:
        return {manifest.parent / row["asset_path"] for row in read_manifest(manifest)}
    except CorruptInputError:
        return set()  # a fault of its own, where it is ours
