"""Variables of MATLAB files, read with errors that name the file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opticstream_smk.errors import CorruptInputError, IncompleteInputError


def load_mat(path: Path, *, kind: str, variables: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read a MATLAB file (version 7 or older).

    Parameters
    ----------
    path : path
        The file.
    kind : str
        What it is, for error messages: "calibration file".
    variables : tuple of str
        Variables that must be there; empty: any will do.

    Returns
    -------
    dict of arrays
        All variables, by name.

    Raises
    ------
    IncompleteInputError
        If there is no such file.
    CorruptInputError
        If it cannot be read, or lacks one of `variables`.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    wanted = ", ".join(variables) or "its variable"
    if not path.exists():
        raise IncompleteInputError(
            f"{kind} {path} not found. Correct its path, or copy the file of this microscope "
            f"(with {wanted}) there."
        )
    try:
        content = loadmat(path)
    except NotImplementedError as error:  # version 7.3 is HDF5
        quoted = "".join(f" '{name}'," for name in variables)
        raise CorruptInputError(
            f"{kind} {path} is a MATLAB 7.3 file, which cannot be read here. Save it again with: "
            f"save('{path.name}',{quoted} '-v7')."
        ) from error
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        zlib.error,
        MatReadError,
    ) as error:
        raise CorruptInputError(
            f"{kind} {path} cannot be read as a MATLAB file ({error}). Check its rights, and copy "
            "it again."
        ) from error
    found = {name: value for name, value in content.items() if not name.startswith("__")}
    for name in variables:
        if name not in found:
            raise CorruptInputError(
                f"{kind} {path} has no variable {name} (it has: "
                f"{', '.join(sorted(found)) or 'nothing'}); expected {wanted}. Give the file of "
                "this microscope."
            )
    return found


def finite_reals(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Return `values` as a read-only float64 copy; all of them must be finite real numbers.

    Raises
    ------
    CorruptInputError
        If they are something else; `what` names them.
    """
    try:
        if np.iscomplexobj(values):
            raise TypeError("they are complex")
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CorruptInputError(
            f"{what} does not hold real numbers ({error}). Save it again as a numeric array."
        ) from error
    require_finite(array, what)
    array.setflags(write=False)
    return array


def require_finite(array: NDArray[Any], what: str) -> None:
    """Raise `CorruptInputError` that names the first value of `array` that is not finite."""
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise CorruptInputError(
            f"{what} has {int(bad.sum())} values that are not finite, the first is "
            f"{array[first]} at {first} (0-based). Repeat the calibration or remove that point."
        )
