"""Tile positions of a mosaic by the configured method: this package, Fiji, or a file of Fiji's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.plan import image_list
from opticstream_smk.stages.stage import StageContext

if TYPE_CHECKING:
    from opticstream_smk.mosaic import TilePositions


def method_params(config: Config) -> Mapping[str, Any]:
    """Values that decide where coordinates come from; none by default."""
    mosaic = config.mosaic
    if mosaic.method == "native":
        return {}
    if mosaic.method == "fiji":
        return {"method": "fiji"}
    return {"method": "tileconfig", "tile_configuration": mosaic.tile_configuration}


def foreign_positions(
    context: StageContext,
    mosaic: int,
    tiles: Sequence[NDArray[Any]],
    cells: NDArray[np.int64],
    tile_shape: tuple[int, int],
) -> "tuple[TilePositions, tuple[Path, ...], tuple[str, ...]]":
    """Positions from Fiji or one of its files.

    Parameters
    ----------
    tiles
        (y, x) images in the order of acquisition; NaN for a missing one.
    cells
        (N, 2) row and column of each tile.

    Returns
    -------
    positions
        As `solve_positions` gives them.
    files
        What was read besides the tiles.
    warnings
        What people should know of it.
    """
    from opticstream_smk.mosaic.given_positions import adopt_positions

    config = context.config
    scan = config.acquisition
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    if config.mosaic.method == "fiji":
        source = f"Fiji for mosaic {mosaic:03d}"
        given = _from_fiji(context, mosaic, tiles)
    else:
        slice_ = context.plan.slice(mosaic)
        path = config.mosaic.tile_configuration_file(context.acquisition, slice_, mosaic)
        source, files = str(path), (path,)
        given, unlisted = _from_file(path, len(cells))
        if unlisted:
            warnings = (
                f"{path} lists {len(cells) - len(unlisted)} of {len(cells)} tiles; images "
                f"{image_list(unlisted)} lie where the stage should have been",
            )
    solved = adopt_positions(
        given,
        cells,
        tile_shape,
        overlap_percent=scan.tile_overlap_percent,
        source=source,
    )
    return solved, files, warnings


def _from_fiji(
    context: StageContext, mosaic: int, tiles: Sequence[NDArray[Any]]
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
