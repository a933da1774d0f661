"""Section ``mosaic``: coordinates, stitching, mask."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from opticstream_smk.config.fiji import FijiSection
from opticstream_smk.config.section import Section
from opticstream_smk.naming import TILTED

Placement = Literal["rounded", "subpixel"]
Threshold = float | Literal["auto"]
# Of the groups that record PS-OCT of human brain so; dB of the instrument's own scale.
USUAL_THRESHOLD_NORMAL = 60.0
USUAL_THRESHOLD_TILTED = 55.0
StitchModality = Literal["aip", "mip", "ret", "ori", "biref", "surf", "mus", "mus_confidence"]


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Pixels = Annotated[float, Field(gt=0)]


class QualitySection(Section):
    """When solved coordinates are doubted: [warning, failure] each, null for never."""

    action: Literal["fail", "warn"] = Field(
        default="fail",
        description="What follows beyond the second limit of any pair. `fail`: the mosaic is not "
        "stitched until a person has looked. `warn`: a warning, as beyond the first.",
    )
    min_anchored_share: tuple[Share | None, Share | None] = Field(
        default=(0.9, 0.5),
        description="Share of the tiles with tissue that content links to a neighbour, at least.",
    )
    max_residual_rms_px: tuple[Pixels | None, Pixels | None] = Field(
        default=(0.5, 3.0),
        description="Rms of what measured offsets are off from the positions, at most, px.",
    )
    max_rejected_share: tuple[Share | None, Share | None] = Field(
        default=(0.1, 0.4),
        description="Share of the measured offsets that the others contradict, at most.",
    )
    max_islands: tuple[Count | None, Count | None] = Field(
        default=(1, None),
        description="Groups of tiles that no content links to each other, at most.",
    )
    max_strangers: tuple[Count | None, Count | None] = Field(
        default=(0, None),
        description="Tiles with tissue that match no neighbour (swapped files), at most.",
    )


class MosaicSection(Section):
    """How tiles become a mosaic."""

    modalities: tuple[StitchModality, ...] = Field(
        default=("aip", "mip", "ret", "ori", "biref", "surf"),
        min_length=1,
        description="Modalities that are stitched. `aip` is needed: it gives mask and coordinates.",
    )
    method: Literal["native", "fiji", "tileconfig"] = Field(
        default="native",
        description="Where tile coordinates come from: `native` (the overlaps, by this package), "
        "`fiji` (Fiji's Grid/Collection stitching, see `fiji`) or `tileconfig` (the file "
        "`tile_configuration`).",
    )
    tile_configuration: str | None = Field(
        default=None,
        description="Fiji's TileConfiguration.registered.txt that method `tileconfig` reads; "
        "{acquisition}, {slice} and {mosaic} (also as {mosaic:03d}) are filled in. Relative to "
        "this file.",
    )
    fiji: FijiSection = Field(default=FijiSection(), description="How Fiji is started.")
    template_slice: int | None = Field(
        default=None,
        ge=1,
        description="Slice whose mosaics give the tile coordinates of all slices. "
        "Null: the first slice present.",
    )
    template_slices: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(),
        description="Slices whose mosaics give the tile coordinates together, instead of "
        "template_slice: where one shows no tissue another may. Mosaics wait for all of them.",
    )
    coordinates: Literal["reuse", "refine", "every_slice"] = Field(
        default="reuse",
        description="How a mosaic uses the coordinates of the template slice. `reuse`: as they "
        "are, as long as its own overlaps agree to drift_limit_px. `refine`: its own, and the "
        "template's where a tile has no content. `every_slice`: its own alone.",
    )
    drift_limit_px: float = Field(
        default=1.0,
        gt=0,
        description="How far the tiles of a mosaic may lie from the template (rms px; three times "
        "as far for a single tile) before it gets a template of its own (`coordinates: reuse`).",
    )
    quality: QualitySection = Field(
        default=QualitySection(), description="When solved coordinates are doubted."
    )
    allow_missing_tiles: int = Field(
        default=0,
        ge=0,
        description="Tiles that a mosaic may lack. A batch that stays incomplete for "
        "watch.incomplete_timeout_s is then processed without them; 0 waits for every tile.",
    )
    flat_field: bool = Field(
        default=False,
        description="Take the shading that all tiles share off AIP and MIP. It is found from the "
        "overlaps of tissue; the brightest place of a tile keeps its dB, the others gain.",
    )
    placement: Placement = Field(
        default="rounded",
        description="`rounded`: tiles lie at the nearest whole pixel. `subpixel`: they are moved "
        "by the rest first, which takes interpolation. Volumes always lie at whole pixels.",
    )
    mask_threshold_normal: Threshold = Field(
        default=USUAL_THRESHOLD_NORMAL,
        description="Tissue is where the smoothed AIP of a normal mosaic exceeds it, dB. `auto`: "
        "between background and tissue of each mosaic; where these cannot be told apart, "
        f"{USUAL_THRESHOLD_NORMAL:g}, with a warning.",
    )
    mask_threshold_tilted: Threshold = Field(
        default=USUAL_THRESHOLD_TILTED,
        description=f"The same for tilted mosaics (`auto`: {USUAL_THRESHOLD_TILTED:g}).",
    )
    mask_sigma_px: float = Field(
        default=1.0, ge=0, le=100, description="Gaussian smoothing before the threshold."
    )
    mask_keep: Literal["largest", "all_above"] = Field(
        default="largest",
        description="`largest`: the largest connected piece of tissue. `all_above`: every piece "
        "of at least mask_min_piece_mm2.",
    )
    mask_min_piece_mm2: float = Field(
        default=0.1, ge=0, description="Smallest piece of `all_above`; less is dirt or speckle."
    )
    mask_fill_holes: bool = Field(
        default=True, description="Whether holes in the tissue belong to it."
    )
    mask_max_hole_mm2: float | None = Field(
        default=None, ge=0, description="Larger holes are not filled. Null: all are."
    )
    fill_value: float = Field(
        default=0.0, description="Value outside tissue (masked images) and outside tiles."
    )
    jpeg_window_percentiles: tuple[float, float] = Field(
        default=(1.0, 99.0),
        description="Percentiles of the covered pixels that become black and white in pictures.",
    )

    @field_validator("tile_configuration")
    @classmethod
    def _pattern_can_be_filled_in(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                value.format(acquisition="normal", slice=1, mosaic=1)
            except (KeyError, IndexError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"{value!r}: expected a path with no other names in braces than {{acquisition}}"
                    ", {slice} and {mosaic}"
                ) from error
        return value

    @model_validator(mode="after")
    def _method_has_what_it_needs(self) -> "MosaicSection":
        if self.method == "fiji" and self.fiji.executable is None:
            raise ValueError(
                "method fiji needs fiji.executable, Fiji's launcher, such as "
                "/opt/Fiji.app/ImageJ-linux64"
            )
        if self.method == "tileconfig":
            if self.tile_configuration is None:
                raise ValueError(
                    "method tileconfig needs tile_configuration, such as "
                    "fiji/{acquisition}/TileConfiguration.registered.txt"
                )
            own = "{mosaic" in self.tile_configuration or "{slice" in self.tile_configuration
            if self.coordinates == "every_slice" and not own:
                raise ValueError(
                    "method tileconfig with coordinates every_slice needs {mosaic} or {slice} in "
                    "tile_configuration: every mosaic has a file of its own"
                )
        return self

    def tile_configuration_file(self, acquisition: str, slice_: int, mosaic: int) -> Path:
        """The file that method ``tileconfig`` reads for a mosaic."""
        assert self.tile_configuration is not None
        values = {"acquisition": acquisition, "slice": slice_, "mosaic": mosaic}
        return Path(self.tile_configuration.format_map(values))

    @model_validator(mode="after")
    def _one_way_to_name_the_template(self) -> "MosaicSection":
        if self.template_slices and self.template_slice is not None:
            raise ValueError("template_slice and template_slices are both set; expected one")
        if len(set(self.template_slices)) < len(self.template_slices):
            raise ValueError(
                f"template_slices {list(self.template_slices)} names a slice twice; expected each "
                "once"
            )
        if len(self.template_slices) > 1 and self.method != "native":
            raise ValueError(
                f"template_slices {list(self.template_slices)} with method {self.method}; expected "
                "template_slice: only method native solves several slices together"
            )
        return self

    def mask_threshold(self, label: str) -> Threshold:
        """Threshold for a mosaic of that acquisition, dB or `auto`."""
        return self.mask_threshold_tilted if label == TILTED else self.mask_threshold_normal


def usual_mask_threshold(label: str) -> float:
    """What is used for AIP where nothing better is known, dB."""
    return USUAL_THRESHOLD_TILTED if label == TILTED else USUAL_THRESHOLD_NORMAL
