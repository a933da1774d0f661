"""Section ``processing``: from raw tile to volumes and en-face maps."""

from typing import Literal

from pydantic import Field

from opticstream_smk.config.matlab import MatlabSection
from opticstream_smk.config.section import Section

EnfaceModality = Literal["aip", "mip", "ret", "ori", "biref", "mus", "mus_confidence"]


class ValidationLimits(Section):
    """What a product must keep to before its flag is written."""

    min_finite_share: float = Field(
        default=0.99, ge=0, le=1, description="Least share of finite values in every product."
    )
    intensity_db: tuple[float, float] = Field(
        default=(-70.0, 200.0), description="Range of dBI, aip and mip, dB."
    )
    max_abs_biref: float = Field(
        default=0.2, gt=0, description="Largest birefringence; more means wrong units."
    )


class QcLimits(Section):
    """Numbers of a tile that are marked when they lie beyond."""

    min_snr_db: float = Field(default=3.0, description="Signal below the surface over noise, dB.")
    min_surface_coverage: float = Field(
        default=0.1, ge=0, le=1, description="Share of A-lines with a credible surface."
    )
    max_saturation_share: float = Field(
        default=0.001, ge=0, le=1, description="Share of raw samples at the camera's top value."
    )
    max_nan_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of values that are not finite."
    )
    max_phase_noise_deg: float = Field(
        default=45.0, gt=0, description="Spread of orientation over depth, degrees."
    )
    saturation_count: int = Field(
        default=4095, ge=1, description="Top value of the cameras, counts."
    )


class ProcessingSection(Section):
    """How a tile is computed."""

    engine: Literal["native", "matlab-engine", "matlab-batch"] = Field(
        default="native",
        description="`native` computes in Python; the others have psoct-toolbox compute, in "
        "MATLAB's engine for Python or by the command `matlab.command`.",
    )
    matlab: MatlabSection = Field(
        default=MatlabSection(), description="How psoct-toolbox is run by the MATLAB engines."
    )
    complex: Literal["keep", "discard"] = Field(
        default="keep",
        description="`keep` writes complex tiles; `discard` goes from spectra to maps in one pass.",
    )
    modalities: tuple[EnfaceModality, ...] = Field(
        default=("aip", "mip", "ret", "ori", "biref"),
        min_length=1,
        description="En-face maps of each tile; the surface is always written.",
    )
    phase_offset_deg: float = Field(
        default=100.0, ge=-360, le=360, description="Added to the optic-axis angle, degrees."
    )
    flip_phase: bool = Field(
        default=False, description="Negate the phase difference before the offset is added."
    )
    flip_z: bool = Field(
        default=True, description="Reverse depth, so that the surface comes first."
    )
    surface: str = Field(
        default="gradient",
        min_length=1,
        description="How the surface is found: `gradient` (steepest rise of intensity; `find` "
        "means the same), `gradientThreshold`, a whole number (the same index everywhere), or a "
        "NIfTI file with the 1-based index of every A-line of a tile.",
    )
    surface_args: tuple[float, ...] = Field(
        default=(),
        description="Arguments of the method: window and kernel for `gradient`; n, threshold, "
        "window, kernel for `gradientThreshold`.",
    )
    offset_px: int = Field(
        default=0, ge=-1000, le=10000, description="Start of the en-face window below the surface."
    )
    depth_px: int = Field(
        default=80,
        ge=1,
        le=10000,
        description="Depth of the en-face window; inclusive as in the toolbox: 80 is 81 samples.",
    )
    ori_method: Literal["circularMean", "mean"] = Field(
        default="circularMean", description="How orientation is averaged over depth."
    )
    biref_method: Literal["legacy", "fft", "unwrap_old", "unwrap_new", "unwrap_exp"] = Field(
        default="legacy", description="`legacy` fits a line to the retardance below the surface."
    )
    save_volume_outputs: bool = Field(
        default=True, description="Whether dBI, R3D and O3D of every tile are kept on disk."
    )
    validation: ValidationLimits = Field(
        default=ValidationLimits(), description="What a product must keep to."
    )
    tile_qc: bool = Field(
        default=True, description="Whether every batch gets a contact sheet and numbers."
    )
    qc_limits: QcLimits = Field(
        default=QcLimits(), description="Numbers that are marked on the contact sheet."
    )
    toolbox_quirks: bool = Field(
        default=False,
        description="Repeat known defects of psoct-toolbox, for comparison with old data.",
    )

    @property
    def tiles_have_quirks(self) -> bool:
        """Whether volumes and maps have the defects of psoct-toolbox."""
        return self.toolbox_quirks or self.engine != "native"
