"""One raw file into the archive: compressed, synced, read back, and only then named."""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from opticstream_smk.archive.folder import check_space
from opticstream_smk.errors import CorruptInputError, ServiceError
from opticstream_smk.io.atomic import atomic_path, write_bytes
from opticstream_smk.io.checksum import raw_sha256
from opticstream_smk.io.gzip_file import (
    COMPRESSOR,
    Digest,
    GzipDigests,
    forget_pages,
    read_digest,
    read_gzip,
    write_gzip,
)
from opticstream_smk.io.raw_files import check_digest, check_same_file, unreadable_raw
from opticstream_smk.state.flags import InputFile

# A line of a manifest, by its columns.
Row = Mapping[str, str]

log = logging.getLogger(__name__)


class ArchivedFile(BaseModel):
    """A file of the archive, as it was written and read back.

    Attributes
    ----------
    name
        Path below the archive.
    size, sha256
        Of the compressed file.
    mosaic, image, modality
        The tile that it holds; of several interleaved ones the first mosaic.
    source
        The raw file: path, size, time (ns), and its SHA-256 as it was read.
    compressor
        What wrote it; empty where it was there before.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    size: int
    sha256: str
    mosaic: int
    image: int
    modality: str
    source: InputFile
    compressor: str = ""


def store(
    raw: InputFile, target: Path, *, listed: Row | None = None, threads: int = 1
) -> tuple[GzipDigests, str]:
    """Archive a raw file; an archive of the same content that is there is verified and kept.

    Parameters
    ----------
    raw
        The file as ``.ready`` lists it.
    target
        Its path in the archive.
    listed
        What the manifest of the archive says about it. A raw file that was deleted after it had
        been archived is then not needed any more.

    Returns
    -------
    GzipDigests
        As read back from the disk.
    str
        What compressed it; empty where it was there before.

    Raises
    ------
    IncompleteInputError
        The raw file has vanished.
    CorruptInputError
        It has changed, or is not what the checksum beside it says; or the archive holds something
        else under that name, which is left alone, or cannot be read.
    ServiceError
        The archive cannot be written, or does not read back.
    """
    if listed is not None and target.exists() and not os.path.lexists(raw.path):
        return _keep_listed(raw, target, listed), ""
    check_same_file(raw)
    digests, compressor = None, COMPRESSOR
    if not target.exists():
        digests = _write(raw, target, threads)
    if digests is None:
        digests, compressor = _keep(raw, target), ""
    _write_checksum(target, digests.file)
    return digests, compressor


def _write(raw: InputFile, target: Path, threads: int) -> GzipDigests | None:
    """Write a new file; None when another process gave one that name meanwhile."""
    # Noise may not shrink at all; deflate then takes 5 bytes for each 64 KiB.
    check_space(target.parent, raw.size + raw.size // 1000 + 2**16, target.name)
    try:
        with atomic_path(target, replace=False) as temporary:
            content = write_gzip(Path(raw.path), temporary, threads=threads)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # only what is on the disk can be read from there
                forget_pages(file)
            check_same_file(raw)  # what changed while it was read is no tile
            check_digest(raw, content.sha256)
            return _read_back(temporary, target, content)
    except FileExistsError:
        return None


def _read_back(temporary: Path, target: Path, content: Digest) -> GzipDigests:
    remedy = "It was removed again; check the disk, its cable and the memory of this host"
    try:
        digests = read_gzip(temporary)
    except (CorruptInputError, OSError) as error:
        raise ServiceError(
            f"archive {target} cannot be read back after it was written ({error}). {remedy}"
        ) from error
    if digests.content != content:
        raise ServiceError(
            f"archive {target} does not read back as it was written: SHA-256 of the content is "
            f"{digests.content.sha256} ({digests.content.size} bytes), expected {content.sha256} "
            f"({content.size} bytes). {remedy}"
        )
    return digests


def _keep(raw: InputFile, target: Path) -> GzipDigests:
    """Verify what is there against the raw file."""
    away = (
        f"It is left alone. If the raw file is right, move {target.name} and its .sha256 to a "
        "folder outside of the archive, then run `optic-trigger retry` or snakemake again"
    )
    try:
        digests = read_gzip(target)
    except CorruptInputError as error:
        raise CorruptInputError(f"archive {error}. {away}") from error
    except OSError as error:
        raise unreadable_archive(target, error) from error
    try:
        content = raw_sha256(Path(raw.path))
    except OSError as error:
        raise unreadable_raw(raw.path, error) from error
    check_same_file(raw)
    check_digest(raw, content)
    if digests.content.sha256 != content:
        raise CorruptInputError(
            f"archive {target} holds another file than {raw.path}: SHA-256 of its content is "
            f"{digests.content.sha256}, that of the raw file {content}. {away}"
        )
    log.info("%s is there with the same content, and was verified", target)
    return digests


def _keep_listed(raw: InputFile, target: Path, listed: Row) -> GzipDigests:
    """Verify what is there against the manifest, as the raw file is gone."""
    if (listed["content_size"], listed["content_modified"]) != (
        str(raw.size),
        modified_text(raw.mtime_ns),
    ):
        check_same_file(raw)  # it is not there: says so
    try:
        digests = read_gzip(target)
    except OSError as error:
        raise unreadable_archive(target, error) from error
    found = digests.file.sha256, digests.content.sha256
    if found != (listed["sha256"], listed["content_sha256"]):
        raise CorruptInputError(
            f"archive {target} is not what its manifest says: SHA-256 is {found[0]} (content "
            f"{found[1]}), listed is {listed['sha256']} (content {listed['content_sha256']}); the "
            f"raw file {raw.path} is gone. Bring the right archive back from a copy."
        )
    log.info("%s is gone; %s was verified against its manifest", raw.path, target)
    return digests


def modified_text(mtime_ns: int) -> str:
    """When a raw file was written, in whole seconds: other file systems keep no more."""
    return datetime.fromtimestamp(mtime_ns // 10**9, UTC).isoformat()


def recheck(found: ArchivedFile, path: Path) -> None:
    """Read an archived file again and compare it with what was recorded.

    Raises
    ------
    CorruptInputError
        It is another file now, or cannot be read.
    """
    try:
        digest = read_digest(path)
    except OSError as error:
        raise unreadable_archive(path, error) from error
    if digest.sha256 != found.sha256:
        raise CorruptInputError(
            f"archive {path} has changed since it was verified: its SHA-256 is {digest.sha256} "
            f"({digest.size} bytes), recorded is {found.sha256} ({found.size} bytes). Bring it "
            "back from a copy; or, while the raw file is there, move the damaged file out of the "
            "archive and run `optic-trigger retry` or snakemake again"
        )


def checksum_path(target: Path) -> Path:
    """Checksum file of an archived file."""
    return target.with_name(f"{target.name}.sha256")


def checksum_line(name: str, sha256: str) -> str:
    """A line that ``sha256sum --check`` understands."""
    return f"{sha256}  {name}\n"


def unreadable_archive(path: Path, error: OSError) -> CorruptInputError:
    """The error for an archived file that is there and cannot be read; others may be fine."""
    return CorruptInputError(
        f"archive {path} cannot be read ({error.strerror}); check its permissions and the disk. If "
        "the disk has lost it, bring it back from a copy; or, while the raw file is there, move it "
        "out of the archive and run `optic-trigger retry` or snakemake again"
    )


def _write_checksum(target: Path, digest: Digest) -> None:
    path = checksum_path(target)
    line = checksum_line(target.name, digest.sha256)
    try:
        before = path.read_text(errors="replace")
    except OSError:
        before = ""
    if before == line:
        return
    if before:
        log.warning("%s said something else (%s) and is corrected", path, before.strip())
    write_bytes(path, line.encode())
