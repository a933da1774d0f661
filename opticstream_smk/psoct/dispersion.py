"""Dispersion correction of the resampled spectra, and the files that hold it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.psoct.matfile import finite_reals, load_mat, require_finite

_TEXT_SUFFIXES = (".txt", ".csv", ".tsv")
# MATLAB prints complex numbers with blanks around the sign: 0.98 + 0.12i.
_SPACED_COMPLEX = re.compile(r"(?<=[\d.])\s*([+-])\s*(?=[\d.]+(?:[eE][+-]?\d+)?[ij])")


@dataclass(frozen=True, eq=False)
class Dispersion:
    """What the spectra are multiplied by before the Fourier transform.

    Parameters
    ----------
    values : (N,) or (N, 2) array
        Real: phases phi in rad, applied as exp(-i phi). Complex: coefficients used as given.
        Two columns are channel 1 and channel 2; one vector serves both.
    origin : str
        Where the values came from, for error messages.

    Raises
    ------
    CorruptInputError
        If the shape is another one, or a value is not finite.
    """

    values: NDArray[Any]
    origin: str = "the dispersion vector"

    def __post_init__(self) -> None:
        values: NDArray[Any]
        if np.iscomplexobj(self.values):
            values = np.array(self.values, dtype=np.complex128)
            require_finite(values, self.origin)
            values.setflags(write=False)
        else:
            values = finite_reals(self.values, self.origin)
        columns = 1 if values.ndim == 1 else values.shape[-1]
        if values.ndim not in (1, 2) or columns not in (1, 2) or values.size == 0:
            raise CorruptInputError(
                f"{self.origin} has shape {values.shape}; expected a vector with one value per "
                "spectral sample, or two columns, one per channel. Give the dispersion of this "
                "camera."
            )
        object.__setattr__(self, "values", values[:, 0] if values.shape[1:] == (1,) else values)

    def correction(self, samples: int) -> NDArray[np.complex128]:
        """Return the factors (2, N) of both channels for `samples` = N spectral samples.

        Raises
        ------
        CorruptInputError
            If there is another number of values.
        """
        found = self.values.shape[0]
        if found != samples:
            halves = (
                " If the two halves belong to the two channels, write them as two columns of text."
                if found == 2 * samples and self.values.ndim == 1
                else ""
            )
            raise CorruptInputError(
                f"{self.origin} has {found} values; expected {samples}, one per spectral sample. "
                "Give the dispersion of this camera, or set the number of samples that belongs to "
                f"it.{halves}"
            )
        factors = self.values if np.iscomplexobj(self.values) else np.exp(-1j * self.values)
        return np.broadcast_to(factors.T, (2, samples)).astype(np.complex128)


def load_dispersion(path: Path) -> Dispersion:
    """Read a dispersion file.

    Parameters
    ----------
    path : path
        ``.txt``, ``.csv``, ``.tsv``: numbers separated by white space, commas or semicolons;
        two numbers in each line are channel 1 and channel 2, any other layout is one vector.
        ``.mat``: the one variable in it, (N,), (N, 1), (1, N) or (N, 2). Any other name: raw
        little-endian float64 phases. Real numbers are phases in rad, complex ones
        (``0.98+0.12i``) are coefficients.

    Returns
    -------
    Dispersion
        Whether the number of values is that of the spectra shows when it is used.

    Raises
    ------
    IncompleteInputError
        If there is no such file.
    CorruptInputError
        If it cannot be read, or does not hold numbers.
    """
    origin = f"dispersion file {path}"
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return Dispersion(_from_mat(path), origin)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{origin} not found. Correct its path, or leave it out to process without dispersion "
            "correction."
        ) from error
    except OSError as error:
        raise CorruptInputError(
            f"{origin} cannot be read ({error.strerror}). Check its rights."
        ) from error
    if suffix in _TEXT_SUFFIXES:
        return Dispersion(_from_text(content, origin), origin)
    if not content or len(content) % 8:
        raise CorruptInputError(
            f"{origin} has {len(content)} bytes; expected 8 (one float64) per spectral sample, "
            f"16384 for 2048. Copy it again; a text file must end in {', '.join(_TEXT_SUFFIXES)}."
        )
    return Dispersion(np.frombuffer(content, dtype="<f8"), origin)


def _from_mat(path: Path) -> NDArray[Any]:
    content = load_mat(path, kind="dispersion file", variables=())
    if len(content) != 1:
        raise CorruptInputError(
            f"dispersion file {path} has the variables {', '.join(sorted(content)) or '(none)'}; "
            "expected exactly one. Save the dispersion alone."
        )
    (values,) = content.values()
    return values.ravel() if values.ndim == 2 and values.shape[0] == 1 else values


def _from_text(content: bytes, origin: str) -> NDArray[Any]:
    """Return the numbers of a text, (N, 2) where every line holds two."""
    rows: list[list[complex]] = []
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        joined = _SPACED_COMPLEX.sub(r"\1", line)
        words = re.split(r"[\s,;]+", joined.strip(" \t,;"))
        if words == [""]:
            continue
        try:
            rows.append([_number(word) for word in words])
        except ValueError as error:
            raise CorruptInputError(
                f"{origin}: line {number} ({line.strip()[:40]!r}) does not hold numbers; expected "
                "phases in rad (0.25) or coefficients (0.98+0.12i). Remove headings and comments."
            ) from error
    if not rows:
        raise CorruptInputError(
            f"{origin} is empty; expected one number per spectral sample. Copy it again."
        )
    two_columns = len(rows) > 1 and all(len(row) == 2 for row in rows)
    values = np.array(rows if two_columns else [value for row in rows for value in row])
    if values.imag.any():
        return values
    phases = values.real
    # Phases of two channels do not lie on the unit circle, line after line.
    if two_columns and np.allclose(np.hypot(phases[:, 0], phases[:, 1]), 1, rtol=0, atol=1e-3):
        raise CorruptInputError(
            f"{origin}: its two columns look like real and imaginary parts (every line has length "
            "1); expected the phases of channel 1 and channel 2. Write coefficients as complex "
            "numbers, one per line: 0.98+0.12i."
        )
    return phases


def _number(word: str) -> complex:
    try:
        return complex(float(word))
    except ValueError:
        return complex(word.replace("i", "j").replace("*", ""))
