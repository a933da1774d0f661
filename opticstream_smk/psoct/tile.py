"""A whole tile in memory, from raw spectra or Jones components to maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.calibration import SpectralCalibration
from opticstream_smk.psoct.enface import project_with
from opticstream_smk.psoct.engine import TileEngine
from opticstream_smk.psoct.settings import TileSettings
from opticstream_smk.psoct.spectral import JonesArray, spectra_sizes, spectral_to_jones
from opticstream_smk.psoct.surface import find_surface
from opticstream_smk.psoct.volumes import Volumes, jones_to_volumes


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
    *,
    threads: int = 1,
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
    threads : int
        Threads that compute; the result does not depend on them.

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
    Beside the products, memory for a few B-lines is used (about 40 MB a thread for 350 A-lines of
    2048 samples). In double precision the Jones components are kept for the time being.
    """
    blines, alines, samples = spectra_sizes(spectra)
    if settings.precision == "double":
        quirks = settings.toolbox_quirks
        jones = spectral_to_jones(spectra, calibration, precision="double", toolbox_quirks=quirks)
        return process_jones(*jones, replace(settings, complex_z_order="raw"))
    engine = TileEngine.of_spectra(
        calibration, (blines, 2, alines, samples), settings, threads=threads, whole=True
    )
    volumes: list[Volumes] = []
    maps = engine.run(
        _InMemory(spectra),
        lambda _start, _stop, made: volumes.append(Volumes(*(v.T for v in made))),
    )
    return TileProducts(volumes[0], maps.surface, maps.enface)


class _InMemory:
    """Spectra that are there: nothing is read."""

    def __init__(self, spectra: NDArray[np.uint16]) -> None:
        self._spectra = spectra

    def buffer(self, _rows: int) -> NDArray[np.uint16]:
        return self._spectra

    def read(self, start: int, stop: int, _: NDArray[np.uint16]) -> NDArray[np.uint16]:
        return self._spectra[start:stop]


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
    surface = find_surface(volumes.dbi, settings.surface_spec, settings.surface_args)
    enface = project_with(volumes, surface, settings.enface_options())
    return TileProducts(volumes, surface, enface)
