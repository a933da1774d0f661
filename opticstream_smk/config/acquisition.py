"""Section ``acquisition``: what the microscope writes, where, and in which geometry."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from opticstream_smk.config.section import Section
from opticstream_smk.errors import ConfigError
from opticstream_smk.naming import TILTED, acquisition_labels, parse_mosaic_ranges
from opticstream_smk.naming.inputs import InputNames, PresetName

Positive = Annotated[float, Field(gt=0)]


class PhaseFiles(Section):
    """Files of a phase calibration."""

    dphase_file: Path = Field(description="MATLAB file with the phase of every camera pixel.")
    linphase_file: Path = Field(description="MATLAB file with the even phases to resample to.")
    dspphase_file: Path | None = Field(
        default=None, description="MATLAB file with the dispersion phase."
    )


SavingType = Literal[
    "spectral", "spectral_12bit", "complex", "complex_with_spectral", "processed",
    "processed_with_spectral",
]  # fmt: skip


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
    start_slice: int = Field(
        default=1,
        ge=1,
        description="Slice of the first tile, where file names number tiles continuously.",
    )
    start_mosaic: int = Field(
        default=1,
        ge=1,
        le=3,
        description="Position in its slice of the mosaic of the first tile, likewise.",
    )
    acquisition: str | None = Field(
        default=None,
        description="Label (such as `tilted15deg`) that all tiles of this folder belong to: "
        "others are ignored, and names without a label are taken for it.",
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
    tile_saving_type: SavingType = Field(
        default="spectral",
        description="What the acquisition host saves: `spectral` (16-bit spectra of two cameras), "
        "`spectral_12bit` (packed, no header), `complex` (Jones components), "
        "`complex_with_spectral` (complex is processed), `processed` (en-face maps and surface "
        "alone: they are linked, not computed, and there is nothing to archive), "
        "`processed_with_spectral` (the same with dBI, and spectra that are archived).",
    )
    complex_z_order: Literal["raw", "flipped"] = Field(
        default="raw",
        description="Depth order of complex tiles that the host saves: `raw` as transformed, "
        "`flipped` as older versions of the toolbox wrote them.",
    )
    mosaics_per_slice: Literal[2, 3] = Field(
        default=2,
        description="Mosaics of one slice: 2 = normal and tilted; 3 = normal, tiltPos, tiltNeg, "
        "interleaved in each raw tile.",
    )
    filename_preset: PresetName = Field(
        default="legacy", description="How raw files are named; `filename_pattern` overrides it."
    )
    filename_pattern: str | None = Field(
        default=None,
        description="Own naming: text with {image} and any of {slice} {acq} {subject} {modality} "
        "{extension}.",
    )
    acquisition_mosaic_map: dict[str, int] = Field(
        default={"normal0deg": 1, "tilted15deg": 2},
        description="Label in file names to position of the mosaic in its slice.",
    )
    filename_modality_map: dict[str, str] = Field(
        default={}, description="Word in file names to what it means, such as rawscan: spectral."
    )
    filename_default_modality: str = Field(
        default="spectral", description="What files are whose names do not say it."
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
    grid_size_y_tilted: int | None = Field(
        default=None, ge=1, le=9999, description="Rows of a tilted mosaic. Null: as normal."
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
    phase_calibration: PhaseFiles | None = Field(
        default=None,
        description="Calibration by phase instead of wavelength; then `calibration_file` is not "
        "read.",
    )
    flip_channel2: bool | None = Field(
        default=None,
        description="Whether camera 2 is stored reversed. Null: yes by wavelength, no by phase.",
    )
    dispersion_file: Path | None = Field(
        default=None,
        description="Dispersion: float64 binary, text or .mat, phases in rad or complex factors, "
        "one per sample, for both cameras or one column each. Null: no correction.",
    )

    @model_validator(mode="after")
    def _names_and_kinds_fit(self) -> "AcquisitionSection":
        if self.mosaics_per_slice == 3 and not self.tile_saving_type.startswith("spectral"):
            raise ValueError(
                f"mosaics_per_slice 3 with tile_saving_type {self.tile_saving_type}: interleaved "
                "illuminations are read from spectral or spectral_12bit tiles only"
            )
        input_names(self)
        return self

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

    # Three interleaved illuminations share grid and tile size: only `tilted` has its own.
    def columns(self, label: str) -> int:
        """Batches of a mosaic of that acquisition."""
        return self.grid_size_x_tilted if label == TILTED else self.grid_size_x_normal

    def rows(self, label: str) -> int:
        """Tiles of a batch of that acquisition."""
        own = self.grid_size_y_tilted if label == TILTED else None
        return own or self.grid_size_y

    def alines(self, label: str) -> int:
        """A-lines per B-line of a tile of that acquisition."""
        return self.tile_size_x_tilted if label == TILTED else self.tile_size_x_normal

    @property
    def illuminations(self) -> int:
        """Illuminations that one raw tile holds, interleaved along the A-lines."""
        return 3 if self.mosaics_per_slice == 3 else 1

    @property
    def depth_samples(self) -> int:
        """Depth of a tile: half of the samples, less the autocorrelation."""
        return self.samples_per_aline // 2 - 24

    @property
    def complex_is_input(self) -> bool:
        """Whether the host saves the complex tiles that are processed."""
        return self.tile_saving_type in ("complex", "complex_with_spectral")

    @property
    def maps_are_input(self) -> bool:
        """Whether the host saves the en-face maps."""
        return self.tile_saving_type in ("processed", "processed_with_spectral")

    @property
    def given_volumes(self) -> tuple[str, ...]:
        """Volumes that the host saves beside its maps."""
        return ("dBI",) if self.tile_saving_type == "processed_with_spectral" else ()

    @property
    def saves_spectra(self) -> bool:
        """Whether the host saves spectra, alone or beside what it made of them."""
        return self.tile_saving_type not in ("complex", "processed")

    @property
    def main_file(self) -> str:
        """The file that stands for a raw tile, by modality."""
        if self.maps_are_input:
            return (*self.given_volumes, "surf")[0]
        return "complex" if self.complex_is_input else "spectral"

    def raw_tile_bytes(self, label: str, kind: str = "spectral") -> int:
        """Size that a raw tile must have on disk.

        Parameters
        ----------
        kind
            ``spectral`` (packed when the host saves 12 bits) or ``complex``.

        Returns
        -------
        int
            352 bytes (348 of NIfTI-1 header, 4 of extension flag), then 2 bytes per sample; 3
            bytes for 2 samples and no header when packed; 4 bytes for each of four components.
        """
        pixels = self.alines(label) * self.illuminations * self.tile_size_y
        if kind == "complex":
            return 352 + pixels * self.depth_samples * 4 * 4
        samples = pixels * 2 * self.samples_per_aline
        return samples * 3 // 2 if self.tile_saving_type == "spectral_12bit" else 352 + samples * 2


def input_names(scan: AcquisitionSection) -> InputNames:
    """How the raw files of a project are named.

    Raises
    ------
    ValueError
        The pattern or a map cannot be used; the message says why.
    """
    modalities = dict(scan.filename_modality_map)
    if scan.maps_are_input:
        # With maps saved, "processed" is the intensity volume and not the complex tile.
        modalities.setdefault("processed", "dBI")
    try:
        return InputNames(
            preset=None if scan.filename_pattern else scan.filename_preset,
            filename_pattern=scan.filename_pattern,
            acquisition_mosaic_map=scan.acquisition_mosaic_map,
            filename_modality_map=modalities,
            filename_default_modality=scan.filename_default_modality,
            mosaics_per_slice=scan.mosaics_per_slice,
        )
    except ConfigError as error:
        raise ValueError(str(error)) from error
