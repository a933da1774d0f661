"""The list of a mosaic's archived files: one CSV beside them, complete at every moment.

It is made from the receipts in the project folder, and keeps what an earlier one lists beyond
them: an archive outlives the project.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from opticstream_smk.archive.files import ArchivedFile, Row, modified_text
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io.atomic import write_bytes
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state import locks
from opticstream_smk.state.receipts import Receipt, read_receipt

# `optic-trigger compare-hashes` reads asset_path and content_sha256.
COLUMNS = (
    "asset_path",
    "size",
    "sha256",
    "content_sha256",
    "content_size",
    "content_name",
    "content_modified",
    "mosaic",
    "image",
    "modality",
)


def update_manifest(layout: ProjectLayout, path: Path, owner: int, mosaics: Iterable[int]) -> None:
    """Write the manifest of a mosaic anew.

    Parameters
    ----------
    path
        The manifest.
    owner
        Mosaic that it is of.
    mosaics
        Mosaics whose receipts list its files: several where raw files are interleaved.

    Raises
    ------
    CorruptInputError
        What is there is no manifest.
    ServiceError
        It cannot be written.
    """
    with locks.hold(layout.manifest_lock(owner)):
        rows = {row["asset_path"]: row for row in read_manifest(path)}
        for mosaic in mosaics:
            for receipt in _receipts(layout, mosaic):
                rows |= {file.name: _row(file) for file in archived_files(receipt.details)}
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
        content = text.getvalue().encode()
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)


def read_manifest(path: Path) -> list[Row]:
    """Rows of a manifest; none when there is no such file.

    Raises
    ------
    CorruptInputError
        It is not what this version writes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise _no_manifest(path, str(error)) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise _no_manifest(path, f"its first line is {text.splitlines()[:1]}")
    rows: list[Row] = list(reader)
    whole = all(set(row) == set(COLUMNS) and None not in row.values() for row in rows)
    if not whole or not text.endswith("\n"):
        raise _no_manifest(path, "a line of it is cut short or too long")
    return rows


def archived_files(details: Mapping[str, object]) -> list[ArchivedFile]:
    """Archived files that a receipt or a flag lists."""
    files = details.get("archived", ())
    assert isinstance(files, list | tuple)
    return [ArchivedFile.model_validate(file) for file in files]


def _receipts(layout: ProjectLayout, mosaic: int) -> Iterable[Receipt]:
    for path in sorted(layout.receipts(mosaic, "archived").glob("*.json")):
        receipt = read_receipt(path)
        if receipt is not None:
            yield receipt


def _row(file: ArchivedFile) -> Row:
    source = file.source
    values = {
        "asset_path": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "content_sha256": source.sha256,
        "content_size": source.size,
        "content_name": Path(source.path).name,
        "content_modified": modified_text(source.mtime_ns),
        "mosaic": file.mosaic,
        "image": file.image,
        "modality": file.modality,
    }
    return {name: str(value) for name, value in values.items()}


def _no_manifest(path: Path, why: str) -> CorruptInputError:
    return CorruptInputError(
        f"{path} is no list of archived files ({why}); expected the columns {', '.join(COLUMNS)}. "
        "Move it away; it is made again from the project's receipts."
    )
