"""Tile positions of a mosaic by the configured method: this package, Fiji, or a file of Fiji's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.plan import image_list
from opticstream_smk.stages.stage import StageContext
from opticstream_smk.stages.tile_positions import solve_tiles
from opticstream_smk.stages.tilemap import TileFiles, cells

if TYPE_CHECKING:
    from opticstream_smk.mosaic import TilePositions

_LOOSE = "were linked to none of their neighbours by Fiji"


def method_params(config: Config) -> Mapping[str, Any]:
    """Values that decide where coordinates come from; none by default."""
    mosaic = config.mosaic
    if mosaic.method == "native":
        return {}
    if mosaic.method == "fiji":
        return {"method": "fiji"}
    return {"method": "tileconfig", "tile_configuration": mosaic.tile_configuration}


@dataclass(frozen=True)
class FoundPositions:
    """Positions, and what is to be said of where they are from.

    Attributes
    ----------
    solved
        As `solve_positions` gives them.
    files
        What was read besides the tiles.
    warnings
        What people should know of it.
    why_loose
        What is said of tiles that are linked to no other.
    """

    solved: "TilePositions"
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    why_loose: str = "have too little content in their overlaps"


def positions_by_method(
    context: StageContext, mosaics: Sequence[int], files: Sequence[TileFiles]
) -> FoundPositions:
    """Positions by ``mosaic.method``, of one mosaic, or of several of one acquisition together.

    Parameters
    ----------
    files
        The maps of each mosaic.

    Raises
    ------
    OpticStreamError
        Fiji failed, or the file cannot be used.
    """
    config = context.config
    if config.mosaic.method == "native":
        return FoundPositions(solve_tiles(config, context.acquisition, files))
    # Only the native method solves several together; the configuration was checked for it.
    (mosaic,), (own,) = mosaics, files
    tiles = np.stack([own[index] for index in range(len(own))])
    if config.mosaic.method == "fiji":
        given = _from_fiji(context, mosaic, tiles)
        solved = _adopt(context, tiles, given, f"Fiji for mosaic {mosaic:03d}")
        return FoundPositions(solved, why_loose=_LOOSE)
    path = config.mosaic.tile_configuration_file(
        context.acquisition, context.plan.slice(mosaic), mosaic
    )
    given, unlisted = _from_file(path, len(tiles))
    warnings = []
    if unlisted:
        warnings.append(
            f"{path} lists {len(tiles) - len(unlisted)} of {len(tiles)} tiles; images "
            f"{image_list(unlisted)} lie where the stage should have been"
        )
    solved = _adopt(context, tiles, given, str(path))
    return FoundPositions(solved, (path,), tuple(warnings), _LOOSE)


def _adopt(
    context: StageContext, tiles: NDArray[np.float32], given: NDArray[np.float64], source: str
) -> "TilePositions":
    from opticstream_smk.mosaic.given_positions import adopt_positions

    return adopt_positions(
        tiles,
        given,
        cells(context.config, context.acquisition),
        overlap_percent=context.config.acquisition.tile_overlap_percent,
        source=source,
    )


def _from_fiji(
    context: StageContext, mosaic: int, tiles: NDArray[np.float32]
) -> NDArray[np.float64]:
    from opticstream_smk.mosaic.fiji import run_fiji

    scan, acquisition = context.config.acquisition, context.acquisition
    return run_fiji(
        tiles,
        columns=scan.columns(acquisition),
        rows=scan.rows(acquisition),
        grid_type=scan.grid_type,
        order=scan.grid_order,
        overlap_percent=scan.tile_overlap_percent,
        fiji=context.config.mosaic.fiji,
        folder=context.layout.mosaic(mosaic) / "processed",
        label=context.acquisition,
    )


def _from_file(path: Path, n_tiles: int) -> tuple[NDArray[np.float64], list[int]]:
    """(N, 2) positions, NaN where none is given, and the images without."""
    from opticstream_smk.mosaic.tile_configuration import (
        given_positions,
        places_of_images,
        read_tile_configuration,
    )

    images = range(1, n_tiles + 1)
    found = places_of_images(read_tile_configuration(path), images, source=str(path))
    return given_positions(found, images), [image for image in images if image not in found]
