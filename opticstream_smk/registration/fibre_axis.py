"""Angles and axes of fibres, in the toolbox's conventions.

In-plane angle ``theta`` and through-plane angle ``alpha`` are axial, radians, in [-pi/2, pi/2].
The 3-D axis is stored as (-X, Z, Y), as psoct-toolbox writes ``3daxis.nii``.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opticstream_smk.errors import CorruptInputError


def wrap_once(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring axial angles (radians) within one turn of it into [-pi/2, pi/2]."""
    wrapped = np.where(angle > np.pi / 2, angle - np.pi, angle)
    return np.where(wrapped < -np.pi / 2, wrapped + np.pi, wrapped)


def fibre_angles(
    vector: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give theta, psi and alpha of fibre vectors.

    Parameters
    ----------
    vector
        (..., 3) (x, y, z), any length and sign; z along the light.

    Returns
    -------
    theta, psi, alpha : (...) float64
        In-plane angle from x towards y, angle from z, and elevation out of the plane; radians,
        psi = pi/2 - alpha wrapped. NaN for the zero vector.
    """
    # An axis has two vectors; the one that points to +x keeps theta within +-90 degrees, and
    # alpha must be that of the same one.
    forward = np.where(vector[..., :1] < 0, -vector, vector)
    x, y, z = forward[..., 0], forward[..., 1], forward[..., 2]
    length = np.sqrt(x * x + y * y + z * z)
    theta = np.where(length > 0, np.arctan2(y, x), np.nan)
    alpha = np.where(length > 0, np.arctan2(z, np.hypot(x, y)), np.nan)
    return theta, wrap_once(np.pi / 2 - alpha), alpha


def toolbox_fibre_angles(
    vector: NDArray[np.float64], phi_n: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give theta, psi and alpha exactly as psoct-toolbox (5182337) does.

    Where ``|phi_n| >= 45`` degrees the toolbox solves in the frame (y, x, -z) and does not turn z
    back, so alpha has the wrong sign for ``phi_n`` between 45 and 90 degrees. Parameters and
    returns as :func:`fibre_angles`; ``phi_n`` (...) in radians tells which frame was used.
    """
    swapped = ~(np.abs(phi_n) < np.pi / 4)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    length = np.sqrt(x * x + y * y + z * z)
    with np.errstate(invalid="ignore"):  # zero vector: NaN is the answer
        psi = np.arccos(np.where(swapped, -z, z) / length)
    theta = np.where(swapped, np.pi / 2 - np.arctan2(x, y), np.arctan2(y, x))
    psi = wrap_once(psi)
    return wrap_once(theta), psi, wrap_once(np.pi / 2 - psi)


def unit_axis(theta: NDArray[np.float64], alpha: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit vectors (..., 3) as (-X, Z, Y); zero where an angle is not finite."""
    axis = np.stack(
        [-np.cos(alpha) * np.cos(theta), np.sin(alpha), np.cos(alpha) * np.sin(theta)], axis=-1
    )
    axis[~np.isfinite(axis).all(axis=-1)] = 0.0
    return axis


def weighted_axis(
    theta: NDArray[np.float64], alpha: NDArray[np.float64], biref: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return axis vectors whose length says how birefringent the pixel is.

    Parameters
    ----------
    theta, alpha
        (...) radians.
    biref
        (...) birefringence (delta n), NaN where masked.

    Returns
    -------
    (..., 3) float64
        (-X, Z, Y) times ``clip((biref - P1) / P20, 0, 1)`` with the 1st and 20th percentile of
        the finite birefringence (MATLAB's ``prctile``); NaN where masked. The divisor is P20
        itself, as in the toolbox.
    """
    finite = biref[np.isfinite(biref)]
    if finite.size == 0:
        return np.full((*biref.shape, 3), np.nan)
    low, scale = np.percentile(finite, [1, 20], method="hazen")
    if scale > 0:
        intensity = np.clip((biref - low) / scale, 0.0, 1.0)
    else:
        # A fifth of the pixels has none: what has any is at full length.
        intensity = np.where(np.isfinite(biref), (biref > low).astype(np.float64), np.nan)
    flat = intensity * np.cos(alpha)
    return np.stack(
        [-flat * np.cos(theta), intensity * np.sin(alpha), flat * np.sin(theta)], axis=-1
    )


def normalise_axis(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``axis / (|axis| + eps)`` (..., 3), zero where that is not finite.

    As in the toolbox: a vector of length zero stays zero.
    """
    length = np.sqrt(np.sum(axis * axis, axis=-1, keepdims=True))
    unit = axis / (length + np.finfo(np.float64).eps)
    return np.where(np.isfinite(unit), unit, 0.0)


def axis_rgb(axis: ArrayLike) -> NDArray[np.float64]:
    """Return a picture (..., 3) in 0..1 of an axis map: ``|vector|``, black where not finite.

    Red, green, blue are the X, Z and Y parts, because the map is (-X, Z, Y).
    """
    vectors = _as_axis(axis)
    return np.clip(np.where(np.isfinite(vectors), np.abs(vectors), 0.0), 0.0, 1.0)


def inplane_angle_deg(axis: ArrayLike) -> NDArray[np.float64]:
    """Return the physical in-plane angle of an axis map.

    Parameters
    ----------
    axis
        (..., 3) vectors (-X, Z, Y) of any length.

    Returns
    -------
    (...) float64
        Axial, degrees, (-90, 90], from X towards Y; NaN for zero or non-finite vectors. This is
        theta; the stored orientation maps have the opposite sign.
    """
    vectors = _as_axis(axis)
    x, y = -vectors[..., 0], vectors[..., 2]
    angle = np.rad2deg(np.arctan2(y, x))
    angle = np.where(angle > 90, angle - 180, np.where(angle <= -90, angle + 180, angle))
    known = np.isfinite(vectors).all(axis=-1) & (vectors != 0).any(axis=-1)
    return np.where(known, angle, np.nan)


def _as_axis(axis: ArrayLike) -> NDArray[np.float64]:
    vectors = np.asarray(axis, dtype=np.float64)
    if vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise CorruptInputError(
            f"An axis map has shape (..., 3) with the last axis (-X, Z, Y); got {vectors.shape}. "
            "Move the component axis to the end."
        )
    return vectors
