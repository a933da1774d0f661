"""Where the tiles of a mosaic are, and what the scan lens adds within a tile.

Positions are (y, x) px. The stage frame of the normal view is the frame of the tissue; that of
the tilted view sees the tissue through a fixed affine map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.mosaic import snake_order
from opticstream_smk.simulate.settings import AcquisitionSettings, View

FloatArray = NDArray[np.float64]

# The stage never errs by more than this many times its rms (before the rms is set exactly).
_LARGEST_JITTER = 2.0
# Views of one scan share its stage error.
_SCAN_NUMBER: dict[View, int] = {"normal": 0, "tilted": 1, "tiltPos": 0, "tiltNeg": 0}
# tiltPos and tiltNeg mirror each other; the angle of the tilted view is negative by default.
_SLOPE_SIGN: dict[View, float] = {"normal": 0.0, "tilted": 1.0, "tiltPos": -1.0, "tiltNeg": 1.0}


def nominal_positions(settings: AcquisitionSettings, view: View) -> FloatArray:
    """Positions (tile, 2) that the stage was asked for, px."""
    return snake_order(*settings.grid_shape(view)) * _nominal_step(settings, view)


def stage_positions(settings: AcquisitionSettings, view: View, slice_number: int) -> FloatArray:
    """True positions (tile, 2) in the view's stage frame on one slice, px.

    The lattice error and the jitter are drawn once per scan and come again on every slice, to
    `repeat_jitter_px`: the stage errs, but reproducibly. Three views of one raw file are one scan
    and have the same positions.
    """
    scan = _SCAN_NUMBER[view]
    rng = np.random.default_rng([settings.seed, 20, scan])
    step = _nominal_step(settings, view)
    size = np.array([[settings.step_error_percent, settings.shear_percent]] * 2) / 100
    stretch_y, shear_y, stretch_x, shear_x = (size * rng.choice([-1, 1], (2, 2))).ravel()
    lattice = np.array(
        [
            [step[0] * (1 + stretch_y), step[1] * shear_y],
            [step[0] * shear_x, step[1] * (1 + stretch_x)],
        ]
    )
    cells = snake_order(*settings.grid_shape(view))
    jitter = rng.standard_normal(cells.shape).clip(-_LARGEST_JITTER, _LARGEST_JITTER)
    jitter *= settings.jitter_px / np.sqrt((jitter**2).mean())
    again = np.random.default_rng([settings.seed, 21, scan, slice_number])
    repeat = settings.repeat_jitter_px * again.standard_normal(cells.shape)
    return np.asarray(cells @ lattice.T + jitter + repeat)


def nominal_extent(settings: AcquisitionSettings, view: View) -> FloatArray:
    """Size (y, x) of the mosaic if the stage were perfect, px."""
    return np.asarray(nominal_positions(settings, view).max(axis=0) + settings.tile_shape(view))


@dataclass(frozen=True)
class ViewGeometry:
    """Affine map of the tissue to a view's stage frame: ``matrix @ q + shift``, (y, x) px."""

    matrix: FloatArray
    shift: FloatArray

    def to_tissue(self, points: FloatArray) -> FloatArray:
        """Tissue coordinates of points (..., 2) of the stage frame."""
        return np.asarray((points - self.shift) @ np.linalg.inv(self.matrix).T)


def view_geometry(settings: AcquisitionSettings, view: View) -> ViewGeometry:
    """Geometry of a view.

    A tilted view looks along a direction in the x-z plane, so x appears shorter by the cosine
    of the tilt; its scan is rotated and shifted a little. The polarisation frame is that of the
    optics and does not turn with the scan.
    """
    if view == "normal":
        return ViewGeometry(np.eye(2), np.zeros(2))
    turn = np.deg2rad(settings.view_rotation_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.diag([1.0, np.cos(np.deg2rad(settings.tilt_deg(view)))])
    centre_normal = nominal_extent(settings, "normal") / 2
    centre_tilted = nominal_extent(settings, view) / 2
    shift = centre_tilted + np.array(settings.view_shift_px) - matrix @ centre_normal
    return ViewGeometry(matrix, shift)


def illumination(settings: AcquisitionSettings, view: View) -> FloatArray:
    """Share (y, x) of the signal power that vignetting leaves within a tile; 1 at the centre."""
    y, x = _field_coordinates(settings, view, *np.indices(settings.tile_shape(view)))
    return np.asarray(1 - settings.vignetting * (x**2 + y**2) / 2)


def field_plane(
    settings: AcquisitionSettings, view: View, y: FloatArray, x: FloatArray
) -> FloatArray:
    """Depth that the scan adds at a place (y, x) within a tile, px; the same for every tile.

    The lens curves the field; a tilted view slopes along x as well.
    """
    v, u = _field_coordinates(settings, view, y, x)
    slope = settings.view_slope_px * _SLOPE_SIGN[view]
    return np.asarray(settings.field_curvature_px * (u**2 + v**2) / 2 + slope * u / 2)


def _field_coordinates(
    settings: AcquisitionSettings, view: View, y: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Tile coordinates scaled so that a tile's pixels run from -1 to 1."""
    ny, nx = settings.tile_shape(view)
    return np.asarray(2 * y / (ny - 1) - 1), np.asarray(2 * x / (nx - 1) - 1)


def _nominal_step(settings: AcquisitionSettings, view: View) -> FloatArray:
    return np.array(settings.tile_shape(view)) * (1 - settings.tile_overlap_percent / 100)
