"""Jones components to intensity, retardance and optic-axis orientation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError
from opticstream_smk.psoct.spectral import JonesArray, jones_shape

ZOrder = Literal["raw", "flipped"]
# Smallest power and amplitude, eps('single') in MATLAB: puts the floor of dBI at -69.24 dB.
_FLOOR = float(np.finfo(np.float32).eps)


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
    reverse = flip_z == (z_order == "raw")
    volumes = Volumes.empty(shape)
    for y in range(shape[1]):
        fill_bline(
            volumes,
            y,
            np.ascontiguousarray(J1[:, y, :].T),
            np.ascontiguousarray(J2[:, y, :].T),
            flip_phase=flip_phase,
            phase_offset_deg=phase_offset_deg,
            flip_z=reverse,
            toolbox_quirks=toolbox_quirks,
        )
    return volumes


def check_z_order(z_order: str) -> None:
    """Raise `ConfigError` unless `z_order` is known."""
    if z_order not in ("raw", "flipped"):
        raise ConfigError(
            f"complex_z_order {z_order!r} is unknown; accepted: raw, flipped. Set how depth is "
            "stored in the complex tiles."
        )


def fill_bline(
    volumes: Volumes,
    y: int,
    line1: JonesArray,
    line2: JonesArray,
    *,
    flip_phase: bool,
    phase_offset_deg: float,
    flip_z: bool,
    toolbox_quirks: bool,
) -> None:
    """Write B-line `y` (0-based) of `volumes` from depth-major Jones components (Z, X)."""
    depth = slice(None, None, -1 if flip_z else 1)
    amplitude1, amplitude2 = np.abs(line1), np.abs(line2)
    # MATLAB's max ignores NaN.
    larger = np.fmax if toolbox_quirks else np.maximum
    # Infinite or NaN amplitudes are data here, not accidents.
    with np.errstate(invalid="ignore", over="ignore"):
        power = larger(amplitude1 * amplitude1 + amplitude2 * amplitude2, _FLOOR)
        volumes.dbi[:, y, :] = (10 * np.log10(power.astype(np.float32)))[depth].T
        ratio = amplitude1.astype(np.float32) / larger(amplitude2, _FLOOR).astype(np.float32)
        volumes.r3d[:, y, :] = (np.arctan(ratio) * np.float32(180 / np.pi))[depth].T
        difference = np.angle(line1) - np.angle(line2)
        if flip_phase:
            np.negative(difference, out=difference)
        orientation = _wrapped_once if toolbox_quirks else _wrapped
        volumes.o3d[:, y, :] = orientation(difference, phase_offset_deg)[depth].T


def _wrapped(difference_rad: NDArray[np.floating[Any]], offset_deg: float) -> NDArray[np.float32]:
    """Return half the phase difference plus the offset in (-90, 90] degrees; overwrites."""
    difference_rad *= 90 / np.pi
    difference_rad += offset_deg % 180
    # In float32 from here on, because rounding to it could step back onto -90.
    angle = difference_rad.astype(np.float32, copy=False)
    angle -= 180 * np.rint(angle / 180)
    # Exact halves round to even, which leaves some of them at the excluded end.
    angle[angle == -90] = 90
    return angle


def _wrapped_once(
    difference_rad: NDArray[np.floating[Any]], offset_deg: float
) -> NDArray[np.float32]:
    """Return the orientation as the toolbox wraps it, in degrees; overwrites.

    One conditional turn either way, so that angles beyond 3 pi or -3 pi stay outside.
    """
    phase = difference_rad
    phase += 2 * math.radians(offset_deg)
    np.subtract(phase, 2 * np.pi, out=phase, where=phase > np.pi)
    np.add(phase, 2 * np.pi, out=phase, where=phase < -np.pi)
    phase /= 2 * np.pi
    phase *= 180
    return phase.astype(np.float32, copy=False)
