"""NIfTI files: the only place where (y, x) images and (X, Y) files meet.

Files are (X, Y[, Z]), voxel sizes in mm, qform and sform both set; NIfTI-2 where an axis is too
long for NIfTI-1.
"""

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

NIFTI1_LONGEST_AXIS = 32767  # dim is int16


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
    write_with(path, lambda temporary: nibabel.save(image, temporary))


def write_image(
    path: Path, image_yx: NDArray[Any], geometry: Geometry, *, description: str = ""
) -> None:
    """Write a (y, x[, component]) image atomically as (X, Y[, component])."""
    write_array(path, np.swapaxes(image_yx, 0, 1), geometry, description=description)


def read_array(path: Path, *, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Read an (X, Y[, Z]) array as stored, memory-mapped where the file allows it.

    Files of the acquisition are first brought into the page cache where reading is limited.

    Raises
    ------
    IncompleteInputError
        There is no such file.
    CorruptInputError
        Not NIfTI, truncated, or not of ``shape``.
    """
    try:
        throttle.read_ahead(path)
        image = nibabel.load(path, mmap="c")
        array: NDArray[Any] = np.asanyarray(image.dataobj)
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{path} does not exist; `optic-trigger doctor --fix` has it made again"
        ) from error
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise CorruptInputError(
            f"{path} cannot be read as NIfTI: {error}; remove it and run "
            "`optic-trigger doctor --fix`, which has it made again"
        ) from error
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
