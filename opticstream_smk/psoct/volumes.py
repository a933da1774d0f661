"""Jones components to intensity, retardance and optic-axis orientation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError
from opticstream_smk.psoct.plain import fill_bline
from opticstream_smk.psoct.spectral import JonesArray, jones_shape, stack_jones

ZOrder = Literal["raw", "flipped"]


@dataclass(frozen=True, eq=False)
class Volumes:
    """The three volumes of a tile, each (X, Y, Z) float32.

    Attributes
    ----------
    dbi : intensity, dB.
    r3d : retardance, degrees, 0 to 90.
    o3d : optic-axis orientation, degrees, axial.
    """

    dbi: NDArray[np.float32]
    r3d: NDArray[np.float32]
    o3d: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> Volumes:
        """Allocate volumes of `shape` (X, Y, Z) in Fortran order, that of the files."""
        return cls(*(np.empty(shape, np.float32, order="F") for _ in range(3)))

    @property
    def by_depth(self) -> tuple[NDArray[np.float32], ...]:
        """The three volumes as (Z, Y, X)."""
        return self.dbi.T, self.r3d.T, self.o3d.T


@dataclass(frozen=True)
class VoxelOptions:
    """What `jones_to_volumes` does; `reverse_z` is about the depth that the components have."""

    reverse_z: bool
    flip_phase: bool
    phase_offset_deg: float
    toolbox_quirks: bool

    @property
    def of_kernels(self) -> tuple[bool, bool, np.float32, bool]:
        """Last arguments of the compiled loops."""
        offset = (
            2 * math.radians(self.phase_offset_deg)
            if self.toolbox_quirks
            else self.phase_offset_deg % 180
        )
        return self.reverse_z, self.flip_phase, np.float32(offset), self.toolbox_quirks


def jones_to_volumes(
    J1: JonesArray,
    J2: JonesArray,
    *,
    flip_phase: bool = False,
    phase_offset_deg: float = 100.0,
    flip_z: bool = True,
    toolbox_quirks: bool = False,
    z_order: str = "raw",
) -> Volumes:
    """Compute intensity, retardance and orientation of every voxel.

    Parameters
    ----------
    J1, J2 : (X, Y, Z) complex
        Jones components.
    flip_phase : bool
        Negate the phase difference, before the offset is added.
    phase_offset_deg : float
        Added to the orientation, degrees.
    flip_z : bool
        Reverse depth: a spectrum transforms from zero delay on, which is the deep end of the
        tissue.
    toolbox_quirks : bool
        True gives psoct-toolbox's result: orientation is wrapped once only and may leave
        (-90, 90]; NaN in J gives -69.24 dB, retardance NaN or 90 or 0, orientation NaN.
        False: orientation is in (-90, 90], and NaN in J is NaN in all three.
    z_order : {"raw", "flipped"}
        Depth of J: as transformed, or reversed already (complex files of psoct-toolbox up to
        0c5b601, and of ``s2c_raw``). The volumes are the same from either.

    Returns
    -------
    Volumes
        float32, Fortran order.

    Raises
    ------
    ConfigError
        If `z_order` is unknown.
    CorruptInputError
        If the shapes differ or are not 3-D.

    Notes
    -----
    Follows psoct-toolbox ``complex2volumes``: dBI = 10 log10(|J1|^2 + |J2|^2),
    R3D = atan(|J1| / |J2|), O3D = (arg J1 - arg J2) / 2 + offset.
    """
    check_z_order(z_order)
    shape = jones_shape(J1, J2)
    options = VoxelOptions(
        flip_z == (z_order == "raw"), flip_phase, phase_offset_deg, toolbox_quirks
    )
    volumes = Volumes.empty(shape)
    if J1.dtype != np.complex64 or J2.dtype != np.complex64:
        for y in range(shape[1]):
            line1, line2 = (np.ascontiguousarray(jones[:, y, :].T) for jones in (J1, J2))
            fill_bline(volumes, y, line1, line2, options)
        return volumes

    from opticstream_smk.psoct.voxel_kernels import volumes_of_stack

    for y in range(shape[1]):
        stack = stack_jones(J1[:, y : y + 1], J2[:, y : y + 1])
        volumes_of_stack(stack.T, 0, *volumes.by_depth, y, *options.of_kernels)
    return volumes


def check_z_order(z_order: str) -> None:
    """Raise `ConfigError` unless `z_order` is known."""
    if z_order not in ("raw", "flipped"):
        raise ConfigError(
            f"complex_z_order {z_order!r} is unknown; accepted: raw, flipped. Set how depth is "
            "stored in the complex tiles."
        )
