"""What the tile stages read: raw tiles and calibration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opticstream_smk.config import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from opticstream_smk.psoct import Calibration, PhaseCalibration

    AnyCalibration = Calibration | PhaseCalibration


def raw_params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that decide what is read from a raw tile; calibration enters by its content."""
    scan = config.acquisition
    phase = scan.phase_calibration
    return {
        "tile_saving_type": scan.tile_saving_type,
        "illumination": _illumination(config, acquisition),
        "alines": scan.alines(acquisition),
        "blines": scan.tile_size_y,
        "samples": scan.samples_per_aline,
        "flip_channel2": scan.flip_channel2,
        "calibration": None if phase else _content_sha256(scan.calibration_file),
        "phase_calibration": phase
        and [
            _content_sha256(path)
            for path in (phase.dphase_file, phase.linphase_file, phase.dspphase_file)
        ],
        "dispersion": _content_sha256(scan.dispersion_file),
    }


def _illumination(config: Config, acquisition: str) -> tuple[int, int]:
    """Which of how many interleaved illuminations belongs to an acquisition, 0-based."""
    scan = config.acquisition
    position = scan.labels.index(acquisition) if scan.illuminations > 1 else 0
    return position, scan.illuminations


def load_calibration(config: Config) -> "AnyCalibration":
    """The lab's calibration and dispersion."""
    from opticstream_smk.psoct import Calibration, PhaseCalibration

    scan = config.acquisition
    if scan.phase_calibration is not None:
        files = scan.phase_calibration
        return PhaseCalibration.from_files(
            files.dphase_file,
            files.linphase_file,
            files.dspphase_file or scan.dispersion_file,
            flip_channel2=scan.flip_channel2,
        )
    assert scan.calibration_file is not None
    return Calibration.from_files(
        scan.calibration_file, scan.dispersion_file, flip_channel2=scan.flip_channel2
    )


def read_raw(config: Config, acquisition: str, path: Path) -> "NDArray[np.uint16]":
    """Spectra of a raw tile, (Y, 2, X, N)."""
    from opticstream_smk.psoct import read_spectral

    scan = config.acquisition
    first, step = _illumination(config, acquisition)
    spectra = read_spectral(
        path,
        alines=scan.alines(acquisition) * step,
        blines=scan.tile_size_y,
        samples=scan.samples_per_aline,
        bits=12 if scan.tile_saving_type == "spectral_12bit" else 16,
    )
    return spectra[:, :, first::step]


def _content_sha256(path: Path | None) -> str | None:
    import hashlib

    from opticstream_smk.errors import ConfigError

    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror}); correct acquisition.calibration_file or "
            "acquisition.dispersion_file"
        ) from error
