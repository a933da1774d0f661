"""PS-OCT numerics: spectra to Jones components to volumes to surface and en-face maps.

Arrays are (X, Y, Z) = (A-line, B-line, depth). Surface indices are 1-based.
"""

from opticstream_smk.psoct.calibration import Calibration
from opticstream_smk.psoct.dispersion import Dispersion, load_dispersion
from opticstream_smk.psoct.enface import project_enface
from opticstream_smk.psoct.phase_calibration import PhaseCalibration
from opticstream_smk.psoct.raw import read_spectral
from opticstream_smk.psoct.settings import TileSettings
from opticstream_smk.psoct.spectral import spectral_to_jones, stack_jones, unstack_jones
from opticstream_smk.psoct.surface import find_surface
from opticstream_smk.psoct.tile import TileProducts, process_jones, process_spectral
from opticstream_smk.psoct.volumes import Volumes, jones_to_volumes

__all__ = [
    "Calibration",
    "Dispersion",
    "PhaseCalibration",
    "TileProducts",
    "TileSettings",
    "Volumes",
    "find_surface",
    "jones_to_volumes",
    "load_dispersion",
    "process_jones",
    "process_spectral",
    "project_enface",
    "read_spectral",
    "spectral_to_jones",
    "stack_jones",
    "unstack_jones",
]
