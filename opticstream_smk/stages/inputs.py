"""What the tile stages read: raw tiles and calibration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opticstream_smk.config import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from opticstream_smk.psoct import Calibration


def raw_params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that decide what is read from a raw tile; calibration enters by its content."""
    scan = config.acquisition
    return {
        "alines": scan.alines(acquisition),
        "blines": scan.tile_size_y,
        "samples": scan.samples_per_aline,
        "calibration": _content_sha256(scan.calibration_file),
        "dispersion": _content_sha256(scan.dispersion_file),
    }


def load_calibration(config: Config) -> "Calibration":
    """The lab's calibration and dispersion."""
    from opticstream_smk.psoct import Calibration

    assert config.acquisition.calibration_file is not None
    return Calibration.from_files(
        config.acquisition.calibration_file, config.acquisition.dispersion_file
    )


def read_raw(config: Config, acquisition: str, path: Path) -> "NDArray[np.uint16]":
    """Spectra of a raw tile, (Y, 2, X, N)."""
    from opticstream_smk.psoct import read_spectral

    scan = config.acquisition
    return read_spectral(
        path,
        alines=scan.alines(acquisition),
        blines=scan.tile_size_y,
        samples=scan.samples_per_aline,
    )


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
