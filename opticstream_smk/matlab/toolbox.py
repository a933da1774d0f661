"""The folder of psoct-toolbox and the program that runs it: are they there, do they fit."""

import functools
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from opticstream_smk.config import Config
from opticstream_smk.config.matlab import TOOLBOX_SAMPLES, reads_spectra
from opticstream_smk.errors import ConfigError
from opticstream_smk.matlab.commands import FUNCTIONS, Kind
from opticstream_smk.matlab.diagnosis import engine_remedy

# What MATLAB runs or loads; other files of the folder do not change results.
_CODE = {".m", ".p", ".mat", ".mexa64"}
# The name under which the toolbox has its own calibration.
CALIBRATION_NAME = "wave-pixel.mat"


def check_program(config: Config) -> str:
    """Absolute path of the program that starts MATLAB; nothing is started.

    Raises
    ------
    ConfigError
        It is not there.
    """
    processing = config.processing
    if processing.engine == "matlab-engine":
        if not _has_engine():
            raise ConfigError(engine_remedy())
        return sys.executable
    program = processing.matlab.program
    found = shutil.which(program)
    if found is None:
        raise ConfigError(
            f"`{program}` of processing.matlab.command is not there or cannot be executed on this "
            "host; give its full path there, or install it"
        )
    return os.path.abspath(found)  # noqa: PTH100  # keeps links, by which MATLAB finds itself


def _has_engine() -> bool:
    try:
        return importlib.util.find_spec("matlab.engine") is not None
    except ImportError:
        return False


def check_toolbox(config: Config) -> list[str]:
    """Check the toolbox, and the files that it reads by itself.

    Returns
    -------
    list of str
        What could not be checked.

    Raises
    ------
    ConfigError
        The folder cannot be used, has no such function, or would compute with another calibration
        than the configured one.
    """
    folder = toolbox_folder(config)
    spectral = reads_spectra(config.processing, config.acquisition)
    kind: Kind = "spectral" if spectral else "complex"
    _check_function(folder, FUNCTIONS[kind])
    if not spectral:
        return []
    _check_dispersion(config)
    return _check_calibration(config, folder)


def toolbox_folder(config: Config) -> Path:
    """Folder of the toolbox, which MATLAB can have on its path.

    Raises
    ------
    ConfigError
        It is not there, its name cannot be on a path, or it has no ``+psoct`` in it.
    """
    folder = config.processing.matlab.toolbox_dir
    key = "processing.matlab.toolbox_dir"
    assert folder is not None  # config.matlab.conflicts
    if not folder.is_dir():
        raise ConfigError(
            f"{key} {folder} is not a folder; expected that of psoct-toolbox. Correct it."
        )
    if os.pathsep in str(folder):
        raise ConfigError(
            f"{key} {folder} has a {os.pathsep!r} in its name, which separates folders on "
            "MATLAB's path. Rename or link it."
        )
    if next(_packages(folder), None) is None:
        raise ConfigError(
            f"{key} {folder} has no folder +psoct in it, so it is not psoct-toolbox. Correct it."
        )
    return folder


def toolbox_sha256(config: Config) -> str:
    """Hash over the code and data of the toolbox; ConfigError when it cannot be read."""
    return _sha256_of_code(toolbox_folder(config))


@functools.lru_cache
def _sha256_of_code(folder: Path) -> str:
    """Looked at once by a process: no stage should see two versions."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        if path.suffix not in _CODE:
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read {path} ({error.strerror}); correct processing.matlab.toolbox_dir"
            ) from error
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder, without those in hidden ones (such as a repository's own)."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in names if not name.startswith("."))


def _packages(folder: Path) -> Iterator[Path]:
    """Folders ``+psoct``, at any depth: all of it comes onto MATLAB's path."""
    for here, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if "+psoct" in folders:
            yield Path(here, "+psoct")


def _check_function(folder: Path, function: str) -> None:
    _, *packages, name = function.split(".")
    inner = Path(*(f"+{package}" for package in packages))
    places = [package / inner / name for package in _packages(folder)]
    if not any(place.with_suffix(suffix).is_file() for place in places for suffix in (".m", ".p")):
        raise ConfigError(
            f"processing.matlab.toolbox_dir {folder} has no function {function} (expected "
            f"{places[0]}.m). Give a psoct-toolbox that has its batch functions."
        )


def _check_dispersion(config: Config) -> None:
    path = config.acquisition.dispersion_file
    assert path is not None  # config.matlab.conflicts
    expected = 8 * TOOLBOX_SAMPLES
    try:
        found = path.stat().st_size
    except OSError as error:
        raise ConfigError(
            f"cannot read {path} ({error.strerror}); correct acquisition.dispersion_file"
        ) from error
    if found != expected:
        raise ConfigError(
            f"acquisition.dispersion_file {path} has {found} bytes; psoct-toolbox reads {expected} "
            f"({TOOLBOX_SAMPLES} float64 values). Give such a file, or set processing.complex: keep"
        )


def _check_calibration(config: Config, folder: Path) -> list[str]:
    """The toolbox takes no calibration from outside, so its own must be the configured one."""
    import numpy as np

    from opticstream_smk.psoct.matfile import load_mat

    configured = config.acquisition.calibration_file
    assert configured is not None  # no phase calibration: config.matlab.conflicts
    own = sorted(path for path in _files(folder) if path.name == CALIBRATION_NAME)
    if not own:
        return [
            f"no {CALIBRATION_NAME} in {folder}: which calibration psoct-toolbox takes cannot be "
            f"compared with acquisition.calibration_file {configured}"
        ]
    names = ("mu", "wave_prime")
    wanted = load_mat(configured, kind="calibration file", variables=names)
    for path in own:
        found = load_mat(path, kind="calibration file", variables=names)
        if not all(np.array_equal(found[name].squeeze(), wanted[name].squeeze()) for name in names):
            raise ConfigError(
                f"psoct-toolbox would calibrate with its own {path}, which is not "
                f"acquisition.calibration_file {configured}. Copy that file over it, or set "
                "processing.complex: keep, so that complex tiles are made natively."
            )
    return []
