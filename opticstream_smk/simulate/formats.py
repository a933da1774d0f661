"""File formats of the acquisition host: NIfTI-1, and packed 12-bit counts without a header."""

import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from opticstream_smk.errors import CorruptInputError

HEADER_BYTES = 352  # 348 B NIfTI-1 header + 4 B extension flag

_MAX_12BIT = 4095
_UNITS_MM = 2
_DATATYPES = {np.dtype(np.uint16): 512, np.dtype(np.float32): 16, np.dtype(np.float64): 64}


def nifti1_header(
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    voxel_mm: tuple[float, float, float] | None = None,
) -> bytes:
    """NIfTI-1 header and extension flag of a little-endian volume.

    Parameters
    ----------
    shape
        (X, Y, Z); no axis longer than 32767.
    dtype
        uint16, float32 or float64.
    voxel_mm
        Voxel size. None: sizes of 1 without a unit, as spectra have.

    Notes
    -----
    The fields are written by offset, as the host's software leaves all others zero.
    """
    dtype = np.dtype(dtype)
    header = bytearray(HEADER_BYTES)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, _DATATYPES[dtype], 8 * dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, *(voxel_mm or (1.0, 1.0, 1.0)), *[1.0] * 4)
    struct.pack_into("<ff", header, 108, HEADER_BYTES, 1.0)  # data offset, slope
    if voxel_mm is not None:
        header[123] = _UNITS_MM
    header[344:348] = b"n+1\0"
    return bytes(header)


def nifti_bytes(shape: tuple[int, int, int], dtype: DTypeLike) -> int:
    """Size of a NIfTI-1 file."""
    return HEADER_BYTES + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def write_nifti(
    file: BinaryIO,
    volume: NDArray[Any],
    voxel_mm: tuple[float, float, float],
) -> None:
    """Write an (X, Y, Z) volume of float32 or float64 with its header, plane by plane."""
    x, y, z = volume.shape
    file.write(nifti1_header((x, y, z), volume.dtype, voxel_mm))
    stored = volume.dtype.newbyteorder("<")
    for plane in np.moveaxis(volume, 2, 0):
        file.write(plane.astype(stored, copy=False).tobytes(order="F"))


def spectral_header(alines: int, blines: int, samples: int) -> bytes:
    """Header of 16-bit spectra: uint16, dimensions (samples, 2 A-lines, B-lines).

    The second dimension holds the A-lines of channel 1, then those of channel 2.
    """
    return nifti1_header((samples, 2 * alines, blines), np.uint16)


def spectral_bytes(alines: int, blines: int, samples: int, bits: int) -> int:
    """Size of a file of spectra: 16-bit with a header, 12-bit without."""
    counts = 2 * alines * blines * samples
    return HEADER_BYTES + 2 * counts if bits == 16 else 3 * counts // 2


def write_spectra(file: BinaryIO, blines: Iterable[NDArray[np.uint16]], bits: int) -> None:
    """Write counts in the order of the B-lines (2, X, N), as uint16 or packed to 12 bits."""
    for bline in blines:
        packed = bline.astype("<u2", copy=False) if bits == 16 else pack12(bline)
        file.write(packed.tobytes())


def pack12(counts: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Pack counts to 12 bits, two in three bytes.

    Bytes b0, b1, b2 hold the first count as b0 + 256 (b1 mod 16) and the second as
    floor(b1 / 16) + 16 b2.

    Parameters
    ----------
    counts
        uint16, 0 to 4095, an even number of them; any shape, packed in C order.

    Returns
    -------
    (3 n / 2,) uint8 for n counts.

    Raises
    ------
    CorruptInputError
        A count needs more bits, or one is left over.
    """
    flat = counts.ravel()
    if flat.size % 2 or (flat.size and flat.max() > _MAX_12BIT):
        raise CorruptInputError(
            f"{flat.size} counts up to {flat.max()} cannot be packed; expected an even number of "
            f"counts up to {_MAX_12BIT}. Write them with 16 bits."
        )
    first, second = flat[0::2], flat[1::2]
    packed = np.empty((first.size, 3), np.uint8)
    packed[:, 0] = first & 0xFF
    packed[:, 1] = (first >> 8) | ((second & 0xF) << 4)
    packed[:, 2] = second >> 4
    return packed.ravel()
