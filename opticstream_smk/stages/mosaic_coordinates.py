"""Where the tiles of one mosaic lie: as the template of its acquisition says, or not."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.config import Config
from opticstream_smk.io.atomic import write_bytes
from opticstream_smk.plan import template_params
from opticstream_smk.stages.edge_table import write_edges
from opticstream_smk.stages.positions_by_method import (
    FoundPositions,
    method_params,
    positions_by_method,
)
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
    rounded,
    solve_tiles,
    stranger_warning,
    tile_signal,
)
from opticstream_smk.stages.tilemap import (
    TileFiles,
    Tilemap,
    read_tilemap,
    tile_count,
    write_tilemap,
)
from opticstream_smk.state.flags import Flag, file_input, read_flag

if TYPE_CHECKING:
    from opticstream_smk.mosaic import Drift, TilePositions, Verdict

# A single tile may be off by so many times the limit: some of those of a large mosaic are, by the
# noise of a weak overlap alone.
_WORST_OVER_RMS = 3.0


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    return {
        **template_params(config, acquisition),
        **(method_params(config) if config.mosaic.coordinates == "every_slice" else {}),
        "coordinates": config.mosaic.coordinates,
        "drift_limit_px": config.mosaic.drift_limit_px,
        **quality_params(config),
    }


def products(context: StageContext) -> list[Path]:
    """The table of the overlaps; a template of its own only where the mosaic needs one."""
    return [context.layout.mosaic_edges(context.mosaic)]


def compute(context: StageContext) -> Outcome:
    """Compare the mosaic with the template, and say by which positions it is stitched."""
    layout, acquisition = context.layout, context.acquisition
    solved = read_flag(layout.tilemap_flag(acquisition))
    # A template of an earlier version has no table; its mosaic is then measured like any other.
    is_source = context.plan.template_mosaics(acquisition) == (context.mosaic,)
    if is_source and solved is not None and layout.template_edges(acquisition).exists():
        return _of_template(context, solved)
    return _compare(context)


def _of_template(context: StageContext, solved: Flag) -> Outcome:
    """The mosaic that the template was solved from: what was found then."""
    layout, acquisition, mosaic = context.layout, context.acquisition, context.mosaic
    missing = context.plan.accept_missing(mosaic)
    template, edges = layout.template(acquisition), layout.template_edges(acquisition)
    tilemap = read_tilemap(context.config, layout, acquisition, missing)
    write_bytes(layout.mosaic_edges(mosaic), edges.read_bytes())
    layout.mosaic_template(mosaic).unlink(missing_ok=True)
    told = f"as in {layout.relative(template)}, which was solved from this mosaic"
    return Outcome(
        inputs=(file_input(template), file_input(edges)),
        outputs=tuple(products(context)),
        tiles=tile_count(context.plan.images(mosaic), missing),
        numbers=dict(solved.numbers),
        extra=_extra(context, tilemap, told, str(solved.extra.get("verdict", "ok"))),
    )


def _compare(context: StageContext) -> Outcome:
    from opticstream_smk.mosaic import measure_drift

    config, layout, acquisition = context.config, context.layout, context.acquisition
    mosaic, plan, mode = context.mosaic, context.plan, context.config.mosaic.coordinates
    missing = plan.accept_missing(mosaic)
    template = read_tilemap(config, layout, acquisition, missing)
    assert template.path is not None
    # Neither what is missing nor what was taken out of the template.
    files = mosaic_files(config, layout, mosaic, template.missing, acquisition)
    source = _positions(context, files, template)
    found = source.solved
    write_edges(layout.mosaic_edges(mosaic), found)
    drift = measure_drift(found, template.listed_px)
    is_known = drift.worst_tile is not None
    has_drifted = is_known and _exceeds(drift, config.mosaic.drift_limit_px)
    is_own = is_known and (has_drifted or mode != "reuse")
    verdict = _judge(context, found, is_own=is_own)
    name, own = layout.relative(template.path), layout.mosaic_template(mosaic)
    warnings = [*source.warnings, *stranger_warning(found, [mosaic])]
    outputs = products(context)
    if is_own:
        used = _write_own(context, found, drift, files, template)
        outputs.append(own)
        told = f"its own, {layout.relative(own)}; {_told(drift)} from {name}"
    else:
        own.unlink(missing_ok=True)
        used = template
        nothing = "no overlap has content to compare with it"
        told = f"as in {name}; {f'{_told(drift)} from it' if is_known else nothing}"
    if has_drifted and mode == "reuse":
        warnings.append(_drift_warning(context, drift, name))
    warnings += [f"mosaic {mosaic:03d}: {reason}" for reason in verdict.reasons]
    return Outcome(
        inputs=tuple(map(file_input, (template.path, *files.paths, *source.files))),
        outputs=tuple(outputs),
        tiles=tile_count(plan.images(mosaic), missing),
        numbers={**edge_numbers(found), **_drift_numbers(drift)},
        extra={
            **_extra(context, used, told, "warn" if warnings else "ok"),
            "unanchored_images": images_where(~found.is_anchored),
            "stranger_images": images_where(found.is_stranger),
            "exchanged_images": exchanged_images(found),
        },
        warnings=tuple(warnings),
    )


def _positions(context: StageContext, files: TileFiles, template: Tilemap) -> FoundPositions:
    """What the mosaic itself says: its overlaps; where each has its own, the configured method."""
    if context.config.mosaic.coordinates == "every_slice":
        return positions_by_method(context, [context.mosaic], [files])
    solved = solve_tiles(context.config, context.acquisition, [files], template.listed_px)
    return FoundPositions(solved)


def _judge(context: StageContext, found: "TilePositions", *, is_own: bool) -> "Verdict":
    """What is doubtful about the overlaps beside strangers, which have a warning of their own.

    Positions of the template do not depend on what links the tiles of this mosaic.

    Raises
    ------
    QualityError
        The mosaic would be stitched by positions that cannot be trusted.
    """
    from opticstream_smk.mosaic import Verdict, judge_positions

    config, mosaic = context.config, context.mosaic
    if not found.edges["used"].any():
        return Verdict("ok", (), {})
    limits = configured_limits(config)
    if not is_own:
        unlinked = replace(remaining_limits(limits), min_anchored_share=(None, None))
        return judge_positions(found, unlinked)
    refuse_failed(
        config,
        judge_positions(found, limits),
        f"mosaic {mosaic:03d}",
        context.layout.mosaic_edges(mosaic),
        f"Then `optic-trigger retry --mosaic {mosaic}`.",
    )
    return judge_positions(found, replace(limits, max_strangers=(None, None)))


def _extra(context: StageContext, used: Tilemap, told: str, verdict: str) -> dict[str, Any]:
    assert used.path is not None
    closed = context.plan.closed_without(context.mosaic) & used.missing
    return {
        "template": context.layout.relative(used.path),
        "template_sha256": used.sha256,
        "positions": told,
        "verdict": verdict,
        **({"dropped_images": sorted(used.dropped)} if used.dropped else {}),
        # What `.closed` accepted is true only as long as it is closed.
        **({"closed": True} if closed else {}),
    }


def _write_own(
    context: StageContext,
    found: "TilePositions",
    drift: "Drift",
    files: TileFiles,
    template: Tilemap,
) -> Tilemap:
    """Write the template of this mosaic: in the frame of the other, so that slices stay aligned."""
    config, layout, mosaic = context.config, context.layout, context.mosaic
    positions = found.positions_px - drift.shift_px
    tilemap = Tilemap(
        positions,
        found.is_anchored,
        files.tile_shape,
        tile_signal(files),
        dropped=template.dropped,
    )
    write_tilemap(config, layout.mosaic_template(mosaic), tilemap)
    missing = context.plan.accept_missing(mosaic)
    return read_tilemap(config, layout, context.acquisition, missing, own_of=mosaic)


# -------------------------------------------------------------------------------------- drift
def _exceeds(drift: "Drift", limit_px: float) -> bool:
    return drift.rms_px > limit_px or drift.worst_px > _WORST_OVER_RMS * limit_px


def _told(drift: "Drift") -> str:
    assert drift.worst_tile is not None
    image = drift.worst_tile + 1
    return f"{drift.rms_px:.2f} px rms, {drift.worst_px:.2f} px at most (image {image})"


def _drift_numbers(drift: "Drift") -> dict[str, Any]:
    is_known = drift.worst_tile is not None
    return {
        "compared_tiles": int(np.isfinite(drift.residual_px).sum()),
        "drift_px_rms": rounded(drift.rms_px) if is_known else None,
        "drift_px_worst": rounded(drift.worst_px) if is_known else None,
        "drift_image_worst": drift.worst_tile + 1 if drift.worst_tile is not None else None,
    }


def _drift_warning(context: StageContext, drift: "Drift", name: str) -> str:
    limit_px, acquisition = context.config.mosaic.drift_limit_px, context.acquisition
    own = context.layout.relative(context.layout.mosaic_template(context.mosaic))
    return (
        f"mosaic {context.mosaic:03d}: its tiles lie {_told(drift)} from {name}, expected "
        f"{limit_px:g} px rms and {_WORST_OVER_RMS * limit_px:g} px at most "
        f"(mosaic.drift_limit_px). It is stitched with positions of its own, {own}. If all later "
        "mosaics say so, the stage has changed: set mosaic.template_slice to a slice after that "
        f"and `optic-trigger redo --from solve_coordinates --acquisition {acquisition}`"
    )


STAGE = Stage("solve_coordinates", "mosaic", "coordinates", params, products, compute)
