"""What the acquisition host computes from the spectra of a tile, with the package's own engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct import (
    Calibration,
    TileSettings,
    process_spectral,
    spectral_to_jones,
    stack_jones,
)
from opticstream_smk.simulate.files import HOST_MAPS
from opticstream_smk.simulate.settings import ENFACE_WINDOW_PX, AcquisitionSettings
from opticstream_smk.simulate.tile import spectrometer


def calibration(settings: AcquisitionSettings) -> Calibration:
    """The instrument as the processing knows it."""
    instrument = spectrometer(settings)
    return Calibration(instrument.mu, instrument.wave_prime_nm, instrument.dispersion_rad)


def complex_tile(settings: AcquisitionSettings, spectra: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Jones components of a tile.

    Parameters
    ----------
    spectra
        (Y, 2, X, N) counts.

    Returns
    -------
    (4X, Y, Z) float32: Re J1, Im J1, Re J2, Im J2; depth in the order of the settings.
    """
    stack = stack_jones(*spectral_to_jones(spectra, calibration(settings)))
    return stack[:, :, ::-1] if settings.complex_z_order == "flipped" else stack


def processed_tile(
    settings: AcquisitionSettings, spectra: NDArray[np.uint16]
) -> dict[str, NDArray[Any]]:
    """Maps and intensity of a tile by name; (X, Y, 1) and (X, Y, Z), surf float64, else float32.

    The maps have a third axis, as the toolbox writes them. The window starts at the surface.
    """
    modalities = tuple(name for name in HOST_MAPS if name != "surf")
    products = process_spectral(
        spectra,
        calibration(settings),
        TileSettings(
            phase_offset_deg=settings.phase_offset_deg,
            depth_px=ENFACE_WINDOW_PX - 1,  # both ends count
            modalities=modalities,
            dz_um=settings.voxel_um[2],
            wavelength_um=settings.wavelength_um,
        ),
    )
    maps: dict[str, NDArray[Any]] = {**products.enface, "surf": products.surface}
    processed = {name: maps[name][:, :, None] for name in HOST_MAPS}
    return {**processed, "dBI": products.volumes.dbi}
