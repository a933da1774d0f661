"""Where tile coordinates come from, when it is another program: there, and fit to be used."""

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.mosaic.tile_configuration import read_tile_configuration
from opticstream_smk.preflight.check import Check, failed_by, note, ok

_NAME = "tile coordinates"


def check_coordinates(config: Config) -> list[Check]:
    """Look for Fiji, or for its files; nothing is started."""
    if config.project.pipeline == "lsm" or config.mosaic.method == "native":
        return []
    if config.mosaic.method == "fiji":
        return [_check_fiji(config)]
    return [_check_file(config, acquisition) for acquisition in config.acquisition.labels]


def _check_fiji(config: Config) -> Check:
    from opticstream_smk.mosaic.fiji import find_fiji

    try:
        return ok(_NAME, f"Fiji: {find_fiji(config.mosaic.fiji)}, not started")
    except OpticStreamError as error:
        return failed_by(_NAME, error)


def _check_file(config: Config, acquisition: str) -> Check:
    per_slice = config.acquisition.mosaics_per_slice
    slice_ = next(iter(config.mosaic.template_slices), config.mosaic.template_slice or 1)
    mosaic = (slice_ - 1) * per_slice + config.acquisition.labels.index(acquisition) + 1
    assert naming.acquisition_of_mosaic(mosaic, per_slice) == acquisition
    path = config.mosaic.tile_configuration_file(acquisition, slice_, mosaic)
    if not path.exists():
        return note(
            _NAME,
            f"{path} is not there yet",
            f"The {acquisition} mosaics wait for it: solve_coordinates fails until it is there",
        )
    try:
        tiles = read_tile_configuration(path)
    except OpticStreamError as error:
        return failed_by(_NAME, error)
    return ok(_NAME, f"{path} lists {len(tiles)} tiles", tiles=len(tiles))
