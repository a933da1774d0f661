"""Tile positions of the template slice, and the template that all slices use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.plan import image_list, template_params
from opticstream_smk.stages.positions_by_method import method_params, positions_by_method
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tile_positions import (
    edge_numbers,
    images_where,
    mosaic_files,
    stranger_warning,
    write_edges,
)
from opticstream_smk.stages.tilemap import Tilemap, tile_count, write_tilemap
from opticstream_smk.state.flags import file_input


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    return {
        **template_params(config, acquisition),
        **method_params(config),
        "mask_threshold": config.mosaic.mask_threshold(acquisition),
        "template_slice": config.mosaic.template_slice,
    }


def products(context: StageContext) -> list[Path]:
    """The template, and the table of the overlaps."""
    layout, acquisition = context.layout, context.acquisition
    return [layout.template(acquisition), layout.template_edges(acquisition)]


def compute(context: StageContext) -> Outcome:
    """Write ``tilemap-normal.j2``: the nominal grid, refined by correlating the overlaps.

    A missing tile has its place all the same: other slices have that tile.
    """
    config, layout, acquisition = context.config, context.layout, context.acquisition
    mosaic = context.plan.template_mosaic(acquisition)
    if mosaic is None:
        raise IncompleteInputError(
            f"no {acquisition} mosaic is there to take coordinates from; run `optic-trigger scan`"
        )
    missing = context.plan.accept_missing(mosaic)
    files = mosaic_files(config, layout, mosaic, acquisition, missing)
    tiles = np.stack([files[index] for index in range(len(files))])
    signal = tiles.mean(axis=(1, 2), dtype=np.float64)
    signal[[image - 1 for image in missing]] = 0
    found = positions_by_method(context, mosaic, tiles)
    solved = found.solved
    tilemap = Tilemap(solved.positions_px, solved.is_anchored, files.tile_shape, signal)
    write_tilemap(config, layout.template(acquisition), tilemap)
    write_edges(layout.template_edges(acquisition), solved)
    unanchored = images_where(~solved.is_anchored)
    blank = [image for image in unanchored if image not in missing]
    warnings = list(found.warnings)
    if blank and len(files) > 1:
        warnings.append(
            f"{len(blank)} of {len(files)} tiles {found.why_loose} and lie where the stage should "
            f"have been: images {', '.join(map(str, blank))}"
        )
    again = f" and `optic-trigger redo --from solve_coordinates --acquisition {acquisition}`"
    warnings += stranger_warning(solved, mosaic, again)
    islands = [
        images_where(solved.island == label)
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
            f"the template mosaic {mosaic:03d} lacks {len(missing)} of {len(files)} tiles (images "
            f"{image_list(missing)}); in every slice these lie where the stage should have been. "
            "mosaic.template_slice takes the coordinates from another slice."
        )
    return Outcome(
        inputs=tuple(map(file_input, (*files.paths, *found.files))),
        outputs=tuple(products(context)),
        tiles=tile_count(context.plan.images(mosaic), missing),
        numbers={**edge_numbers(solved), "islands": len(islands)},
        extra={
            "template_slice": context.plan.slice(mosaic),
            "unanchored_images": unanchored,
            "stranger_images": images_where(solved.is_stranger),
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
