"""Section ``acquisition``: what the microscope writes, where, and in which geometry."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from opticstream_smk.config.section import Section
from opticstream_smk.naming import NORMAL, acquisition_labels, parse_mosaic_ranges

Positive = Annotated[float, Field(gt=0)]


class Source(Section):
    """One folder that the acquisition host writes to. It is only ever read."""

    dir: Path = Field(description="Folder with the raw tiles.")
    slice_offset: int = Field(
        default=0, description="Added to the slice number in the file names of this folder."
    )
    mosaic_ranges: str = Field(
        default="1:999999",
        description="Mosaic numbers taken from this folder, as in its file names: "
        "`first:last[,first:last]`.",
    )

    @field_validator("mosaic_ranges")
    @classmethod
    def _ranges_parse(cls, value: str) -> str:
        parse_mosaic_ranges(value)
        return value


class AcquisitionSection(Section):
    """Raw data and the geometry of the scan."""

    sources: tuple[Source, ...] = Field(
        min_length=1, description="Folders with raw tiles. Nothing else knows raw folders."
    )
    tile_saving_type: Literal["spectral"] = Field(
        default="spectral",
        description="What the acquisition host saves: `spectral` is 16-bit spectra of two cameras.",
    )
    mosaics_per_slice: Literal[2] = Field(
        default=2, description="Mosaics of one slice: 2 = normal and tilted illumination."
    )
    grid_size_x_normal: int = Field(
        default=22, ge=1, le=9999, description="Columns (= batches) of a normal mosaic."
    )
    grid_size_x_tilted: int = Field(
        default=22, ge=1, le=9999, description="Columns (= batches) of a tilted mosaic."
    )
    grid_size_y: int = Field(
        default=16, ge=1, le=9999, description="Rows of a mosaic = tiles of one batch."
    )
    grid_type: Literal["snake-by-columns", "column-by-column"] = Field(
        default="snake-by-columns",
        description="Path of the stage over the grid. A batch is one column.",
    )
    grid_order: Literal["up-right", "down-right", "up-left", "down-left"] = Field(
        default="up-right",
        description="Direction within the first column, then direction of the columns.",
    )
    tile_size_x_normal: int = Field(
        default=350, ge=4, le=30000, description="A-lines of one B-line in a normal tile."
    )
    tile_size_x_tilted: int = Field(
        default=200, ge=4, le=30000, description="A-lines of one B-line in a tilted tile."
    )
    tile_size_y: int = Field(default=350, ge=4, le=30000, description="B-lines of a tile.")
    samples_per_aline: int = Field(
        default=2048,
        ge=128,
        multiple_of=2,
        le=65536,
        description="Camera pixels of one A-line; depth is samples / 2 - 24.",
    )
    tile_overlap_percent: float = Field(
        default=20.0,
        ge=0,
        lt=100,
        description="Overlap of neighbouring tiles in percent of the tile; sets the nominal grid "
        "and the width of the blending ramp.",
    )
    scan_resolution_3d_mm: tuple[Positive, Positive, Positive] = Field(
        default=(0.01, 0.01, 0.0025), description="Voxel size x, y, z in mm."
    )
    slice_thickness_um: float = Field(
        default=500.0, gt=0, description="Thickness of a cut; places slices along z."
    )
    wavelength_um: float = Field(default=1.3, gt=0, description="Centre wavelength in um.")
    calibration_file: Path | None = Field(
        default=None,
        description="MATLAB file with `mu` (camera pixel positions) and `wave_prime` (nm). "
        "Needed for spectral tiles.",
    )
    dispersion_file: Path | None = Field(
        default=None,
        description="Dispersion phase in rad, one float64 per sample. Null: no correction.",
    )

    @model_validator(mode="after")
    def _overlap_leaves_a_step(self) -> "AcquisitionSection":
        widths = (self.tile_size_x_normal, self.tile_size_x_tilted, self.tile_size_y)
        if min(widths) * (1 - self.tile_overlap_percent / 100) < 1:
            raise ValueError(
                f"tile_overlap_percent {self.tile_overlap_percent:g} leaves less than one pixel "
                f"between neighbouring tiles of {min(widths)} px"
            )
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the mosaics of a slice, in order of acquisition."""
        return acquisition_labels(self.mosaics_per_slice)

    def columns(self, label: str) -> int:
        """Batches of a mosaic of that acquisition."""
        return self.grid_size_x_normal if label == NORMAL else self.grid_size_x_tilted

    def alines(self, label: str) -> int:
        """A-lines per B-line of a tile of that acquisition."""
        return self.tile_size_x_normal if label == NORMAL else self.tile_size_x_tilted

    def raw_tile_bytes(self, label: str) -> int:
        """Size that a raw tile must have on disk.

        Returns
        -------
        int
            352 bytes (348 of NIfTI-1 header, 4 of extension flag), then 2 bytes per sample.
        """
        return 352 + self.alines(label) * self.tile_size_y * 2 * self.samples_per_aline * 2
