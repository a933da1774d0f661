"""Whether a raw file is still the one that was taken into the queue."""

from pathlib import Path

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io.checksum import raw_sha256
from opticstream_smk.state.flags import InputFile, file_input


def unchanged_raw(raw: InputFile) -> InputFile:
    """Check that a raw tile is still the file that ``.ready`` lists.

    It is read when there was a checksum beside it.

    Raises
    ------
    IncompleteInputError
        It has vanished.
    CorruptInputError
        It was truncated or replaced, or is not what the checksum beside it says.
    """
    check_same_file(raw)
    if raw.sha256 is not None:
        try:
            content = raw_sha256(Path(raw.path))
        except OSError as error:
            raise unreadable_raw(raw.path, error) from error
        check_digest(raw, content)
    return raw


def check_same_file(raw: InputFile) -> None:
    """Check size and time of a raw tile; see :func:`unchanged_raw`."""
    path = Path(raw.path)
    try:
        found = file_input(path)
    except OSError as error:
        raise IncompleteInputError(
            f"raw tile {path} cannot be seen any more ({error.strerror}). Bring it back (is the "
            "disk mounted?), then run snakemake again."
        ) from error
    if found.size != raw.size:
        raise CorruptInputError(
            f"raw tile {path} has {found.size} bytes; it had {raw.size} when its batch became "
            "ready, so it was truncated or replaced. Restore the file, then run `optic-trigger "
            "scan` and snakemake again."
        )
    if found.mtime_ns != raw.mtime_ns:
        raise CorruptInputError(
            f"raw tile {path} was written again after its batch became ready. If that is meant, "
            "run `optic-trigger scan`, which takes the new file, then snakemake again."
        )


def check_digest(raw: InputFile, content_sha256: str) -> None:
    """Check what was read of a raw tile against the checksum that was beside it, if any."""
    if raw.sha256 not in (None, content_sha256):
        path = Path(raw.path)
        raise CorruptInputError(
            f"raw tile {path} is not what the checksum beside it says: its SHA-256 is "
            f"{content_sha256}, {path.name}.sha256 has {raw.sha256}. Copy the tile again from the "
            "acquisition host."
        )


def unreadable_raw(path: str | Path, error: OSError) -> CorruptInputError:
    """The error for a raw tile that is there and cannot be read."""
    return CorruptInputError(
        f"raw tile {path} cannot be read ({error.strerror}); correct its permissions, or copy "
        "it again"
    )
