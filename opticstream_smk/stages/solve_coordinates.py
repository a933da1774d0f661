"""Tile positions of the template slice, and the template that all slices use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.plan import image_list, template_params
from opticstream_smk.stages.edge_table import write_edges
from opticstream_smk.stages.positions_by_method import method_params, positions_by_method
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tile_positions import (
    configured_limits,
    edge_numbers,
    exchanged_images,
    images_where,
    mosaic_files,
    quality_params,
    refuse_failed,
    remaining_limits,
    stranger_warning,
    tile_signal,
)
from opticstream_smk.stages.tilemap import Tilemap, tile_count, write_tilemap
from opticstream_smk.state.flags import file_input


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    slices = config.mosaic.template_slices
    return {
        **template_params(config, acquisition),
        **method_params(config),
        "mask_threshold": config.mosaic.mask_threshold(acquisition),
        "template_slice": config.mosaic.template_slice,
        **({"template_slices": slices} if slices else {}),
        **quality_params(config),
    }


def products(context: StageContext) -> list[Path]:
    """The template, and the table of the overlaps."""
    layout, acquisition = context.layout, context.acquisition
    return [layout.template(acquisition), layout.template_edges(acquisition)]


def compute(context: StageContext) -> Outcome:
    """Write ``tilemap-normal.j2``: the nominal grid, refined by correlating the overlaps.

    A missing tile has its place all the same: other slices have that tile.
    """
    from opticstream_smk.mosaic import judge_positions

    config, layout, acquisition = context.config, context.layout, context.acquisition
    mosaics = context.plan.template_mosaics(acquisition)
    if not mosaics:
        raise IncompleteInputError(
            f"no {acquisition} mosaic is there to take coordinates from; run `optic-trigger scan`"
        )
    lacking = [context.plan.accept_missing(mosaic) for mosaic in mosaics]
    files = [
        mosaic_files(config, layout, mosaic, missing, acquisition)
        for mosaic, missing in zip(mosaics, lacking, strict=True)
    ]
    # What no mosaic has.
    missing = frozenset.intersection(*map(frozenset, lacking))
    found = positions_by_method(context, mosaics, files)
    solved = found.solved
    edges = layout.template_edges(acquisition)
    write_edges(edges, solved)
    limits = configured_limits(config)
    verdict = judge_positions(solved, limits)
    named = ", ".join(f"{mosaic:03d}" for mosaic in mosaics)
    last = max(mosaics)
    refuse_failed(
        config, verdict, f"mosaic {named}", edges, f"Then `optic-trigger retry --mosaic {last}`."
    )
    signal = tile_signal(files[mosaics.index(last)])
    tilemap = Tilemap(solved.positions_px, solved.is_anchored, files[0].tile_shape, signal)
    write_tilemap(config, layout.template(acquisition), tilemap)
    unanchored = images_where(~solved.is_anchored)
    blank = [image for image in unanchored if image not in missing]
    n_tiles = len(solved.positions_px)
    warnings = list(found.warnings)
    if blank and n_tiles > 1:
        warnings.append(
            f"{len(blank)} of {n_tiles} tiles {found.why_loose} and lie where the stage should "
            f"have been: images {', '.join(map(str, blank))}"
        )
    again = f" and `optic-trigger redo --from solve_coordinates --acquisition {acquisition}`"
    warnings += stranger_warning(solved, mosaics, again)
    islands = [
        images_where(solved.island == label)
        for label in range(int(solved.island.max(initial=-1)) + 1)
    ]
    if len(islands) > 1:
        apart = "; ".join(image_list(island) for island in islands[1:])
        warnings.append(
            f"mosaic {named}: no content links images {apart} to the rest; as groups they lie "
            "where the stage should have been"
        )
    if missing:
        warnings.append(
            f"the template mosaic {named} lacks {len(missing)} of {n_tiles} tiles (images "
            f"{image_list(missing)}); in every slice these lie where the stage should have been. "
            "mosaic.template_slice takes the coordinates from another slice."
        )
    if solved.edges["used"].any():
        doubts = judge_positions(solved, remaining_limits(limits)).reasons
        warnings += [f"mosaic {named}: {reason}" for reason in doubts]
    return Outcome(
        inputs=tuple(
            file_input(path) for path in (*(p for one in files for p in one.paths), *found.files)
        ),
        outputs=tuple(products(context)),
        tiles=tile_count(context.plan.images(last), missing),
        numbers={**edge_numbers(solved), "islands": len(islands)},
        extra={
            "template_slice": context.plan.slice(last),
            "template_slices": [context.plan.slice(mosaic) for mosaic in mosaics],
            "unanchored_images": unanchored,
            "stranger_images": images_where(solved.is_stranger),
            "exchanged_images": exchanged_images(solved),
            "islands": islands,
            "verdict": verdict.level if verdict.level != "ok" or not warnings else "warn",
            "reasons": verdict.reasons,
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
