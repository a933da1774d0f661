"""Section ``registration``: from the mosaics of a slice to its 3-D axis."""

from typing import Literal

from pydantic import Field

from opticstream_smk.config.section import Section


class RegistrationSection(Section):
    """How the tilted mosaic is registered to the normal one."""

    enabled: bool = Field(
        default=True, description="Whether slices are registered; needs `ori` and `biref`."
    )
    image: Literal["aip", "biref"] = Field(
        default="aip", description="Stitched image on which the transform is estimated."
    )
    moving: Literal["tilted", "tiltPos", "tiltNeg"] | None = Field(
        default=None,
        description="Mosaic that is registered to the normal one. Null: the second of the slice.",
    )
    gamma_deg: float = Field(
        default=-15.0, gt=-90, lt=90, description="Tilt between the two illuminations, degrees."
    )
    mask: Literal["aip", "none"] = Field(
        default="aip", description="`aip`: only pixels inside the normal mosaic's mask are solved."
    )
    rgb_scale: Literal["percentile", "toolbox"] = Field(
        default="percentile",
        description="Brightness of the colour pictures: percentiles of the birefringence, or the "
        "toolbox's constants (which suit maps made with a wavelength of 0.0013).",
    )
