"""En-face maps of the tiles to mosaics: every modality, the mask, masked and unmasked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import QualityError
from opticstream_smk.io import nifti
from opticstream_smk.io.pictures import (
    orientation_to_rgb,
    window_to_uint8,
    write_jpeg,
    write_tiff,
)
from opticstream_smk.plan import image_list, template_params
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tilemap import TileFiles, Tilemap, solved_tilemap, tile_count
from opticstream_smk.state.flags import file_input

_SUFFIXES = (".nii", ".jpg", ".tiff")


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    mosaic = config.mosaic
    return {
        **template_params(config, acquisition),
        "modalities": mosaic.modalities,
        "mask_threshold": mosaic.mask_threshold(acquisition),
        "mask_sigma_px": mosaic.mask_sigma_px,
        "fill_value": mosaic.fill_value,
        "jpeg_window_percentiles": mosaic.jpeg_window_percentiles,
        "scan_resolution_3d_mm": config.acquisition.scan_resolution_3d_mm,
        "slice_thickness_um": config.acquisition.slice_thickness_um,
    }


def products(context: StageContext) -> list[Path]:
    """Every modality, masked and not, and the mask, in three formats."""
    modalities = context.config.mosaic.modalities
    names = ["mask", *(f"{m}{kind}" for m in modalities for kind in ("_nomask", ""))]
    return [path for name in names for path in _paths(context, name)]


def compute(context: StageContext) -> Outcome:
    """Write ``stitched/mosaic_001_*``."""
    from opticstream_smk.mosaic import make_mask

    config, layout, mosaic = context.config, context.layout, context.mosaic
    plan = context.plan
    missing = plan.accept_missing(mosaic)
    tilemap = solved_tilemap(plan, mosaic, missing)
    assert tilemap.path is not None
    covered, gaps = tilemap.coverage(), tilemap.gaps()
    aip = _blend(context, tilemap, "aip")
    threshold = config.mosaic.mask_threshold(context.acquisition)
    mask = make_mask(
        np.where(covered, aip, np.nan),
        threshold,
        sigma_px=config.mosaic.mask_sigma_px,
        unseen=gaps if missing else None,
    )
    _write_mask(context, tilemap, mask)
    for modality in config.mosaic.modalities:
        image = aip if modality == "aip" else _blend(context, tilemap, modality)
        for name, region in ((f"{modality}_nomask", covered), (modality, covered & mask)):
            _write_image(context, tilemap, name, modality, image, region)
    warnings = [] if mask.any() else [_empty_mask(context, aip, threshold)]
    if missing:
        warnings.append(_missing_tiles(tilemap, gaps))
    return Outcome(
        inputs=(file_input(tilemap.path),),
        outputs=tuple(products(context)),
        tiles=tile_count(plan.images(mosaic), missing),
        numbers={
            "tissue_share": round(float(mask.sum() / covered.sum()), 4),
            "unanchored_tiles": int((~tilemap.is_anchored).sum()),
        },
        extra={
            "template": layout.relative(tilemap.path),
            "template_sha256": tilemap.sha256,
            # What `.closed` accepted is true only as long as it is closed.
            **({"closed": True} if plan.closed_without(mosaic) & missing else {}),
        },
        warnings=tuple(warnings),
    )


def _missing_tiles(tilemap: Tilemap, gaps: NDArray[np.bool_]) -> str:
    return (
        f"{len(tilemap.missing)} of {len(tilemap.positions_px)} tiles are missing (images "
        f"{image_list(tilemap.missing)}); {100 * gaps.mean():.1f} % of the mosaic has no value for "
        "want of them"
    )


def _empty_mask(context: StageContext, aip: NDArray[np.float32], threshold: float) -> str:
    key = "normal" if context.acquisition == naming.NORMAL else "tilted"
    return (
        f"the mask is empty: no pixel of the AIP exceeds {threshold:g} dB (its highest value is "
        f"{np.nanmax(aip):.1f} dB). If there is tissue, set mosaic.mask_threshold_{key} between "
        f"background and tissue, then `optic-trigger redo --from stitch_enface --mosaic "
        f"{context.mosaic}`."
    )


def canvas_geometry(config: Config, tilemap: Tilemap, slice_: int) -> nifti.Geometry:
    """Where a stitched image lies: canvas pixel 0 in stage mm, slices stacked along z."""
    x_mm, y_mm, _ = config.acquisition.scan_resolution_3d_mm
    thickness_mm = config.acquisition.slice_thickness_um / 1000
    y_px, x_px = tilemap.origin_px
    return nifti.Geometry(
        voxel_mm=(x_mm, y_mm, thickness_mm),
        origin_mm=(x_px * x_mm, y_px * y_mm, (slice_ - 1) * thickness_mm),
    )


def _blend(context: StageContext, tilemap: Tilemap, modality: str) -> NDArray[np.float32]:
    from opticstream_smk.mosaic import blend

    image, _ = blend(
        TileFiles(
            context.layout,
            context.mosaic,
            modality,
            tilemap.tile_shape,
            len(tilemap.positions_px),
            tilemap.missing,
        ),
        tilemap.positions_px,
        overlap_percent=context.config.acquisition.tile_overlap_percent,
        circular=modality in naming.AXIAL_MODALITIES,
    )
    return image


def _write_mask(context: StageContext, tilemap: Tilemap, mask: NDArray[np.bool_]) -> None:
    pixels = np.where(mask, np.uint8(255), np.uint8(0))
    geometry = canvas_geometry(context.config, tilemap, context.place.slice or 1)
    nii, jpg, tiff = _paths(context, "mask")
    nifti.write_image(nii, pixels, geometry, description="tissue mask, 0 or 255")
    write_jpeg(jpg, pixels)
    write_tiff(tiff, pixels, pixel_mm=context.config.acquisition.scan_resolution_3d_mm[:2])


def _write_image(
    context: StageContext,
    tilemap: Tilemap,
    name: str,
    modality: str,
    image: NDArray[np.float32],
    region: NDArray[np.bool_],
) -> None:
    config = context.config
    # Where every tile that covers a pixel has NaN there, the pixel has no value either.
    known = region & np.isfinite(image)
    share = known.sum() / max(region.sum(), 1)
    # The attenuation has no value where there is no signal.
    if share < config.processing.validation.min_finite_share and modality != "mus":
        raise QualityError(
            f"mosaic {context.mosaic:03d}: only {100 * share:.1f} % of {name} is finite, expected "
            f"{100 * config.processing.validation.min_finite_share:g} %. Look at the tiles' "
            f"{modality} maps; processing.validation.min_finite_share is the limit."
        )
    filled = np.where(known, image, np.float32(config.mosaic.fill_value)).astype(np.float32)
    geometry = canvas_geometry(config, tilemap, context.place.slice or 1)
    nii, jpg, tiff = _paths(context, name)
    nifti.write_image(nii, filled, geometry)
    write_tiff(tiff, filled, pixel_mm=config.acquisition.scan_resolution_3d_mm[:2])
    if modality in naming.AXIAL_MODALITIES:
        write_jpeg(jpg, orientation_to_rgb(image, region))
    else:
        write_jpeg(jpg, window_to_uint8(image, region, config.mosaic.jpeg_window_percentiles))


def _paths(context: StageContext, name: str) -> list[Path]:
    return [context.layout.stitched(context.mosaic, name, suffix) for suffix in _SUFFIXES]


STAGE = Stage(
    "stitch_enface",
    "mosaic",
    "stitched",
    params,
    products,
    compute,
    starts_level=lambda _config: False,
)
