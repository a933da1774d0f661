"""Tile positions of the template slice, and the template that all slices use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.plan import template_params
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tilemap import TileFiles, Tilemap, cells, write_tilemap
from opticstream_smk.state.flags import TileCount, file_input


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    return {
        **template_params(config, acquisition),
        "mask_threshold": config.mosaic.mask_threshold(acquisition),
        "template_slice": config.mosaic.template_slice,
    }


def products(context: StageContext) -> list[Path]:
    """The template."""
    return [context.layout.template(context.acquisition)]


def compute(context: StageContext) -> Outcome:
    """Write ``tilemap-normal.j2``: the nominal grid, refined by correlating the overlaps."""
    from opticstream_smk.mosaic import solve_positions

    config, layout, acquisition = context.config, context.layout, context.acquisition
    mosaic = context.plan.template_mosaic(acquisition)
    if mosaic is None:
        raise IncompleteInputError(
            f"no {acquisition} mosaic is there to take coordinates from; run `optic-trigger scan`"
        )
    scan = config.acquisition
    shape = (scan.tile_size_y, scan.alines(acquisition))
    grid = cells(config, acquisition)
    files = TileFiles(layout, mosaic, "aip", shape, len(grid))
    tiles = np.stack([files[index] for index in range(len(files))])
    signal = tiles.mean(axis=(1, 2), dtype=np.float64)
    solved = solve_positions(tiles, grid, overlap_percent=scan.tile_overlap_percent)
    tilemap = Tilemap(solved.positions_px, solved.is_anchored, shape, signal)
    write_tilemap(config, layout, acquisition, tilemap)
    measured = solved.edges[solved.edges["used"]]
    unanchored = (np.flatnonzero(~solved.is_anchored) + 1).tolist()
    warning = (
        f"{len(unanchored)} of {len(grid)} tiles have too little content in their overlaps and lie "
        f"where the stage should have been: images {', '.join(map(str, unanchored))}"
    )
    return Outcome(
        inputs=tuple(file_input(files.path(index)) for index in range(len(files))),
        outputs=tuple(products(context)),
        tiles=TileCount(done=tuple(context.plan.images(mosaic))),
        numbers={
            "tiles": len(grid),
            "anchored_tiles": int(solved.is_anchored.sum()),
            "pairs": len(solved.edges),
            "pairs_used": len(measured),
            "residual_px_rms": (
                round(float(np.sqrt(np.mean(measured["residual"] ** 2))), 4)
                if len(measured)
                else None
            ),
        },
        extra={
            "template_slice": context.plan.slice(mosaic),
            "unanchored_images": unanchored,
        },
        warnings=(warning,) if unanchored and len(grid) > 1 else (),
    )


STAGE = Stage(
    "solve_coordinates",
    "tilemap",
    "solved",
    params,
    products,
    compute,
    starts_level=lambda _config: False,
)
