"""Tile positions of the template slice, and the template that all slices use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.plan import image_list, template_params
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tilemap import (
    TileFiles,
    Tilemap,
    cells,
    tile_count,
    write_tilemap,
)
from opticstream_smk.state.flags import file_input


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
    """Write ``tilemap-normal.j2``: the nominal grid, refined by correlating the overlaps.

    A missing tile has its place all the same: other slices have that tile.
    """
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
    missing = context.plan.accept_missing(mosaic)
    files = TileFiles(layout, mosaic, "aip", shape, len(grid), missing)
    tiles = np.stack([files[index] for index in range(len(files))])
    signal = tiles.mean(axis=(1, 2), dtype=np.float64)
    signal[[image - 1 for image in missing]] = 0
    solved = solve_positions(tiles, grid, overlap_percent=scan.tile_overlap_percent)
    tilemap = Tilemap(solved.positions_px, solved.is_anchored, shape, signal)
    write_tilemap(config, layout, acquisition, tilemap)
    measured = solved.edges[solved.edges["used"]]
    unanchored = (np.flatnonzero(~solved.is_anchored) + 1).tolist()
    blank = [image for image in unanchored if image not in missing]
    warnings = []
    if blank and len(grid) > 1:
        warnings.append(
            f"{len(blank)} of {len(grid)} tiles have too little content in their overlaps and lie "
            f"where the stage should have been: images {', '.join(map(str, blank))}"
        )
    strangers = (np.flatnonzero(solved.is_stranger) + 1).tolist()
    if strangers:
        warnings.append(
            f"mosaic {mosaic:03d}: images {image_list(strangers)} show tissue that matches none of "
            "their neighbours; expected overlaps that agree. Most likely files are swapped or from "
            "another place: compare them with the acquisition's log, put right what is wrong, then "
            f"`optic-trigger redo --from scan --mosaic {mosaic}` and "
            f"`optic-trigger redo --from solve_coordinates --acquisition {acquisition}`"
        )
    islands = [
        (np.flatnonzero(solved.island == label) + 1).tolist()
        for label in range(int(solved.island.max(initial=-1)) + 1)
    ]
    if len(islands) > 1:
        apart = "; ".join(image_list(island) for island in islands[1:])
        warnings.append(
            f"mosaic {mosaic:03d}: no content links images {apart} to the rest; as groups they lie "
            "where the stage should have been"
        )
    if missing:
        warnings.append(
            f"the template mosaic {mosaic:03d} lacks {len(missing)} of {len(grid)} tiles (images "
            f"{image_list(missing)}); in every slice these lie where the stage should have been. "
            "mosaic.template_slice takes the coordinates from another slice."
        )
    return Outcome(
        inputs=tuple(map(file_input, files.paths)),
        outputs=tuple(products(context)),
        tiles=tile_count(context.plan.images(mosaic), missing),
        numbers={
            "tiles": len(grid),
            "anchored_tiles": int(solved.is_anchored.sum()),
            "pairs": len(solved.edges),
            "pairs_used": len(measured),
            "pairs_rejected": int((np.isfinite(solved.edges["dy"]) & ~solved.edges["used"]).sum()),
            "ncc_median": round(float(np.median(measured["ncc"])), 4) if len(measured) else None,
            "islands": len(islands),
            "residual_px_rms": (
                round(float(np.sqrt(np.mean(measured["residual"] ** 2))), 4)
                if len(measured)
                else None
            ),
        },
        extra={
            "template_slice": context.plan.slice(mosaic),
            "unanchored_images": unanchored,
            "stranger_images": strangers,
            "islands": islands,
            "verdict": "warn" if warnings else "ok",
        },
        warnings=tuple(warnings),
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
