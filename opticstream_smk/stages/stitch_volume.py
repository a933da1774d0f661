"""Volumes of the tiles to one OME-Zarr volume of the mosaic, for each modality."""

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti
from opticstream_smk.io.disk import size_on_disk
from opticstream_smk.plan import template_params
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.tile_depth import TileVolume, is_surface_last
from opticstream_smk.stages.tilemap import Tilemap, stitched_tilemap, tile_count
from opticstream_smk.state.flags import Flag, file_input, read_flag
from opticstream_smk.state.places import flag_path

if TYPE_CHECKING:
    from opticstream_smk.mosaic import VolumeReport

# Values that a modality can have.
_LIMITS = {"R3D": (0.0, 90.0), "O3D": (-90.0, 90.0)}
_LABELS = {"dBI": "intensity, dB", "R3D": "retardance, degrees", "O3D": "orientation, degrees"}
# More voxels without a value than these are worth a look.
_NOTABLE_SHARE = 0.01


def params(config: Config, acquisition: str, *, modality: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    volume = config.volume.model_dump(
        mode="json",
        exclude={"enabled", "modalities", "memory_mb", "focus_crop_x_px", "focus_signal_db"},
    )
    return {
        **template_params(config, acquisition),
        **volume,
        "window": volume["window"].get(modality),
        "scan_resolution_3d_mm": config.acquisition.scan_resolution_3d_mm,
        "slice_thickness_um": config.acquisition.slice_thickness_um,
    }


def products(context: StageContext, *, modality: str) -> list[Path]:
    """The volume."""
    return [context.layout.volume(context.mosaic, modality)]


def compute(context: StageContext, *, modality: str) -> Outcome:
    """Write ``stitched/mosaic_001_dBI.ome.zarr``."""
    from opticstream_smk.mosaic import stitch_volume

    config, layout, mosaic = context.config, context.layout, context.mosaic
    _refuse_disabled(config, modality)
    tilemap = stitched_tilemap(context.plan, mosaic)
    _require_stitched(context, tilemap)
    mask_path = layout.stitched(mosaic, "mask")
    mask = nifti.read_image(mask_path) > 0 if config.volume.mask else None
    plane, plane_sha256 = _focus_plane(context, tilemap)
    dz_mm, (y_px, x_px) = config.acquisition.scan_resolution_3d_mm[2], tilemap.origin_px
    x_um, y_um = (1000 * size for size in config.acquisition.scan_resolution_3d_mm[:2])
    z_um = ((context.place.slice or 1) - 1) * config.acquisition.slice_thickness_um
    out = layout.volume(mosaic, modality)
    report = stitch_volume(
        _readers(context, tilemap, modality),
        tilemap.positions_px,
        out,
        overlap_percent=config.acquisition.tile_overlap_percent,
        voxel_um=(1000 * dz_mm, y_um, x_um),
        # As of the stitched images: canvas pixel 0 in the frame of the stage.
        origin_um=(z_um, y_px * y_um, x_px * x_um),
        focus_plane=plane,
        offset_px=config.volume.offset_px,
        depth_px=config.volume.depth_px,
        circular=modality in naming.AXIAL_MODALITIES,
        mask=mask,
        options=config.volume.zarr_options(),
        label=_LABELS[modality],
        window=config.volume.window.get(modality),  # type: ignore[call-overload]
        limits=_LIMITS.get(modality),
        threads=context.threads,
        memory_mb=config.volume.memory_mb,
    )
    inputs = ([mask_path] if config.volume.mask else []) + (
        [layout.focus_plane(context.acquisition)] if plane is not None else []
    )
    return Outcome(
        inputs=tuple(map(file_input, inputs)),
        outputs=(out,),
        tiles=tile_count(context.plan.images(mosaic), tilemap.missing),
        numbers=_numbers(report),
        extra={"template_sha256": tilemap.sha256, "focus_sha256": plane_sha256},
        warnings=tuple(_warnings(config, report, plane)),
    )


def _refuse_disabled(config: Config, modality: str) -> None:
    made = config.volume_modalities
    if modality in made:
        return
    if made:
        raise ConfigError(
            f"volume.modalities has {', '.join(made)}, not {modality}; add it there, or ask for "
            "one of those"
        )
    why = (
        "volume.enabled is false"
        if not config.volume.enabled
        else "tiles have no volumes (processing.save_volume_outputs: false, or maps of the host)"
    )
    raise ConfigError(f"no volumes are stitched in this project: {why}")


def _require_stitched(context: StageContext, tilemap: Tilemap) -> None:
    """Volume and mosaic lie on one canvas only if both were made at the same positions."""
    stitched = read_flag(context.layout.mosaic_flag(context.mosaic, "stitched"))
    if stitched is None:
        raise IncompleteInputError(
            f"{context.place} is not stitched, which gives the mask and the canvas; run "
            f"`optic-stage stitch_enface --mosaic {context.mosaic}` first"
        )
    made_with = stitched.extra.get("template_sha256")
    if made_with is not None and made_with != tilemap.sha256:
        raise CorruptInputError(
            f"{context.place}: the coordinates have changed since it was stitched, so that volume "
            "and mosaic would not lie on each other; `optic-trigger redo --from stitch_enface "
            f"--mosaic {context.mosaic}` makes both with those of today"
        )


def _focus_plane(
    context: StageContext, tilemap: Tilemap
) -> tuple[NDArray[np.float32] | None, str | None]:
    """The plane and the hash of its file; neither where volumes are stitched without."""
    config, layout, acquisition = context.config, context.layout, context.acquisition
    if not config.volume.focus:
        return None, None
    if not layout.focus_flag(acquisition).exists():
        raise IncompleteInputError(
            f"the focus plane of the {acquisition} mosaics is not fitted; run `optic-stage "
            f"fit_focus --acquisition {acquisition}` first, or set volume.focus: false"
        )
    path = layout.focus_plane(acquisition)
    plane = np.asarray(nifti.read_image(path, shape_yx=tilemap.tile_shape), np.float32)
    return plane, hashlib.sha256(path.read_bytes()).hexdigest()


def _readers(context: StageContext, tilemap: Tilemap, modality: str) -> list[TileVolume | None]:
    """The volume of each tile of the grid; None for a missing one."""
    depth = context.config.acquisition.depth_samples
    surface_last = is_surface_last(context.plan, context.mosaic)
    return [
        None
        if image in tilemap.missing
        else TileVolume(
            context.layout.processed_tile(context.mosaic, image, modality),
            (depth, *tilemap.tile_shape),
            surface_last=surface_last,
        )
        for image in context.plan.images(context.mosaic)
    ]


def _numbers(report: "VolumeReport") -> dict[str, Any]:
    return {
        "shape_zyx": list(report.shape),
        "levels": report.levels,
        "wanted_voxels": report.wanted_voxels,
        "out_of_range_voxels": report.out_of_range_voxels,
        "not_finite_voxels": report.not_finite_voxels,
        "tile_bytes": report.tile_bytes,
        "read_bytes": report.read_bytes,
        "written_bytes": report.written_bytes,
        "parts": report.footprints,
        "resumed_parts": report.resumed_footprints,
        "window": [round(value, 3) for value in report.window],
    }


def _warnings(
    config: Config, report: "VolumeReport", plane: NDArray[np.float32] | None
) -> list[str]:
    wanted = report.wanted_voxels
    if not wanted:
        return ["the volume is empty: the tissue mask has no pixel, see .stitched"]
    found = []
    if report.out_of_range_voxels > _NOTABLE_SHARE * wanted:
        span = 0 if plane is None else int(np.ceil(plane.max() - plane.min()))
        depth = config.acquisition.depth_samples
        fitting = depth - config.volume.offset_px - span
        found.append(
            f"{100 * report.out_of_range_voxels / wanted:.0f} % of the voxels in tissue have no "
            f"value, because tiles end there: of their {depth} depth samples, offset_px "
            f"{config.volume.offset_px} and a focus plane of {span} leave {fitting}. "
            f"volume.depth_px: {max(fitting, 1)} would fit."
        )
    if report.not_finite_voxels > _NOTABLE_SHARE * wanted:
        found.append(
            f"{100 * report.not_finite_voxels / wanted:.0f} % of the voxels in tissue have no "
            "finite value in any tile. Look at the tiles' volumes."
        )
    return found


# -------------------------------------------------------------------------------- all of them
def finish_params(config: Config, _acquisition: str) -> Mapping[str, Any]:
    """Values that the last step reads."""
    return {"modalities": config.volume_modalities}


def finish_products(context: StageContext) -> list[Path]:
    """All volumes."""
    made = context.config.volume_modalities
    return [context.layout.volume(context.mosaic, modality) for modality in made]


def finish(context: StageContext) -> Outcome:
    """Make sure that every volume is there as it was written."""
    _refuse_disabled(context.config, next(iter(context.config.volume_modalities), "dBI"))
    flags = [_finished(context, modality) for modality in context.config.volume_modalities]
    paths = finish_products(context)
    return Outcome(
        inputs=(),
        outputs=tuple(paths),
        tiles=flags[0].tiles,
        numbers={
            "volumes": len(flags),
            "written_bytes": sum(output.size for flag in flags for output in flag.outputs),
        },
    )


def _finished(context: StageContext, modality: str) -> Flag:
    path = flag_path(context.layout, context.place, naming.volume_state(modality))
    flag = read_flag(path)
    command = f"optic-stage stitch_volume --mosaic {context.mosaic} --modality {modality}"
    if flag is None:
        raise IncompleteInputError(
            f"{context.place}: {path.name} is not there; run `{command}` first"
        )
    for output in flag.outputs:
        size = size_on_disk(context.layout.root / output.path)
        if size != output.size:
            raise CorruptInputError(
                f"{output.path} has {size if size is not None else 'no'} bytes, {output.size} "
                "were written; `optic-trigger doctor --fix` has it made again"
            )
    return flag


def _stage(modality: str) -> Stage:
    return Stage(
        "stitch_volume",
        "mosaic",
        naming.volume_state(modality),
        partial(params, modality=modality),
        partial(products, modality=modality),
        partial(compute, modality=modality),
        starts_level=lambda _config: False,
        modality=modality,
    )


STAGES = (
    *map(_stage, naming.VOLUME_MODALITIES),
    Stage(
        "stitch_volume",
        "mosaic",
        "volume_stitched",
        finish_params,
        finish_products,
        finish,
        starts_level=lambda _config: False,
        resources="finish_volumes",
    ),
)
