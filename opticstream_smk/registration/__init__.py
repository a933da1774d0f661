"""Bring a tilted mosaic onto the normal one, and find the 3-D fibre axis from the two.

Images are (y, x), points are (y, x) in pixels. Axes are stored as (-X, Z, Y).
"""

from opticstream_smk.registration.affine import Affine
from opticstream_smk.registration.affine_fit import AffineFit, estimate_affine, register_affine
from opticstream_smk.registration.colour import orientation_rgb, to_uint8
from opticstream_smk.registration.fibre_axis import axis_rgb, inplane_angle_deg
from opticstream_smk.registration.thruplane import ThruPlane, thruplane, to_mat

__all__ = [
    "Affine",
    "AffineFit",
    "ThruPlane",
    "axis_rgb",
    "estimate_affine",
    "inplane_angle_deg",
    "orientation_rgb",
    "register_affine",
    "thruplane",
    "to_mat",
    "to_uint8",
]
