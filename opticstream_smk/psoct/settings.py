"""Everything that decides how a tile is processed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opticstream_smk.psoct.enface import DEFAULT_MODALITIES, EnfaceOptions
from opticstream_smk.psoct.spectral import Precision, check_precision
from opticstream_smk.psoct.surface import SurfaceMethod, SurfaceSpec, surface_method
from opticstream_smk.psoct.volumes import VoxelOptions, ZOrder, check_z_order


@dataclass(frozen=True)
class TileSettings:
    """Everything that decides how a tile is processed.

    The fields are the arguments of `spectral_to_jones`, `jones_to_volumes`, `find_surface`
    (`surface_spec`, `surface_args`) and `project_enface`, with their defaults.
    `complex_z_order` is the `z_order` of `jones_to_volumes` and does not touch spectra.

    Raises
    ------
    ConfigError
        If a name is unknown or a number is out of range.
    IncompleteInputError
        If the surface is a file that does not exist.
    """

    precision: Precision = "single"
    toolbox_quirks: bool = False
    flip_phase: bool = False
    phase_offset_deg: float = 100.0
    flip_z: bool = True
    complex_z_order: ZOrder = "raw"
    surface_spec: SurfaceSpec = "gradient"
    surface_args: Sequence[float] = ()
    offset_px: float = 0
    depth_px: float = 80
    modalities: Sequence[str] = DEFAULT_MODALITIES
    ori_method: str = "circularMean"
    biref_method: str = "legacy"
    dz_um: float = 2.5
    wavelength_um: float = 1.3

    def __post_init__(self) -> None:
        # A wrong name shows here, not after the volumes were computed.
        check_precision(self.precision)
        check_z_order(self.complex_z_order)
        self.surface()
        self.enface_options()

    def enface_options(self) -> EnfaceOptions:
        """Return the part that `project_enface` takes."""
        return EnfaceOptions(
            offset_px=self.offset_px,
            depth_px=self.depth_px,
            modalities=self.modalities,
            ori_method=self.ori_method,
            biref_method=self.biref_method,
            dz_um=self.dz_um,
            wavelength_um=self.wavelength_um,
        )

    def surface(self) -> SurfaceMethod:
        """Return the method behind `surface_spec` and `surface_args`."""
        return surface_method(self.surface_spec, self.surface_args)

    def voxel_options(self, z_order: str) -> VoxelOptions:
        """Return the part of `jones_to_volumes`, for components of this depth order."""
        return VoxelOptions(
            self.flip_z == (z_order == "raw"),
            self.flip_phase,
            self.phase_offset_deg,
            self.toolbox_quirks,
        )
