"""The MATLAB code that processes a batch."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from opticstream_smk.matlab.literals import cell_of_texts, literal, row_of_numbers
from opticstream_smk.matlab.options import PipelineOptions

Kind = Literal["spectral", "complex"]
FUNCTIONS: Mapping[Kind, str] = MappingProxyType(
    {
        "spectral": "psoct.file.spectral2processed_batch_indexed",
        "complex": "psoct.file.complex2processed_batch_indexed",
    }
)


def batch_command(
    kind: Kind,
    files: Mapping[int, Path],
    out_dir: Path,
    mosaic: int,
    options: PipelineOptions,
    *,
    num_workers: int | None = None,
    pool_type: str = "process",
) -> str:
    """The call of psoct-toolbox that processes some tiles of a mosaic.

    Parameters
    ----------
    kind
        What `files` are: raw spectra, or complex tiles.
    files
        By image number.
    out_dir
        Products are ``mosaic_%03d_image_%04d_*.nii`` in it.
    num_workers
        Tiles at a time; None: as the toolbox chooses.
    """
    arguments = [
        cell_of_texts(list(files.values())),
        literal(out_dir),
        literal(mosaic),
        row_of_numbers(list(files)),
        *([options.group("spectral")] if kind == "spectral" else []),
        options.group("surface"),
        options.group("enface"),
        options.group("acquisition"),
        "struct()",  # output: the batch functions set every path themselves
        options.group("volume"),
        "''",  # no file with options: what is not said here would not be on record
        "[]" if num_workers is None else literal(num_workers),
        literal(pool_type),
    ]
    return f"{FUNCTIONS[kind]}({', '.join(arguments)})"


def with_toolbox(toolbox_dir: Path, command: str) -> str:
    """A command with psoct-toolbox on MATLAB's path."""
    return f"addpath(genpath({literal(toolbox_dir)}));{command}"
