"""Calibration, dispersion and a given surface: they load, and fit the spectra."""

from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError, OpticStreamError
from opticstream_smk.preflight.check import Check, failed, failed_by, note, ok
from opticstream_smk.stages.inputs import load_calibration
from opticstream_smk.stages.process_tiles import tile_settings


def check_calibration(config: Config) -> list[Check]:
    """The files that a tile is computed with."""
    name = "calibration"
    scan = config.acquisition
    if scan.maps_are_input:
        return [note(name, "none is needed: the maps of the acquisition host are linked")]
    checks = [_check_spectra(config, name)] if not scan.complex_is_input else []
    try:
        tile_settings(config)
    except IncompleteInputError as error:
        checks.append(
            failed("config", "surface", str(error).rstrip("."), "", "Correct processing.surface")
        )
    except OpticStreamError as error:
        checks.append(failed_by("processing", error))
    return checks


def _check_spectra(config: Config, name: str) -> Check:
    scan = config.acquisition
    try:
        load_calibration(config).sampling(scan.samples_per_aline)
    except IncompleteInputError as error:
        keys = (
            "acquisition.calibration_file or acquisition.dispersion_file"
            if scan.phase_calibration is None
            else "acquisition.phase_calibration"
        )
        return failed("config", name, str(error).rstrip("."), "", f"Correct {keys}")
    except OpticStreamError as error:
        return failed_by(name, error)
    if scan.phase_calibration is not None:
        used = f"{scan.phase_calibration.dphase_file}"
        corrected = scan.phase_calibration.dspphase_file or scan.dispersion_file
    else:
        used, corrected = f"{scan.calibration_file}", scan.dispersion_file
    dispersion = f"dispersion {corrected}" if corrected else "no dispersion correction"
    return ok(name, f"{used}, {dispersion}; they fit {scan.samples_per_aline} samples")
