"""Large images as files that are written some rows at a time, and read again."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.io import nifti
from opticstream_smk.io.atomic import atomic_path, write_error
from opticstream_smk.io.pictures import create_tiff

# A few megabytes of a wide mosaic; what is made of them for a picture is ten times as large.
BAND_ROWS = 128


class ImageRows:
    """One (y, x) image as NIfTI (X, Y) and as TIFF, both uncompressed.

    The files have temporary names until the context is left without an error; else nothing is left
    behind. Until then the rows that were written can be read.

    Parameters
    ----------
    nii, tiff
        The files.
    shape
        (y, x) of the image.
    dtype
        Of its values.
    geometry
        Where it lies.
    description
        For the header of the NIfTI file.

    Raises
    ------
    ServiceError
        The file system refuses; names the file and the remedy.
    """

    def __init__(
        self,
        nii: Path,
        tiff: Path,
        shape: tuple[int, int],
        dtype: type[np.generic],
        geometry: nifti.Geometry,
        *,
        description: str = "",
    ) -> None:
        self.shape = shape
        self._dtype = np.dtype(dtype)
        self._paths = nii, tiff
        self._geometry = geometry
        self._description = description
        self._stack = ExitStack()
        self._files: list[tuple[Path, int, int]] = []  # path, descriptor, offset of the values

    def __enter__(self) -> "ImageRows":
        with ExitStack() as stack:
            for path, create in zip(
                self._paths, (self._create_nii, self._create_tiff), strict=True
            ):
                temporary = stack.enter_context(atomic_path(path))
                offset = create(temporary)
                descriptor = os.open(temporary, os.O_RDWR)
                stack.callback(os.close, descriptor)
                self._files.append((path, descriptor, offset))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Write rows (n, x), the first of which is `start`."""
        values: Any = np.ascontiguousarray(rows, self._dtype)
        content = memoryview(values).cast("B")
        for path, descriptor, offset in self._files:
            place, left = offset + self._row_bytes * start, content
            try:
                while left:
                    # Fewer bytes are written where the disk is nearly full; the next call says so.
                    written = os.pwrite(descriptor, left, place)
                    left, place = left[written:], place + written
            except OSError as error:
                raise write_error(path, error) from error

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` as they were written."""
        path, descriptor, offset = self._files[0]
        rows: Any = np.empty((stop - start, self.shape[1]), self._dtype)
        left, place = memoryview(rows).cast("B"), offset + self._row_bytes * start
        try:
            while left:
                count = os.preadv(descriptor, [left], place)
                if count == 0:
                    raise OSError("it ends before its last row")
                left, place = left[count:], place + count
        except OSError as error:
            raise write_error(path, error) from error
        found: NDArray[Any] = rows
        return found

    def bands(self, rows: int = BAND_ROWS) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row, and so many rows, one part after the other."""
        for start in range(0, self.shape[0], rows):
            yield start, self.read(start, min(start + rows, self.shape[0]))

    @property
    def _row_bytes(self) -> int:
        return self.shape[1] * self._dtype.itemsize

    def _create_nii(self, path: Path) -> int:
        header = nifti.image_header(
            self.shape, self._dtype, self._geometry, description=self._description
        )
        path.write_bytes(header)
        return len(header)

    def _create_tiff(self, path: Path) -> int:
        x_mm, y_mm, _ = self._geometry.voxel_mm
        return create_tiff(path, self.shape, self._dtype, pixel_mm=(x_mm, y_mm))


class RowBits:
    """A (y, x) mask in 1 bit a pixel, made and read some rows at a time."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._width = shape[1]
        self._bits = np.zeros((shape[0], -(-shape[1] // 8)), np.uint8)

    def set(self, start: int, rows: NDArray[np.bool_]) -> None:
        """Set rows (n, x), the first of which is `start`."""
        self._bits[start : start + len(rows)] = np.packbits(rows, axis=1)

    def get(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Rows `start` to `stop`."""
        bits = self._bits[start:stop]
        return np.unpackbits(bits, axis=1, count=self._width).astype(np.bool_)
