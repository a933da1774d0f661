"""The mosaics of a slice to the 3-D axis: transform, through-plane angle, pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.io import nifti
from opticstream_smk.io.atomic import write_json, write_with
from opticstream_smk.io.pictures import write_jpeg, write_tiff
from opticstream_smk.stages.stage import Outcome, Stage, StageContext
from opticstream_smk.stages.stitch_enface import canvas_geometry
from opticstream_smk.stages.tilemap import read_tilemap
from opticstream_smk.state.flags import file_input

if TYPE_CHECKING:
    from opticstream_smk.registration import AffineFit, ThruPlane

PRODUCTS = (
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


def compute(context: StageContext) -> Outcome:
    """Write ``registered/slice-01_*``."""
    from opticstream_smk.registration import estimate_affine, thruplane

    config, layout = context.config, context.layout
    slice_ = context.place.slice or 0
    normal, tilted = context.plan.mosaics(slice_)
    sources: list[Path] = []

    def stitched(mosaic: int, modality: str) -> NDArray[np.float64]:
        path = layout.stitched(mosaic, modality)
        sources.append(path)
        return np.asarray(nifti.read_image(path), np.float64)

    tilemaps = {
        mosaic: read_tilemap(config, layout, context.plan.acquisition(mosaic))
        for mosaic in (normal, tilted)
    }

    def view(mosaic: int, modality: str) -> NDArray[np.float64]:
        """Unmasked image; NaN where no tile lies."""
        covered = tilemaps[mosaic].coverage()
        return np.where(covered, stitched(mosaic, f"{modality}_nomask"), np.nan)

    image = config.registration.image
    fit = estimate_affine(view(normal, image), view(tilted, image))
    mask = stitched(normal, "mask") > 0 if config.registration.mask == "aip" else None
    result = thruplane(
        view(normal, "ori"),
        view(tilted, "ori"),
        view(normal, "biref"),
        view(tilted, "biref"),
        gamma_deg=config.registration.gamma_deg,
        affine=fit.affine,
        mask=mask,
        toolbox_quirks=config.processing.toolbox_quirks,
    )
    geometry = canvas_geometry(config, tilemaps[normal], slice_)
    _write(context, slice_, geometry, result, fit)
    solved = np.isfinite(result.theta_rad)
    return Outcome(
        inputs=tuple(file_input(path) for path in dict.fromkeys(sources)),
        outputs=tuple(layout.registered_product(slice_, product) for product in PRODUCTS),
        numbers={
            "ncc_before": round(fit.ncc_before, 4),
            "ncc_after": round(fit.ncc_after, 4),
            "solved_share": round(float(solved.mean()), 4),
            "one_view_share": round(float((solved & ~result.covered).mean()), 4),
        },
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
    axis_note = "fibre axis (-X, Z, Y) along the third dimension"
    for name, axis in (("3daxis", result.axis), ("3daxis_raw", result.axis_raw)):
        nifti.write_image(
            path(f"{name}.nii"), np.asarray(axis, np.float32), geometry, description=axis_note
        )
    write_jpeg(path("3daxis.jpg"), to_uint8(axis_rgb(result.axis_raw)))
    nifti.write_image(
        path("biref.nii"),
        np.asarray(result.biref, np.float32),
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


STAGE = Stage("register_slice", "slice", "registered", params, compute)
