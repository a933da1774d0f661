"""A whole tile from raw spectra to maps in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.calibration import SpectralCalibration
from opticstream_smk.psoct.enface import DEFAULT_MODALITIES, EnfaceOptions, project_with
from opticstream_smk.psoct.spectral import (
    BLineTransform,
    JonesArray,
    Precision,
    check_precision,
    spectra_sizes,
)
from opticstream_smk.psoct.surface import SurfaceSpec, find_surface, surface_method
from opticstream_smk.psoct.volumes import (
    Volumes,
    ZOrder,
    check_z_order,
    fill_bline,
    jones_to_volumes,
)


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
        surface_method(self.surface_spec, self.surface_args)
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


@dataclass(frozen=True, eq=False)
class TileProducts:
    """What a tile gives.

    Attributes
    ----------
    volumes : Volumes
        dBI, R3D, O3D, each (X, Y, Z) float32.
    surface : (X, Y) float64
        1-based surface index.
    enface : dict of (X, Y) float32
        En-face maps by modality.
    """

    volumes: Volumes
    surface: NDArray[np.float64]
    enface: dict[str, NDArray[np.float32]]


_DEFAULTS = TileSettings()


def process_spectral(
    spectra: NDArray[np.uint16],
    calibration: SpectralCalibration,
    settings: TileSettings = _DEFAULTS,
) -> TileProducts:
    """Process a raw tile without keeping its Jones components.

    Parameters
    ----------
    spectra : (Y, 2, X, N) uint16
        Raw counts, see `read_spectral`; a memory map is read once, B-line by B-line.
    calibration : Calibration or PhaseCalibration
        Wavelength calibration, and dispersion with N values.
    settings : TileSettings
        How to process.

    Returns
    -------
    TileProducts
        Exactly what `spectral_to_jones`, `jones_to_volumes`, `find_surface` and
        `project_enface` give one after the other.

    Raises
    ------
    ConfigError
        If the settings or N cannot be used.
    CorruptInputError
        If `spectra` has another shape, or the calibration does not fit it.

    Notes
    -----
    Beside the products, memory for a few B-lines is used (about 35 MB for 350 A-lines of 2048
    samples in single precision). The FFT uses the workers that the caller sets:
    ``with scipy.fft.set_workers(n): ...``.
    """
    blines, alines, samples = spectra_sizes(spectra)
    transform = BLineTransform(
        calibration,
        alines=alines,
        samples=samples,
        precision=settings.precision,
        toolbox_quirks=settings.toolbox_quirks,
    )
    volumes = Volumes.empty((alines, blines, transform.depth))
    for y in range(blines):
        line1, line2 = transform(spectra[y])
        fill_bline(
            volumes,
            y,
            line1,
            line2,
            flip_phase=settings.flip_phase,
            phase_offset_deg=settings.phase_offset_deg,
            flip_z=settings.flip_z,
            toolbox_quirks=settings.toolbox_quirks,
        )
    return _products(volumes, settings)


def process_jones(
    J1: JonesArray, J2: JonesArray, settings: TileSettings = _DEFAULTS
) -> TileProducts:
    """Process the Jones components of a tile; see `process_spectral`.

    Parameters
    ----------
    J1, J2 : (X, Y, Z) complex
        Jones components.
    settings : TileSettings
        How to process; `complex_z_order` says how their depth is stored, and `precision` is
        that of the components.

    Raises
    ------
    ConfigError
        If the settings cannot be used.
    CorruptInputError
        If the shapes differ or are not 3-D.
    """
    volumes = jones_to_volumes(
        J1,
        J2,
        flip_phase=settings.flip_phase,
        phase_offset_deg=settings.phase_offset_deg,
        flip_z=settings.flip_z,
        toolbox_quirks=settings.toolbox_quirks,
        z_order=settings.complex_z_order,
    )
    return _products(volumes, settings)


def _products(volumes: Volumes, settings: TileSettings) -> TileProducts:
    surface = find_surface(volumes.dbi, settings.surface_spec, settings.surface_args)
    enface = project_with(volumes, surface, settings.enface_options())
    return TileProducts(volumes, surface, enface)
