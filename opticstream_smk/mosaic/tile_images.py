"""Tiles that a tile info names: NIfTI, MATLAB, Zarr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read_tile(path: Path, file_key: str | None = None) -> NDArray[Any]:
    """Read a tile as it is stored: (x, y) or (x, y, depth).

    Parameters
    ----------
    path
        ``.nii``, ``.nii.gz`` (memory-mapped where it can be), ``.mat`` to version 7, or a ``.zarr``
        folder: an array, or a group whose array ``0`` is taken.
    file_key
        Variable of a MATLAB file; needed where it has several.

    Raises
    ------
    IncompleteInputError
        There is no such file.
    CorruptInputError
        It cannot be read, or has another number of axes.
    """
    if not path.exists():
        raise IncompleteInputError(
            f"tile {path} is not there; copy it there, or correct base_dir of the tile info"
        )
    if path.suffix == ".mat":
        array = _read_mat(path, file_key)
    elif path.suffix == ".zarr":
        array = _read_zarr(path)
    elif path.name.endswith((".nii", ".nii.gz")):
        array = nifti.read_array(path)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
    else:
        raise CorruptInputError(
            f"tile {path}: expected a name that ends in .nii, .nii.gz, .mat or .zarr"
        )
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise CorruptInputError(
            f"tile {path} has shape {array.shape}: expected (x, y) or (x, y, depth)"
        )
    return array


def _read_mat(path: Path, file_key: str | None) -> NDArray[Any]:
    from opticstream_smk.psoct.matfile import load_mat

    variables = load_mat(path, kind="tile", variables=(file_key,) if file_key else ())
    if file_key is None and len(variables) != 1:
        raise CorruptInputError(
            f"tile {path} has the variables {', '.join(sorted(variables)) or '(none)'}: expected "
            "one; say which by metadata.file_key of the tile info"
        )
    return variables[file_key] if file_key else next(iter(variables.values()))


def _read_zarr(path: Path) -> NDArray[Any]:
    import zarr

    try:
        node = zarr.open(str(path), mode="r")
        array = node["0"] if isinstance(node, zarr.Group) else node
        return np.asarray(array[...])  # type: ignore[index]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptInputError(
            f"tile {path} cannot be read as Zarr ({error}); copy it again"
        ) from error
