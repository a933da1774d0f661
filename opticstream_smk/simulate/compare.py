"""How far products are from the truth of a synthetic acquisition.

Functions of arrays only: who calls them knows the files. Images and positions are (y, x); truth
maps are NaN outside the tissue, and such places are left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.floating]
MaskArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """One judgement of a product.

    Attributes
    ----------
    name
        What was compared.
    value, unit
        The measured number.
    limit
        The value that still passes.
    passed
        Whether it does; never if there was nothing to compare.
    limited_by
        What keeps a faultless pipeline from the perfect value.
    """

    name: str
    value: float
    unit: str
    limit: float
    passed: bool
    limited_by: str


def truth_patch(
    truth: FloatArray, position_px: FloatArray, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Truth map where a tile or an image lies on it.

    Parameters
    ----------
    truth
        (y, x) map on a canvas.
    position_px
        (2,) place (y, x) of the image's first pixel on the canvas.
    shape
        (y, x) of the image.

    Returns
    -------
    (y, x) values of the nearest canvas pixels (right for orientations too; half a pixel off at
    most); NaN beyond the canvas.
    """
    place = np.indices(shape) + np.asarray(position_px, float)[:, None, None]
    values = ndimage.map_coordinates(
        np.asarray(truth, float), place, order=0, mode="constant", cval=np.nan
    )
    return np.asarray(values, np.float64)


def compare_surface(
    surface_px: FloatArray, truth_px: FloatArray, *, limit_px: float = 2.0
) -> Comparison:
    """Median error of the surface in the tissue, px; both maps (y, x), 1-based z."""
    error = np.abs(surface_px - truth_px)
    return _at_most(
        "surface", _median(error), "px", limit_px,
        "speckle: the step in depth is read from one A-line at a time",
    )  # fmt: skip


def compare_orientation(
    orientation_deg: FloatArray, truth_deg: FloatArray, *, limit_deg: float = 6.0
) -> Comparison:
    """Median axial error of the orientation in the tissue, degrees; both maps (y, x)."""
    error = axial_difference_deg(orientation_deg, truth_deg)
    return _at_most(
        "orientation", _median(error), "degrees", limit_deg,
        "noise of the cross-polarised channel, weak where delta-n is low and near the surface",
    )  # fmt: skip


def compare_dn(dn: FloatArray, truth_dn: FloatArray, *, limit_percent: float = 35.0) -> Comparison:
    """Median relative error of the apparent birefringence in the tissue, percent; (y, x) maps."""
    error = 100 * np.abs(dn - truth_dn) / truth_dn
    return _at_most(
        "birefringence", _median(error), "percent", limit_percent,
        "noise draws the retardance of each voxel towards 45 degrees, which flattens its slope",
    )  # fmt: skip


def compare_focus(
    plane_px: FloatArray, truth_px: FloatArray, *, limit_px: float = 0.5
) -> Comparison:
    """Root mean square error of a focus plane, px; both (y, x) of a tile, whatever their means."""
    error = plane_px - truth_px
    return _at_most(
        "focus plane", float(np.std(error)), "px", limit_px,
        "speckle: surfaces scatter by a sample, and small tiles overlap by few pixels",
    )  # fmt: skip


def compare_aip(
    image: FloatArray,
    origin_px: FloatArray,
    truth_aip: FloatArray,
    *,
    mask: MaskArray | None = None,
    limit: float = 0.95,
) -> Comparison:
    """Correlation of a stitched AIP image with the truth.

    Parameters
    ----------
    image
        (y, x) AIP, dB; places that are not finite are left out.
    origin_px
        (2,) place (y, x) of the image's first pixel on the truth's canvas, fractional.
    truth_aip
        (y, x) expected AIP on its canvas, dB.
    mask
        (y, x) on the image: places to look at; all by default.
    limit
        Least correlation that passes.
    """
    origin = np.asarray(origin_px, float)
    place = np.indices(image.shape) + origin[:, None, None]
    inside = np.isfinite(truth_aip)
    truth = ndimage.map_coordinates(np.where(inside, truth_aip, 0), place, order=1)
    covered = ndimage.map_coordinates(inside.astype(float), place, order=1) > 1 - 1e-6
    use = covered & np.isfinite(image)
    if mask is not None:
        use &= mask
    enough = use.sum() > 2 and np.ptp(image[use]) > 0
    value = float(np.corrcoef(image[use], truth[use])[0, 1]) if enough else float("nan")
    return Comparison(
        "AIP", value, "correlation", limit, value >= limit,
        "speckle left after the mean over depth; vignetting",
    )  # fmt: skip


def compare_positions(
    solved_px: FloatArray,
    truth_px: FloatArray,
    *,
    use: MaskArray | None = None,
    limit_px: float = 0.5,
) -> Comparison:
    """Root mean square error of tile positions, px.

    Parameters
    ----------
    solved_px, truth_px
        (tile, 2) y, x. A common shift does not count: the median difference is removed.
    use
        (tile,) tiles to judge, for instance those with tissue; all by default.
    limit_px
        Largest error that passes.
    """
    difference = np.asarray(solved_px, float) - truth_px
    judged = np.isfinite(difference).all(axis=1)
    if use is not None:
        judged &= use
    value = float("nan")
    if judged.any():
        error = difference[judged] - np.median(difference[judged], axis=0)
        value = float(np.sqrt((error**2).sum(axis=1).mean()))
    return _at_most(
        "tile positions", value, "px rms", limit_px,
        "speckle in narrow overlaps; tiles without tissue are placed by the lattice only",
    )  # fmt: skip


def compare_inplane_axis(
    axis: FloatArray, truth_axis: FloatArray, *, limit_deg: float = 8.0
) -> Comparison:
    """Median axial error of the in-plane angle of registered axes, degrees.

    Parameters
    ----------
    axis, truth_axis
        (y, x, 3) axes as (-x, z, y) on one grid, of any length and either sign; NaN or zero where
        there is none.
    limit_deg
        Largest error that passes.
    """
    angles = [np.rad2deg(np.arctan2(a[..., 2], -a[..., 0])) for a in (axis, truth_axis)]
    error = np.where(_is_axis(axis), axial_difference_deg(angles[0], angles[1]), np.nan)
    return _at_most(
        "in-plane axis", _median(error), "degrees", limit_deg,
        "error of the orientation; the angle is ill defined for steep fibres",
    )  # fmt: skip


def compare_axis(
    axis: FloatArray, truth_axis: FloatArray, *, limit_deg: float = 20.0
) -> Comparison:
    """Median angle between registered and true axes in three dimensions, degrees.

    Arguments as in `compare_inplane_axis`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.abs((axis * truth_axis).sum(axis=-1)) / (
            np.linalg.norm(axis, axis=-1) * np.linalg.norm(truth_axis, axis=-1)
        )
    error = np.where(_is_axis(axis), np.rad2deg(np.arccos(np.minimum(cosine, 1))), np.nan)
    return _at_most(
        "axis in 3-D", _median(error), "degrees", limit_deg,
        "the elevation comes from small differences between two noisy birefringence maps",
    )  # fmt: skip


def axial_difference_deg(first: FloatArray, second: FloatArray) -> NDArray[np.float64]:
    """Smallest angle between axes, degrees in 0..90."""
    return np.abs((np.asarray(first, float) - second + 90) % 180 - 90)


def _is_axis(axis: FloatArray) -> MaskArray:
    return np.asarray(np.isfinite(axis).all(axis=-1) & (axis != 0).any(axis=-1))


def _median(error: FloatArray) -> float:
    """Median of the finite errors; NaN if there are none."""
    finite = error[np.isfinite(error)]
    return float(np.median(finite)) if finite.size else float("nan")


def _at_most(name: str, value: float, unit: str, limit: float, limited_by: str) -> Comparison:
    # A comparison with NaN is False: nothing to compare never passes.
    return Comparison(name, value, unit, limit, value <= limit, limited_by)
