"""Where the tiles of one mosaic lie: as the template of its acquisition says, or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.io.atomic import write_bytes
from opticstream_smk.plan import template_params
from opticstream_smk.stages.positions_by_method import (
    FoundPositions,
    method_params,
    positions_by_method,
)
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tile_positions import (
    edge_numbers,
    images_where,
    mosaic_files,
    rounded,
    solve_tiles,
    stranger_warning,
    write_edges,
)
from opticstream_smk.stages.tilemap import Tilemap, read_tilemap, tile_count, write_tilemap
from opticstream_smk.state.flags import Flag, file_input, read_flag

if TYPE_CHECKING:
    from opticstream_smk.mosaic import TilePositions

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
    }


def products(context: StageContext) -> list[Path]:
    """The table of the overlaps; a template of its own only where the mosaic needs one."""
    return [context.layout.mosaic_edges(context.mosaic)]


@dataclass(frozen=True)
class _Drift:
    """How far the tiles of a mosaic lie from the template, their common shift taken off.

    Attributes
    ----------
    shift_px
        (2,) y, x of the mosaic as a whole: its frame, which means nothing.
    residual_px
        (N,) distance of each tile; NaN for tiles without content to tell.
    """

    shift_px: NDArray[np.float64]
    residual_px: NDArray[np.float64]

    @property
    def is_known(self) -> bool:
        return bool(np.isfinite(self.residual_px).any())

    @property
    def rms_px(self) -> float:
        return float(np.sqrt(np.nanmean(self.residual_px**2)))

    @property
    def worst_px(self) -> float:
        return float(np.nanmax(self.residual_px))

    @property
    def worst_image(self) -> int:
        return int(np.nanargmax(self.residual_px)) + 1

    def exceeds(self, limit_px: float) -> bool:
        return self.is_known and (
            self.rms_px > limit_px or self.worst_px > _WORST_OVER_RMS * limit_px
        )

    def __str__(self) -> str:
        return (
            f"{self.rms_px:.2f} px rms, {self.worst_px:.2f} px at most (image {self.worst_image})"
        )


def compute(context: StageContext) -> Outcome:
    """Compare the mosaic with the template, and say by which positions it is stitched."""
    solved = read_flag(context.layout.tilemap_flag(context.acquisition))
    edges = context.layout.template_edges(context.acquisition)
    # A template of an earlier version has no table; its mosaic is then measured like any other.
    is_source = context.mosaic == context.plan.template_mosaic(context.acquisition)
    if is_source and solved is not None and edges.exists():
        return _of_template(context, solved, edges)
    return _compare(context)


def _of_template(context: StageContext, solved: Flag, edges: Path) -> Outcome:
    """The mosaic that the template was solved from: what was found then."""
    layout, acquisition, mosaic = context.layout, context.acquisition, context.mosaic
    missing = context.plan.accept_missing(mosaic)
    template = layout.template(acquisition)
    tilemap = read_tilemap(context.config, layout, acquisition, missing)
    write_bytes(layout.mosaic_edges(mosaic), edges.read_bytes())
    layout.mosaic_template(mosaic).unlink(missing_ok=True)
    told = f"as in {layout.relative(template)}, which was solved from this mosaic"
    return Outcome(
        inputs=(file_input(template), file_input(edges)),
        outputs=tuple(products(context)),
        tiles=tile_count(context.plan.images(mosaic), missing),
        numbers=dict(solved.numbers),
        extra=_extra(context, tilemap, told, missing),
    )


def _compare(context: StageContext) -> Outcome:
    config, layout, acquisition = context.config, context.layout, context.acquisition
    mosaic, plan = context.mosaic, context.plan
    missing = plan.accept_missing(mosaic)
    template = read_tilemap(config, layout, acquisition, missing)
    assert template.path is not None
    files = mosaic_files(config, layout, mosaic, acquisition, missing)
    tiles = np.stack([files[index] for index in range(len(files))])
    source = _positions(context, tiles)
    found = source.solved
    drift = _measure_drift(found, template.listed_px)
    write_edges(layout.mosaic_edges(mosaic), found)
    outputs = products(context)
    warnings = [*source.warnings, *stranger_warning(found, mosaic, "")]
    name = layout.relative(template.path)
    own = layout.mosaic_template(mosaic)
    drifts = drift.exceeds(config.mosaic.drift_limit_px)
    if drift.is_known and (drifts or config.mosaic.coordinates != "reuse"):
        used = _own_tilemap(context, found, drift, template, tiles, missing)
        outputs.append(own)
        told = f"its own, {layout.relative(own)}; {drift} from {name}"
        if config.mosaic.coordinates == "reuse":
            warnings.append(_drift_warning(context, drift, name))
    else:
        own.unlink(missing_ok=True)
        used = template
        told = f"as in {name}; " + (
            f"{drift} from it" if drift.is_known else "no overlap has content to compare with it"
        )
    return Outcome(
        inputs=(
            file_input(template.path),
            *map(file_input, files.paths),
            *map(file_input, source.files),
        ),
        outputs=tuple(outputs),
        tiles=tile_count(plan.images(mosaic), missing),
        numbers={**edge_numbers(found), **_drift_numbers(drift)},
        extra={
            **_extra(context, used, told, missing),
            "unanchored_images": images_where(~found.is_anchored),
            "stranger_images": images_where(found.is_stranger),
        },
        warnings=tuple(warnings),
    )


def _positions(context: StageContext, tiles: NDArray[np.float32]) -> FoundPositions:
    """What the mosaic itself says: its overlaps; where each has its own, the configured method."""
    if context.config.mosaic.coordinates == "every_slice":
        return positions_by_method(context, context.mosaic, tiles)
    return FoundPositions(solve_tiles(context.config, context.acquisition, tiles))


def _extra(
    context: StageContext, used: Tilemap, told: str, missing: frozenset[int]
) -> dict[str, Any]:
    assert used.path is not None
    return {
        "template": context.layout.relative(used.path),
        "template_sha256": used.sha256,
        "positions": told,
        **({"dropped_images": sorted(used.dropped)} if used.dropped else {}),
        # What `.closed` accepted is true only as long as it is closed.
        **({"closed": True} if context.plan.closed_without(context.mosaic) & missing else {}),
    }


def _measure_drift(found: "TilePositions", template_px: NDArray[np.float64]) -> _Drift:
    apart = found.positions_px - template_px
    # The template may lack tiles that were dropped.
    told = found.is_anchored & np.isfinite(apart).all(axis=1)
    shift = np.median(apart[told], axis=0) if told.any() else np.zeros(2)
    residual = np.hypot(*(apart - shift).T)
    return _Drift(shift, np.where(told, residual, np.nan))


def _drift_numbers(drift: _Drift) -> dict[str, Any]:
    if not drift.is_known:
        return {"drift_px_rms": None, "drift_px_worst": None, "drift_image_worst": None}
    return {
        "drift_px_rms": rounded(drift.rms_px),
        "drift_px_worst": rounded(drift.worst_px),
        "drift_image_worst": drift.worst_image,
    }


def _own_tilemap(
    context: StageContext,
    found: "TilePositions",
    drift: _Drift,
    template: Tilemap,
    tiles: NDArray[np.float32],
    missing: frozenset[int],
) -> Tilemap:
    """Write the template of this mosaic: in the frame of the other, so that slices stay aligned."""
    config, layout, mosaic = context.config, context.layout, context.mosaic
    positions = found.positions_px - drift.shift_px
    if config.mosaic.coordinates != "every_slice":
        positions = np.where(found.is_anchored[:, None], positions, template.positions_px)
    signal = tiles.mean(axis=(1, 2), dtype=np.float64)
    signal[[image - 1 for image in missing]] = 0
    tilemap = Tilemap(
        positions, found.is_anchored, template.tile_shape, signal, dropped=template.dropped
    )
    write_tilemap(config, layout.mosaic_template(mosaic), tilemap)
    return read_tilemap(config, layout, context.acquisition, missing, own_of=mosaic)


def _drift_warning(context: StageContext, drift: _Drift, name: str) -> str:
    limit_px, acquisition = context.config.mosaic.drift_limit_px, context.acquisition
    own = context.layout.relative(context.layout.mosaic_template(context.mosaic))
    return (
        f"mosaic {context.mosaic:03d}: its tiles lie {drift} from {name}, expected {limit_px:g} px "
        f"rms and {_WORST_OVER_RMS * limit_px:g} px at most (mosaic.drift_limit_px). It is "
        f"stitched with positions of its own, {own}. If all later mosaics say so, the stage has "
        "changed: set mosaic.template_slice to a slice after that and `optic-trigger redo --from "
        f"solve_coordinates --acquisition {acquisition}`"
    )


STAGE = Stage("solve_coordinates", "mosaic", "coordinates", params, products, compute)
