"""The focus plane of an acquisition, fitted on its template slice."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from opticstream_smk.config import Config
from opticstream_smk.config.mosaic import usual_mask_threshold
from opticstream_smk.errors import (
    CorruptInputError,
    IncompleteInputError,
    OpticStreamError,
    QualityError,
)
from opticstream_smk.io import nifti
from opticstream_smk.plan import template_params
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tile_depth import is_surface_last
from opticstream_smk.stages.tilemap import TileFiles, Tilemap, read_tilemap, tile_count
from opticstream_smk.state.flags import file_input

# A plane is rounded to whole samples: what is known less well than that shifts tiles at random.
_NOTABLE_PX = 0.5


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    return {
        **template_params(config, acquisition),
        "signal_db": signal_threshold(config, acquisition),
        "crop_x_px": config.volume.focus_crop_x_px,
        "template_slice": config.mosaic.template_slice,
    }


def signal_threshold(config: Config, acquisition: str) -> float:
    """Least mean AIP of a tile that is fitted, dB."""
    own = config.volume.focus_signal_db
    if own is not None:
        return own
    threshold = config.mosaic.mask_threshold(acquisition)
    # Means of tiles are too few to find one by.
    return usual_mask_threshold(acquisition) if threshold == "auto" else threshold


def products(context: StageContext) -> list[Path]:
    """The plane."""
    return [context.layout.focus_plane(context.acquisition)]


def compute(context: StageContext) -> Outcome:
    """Write ``focus-normal.nii``: what the surfaces of all tiles have in common."""
    from opticstream_smk.mosaic import solve_focus_plane

    config, layout, acquisition = context.config, context.layout, context.acquisition
    plan = context.plan
    mosaic = plan.template_mosaic(acquisition)
    if mosaic is None:
        raise IncompleteInputError(
            f"no {acquisition} mosaic is there to take the focus plane from; run "
            "`optic-trigger scan`"
        )
    tilemap = read_tilemap(config, layout, acquisition, plan.accept_missing(mosaic))
    missing = tilemap.missing
    threshold = signal_threshold(config, acquisition)
    usable = tilemap.avg_signal >= threshold
    usable[[image - 1 for image in missing]] = False
    files = TileFiles(
        layout, mosaic, "surf", tilemap.tile_shape, len(tilemap.positions_px), missing
    )
    surfaces = np.stack([files[index] for index in range(len(files))])
    if is_surface_last(plan, mosaic):
        surfaces = config.acquisition.depth_samples + 1 - surfaces
    try:
        found = solve_focus_plane(
            surfaces,
            tilemap.positions_px,
            usable=usable,
            crop_x_px=config.volume.focus_crop_x_px,
        )
    except (IncompleteInputError, CorruptInputError, QualityError) as error:
        raise _explained(error, config, mosaic, tilemap, threshold) from error
    x_mm, y_mm, _ = config.acquisition.scan_resolution_3d_mm
    geometry = nifti.Geometry((x_mm, y_mm, config.acquisition.slice_thickness_um / 1000))
    path = layout.focus_plane(acquisition)
    nifti.write_image(
        path, found.plane_px, geometry, description="focus plane, depth samples, minimum 0"
    )
    return Outcome(
        inputs=tuple(map(file_input, files.paths)),
        outputs=(path,),
        tiles=tile_count(plan.images(mosaic), missing),
        numbers={
            "usable_tiles": int(usable.sum()),
            "pairs": len(found.pairs),
            "samples": found.samples,
            "agreeing_share": round(found.agreeing_share, 4),
            "before_px_rms": round(found.before_px, 4),
            "residual_px_rms": round(found.residual_px, 4),
            "span_px": round(float(found.plane_px.max()), 3),
            "uncertainty_px_rms": round(found.uncertainty_px, 4),
        },
        warnings=tuple(_warnings(found.uncertainty_px, int(usable.sum()))),
        extra={
            "template_slice": plan.slice(mosaic),
            "template_sha256": tilemap.sha256,
            "coefficients": [round(float(value), 6) for value in found.coefficients],
            "signal_db": threshold,
        },
    )


def _warnings(uncertainty_px: float, n_usable: int) -> Iterator[str]:
    if uncertainty_px > _NOTABLE_PX:
        yield (
            f"the focus plane is known to {uncertainty_px:.1f} px only; expected "
            f"{_NOTABLE_PX:g} or better. Overlaps of {n_usable} tiles with tissue are narrow or "
            "few: lower volume.focus_crop_x_px, take another slice (mosaic.template_slice), or "
            "set volume.focus: false; then `optic-trigger redo --from fit_focus`."
        )


def _explained(
    error: OpticStreamError, config: Config, mosaic: int, tilemap: Tilemap, threshold: float
) -> OpticStreamError:
    """What the fit says, with the values of this project and the ways out."""
    columns = config.acquisition.tile_overlap_percent / 100 * tilemap.tile_shape[1]
    crop = config.volume.focus_crop_x_px
    hint = ""
    if crop >= columns:
        hint = (
            f" volume.focus_crop_x_px {crop} leaves nothing of the {columns:.0f} px that "
            "neighbours overlap along x: set less."
        )
    return type(error)(
        f"mosaic {mosaic:03d}, of whose {len(tilemap.avg_signal)} tiles "
        f"{int((tilemap.avg_signal >= threshold).sum())} have {threshold:g} dB and more: {error}"
        f"{hint} Or set volume.focus: false, and volumes are stitched without a focus plane."
    )


STAGE = Stage(
    "fit_focus",
    "focus",
    "fitted",
    params,
    products,
    compute,
    starts_level=lambda _config: False,
)
