"""Receipts: what proves that one tile of a batch is done.

Snakemake removes declared outputs before it runs a job again, so a stage cannot skip work by its
own flag. It skips what its receipts prove: same parameters, same input, products as written.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opticstream_smk.io.atomic import write_json
from opticstream_smk.io.disk import size_on_disk
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.flags import InputFile, OutputFile, file_outputs

SCHEMA = 1


class Receipt(BaseModel):
    """Proof for one tile."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_: int = Field(default=SCHEMA, alias="schema")
    params_sha256: str
    input: InputFile
    outputs: tuple[OutputFile, ...]
    numbers: dict[str, float] = {}
    details: dict[str, Any] = {}

    def proves(self, params_sha256: str, source: InputFile, root: Path) -> bool:
        """Whether these parameters and this input made products that are still there."""
        return (
            self.params_sha256 == params_sha256
            and (self.input.path, self.input.size, self.input.mtime_ns)
            == (source.path, source.size, source.mtime_ns)
            and self.products_present(root)
        )

    def products_present(self, root: Path) -> bool:
        """Whether every product has the size that was written."""
        return bool(self.outputs) and all(
            size_on_disk(root / output.path) == output.size for output in self.outputs
        )


def read_receipt(path: Path) -> Receipt | None:
    """Read a receipt; None when there is none that can be trusted."""
    try:
        receipt = Receipt.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError):
        return None
    return receipt if receipt.schema_ == SCHEMA else None


def write_receipt(
    path: Path,
    layout: ProjectLayout,
    *,
    params_sha256: str,
    source: InputFile,
    products: Sequence[Path],
    numbers: dict[str, float],
    details: dict[str, Any] | None = None,
) -> Receipt:
    """Write the receipt of a tile whose products are complete."""
    receipt = Receipt(
        params_sha256=params_sha256,
        input=source,
        outputs=file_outputs(layout, products),
        numbers=numbers,
        details=details or {},
    )
    write_json(path, receipt.model_dump(mode="json", by_alias=True))
    return receipt
