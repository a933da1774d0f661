"""En-face maps of the tiles to mosaics: every modality, the mask, masked and unmasked."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.config.mosaic import usual_mask_threshold
from opticstream_smk.errors import QualityError
from opticstream_smk.io import nifti
from opticstream_smk.io.image_rows import BAND_ROWS
from opticstream_smk.naming import TILTED
from opticstream_smk.plan import image_list, template_params
from opticstream_smk.stages.enface_images import (
    SUFFIXES,
    Frame,
    RowReader,
    write_mask,
    write_masked,
    write_whole,
)
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tilemap import TileFiles, Tilemap, solved_tilemap, tile_count
from opticstream_smk.state.flags import file_input

if TYPE_CHECKING:
    from opticstream_smk.mosaic.flat_field import FlatField

# Decibels: shading adds. Angles, ratios and depths are not dimmed.
_SHADED = ("aip", "mip")


def params(config: Config, acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    mosaic = config.mosaic
    return {
        **template_params(config, acquisition),
        "modalities": mosaic.modalities,
        "flat_field": mosaic.flat_field,
        "placement": mosaic.placement,
        "mask_threshold": mosaic.mask_threshold(acquisition),
        "mask_sigma_px": mosaic.mask_sigma_px,
        "mask_keep": mosaic.mask_keep,
        "mask_min_piece_mm2": mosaic.mask_min_piece_mm2,
        "mask_fill_holes": mosaic.mask_fill_holes,
        "mask_max_hole_mm2": mosaic.mask_max_hole_mm2,
        "fill_value": mosaic.fill_value,
        "jpeg_window_percentiles": mosaic.jpeg_window_percentiles,
        "scan_resolution_3d_mm": config.acquisition.scan_resolution_3d_mm,
        "slice_thickness_um": config.acquisition.slice_thickness_um,
    }


def products(context: StageContext) -> list[Path]:
    """Every modality, masked and not, and the mask, in three formats."""
    modalities = context.config.mosaic.modalities
    names = ["mask", *(f"{m}{kind}" for m in modalities for kind in ("_nomask", ""))]
    return [_path(context, name, suffix) for name in names for suffix in SUFFIXES]


def compute(context: StageContext) -> Outcome:
    """Write ``stitched/mosaic_001_*``."""
    from opticstream_smk.mosaic.blending import blend_rows

    config, layout, mosaic = context.config, context.layout, context.mosaic
    plan = context.plan
    missing = plan.accept_missing(mosaic)
    tilemap = solved_tilemap(plan, mosaic, missing)
    assert tilemap.path is not None
    frame = Frame(
        config,
        mosaic,
        tilemap.coverage(),
        canvas_geometry(config, tilemap, context.place.slice or 1),
        lambda name, suffix: _path(context, name, suffix),
    )
    gaps = tilemap.gaps() if missing else None
    warnings: list[str] = []
    flat_field = _flat_field(context, tilemap, warnings) if config.mosaic.flat_field else None
    mask, threshold = None, float("nan")
    # The mask is found from the AIP.
    for modality in sorted(config.mosaic.modalities, key=lambda name: name != "aip"):
        tiles = _tiles(context, tilemap, modality)
        parts = blend_rows(
            _Flattened(tiles, flat_field) if flat_field and modality in _SHADED else tiles,
            tilemap.positions_px,
            overlap_percent=config.acquisition.tile_overlap_percent,
            circular=modality in naming.AXIAL_MODALITIES,
            placement=config.mosaic.placement,
        )
        with write_whole(frame, modality, parts) as read:
            if mask is None:
                mask, threshold = _find_mask(context, frame.shape, read, gaps, warnings)
                write_mask(frame, mask)
            write_masked(frame, modality, read, mask)
    assert mask is not None  # the configuration has aip among the modalities
    if gaps is not None:
        warnings.append(_missing_tiles(tilemap, gaps))
    numbers = {
        "tissue_share": round(float(mask.sum() / frame.covered.sum()), 4),
        "mask_threshold_db": round(threshold, 3),
        "unanchored_tiles": int((~tilemap.is_anchored).sum()),
    }
    if flat_field is not None:
        numbers |= {
            "flat_field_db": round(float(-flat_field.shading.min()), 3),
            "flat_field_scatter_db": round(flat_field.scatter, 3),
            "flat_field_pairs": sum(flat_field.pairs),
        }
    return Outcome(
        inputs=(file_input(tilemap.path),),
        outputs=tuple(products(context)),
        tiles=tile_count(plan.images(mosaic), missing),
        numbers=numbers,
        extra={
            "template": layout.relative(tilemap.path),
            "template_sha256": tilemap.sha256,
            "flat_field": flat_field is not None,
            "placement": config.mosaic.placement,
            # What `.closed` accepted is true only as long as it is closed.
            **({"closed": True} if plan.closed_without(mosaic) & missing else {}),
        },
        warnings=tuple(warnings),
    )


def _find_mask(
    context: StageContext,
    shape: tuple[int, int],
    read_aip: RowReader,
    gaps: NDArray[np.bool_] | None,
    warnings: list[str],
) -> tuple[NDArray[np.bool_], float]:
    """Tissue, and the threshold that it was found with."""
    from opticstream_smk.mosaic.mask import find_foreground, tissue_regions

    mosaic = context.config.mosaic
    threshold = _threshold(context, shape, read_aip, warnings)
    foreground = find_foreground(read_aip, shape, threshold, mosaic.mask_sigma_px)
    x_mm, y_mm, _ = context.config.acquisition.scan_resolution_3d_mm
    pixel_mm2 = x_mm * y_mm
    largest_hole = mosaic.mask_max_hole_mm2
    mask = tissue_regions(
        foreground,
        keep=mosaic.mask_keep,
        min_piece_px=math.ceil(mosaic.mask_min_piece_mm2 / pixel_mm2),
        fill_holes=mosaic.mask_fill_holes,
        max_hole_px=None if largest_hole is None else int(largest_hole / pixel_mm2),
        unseen=gaps,
    )
    if not foreground.any():
        warnings.append(_empty_mask(context, shape, read_aip, threshold))
    elif not mask.any():
        warnings.append(
            "the mask is empty: no piece of tissue is as large as mosaic.mask_min_piece_mm2, "
            f"{mosaic.mask_min_piece_mm2:g} mm2. Lower it if there is tissue, then {_redo(context)}"
        )
    return mask, threshold


def _threshold(
    context: StageContext, shape: tuple[int, int], read_aip: RowReader, warnings: list[str]
) -> float:
    """The configured threshold, or what `auto` finds, dB."""
    from opticstream_smk.mosaic.mask import sample_smoothed
    from opticstream_smk.mosaic.threshold import find_threshold

    mosaic = context.config.mosaic
    configured = mosaic.mask_threshold(context.acquisition)
    if configured != "auto":
        return configured
    try:
        return find_threshold(sample_smoothed(read_aip, shape, mosaic.mask_sigma_px)).threshold
    except QualityError as error:
        usual = usual_mask_threshold(context.acquisition)
        warnings.append(
            f"{_threshold_key(context)}: auto found no threshold, {usual:g} dB is used: {error}"
        )
        return usual


def _flat_field(context: StageContext, tilemap: Tilemap, warnings: list[str]) -> "FlatField | None":
    """Shading of the AIP, which is that of the MIP too: both are of one beam."""
    from opticstream_smk.mosaic.flat_field import estimate_flat_field

    try:
        found = estimate_flat_field(
            _tiles(context, tilemap, "aip"),
            tilemap.positions_px,
            threshold=context.config.mosaic.mask_threshold(context.acquisition),
        )
        reason = "fewer than 4 overlaps along either axis show tissue"
    except QualityError as error:
        found, reason = None, str(error)
    if found is None:
        warnings.append(f"mosaic.flat_field: AIP and MIP are as they were recorded: {reason}")
    return found


class _Flattened(Sequence[NDArray[np.float32]]):
    """Tiles without their shading, each read when it is asked for."""

    def __init__(self, tiles: TileFiles, flat_field: "FlatField") -> None:
        self._tiles = tiles
        self._flat_field = flat_field

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: Any) -> Any:
        return self._flat_field.correct(self._tiles[index])


def _tiles(context: StageContext, tilemap: Tilemap, modality: str) -> TileFiles:
    return TileFiles(
        context.layout,
        context.mosaic,
        modality,
        tilemap.tile_shape,
        len(tilemap.positions_px),
        tilemap.missing,
    )


def _missing_tiles(tilemap: Tilemap, gaps: NDArray[np.bool_]) -> str:
    return (
        f"{len(tilemap.missing)} of {len(tilemap.positions_px)} tiles are missing (images "
        f"{image_list(tilemap.missing)}); {100 * gaps.mean():.1f} % of the mosaic has no value for "
        "want of them"
    )


def _empty_mask(
    context: StageContext, shape: tuple[int, int], read_aip: RowReader, threshold: float
) -> str:
    highest = max(
        float(np.nanmax(read_aip(start, min(start + BAND_ROWS, shape[0])), initial=-np.inf))
        for start in range(0, shape[0], BAND_ROWS)
    )
    return (
        f"the mask is empty: no pixel of the AIP exceeds {threshold:g} dB (its highest value is "
        f"{highest:.1f} dB). If there is tissue, set {_threshold_key(context)} between "
        f"background and tissue, then {_redo(context)}"
    )


def _threshold_key(context: StageContext) -> str:
    return f"mosaic.mask_threshold_{TILTED if context.acquisition == TILTED else 'normal'}"


def _redo(context: StageContext) -> str:
    return f"`optic-trigger redo --from stitch_enface --mosaic {context.mosaic}`."


def canvas_geometry(config: Config, tilemap: Tilemap, slice_: int) -> nifti.Geometry:
    """Where a stitched image lies: canvas pixel 0 in stage mm, slices stacked along z."""
    x_mm, y_mm, _ = config.acquisition.scan_resolution_3d_mm
    thickness_mm = config.acquisition.slice_thickness_um / 1000
    y_px, x_px = tilemap.origin_px
    return nifti.Geometry(
        voxel_mm=(x_mm, y_mm, thickness_mm),
        origin_mm=(x_px * x_mm, y_px * y_mm, (slice_ - 1) * thickness_mm),
    )


def _path(context: StageContext, name: str, suffix: str) -> Path:
    return context.layout.stitched(context.mosaic, name, suffix)


STAGE = Stage(
    "stitch_enface",
    "mosaic",
    "stitched",
    params,
    products,
    compute,
    starts_level=lambda _config: False,
)
