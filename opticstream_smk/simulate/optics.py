"""What polarisation-sensitive light sees of a fibre, from straight above and tilted.

The forward model of the two views: a fibre of unit direction u and birefringence b is x = b u.
Seen along k it appears as E(x; k) = (x - (k.x) k) sqrt(1 - (k.x)^2 / |x|^2), with k = (sin g, 0,
cos g) for a view tilted by g about y; the straight view is g = 0. Angles are measured from
e1 = (cos g, 0, -sin g) towards e2 = (0, 1, 0).
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def fibre_direction(theta_rad: FloatArray, alpha_rad: FloatArray) -> FloatArray:
    """Unit vectors (..., 3) = (x, y, z) of in-plane angle theta and elevation alpha."""
    in_plane = np.cos(alpha_rad)
    return np.stack(
        [in_plane * np.cos(theta_rad), in_plane * np.sin(theta_rad), np.sin(alpha_rad)], axis=-1
    )


def apparent_fibre(
    direction: FloatArray, birefringence: FloatArray, gamma_deg: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Birefringence and angle at which a fibre appears in a view.

    Parameters
    ----------
    direction
        (..., 3) unit vectors (x, y, z).
    birefringence
        (...) delta-n of the fibre.
    gamma_deg
        Tilt of the view about y, degrees; 0 for the normal view.

    Returns
    -------
    dn
        (...) apparent delta-n.
    phi_rad
        (...) apparent angle in the view's own frame, radians.
    """
    gamma = np.deg2rad(gamma_deg)
    k = np.array([np.sin(gamma), 0.0, np.cos(gamma)])
    e1 = np.array([np.cos(gamma), 0.0, -np.sin(gamma)])
    along = direction @ k
    seen = (direction - along[..., None] * k) * np.sqrt(1 - along**2)[..., None]
    first, second = seen @ e1, seen[..., 1]
    return birefringence * np.hypot(first, second), np.arctan2(second, first)


def orientation_from_angle(phi_rad: FloatArray) -> FloatArray:
    """Orientation as the maps carry it: opposite sign, degrees in (-90, 90]."""
    return 90 - (90 + np.rad2deg(phi_rad)) % 180


def toolbox_axis(direction: FloatArray) -> FloatArray:
    """Unit axes (..., 3) in the order and sign of the toolbox's axis files, (-x, z, y)."""
    return np.stack([-direction[..., 0], direction[..., 2], direction[..., 1]], axis=-1)


def jones_profiles(
    depth_um: NDArray[np.float32],
    amplitude: NDArray[np.float32],
    speckle: NDArray[np.complex64],
    *,
    dn: NDArray[np.float32],
    orientation_deg: NDArray[np.float32],
    wavelength_um: float,
    phase_offset_deg: float,
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Depth profiles of the two polarisation channels of one B-line.

    Both channels share the speckle. The processing reads retardance as atan(|J1| / |J2|) =
    360 dn z / wavelength degrees, and orientation as half the phase between the channels plus
    the offset.

    Parameters
    ----------
    depth_um, amplitude, speckle
        (Z, X) depth below the surface, um (negative above); field amplitude; unit speckle.
    dn, orientation_deg
        (X,) apparent birefringence, and orientation as the maps carry it.
    wavelength_um, phase_offset_deg
        See `AcquisitionSettings`.

    Returns
    -------
    (J1, J2), each (Z, X) complex64.
    """
    retardance = depth_um * (2 * np.pi / wavelength_um * dn).astype(np.float32)
    phase = np.exp(2j * np.deg2rad(orientation_deg - phase_offset_deg)).astype(np.complex64)
    field = speckle * amplitude
    return field * np.sin(retardance) * phase, field * np.cos(retardance)
