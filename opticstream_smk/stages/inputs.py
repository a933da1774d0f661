"""What the tile stages read: raw tiles and calibration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opticstream_smk.config import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from opticstream_smk.psoct import Calibration, PhaseCalibration
    from opticstream_smk.psoct.raw import RawBlines

    AnyCalibration = Calibration | PhaseCalibration


def raw_params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that decide what is read from a raw tile; calibration enters by its content."""
    scan = config.acquisition
    files: dict[str, Path | None] = {"dispersion_file": scan.dispersion_file}
    if scan.phase_calibration is None:
        files["calibration_file"] = scan.calibration_file
    else:
        files |= {
            f"phase_calibration.{name}": getattr(scan.phase_calibration, name)
            for name in type(scan.phase_calibration).model_fields
        }
    return {
        "tile_saving_type": scan.tile_saving_type,
        "illumination": _illumination(config, acquisition),
        "alines": scan.alines(acquisition),
        "blines": scan.tile_size_y,
        "samples": scan.samples_per_aline,
        "flip_channel2": scan.flip_channel2,
        **{key: path and content_sha256(path, f"acquisition.{key}") for key, path in files.items()},
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


def raw_blines(
    config: Config, acquisition: str, path: Path
) -> tuple["RawBlines", tuple[int, int, int, int]]:
    """B-lines of a raw tile, and the size (Y, 2, X, N) of them all."""
    from opticstream_smk.psoct.raw import RawBlines, find_spectral

    scan = config.acquisition
    first, step = _illumination(config, acquisition)
    tile = find_spectral(path, **_raw_size(config, acquisition))
    blines, channels, _, samples = tile.shape
    return RawBlines(tile, first, step), (blines, channels, scan.alines(acquisition), samples)


def _raw_size(config: Config, acquisition: str) -> dict[str, Any]:
    scan = config.acquisition
    _, step = _illumination(config, acquisition)
    return {
        "alines": scan.alines(acquisition) * step,
        "blines": scan.tile_size_y,
        "samples": scan.samples_per_aline,
        "bits": 12 if scan.tile_saving_type == "spectral_12bit" else 16,
    }


def read_raw(
    config: Config, acquisition: str, path: Path, *, in_memory: bool = True
) -> "NDArray[np.uint16]":
    """Spectra of a raw tile, (Y, 2, X, N)."""
    from opticstream_smk.psoct import read_spectral

    first, step = _illumination(config, acquisition)
    spectra = read_spectral(path, **_raw_size(config, acquisition), in_memory=in_memory)
    return spectra[:, :, first::step]


def content_sha256(path: Path, key: str) -> str:
    """Hash of a file that the configuration names; ConfigError when it cannot be read."""
    import hashlib

    from opticstream_smk.errors import ConfigError

    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}); correct {key}") from error
