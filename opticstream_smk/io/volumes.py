"""Volumes of tiles (NIfTI) and of mosaics (OME-Zarr), of which parts are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MM = {"millimeter": 1.0, "micrometer": 1e-3, "nanometer": 1e-6, "meter": 1e3}


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume (z, y, x) of which parts are read.

    Attributes
    ----------
    path
        Its file or folder.
    array
        What is sliced; its values stay on disk until then, unless it is a compressed NIfTI.
    axes
        Place of z, y, x among the axes of `array`.
    geometry
        Voxel size and place of voxel 0 in mm (x, y, z).
    """

    path: Path
    array: Any
    axes: tuple[int, int, int]
    geometry: nifti.Geometry

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size z, y, x in voxels."""
        z, y, x = (int(self.array.shape[axis]) for axis in self.axes)
        return z, y, x

    def read(self, y: slice, x: slice) -> NDArray[np.float32]:
        """(z, y, x) float32 of some rows and columns, all of their depth.

        Raises
        ------
        CorruptInputError
            They cannot be read.
        """
        index: list[slice] = [slice(None)] * 3
        index[self.axes[1]], index[self.axes[2]] = y, x
        try:
            part = np.asarray(self.array[tuple(index)], dtype=np.float32)
        except (OSError, ValueError, RuntimeError) as error:
            raise CorruptInputError(
                f"{self.path} cannot be read at y {y.start}, x {x.start} ({error}). Have it made "
                "again."
            ) from error
        return np.ascontiguousarray(part.transpose(self.axes))


def open_volume(path: Path) -> Volume:
    """Open a NIfTI volume (X, Y, Z), or the full resolution of an OME-Zarr (z, y, x).

    Raises
    ------
    IncompleteInputError
        It is not there, or not complete.
    CorruptInputError
        It is neither of these.
    """
    if path.is_dir():
        return _open_ome_zarr(path)
    if not path.exists():
        raise IncompleteInputError(f"{path}: no such volume. Correct its path.")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{path}: expected a volume .nii, .nii.gz or .ome.zarr")
    array = nifti.read_array(path)
    if array.ndim != 3 or 0 in array.shape:
        raise CorruptInputError(f"{path} has shape {array.shape}, expected a volume (X, Y, Z)")
    return Volume(path, array, (2, 1, 0), nifti.read_geometry(path))


def _open_ome_zarr(path: Path) -> Volume:
    import zarr
    from zarr.errors import BaseZarrError

    try:
        group: Any = zarr.open_group(str(path), mode="r")
        attributes: Any = dict(group.attrs)
        image = attributes.get("ome", attributes)["multiscales"][0]
        dataset = image["datasets"][0]
        array = group[dataset["path"]]
        axes = [(axis["name"], axis.get("unit", "micrometer")) for axis in image["axes"]]
        transforms = {t["type"]: t[t["type"]] for t in dataset["coordinateTransformations"]}
        place = {name: index for index, (name, _) in enumerate(axes)}
        to_mm = [_MM[axes[place[name]][1]] for name in "xyz"]
        scale = [transforms["scale"][place[name]] for name in "xyz"]
        shift = [transforms.get("translation", [0.0] * 3)[place[name]] for name in "xyz"]
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{path} is no complete OME-Zarr: {error}. Have it made to its end."
        ) from error
    except (KeyError, IndexError, TypeError, ValueError, OSError, BaseZarrError) as error:
        raise CorruptInputError(
            f"{path} cannot be opened as OME-Zarr ({type(error).__name__}: {error}). Have it made "
            "again."
        ) from error
    if array.ndim != 3 or 0 in array.shape:
        raise CorruptInputError(f"{path} has shape {array.shape}, expected a volume (z, y, x)")
    voxel = tuple(size * unit for size, unit in zip(scale, to_mm, strict=True))
    origin = tuple(value * unit for value, unit in zip(shift, to_mm, strict=True))
    geometry = nifti.Geometry(voxel, origin)
    return Volume(path, array, (place["z"], place["y"], place["x"]), geometry)
