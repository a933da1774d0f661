"""NIfTI files: the only place where (y, x) images and (X, Y) files meet.

Files are (X, Y[, Z]), voxel sizes in mm, qform and sform both set; NIfTI-2 where an axis is too
long for NIfTI-1.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nibabel.filebasedimages
import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io import throttle
from opticstream_smk.io.atomic import write_with
from opticstream_smk.io.direct import DirectRefusedError, DirectRows, write_at

NIFTI1_LONGEST_AXIS = 32767  # dim is int16
# Bytes of a depth from which on a volume is written past the page cache.
_DIRECT_BYTES = 2**16


@dataclass(frozen=True)
class Geometry:
    """Where an array lies.

    Attributes
    ----------
    voxel_mm
        Voxel size x, y, z.
    origin_mm
        Stage coordinates x, y, z of the centre of voxel 0.
    """

    voxel_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def affine(self) -> NDArray[np.float64]:
        """4 x 4 matrix from voxel index to mm."""
        affine = np.diag([*self.voxel_mm, 1.0])
        affine[:3, 3] = self.origin_mm
        return affine


def write_array(
    path: Path, array_xyz: NDArray[Any], geometry: Geometry, *, description: str = ""
) -> None:
    """Write an (X, Y[, Z]) array atomically."""
    image = _image(array_xyz, geometry, description)
    write_with(path, lambda temporary: nibabel.save(image, temporary))


def _image(array_xyz: NDArray[Any], geometry: Geometry, description: str) -> Any:
    kind = (
        nibabel.Nifti2Image if max(array_xyz.shape) > NIFTI1_LONGEST_AXIS else nibabel.Nifti1Image
    )
    image = kind(array_xyz, geometry.affine, dtype=array_xyz.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    # For 2-D images nibabel leaves the third voxel size at 1; it is the slice thickness.
    image.header["pixdim"][1:4] = geometry.voxel_mm
    image.set_qform(geometry.affine, code="scanner")
    image.set_sform(geometry.affine, code="scanner")
    return image


def image_header(
    shape_yx: tuple[int, int], dtype: np.dtype[Any], geometry: Geometry, *, description: str = ""
) -> bytes:
    """What comes before the values of an (X, Y) file: those of a (y, x) image, row by row."""
    return _header(shape_yx[::-1], dtype, geometry, description)


def _header(
    shape: tuple[int, ...], dtype: np.dtype[Any], geometry: Geometry, description: str
) -> bytes:
    # Only the header is taken, so the values need no memory.
    image = _image(np.broadcast_to(dtype.type(0), shape), geometry, description)
    image.header.set_data_offset(image.header.single_vox_offset)
    image.header.set_slope_inter(1, 0)
    image.header["magic"] = image.header.single_magic
    header: bytes = image.header.binaryblock
    return header.ljust(int(image.header["vox_offset"]), b"\0")


class VolumeWriter:
    """An (X, Y, Z) float32 file that is written some B-lines at a time.

    Large volumes go past the page cache where the file system can do that; the files are the same.

    Parameters
    ----------
    path
        The file; give it to `atomic_path` or remove it when something fails.
    shape
        X, Y, Z.

    Raises
    ------
    OSError
        The file system refuses.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        geometry: Geometry,
        *,
        description: str = "",
    ) -> None:
        header = _header(shape, np.dtype(np.float32), geometry, description)
        alines, blines, depth = shape
        self._bline_bytes, self._depth_bytes = 4 * alines, 4 * alines * blines
        self._offset = len(header)
        self._file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
        self._direct: DirectRows | None = None
        try:
            if self._depth_bytes >= _DIRECT_BYTES:
                with contextlib.suppress(DirectRefusedError):
                    self._direct = DirectRows(path, header, depth, self._depth_bytes)
            if self._direct is None:
                write_at(self._file, memoryview(header), 0)
        except BaseException:
            self.close()
            raise

    def write(self, start: int, stop: int, block: NDArray[np.float32]) -> None:
        """Write the B-lines that follow those before from `block` (Z, n, X), contiguous."""
        lines = block.reshape(len(block), -1).view(np.uint8)
        lines = lines[:, : (stop - start) * self._bline_bytes]
        if self._direct is not None:
            self._direct.write(start * self._bline_bytes, lines)
            return
        for z, plane in enumerate(lines):
            place = self._offset + z * self._depth_bytes + start * self._bline_bytes
            write_at(self._file, plane.data, place)

    def close(self) -> None:
        """Close the file."""
        if self._direct is not None:
            self._direct.close()
        os.close(self._file)


def _bytes(content: Any) -> memoryview:
    return memoryview(content).cast("B")


class StackReader:
    """B-lines of a float32 (W, Y, Z) file for an engine: only what is needed is read.

    Raises
    ------
    IncompleteInputError, CorruptInputError
        As `read_array`; on reading, also when the file has become shorter.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._shape = shape
        array = read_array(path, shape=shape, is_read_ahead=False)
        # Scaled, compressed or of another type: taken through nibabel.
        is_plain = isinstance(array, np.memmap) and array.dtype == np.dtype("<f4")
        self._array = None if is_plain else array.astype(np.float32, order="F", copy=False)
        self._offset = array.offset if isinstance(array, np.memmap) else 0

    def buffer(self, rows: int) -> NDArray[np.float32]:
        """Memory for so many B-lines."""
        width, _, depth = self._shape
        return np.empty((depth, rows, width), np.float32)

    def read(self, start: int, stop: int, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """B-lines `start` to `stop`: the first rows of (Z, n, W)."""
        if self._array is not None:
            return np.ascontiguousarray(self._array.T[:, start:stop])
        self.read_rows((0, self._shape[2]), (start, stop), buffer)
        return buffer

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, W) of what is read."""
        width, blines, depth = self._shape
        return depth, blines, width

    @property
    def identity(self) -> str:
        """Path, size and time of the file."""
        found = self._path.stat()
        return f"{self._path} {found.st_size} {found.st_mtime_ns}"

    def read_rows(
        self, planes: tuple[int, int], rows: tuple[int, int], buffer: NDArray[np.float32]
    ) -> None:
        """Fill the first rows of a buffer (planes, n, W) with some B-lines at some depths."""
        if self._array is not None:
            buffer[:, : rows[1] - rows[0]] = self._array.T[slice(*planes), slice(*rows)]
            return
        width, blines, _ = self._shape
        size = 4 * width * (rows[1] - rows[0])
        throttle.wait_for_raw(self._path, size * (planes[1] - planes[0]))
        try:
            with self._path.open("rb", buffering=0) as file:
                for z in range(*planes):
                    place = self._offset + 4 * width * (z * blines + rows[0])
                    row = _bytes(buffer[z - planes[0], : rows[1] - rows[0]])
                    if os.preadv(file.fileno(), [row], place) < size:
                        raise CorruptInputError(
                            f"{self._path} was cut short while it was read; restore it, or have "
                            "it made again by `optic-trigger doctor --fix`"
                        )
        except OSError as error:
            raise CorruptInputError(
                f"{self._path} cannot be read ({error.strerror}); check its rights and the disk"
            ) from error


def write_image(
    path: Path, image_yx: NDArray[Any], geometry: Geometry, *, description: str = ""
) -> None:
    """Write a (y, x[, component]) image atomically as (X, Y[, component])."""
    write_array(path, np.swapaxes(image_yx, 0, 1), geometry, description=description)


def read_array(
    path: Path, *, shape: tuple[int, ...] | None = None, is_read_ahead: bool = True
) -> NDArray[Any]:
    """Read an (X, Y[, Z]) array as stored, memory-mapped where the file allows it.

    Files of the acquisition are first brought into the page cache where reading is limited, unless
    they are not to be.

    Raises
    ------
    IncompleteInputError
        There is no such file.
    CorruptInputError
        Not NIfTI, truncated, or not of ``shape``.
    """
    with _naming_errors(path):
        if is_read_ahead:
            throttle.read_ahead(path)
        array: NDArray[Any] = np.asanyarray(nibabel.load(path, mmap="c").dataobj)
    if shape is not None and array.shape != shape:
        raise CorruptInputError(
            f"{path} has shape {array.shape}, expected {shape}; it was made with another tile "
            "size or configuration"
        )
    return array


def read_image(path: Path, *, shape_yx: tuple[int, int] | None = None) -> NDArray[Any]:
    """Read a 2-D file as a (y, x) image; see :func:`read_array`."""
    array = read_array(path)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    expected = None if shape_yx is None else shape_yx[::-1]
    if array.ndim != 2 or (expected is not None and array.shape != expected):
        raise CorruptInputError(
            f"{path} has shape {array.shape}, expected {expected or '(X, Y)'}; it was made with "
            "another tile size or configuration"
        )
    return array.T


def read_geometry(path: Path) -> Geometry:
    """Voxel size and place of voxel 0, of a file that can be read.

    Raises
    ------
    IncompleteInputError, CorruptInputError
        As `read_array`.
    """
    with _naming_errors(path):
        image = nibabel.load(path)
    # For 2-D images nibabel has no third size; the header has.
    x, y, z = (float(size) for size in image.header["pixdim"][1:4])
    a, b, c = (float(value) for value in image.affine[:3, 3])
    return Geometry((x, y, z), (a, b, c))


@contextlib.contextmanager
def _naming_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{path} does not exist; `optic-trigger doctor --fix` has it made again"
        ) from error
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise CorruptInputError(
            f"{path} cannot be read as NIfTI: {error}; remove it and run "
            "`optic-trigger doctor --fix`, which has it made again"
        ) from error
