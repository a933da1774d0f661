"""The options of psoct-toolbox: its structs, with its names and defaults."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from opticstream_smk.config import Config
from opticstream_smk.config.matlab import reads_spectra
from opticstream_smk.matlab.literals import Value, literal


class _Struct(BaseModel):
    """Fields have the names that Python gives them; MATLAB's are the aliases.

    What is None is left out, and the toolbox takes its own default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def fields(self) -> dict[str, Value]:
        """Values by MATLAB's names."""
        found: dict[str, Value] = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None:
                found[info.alias or name] = value.fields() if isinstance(value, _Struct) else value
        return found


class SpectralOptions(_Struct):
    """How raw spectra are stored."""

    disp_comp_file: Path | None = Field(None, alias="dispCompFile")
    aline_size: int = Field(200, alias="AlineSize")
    bline_size: int = Field(350, alias="BlineSize")
    is_raw_format: bool = Field(False, alias="isRawFormat")


class SurfaceOptions(_Struct):
    """How the surface is found; `args` are the method's, by position."""

    spec: str | int | None = Field(None, alias="Spec")
    args: tuple[int | float, ...] | None = Field(None, alias="Args")


class ComputeOptions(_Struct):
    """Which maps are made."""

    aip: bool = True
    mip: bool = True
    ret: bool = True
    ori: bool = True
    biref: bool = True


class EnfaceOptions(_Struct):
    """Window and methods of the en-face maps; `depth` + 1 samples."""

    offset: float = Field(0.0, alias="Offset")
    depth: float = Field(70.0, alias="Depth")
    ori_method: str = Field("circularMean", alias="OriMethod")
    ori_method_args: dict[str, float] = Field({}, alias="OriMethodArgs")
    biref_method: str = Field("legacy", alias="BirefMethod")
    biref_method_args: dict[str, float] = Field({}, alias="BirefMethodArgs")
    compute: ComputeOptions = Field(ComputeOptions(), alias="Compute")
    save_2d_as_3d: bool = Field(True, alias="Save2DAs3D")


class AcquisitionOptions(_Struct):
    """Voxel size and wavelength."""

    pixel_dimensions_um: list[int | float] = Field([10, 10, 2.5], alias="PixelDimensionsUm")
    # Despite its name the toolbox's own default is in mm; birefringence has no dimension only
    # when wavelength and depth have the same unit.
    wavelength_um: float = Field(0.0013, alias="WavelengthUm")
    slice_thickness_um: float = Field(500.0, alias="SliceThicknessUm")


class VolumeOptions(_Struct):
    """From complex tiles to volumes; `phase_offset` in rad."""

    flip_phase: bool = Field(False, alias="flipPhase")
    phase_offset: float = Field(100 / 180 * math.pi, alias="phaseOffset")
    flip_z: bool = Field(True, alias="flipZ")


class PipelineOptions(_Struct):
    """The groups of options; one that is None is an empty struct."""

    spectral: SpectralOptions | None = None
    surface: SurfaceOptions | None = None
    enface: EnfaceOptions | None = None
    acquisition: AcquisitionOptions | None = None
    volume: VolumeOptions | None = None

    def group(self, name: str) -> str:
        """A group as MATLAB source."""
        options: _Struct | None = getattr(self, name)
        return literal({} if options is None else options.fields())


def pipeline_options(config: Config, acquisition: str) -> PipelineOptions:
    """Options that make the toolbox compute what the configuration says.

    Settings that it cannot do were refused by :func:`opticstream_smk.config.matlab.conflicts`.
    """
    scan, processing = config.acquisition, config.processing
    modalities = set(processing.modalities)
    spectral = None
    if reads_spectra(processing, scan):
        spectral = SpectralOptions(
            disp_comp_file=scan.dispersion_file,
            aline_size=scan.alines(acquisition),
            bline_size=scan.tile_size_y,
            is_raw_format=scan.tile_saving_type == "spectral_12bit",
        )
    # Complex tiles of our own making, and what is made of spectra, are as transformed.
    is_raw_order = not scan.complex_is_input or scan.complex_z_order == "raw"
    return PipelineOptions(
        spectral=spectral,
        surface=_surface(processing.surface.strip(), processing.surface_args),
        enface=EnfaceOptions(
            offset=processing.offset_px,
            depth=processing.depth_px,
            ori_method="circularMean" if processing.ori_method == "circularMean" else "legacy",
            biref_method=processing.biref_method,
            compute=ComputeOptions(
                aip="aip" in modalities,
                mip="mip" in modalities,
                ret="ret" in modalities,
                # Versions up to 0c5b601 make biref in the block of ori, and fail without it.
                ori=True,
                biref="biref" in modalities,
            ),
        ),
        acquisition=AcquisitionOptions(
            # Rounded, because 0.0035 mm times 1000 is not 3.5.
            pixel_dimensions_um=[round(mm * 1000, 9) for mm in scan.scan_resolution_3d_mm],
            wavelength_um=scan.wavelength_um,
            slice_thickness_um=scan.slice_thickness_um,
        ),
        volume=VolumeOptions(
            flip_phase=processing.flip_phase,
            phase_offset=math.radians(processing.phase_offset_deg),
            flip_z=processing.flip_z == is_raw_order,
        ),
    )


def _surface(name: str, args: tuple[float, ...]) -> SurfaceOptions:
    if name.lstrip("+-").isdigit():
        return SurfaceOptions(spec=int(name))
    spec = "gradient" if name == "find" else name
    return SurfaceOptions(spec=spec, args=tuple(map(int, args)) or None)
