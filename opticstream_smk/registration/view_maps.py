"""From orientation and birefringence maps of two views to what the fibre fit needs."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from opticstream_smk.registration.affine import Affine

# The toolbox's stand-in for "no birefringence" and, in degrees, for "no orientation".
_NOTHING = 1e-9

_SMOOTHING_SIGMA_PX = 3.0
_SMOOTHING_RADIUS_PX = 6  # ceil(2 sigma), as MATLAB's imgaussfilt


def smooth_biref(biref: ArrayLike, *, spread_nan: bool = False) -> NDArray[np.float64]:
    """Smooth a birefringence map as psoct-toolbox does before the fit.

    Gaussian of sigma 3 px, cut at 6 px, edges replicated; then what is not finite or negative
    becomes 1e-9.

    Parameters
    ----------
    biref
        (y, x) apparent birefringence (delta n); NaN where there is none.
    spread_nan
        True: one NaN wipes out the 13 x 13 px around it, as in the toolbox. False: the average
        is taken over the finite pixels, and only the NaN pixels themselves are lost. The same
        for maps without NaN.

    Returns
    -------
    (y, x) float64, finite, >= 0
    """
    values = np.asarray(biref, dtype=np.float64)
    finite = np.isfinite(values)
    if finite.all() or spread_nan:
        smooth = _smooth(values)
    else:
        weight = _smooth(finite.astype(np.float64))
        # Every finite pixel has its own weight in the sum, so the quotient is safe where used.
        smooth = _smooth(np.where(finite, values, 0.0)) / np.where(finite, weight, 1.0)
        smooth[~finite] = _NOTHING
    smooth[~np.isfinite(smooth) | (smooth < 0)] = _NOTHING
    return smooth


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(
        values, _SMOOTHING_SIGMA_PX, radius=_SMOOTHING_RADIUS_PX, mode="nearest"
    )


def physical_angle(orientation_deg: ArrayLike) -> NDArray[np.float64]:
    """Turn a stored orientation map into the physical in-plane angle.

    Parameters
    ----------
    orientation_deg
        (y, x) axial orientation in degrees, (-90, 90], toolbox sign; what lies outside is brought
        there.

    Returns
    -------
    (y, x) float64
        Radians in [-pi/2, pi/2], with the sign turned (the maps count the other way round); what
        is not finite becomes 1e-9 degrees.
    """
    angle = -np.asarray(orientation_deg, dtype=np.float64)
    angle[~np.isfinite(angle)] = _NOTHING
    outside = np.abs(angle) > 90
    angle[outside] -= 180 * np.round(angle[outside] / 180)
    return np.deg2rad(angle)


def warp(image: NDArray[np.float64], affine: Affine, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Resample a moving image (y, x) on the fixed grid: linear, 0 outside."""
    return ndimage.affine_transform(
        image, affine.A, affine.t, output_shape=shape, order=1, mode="constant", cval=0.0
    )


def warp_axial(
    angle_rad: NDArray[np.float64], affine: Affine, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Resample a map of axial angles on the fixed grid without mixing +90 and -90 degrees.

    The orientation tensor is interpolated and the angle of its main eigenvector returned. Its
    two independent components are cos 2a and sin 2a.

    Returns
    -------
    (y, x) float64
        Radians in [-pi/2, pi/2]; +pi/2 outside the moving image, as in the toolbox. The axes
        are not turned by the rotation in ``affine``.
    """
    cosine = warp(np.cos(2 * angle_rad), affine, shape)
    sine = warp(np.sin(2 * angle_rad), affine, shape)
    angle = 0.5 * np.arctan2(sine, cosine)
    angle[(cosine == 0) & (sine == 0)] = np.pi / 2
    return angle


def coverage(
    affine: Affine, moving_finite: NDArray[np.bool_], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the fixed pixels (y, x) whose moving neighbours all exist and are finite."""
    inside = warp(moving_finite.astype(np.float64), affine, shape)
    # Interpolation weights add up to one only to rounding.
    return np.asarray(inside > 1.0 - 1e-9)
