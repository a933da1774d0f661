"""Through-plane fibre angle and 3-D axis from a normal and a tilted mosaic.

Follows ``psoct.registration.thruplane_registration`` of psoct-toolbox (commit 5182337).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.registration.affine import Affine
from opticstream_smk.registration.affine_fit import register_affine
from opticstream_smk.registration.colour import orientation_rgb
from opticstream_smk.registration.fibre_axis import (
    fibre_angles,
    normalise_axis,
    toolbox_fibre_angles,
    unit_axis,
    weighted_axis,
)
from opticstream_smk.registration.view_maps import (
    coverage,
    physical_angle,
    smooth_biref,
    warp,
    warp_axial,
)


@dataclass(frozen=True, eq=False)
class ThruPlane:
    """Fibre orientation in three dimensions on the grid of the normal (fixed) mosaic.

    Maps are (y, x) float64. Masked pixels are NaN in everything that was fitted. Pictures and
    axis maps are made when first asked for.

    Attributes
    ----------
    theta_rad, alpha_rad
        In-plane angle (physical, from x towards y: the orientation maps have the opposite sign)
        and elevation out of the plane; axial, radians, [-pi/2, pi/2].
    psi_rad
        Angle from the optical axis, pi/2 - alpha wrapped, radians.
    biref
        True birefringence (delta n).
    misfit
        What is left of the objective, in delta n squared.
    phi_n, phi_x
        Measured in-plane angle of the fixed and of the warped moving view, radians.
    biref_n, biref_x
        Apparent birefringence of the two views, smoothed; the second one warped, 0 outside.
    covered
        bool: the moving mosaic reaches this pixel with finite values. Elsewhere the fit had only
        one view to go by, and its result says nothing.
    affine
        Fixed to moving map that was used.
    gamma_deg
        Tilt between the views, degrees.
    toolbox_quirks
        Whether the toolbox's defects were kept.
    """

    theta_rad: NDArray[np.float64]
    psi_rad: NDArray[np.float64]
    alpha_rad: NDArray[np.float64]
    biref: NDArray[np.float64]
    misfit: NDArray[np.float64]
    phi_n: NDArray[np.float64]
    phi_x: NDArray[np.float64]
    biref_n: NDArray[np.float64]
    biref_x: NDArray[np.float64]
    covered: NDArray[np.bool_]
    affine: Affine
    gamma_deg: float
    toolbox_quirks: bool

    @cached_property
    def axis_raw(self) -> NDArray[np.float64]:
        """(y, x, 3) axis (-X, Z, Y) of a length that follows the birefringence; NaN if masked."""
        return weighted_axis(self.theta_rad, self.alpha_rad, self.biref)

    @cached_property
    def axis(self) -> NDArray[np.float64]:
        """(y, x, 3) unit axis (-X, Z, Y); zero where masked.

        With ``toolbox_quirks`` it is the normalised :attr:`axis_raw`, so it is zero for the one
        percent of pixels with the least birefringence, too.
        """
        if self.toolbox_quirks:
            return normalise_axis(self.axis_raw)
        return unit_axis(self.theta_rad, self.alpha_rad)

    @cached_property
    def inplane_rgb(self) -> NDArray[np.float64]:
        """(y, x, 3) picture of theta, 0..1; see :func:`~.colour.orientation_rgb`."""
        return self._rgb(self.theta_rad)

    @cached_property
    def alpha_rgb(self) -> NDArray[np.float64]:
        """(y, x, 3) picture of alpha, 0..1; see :func:`~.colour.orientation_rgb`."""
        return self._rgb(self.alpha_rad)

    def _rgb(self, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        scale: Any = "toolbox" if self.toolbox_quirks else "percentile"
        return orientation_rgb(angle, self.biref, scale=scale)


def thruplane(
    fixed_ori_deg: ArrayLike,
    moving_ori_deg: ArrayLike,
    fixed_biref: ArrayLike,
    moving_biref: ArrayLike,
    *,
    gamma_deg: float = -15.0,
    affine: Affine | None = None,
    mask: ArrayLike | None = None,
    toolbox_quirks: bool = False,
    threads: int | None = None,
) -> ThruPlane:
    """Find the 3-D fibre axis of every pixel from two views that differ by a tilt about y.

    Both birefringence maps are smoothed (Gaussian, sigma 3 px), the orientation maps change sign
    (they count against the physical angle), the moving maps are brought to the fixed grid, and
    each pixel's birefringence vector is fitted to the two apparent ones by Nelder-Mead.

    Parameters
    ----------
    fixed_ori_deg, fixed_biref
        (y, x) axial orientation in degrees, (-90, 90], and apparent birefringence (delta n) of
        the normal mosaic. NaN means unknown.
    moving_ori_deg, moving_biref
        The same of the tilted mosaic; its grid may have another size.
    gamma_deg
        Tilt of the moving view about the y axis, degrees, not 0, within +-90. The sign decides
        the sign of the elevation.
    affine
        Where a fixed point lies in the moving maps. Default: found on the smoothed birefringence
        by :func:`~.affine_fit.register_affine`.
    mask
        (y, x) on the fixed grid; pixels that are zero or False are not fitted and become NaN.
    toolbox_quirks
        False (default): elevation has the right sign everywhere, NaN in a birefringence map does
        not spread, ``axis`` has unit length wherever there is a fit, pictures are scaled by
        percentiles. True: all as psoct-toolbox has it, for comparison with its results.
    threads
        Worker threads of the fit; default is the number of cores this process may use.

    Returns
    -------
    ThruPlane

    Raises
    ------
    CorruptInputError
        The maps are not two-dimensional, or their shapes do not fit together.
    ConfigError
        ``gamma_deg`` cannot be used.
    QualityError
        ``affine`` was not given and the two maps cannot be registered.

    Notes
    -----
    The axes are not turned by the rotation part of ``affine``. Fibres along the optical axis
    look the same from all sides in the plane: their theta is undetermined.

    Cost: 4-6 us per pixel and core; a 4000 x 6000 mosaic takes a minute on two cores.
    """
    fixed_angle, moving_angle = physical_angle(fixed_ori_deg), physical_angle(moving_ori_deg)
    fixed_dn, moving_dn = _as_map(fixed_biref), _as_map(moving_biref)
    _check_shapes("fixed", fixed_angle, fixed_dn)
    _check_shapes("moving", moving_angle, moving_dn)
    shape = (fixed_dn.shape[0], fixed_dn.shape[1])
    use = np.ones(shape, bool) if mask is None else np.asarray(mask) > 0
    if use.shape != shape:
        raise CorruptInputError(
            f"The mask has shape {use.shape}, the fixed maps {shape}. "
            "Give a mask on the grid of the fixed mosaic."
        )
    if not (np.isfinite(gamma_deg) and 0 < abs(gamma_deg) < 90):
        raise ConfigError(
            f"gamma_deg is {gamma_deg}: two views determine the axis only for a tilt between 0 "
            "and 90 degrees. Set registration.gamma_deg to the tilt of the stage, e.g. -15."
        )

    biref_n = smooth_biref(fixed_dn, spread_nan=toolbox_quirks)
    moving_smooth = smooth_biref(moving_dn, spread_nan=toolbox_quirks)
    if affine is None:
        # Where there was nothing, the smoothed maps hold 1e-9, an edge that would attract.
        affine = register_affine(
            np.where(np.isfinite(fixed_dn), biref_n, np.nan),
            np.where(np.isfinite(moving_dn), moving_smooth, np.nan),
            mask=use,
        )
    biref_x = warp(moving_smooth, affine, shape)
    phi_x = warp_axial(moving_angle, affine, shape)
    moving_finite = np.isfinite(moving_dn) & np.isfinite(np.asarray(moving_ori_deg, dtype=float))

    # Here and not above: the solver needs Numba, which is slow to import.
    from opticstream_smk.registration.fibre_solver import solve_fibres

    vector, misfit = solve_fibres(
        fixed_angle,
        phi_x,
        biref_n,
        biref_x,
        gamma_rad=float(np.deg2rad(gamma_deg)),
        use=use,
        try_both_signs=not toolbox_quirks,
        threads=threads,
    )
    if toolbox_quirks:
        theta, psi, alpha = toolbox_fibre_angles(vector, fixed_angle)
    else:
        theta, psi, alpha = fibre_angles(vector)
    return ThruPlane(
        theta_rad=theta,
        psi_rad=psi,
        alpha_rad=alpha,
        biref=np.sqrt(np.sum(vector * vector, axis=-1)),
        misfit=misfit,
        phi_n=fixed_angle,
        phi_x=phi_x,
        biref_n=biref_n,
        biref_x=biref_x,
        covered=coverage(affine, moving_finite, shape),
        affine=affine,
        gamma_deg=float(gamma_deg),
        toolbox_quirks=toolbox_quirks,
    )


def direct_psi(
    phi_n: NDArray[np.float64], phi_x: NDArray[np.float64], gamma_deg: float
) -> NDArray[np.float64]:
    """Angle from the optical axis by the two in-plane angles alone.

    The toolbox's ``psi``, for information: exact without noise, useless near phi = 0.

    Parameters
    ----------
    phi_n, phi_x
        (y, x) in-plane angles of the two views, radians.
    gamma_deg
        Tilt, degrees.

    Returns
    -------
    (y, x) float64
        ``acot(sin phi_n / (sin g tan phi_x) - cos phi_n / tan g)``, radians, (-pi/2, pi/2].
    """
    gamma = np.deg2rad(gamma_deg)
    with np.errstate(divide="ignore", invalid="ignore"):  # phi_x = 0 gives acot(inf) = 0
        cotangent = np.sin(phi_n) / (np.sin(gamma) * np.tan(phi_x)) - np.cos(phi_n) / np.tan(gamma)
        return np.asarray(np.arctan(1.0 / cotangent))


def to_mat(result: ThruPlane) -> dict[str, NDArray[np.float64]]:
    """Return the toolbox's ``data_data.mat`` as a dict for ``scipy.io.savemat``.

    Returns
    -------
    dict
        ``dneff_n, dneff_x, phi_n, phi_x, psi, Psi_ObsLSQ, Theta_ObsLSQ, biref_ObsLSQ``; each
        (y, x) float64, angles in radians, birefringence as delta n.
    """
    return {
        "dneff_n": result.biref_n,
        "dneff_x": result.biref_x,
        "phi_n": result.phi_n,
        "phi_x": result.phi_x,
        "psi": direct_psi(result.phi_n, result.phi_x, result.gamma_deg),
        "Psi_ObsLSQ": result.psi_rad,
        "Theta_ObsLSQ": result.theta_rad,
        "biref_ObsLSQ": result.biref,
    }


def _as_map(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _check_shapes(view: str, orientation: NDArray[np.float64], biref: NDArray[np.float64]) -> None:
    if orientation.ndim != 2 or orientation.shape != biref.shape or biref.size == 0:
        raise CorruptInputError(
            f"The {view} orientation map has shape {orientation.shape} and the {view} "
            f"birefringence map {biref.shape}; expected two maps (y, x) of one shape. "
            "Stitch both from the same tiles and positions."
        )
