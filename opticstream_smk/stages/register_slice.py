"""The mosaics of a slice to the 3-D axis: transform, through-plane angle, pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.errors import QualityError
from opticstream_smk.io import nifti
from opticstream_smk.io.atomic import write_json, write_with
from opticstream_smk.io.pictures import write_jpeg, write_tiff
from opticstream_smk.plan import image_list
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.stitch_enface import canvas_geometry
from opticstream_smk.stages.tilemap import stitched_tilemap
from opticstream_smk.state.flags import file_input

if TYPE_CHECKING:
    from opticstream_smk.registration import AffineFit, ThruPlane

_NAMES = (
    "inplane.tiff",
    "inplane.jpg",
    "thruplane.tiff",
    "thruplane.jpg",
    "3daxis.nii",
    "3daxis_raw.nii",
    "3daxis.jpg",
    "biref.nii",
    "data.mat",
    "transform.json",
)


def params(config: Config, _acquisition: str) -> Mapping[str, Any]:
    """Values that this stage reads."""
    return {
        **config.registration.model_dump(mode="json"),
        "toolbox_quirks": config.processing.toolbox_quirks,
        "fill_value": config.mosaic.fill_value,
        "scan_resolution_3d_mm": config.acquisition.scan_resolution_3d_mm,
        "slice_thickness_um": config.acquisition.slice_thickness_um,
    }


def products(context: StageContext) -> list[Path]:
    """Pictures, axis, birefringence, the toolbox's variables and the transform."""
    slice_ = context.place.slice or 0
    return [context.layout.registered_product(slice_, name) for name in _NAMES]


def compute(context: StageContext) -> Outcome:
    """Write ``registered/slice-01_*``."""
    from opticstream_smk.registration import estimate_affine, thruplane
    from opticstream_smk.registration.view_maps import coverage

    config, layout = context.config, context.layout
    slice_ = context.place.slice or 0
    normal, tilted = context.plan.registered_pair(slice_)
    sources: list[Path] = []

    def stitched(mosaic: int, modality: str) -> NDArray[np.float64]:
        path = layout.stitched(mosaic, modality)
        sources.append(path)
        return np.asarray(nifti.read_image(path), np.float64)

    plan = context.plan
    tilemaps = {mosaic: stitched_tilemap(plan, mosaic) for mosaic in (normal, tilted)}

    def view(mosaic: int, modality: str) -> NDArray[np.float64]:
        """Unmasked image; NaN where no tile lies."""
        covered = tilemaps[mosaic].coverage()
        return np.where(covered, stitched(mosaic, f"{modality}_nomask"), np.nan)

    image = config.registration.image
    fixed = (view(normal, "ori"), view(normal, "biref"))
    moving = (view(tilted, "ori"), view(tilted, "biref"))
    tissue = np.isfinite(fixed[0])
    if config.registration.mask == "aip":
        tissue &= stitched(normal, "mask") > 0
    if not tissue.any():
        raise QualityError(
            f"slice {slice_:02d}: the mask of mosaic {normal:03d} is empty, so there is nothing to "
            "register; `optic-trigger status` says what to set"
        )
    fit = estimate_affine(view(normal, image), view(tilted, image))
    # Where only one mosaic looks there is no third dimension to be found.
    seen = coverage(fit.affine, np.isfinite(moving[0]) & np.isfinite(moving[1]), fixed[0].shape)
    if not (tissue & seen).any():
        raise QualityError(
            f"slice {slice_:02d}: the tilted mosaic {tilted:03d}, placed by the transform that was "
            f"found ({fit.affine.to_dict()}), covers no tissue of the normal mosaic {normal:03d}. "
            f"Compare their stitched {image} pictures; they may show different slices."
        )
    result = thruplane(
        fixed[0],
        moving[0],
        fixed[1],
        moving[1],
        gamma_deg=config.registration.gamma_deg,
        affine=fit.affine,
        mask=tissue & seen,
        toolbox_quirks=config.processing.toolbox_quirks,
        threads=context.threads,
    )
    geometry = canvas_geometry(config, tilemaps[normal], slice_)
    _write(context, slice_, geometry, result, fit)
    return Outcome(
        inputs=tuple(file_input(path) for path in dict.fromkeys(sources)),
        outputs=tuple(products(context)),
        numbers={
            "ncc_before": round(fit.ncc_before, 4),
            "ncc_after": round(fit.ncc_after, 4),
            "tissue_share": round(float(tissue.mean()), 4),
            "seen_share_of_tissue": round(float(seen[tissue].mean()), 4),
        },
        warnings=tuple(
            f"there is no axis where mosaic {mosaic:03d} lacks images {image_list(found.missing)}"
            for mosaic, found in tilemaps.items()
            if found.missing
        ),
    )


def _write(
    context: StageContext,
    slice_: int,
    geometry: nifti.Geometry,
    result: "ThruPlane",
    fit: "AffineFit",
) -> None:
    import scipy.io

    from opticstream_smk.registration import axis_rgb, orientation_rgb, to_mat, to_uint8

    config, layout = context.config, context.layout
    pixel_mm = config.acquisition.scan_resolution_3d_mm[:2]
    scale = config.registration.rgb_scale

    def path(product: str) -> Path:
        return layout.registered_product(slice_, product)

    for name, angle in (("inplane", result.theta_rad), ("thruplane", result.alpha_rad)):
        picture = to_uint8(orientation_rgb(angle, result.biref, scale=scale))
        write_tiff(path(f"{name}.tiff"), picture, pixel_mm=pixel_mm)
        write_jpeg(path(f"{name}.jpg"), picture)
    axis_note = "fibre axis (-X, Z, Y) along the third dimension, 0 where there is none"
    for name, axis in (("3daxis", result.axis), ("3daxis_raw", result.axis_raw)):
        vectors = np.nan_to_num(axis, nan=0.0).astype(np.float32)
        nifti.write_image(path(f"{name}.nii"), vectors, geometry, description=axis_note)
    write_jpeg(path("3daxis.jpg"), to_uint8(axis_rgb(result.axis_raw)))
    nifti.write_image(
        path("biref.nii"),
        np.nan_to_num(result.biref, nan=config.mosaic.fill_value).astype(np.float32),
        geometry,
        description="birefringence, delta n",
    )
    write_with(
        path("data.mat"),
        lambda temporary: scipy.io.savemat(
            temporary, to_mat(result), appendmat=False, do_compression=True
        ),
    )
    write_json(
        path("transform.json"),
        {
            "fixed_to_moving": fit.affine.to_dict(),
            "convention": "a point p = (y, x) px of the normal mosaic lies at A @ p + t in the "
            "tilted one",
            "image": config.registration.image,
            "gamma_deg": config.registration.gamma_deg,
            "ncc_before": fit.ncc_before,
            "ncc_after": fit.ncc_after,
        },
    )


STAGE = Stage("register_slice", "slice", "registered", params, products, compute)
