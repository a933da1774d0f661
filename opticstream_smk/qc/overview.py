"""Overview pictures of a mosaic and of a registered slice."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti
from opticstream_smk.io.pictures import orientation_to_rgb, window_to_uint8, write_jpeg
from opticstream_smk.plan import Plan, image_list, project_layout
from opticstream_smk.qc.sheet import Panel, compose, outline, painted
from opticstream_smk.stages.tilemap import stitched_tilemap

_MASK_COLOUR = (255, 140, 0)
_TILE_COLOUR = (0, 200, 255)

_CAPTIONS = {
    "aip": "intensity, mean (AIP), with mask outline",
    "mip": "intensity, maximum (MIP)",
    "ret": "retardance",
    "ori": "optic axis orientation, colour = angle",
    "biref": "birefringence",
    "surf": "surface depth, with tile borders",
    "mus": "attenuation",
    "mus_confidence": "confidence of the attenuation",
}


def write_mosaic_overview(config: Config, mosaic: int) -> None:
    """Write ``report/mosaic-01.jpg``: every stitched modality on one sheet."""
    layout = project_layout(config)
    plan = Plan(config, layout)
    tilemap = stitched_tilemap(plan, mosaic)
    covered = tilemap.coverage()
    mask = nifti.read_image(layout.stitched(mosaic, "mask")) > 0
    panels = []
    for modality in config.mosaic.modalities:
        image = nifti.read_image(layout.stitched(mosaic, f"{modality}_nomask"))
        picture: NDArray[np.uint8]
        if modality in naming.AXIAL_MODALITIES:
            picture = orientation_to_rgb(image, mask)
        else:
            # Outside the tissue these maps are noise, which would hide what is in it.
            reference = None if modality in ("aip", "mip") else mask
            window = config.mosaic.jpeg_window_percentiles
            picture = window_to_uint8(image, covered, window, reference=reference)
        if modality == "aip":
            picture = painted(picture, outline(mask), _MASK_COLOUR)
        if modality == "surf":
            picture = painted(picture, tilemap.tile_borders(), _TILE_COLOUR)
        panels.append(Panel(_CAPTIONS[modality], picture))
    title = (
        f"{config.project.name}: mosaic {mosaic:03d}, {plan.acquisition(mosaic)}, "
        f"slice {plan.slice(mosaic):02d}; {100 * mask.mean():.0f} % tissue"
    )
    if tilemap.missing:
        title += f"; images {image_list(tilemap.missing)} missing"
    write_jpeg(layout.mosaic_picture(mosaic), compose(title, panels))


def write_slice_overview(config: Config, slice_: int) -> None:
    """Write ``report/slice-01.jpg``: axis, birefringence and how well the mosaics agree."""
    layout = project_layout(config)
    panels = [
        Panel("in-plane axis, colour = angle", _picture(config, slice_, "inplane.jpg")),
        Panel("through-plane angle, colour = angle", _picture(config, slice_, "thruplane.jpg")),
        Panel("3-D axis: red |x|, green |z|, blue |y|", _picture(config, slice_, "3daxis.jpg")),
    ]
    biref = nifti.read_image(layout.registered_product(slice_, "biref.nii"))
    axis = nifti.read_array(layout.registered_product(slice_, "3daxis.nii"))
    solved = np.asarray(axis.any(axis=2)).T
    window = config.mosaic.jpeg_window_percentiles
    panels.append(Panel("birefringence", window_to_uint8(biref, solved, window)))
    panels.append(Panel("normal (green) and tilted (magenta)", _agreement(config, slice_)))
    title = f"{config.project.name}: slice {slice_:02d} registered"
    write_jpeg(layout.slice_picture(slice_), compose(title, panels))


def _picture(config: Config, slice_: int, product: str) -> NDArray[np.uint8]:
    from PIL import Image

    path = project_layout(config).registered_product(slice_, product)
    try:
        with Image.open(path) as image:
            pixels: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise IncompleteInputError(
            f"{path} is missing; `optic-trigger doctor --fix` has it made again"
        ) from error
    return pixels


def _agreement(config: Config, slice_: int) -> NDArray[np.uint8]:
    """Normal AIP in green, tilted AIP warped onto it in red and blue: grey where they agree."""
    from opticstream_smk.registration import Affine
    from opticstream_smk.registration.view_maps import coverage, warp

    layout = project_layout(config)
    plan = Plan(config, layout)
    normal, tilted = (
        np.asarray(nifti.read_image(layout.stitched(mosaic, "aip_nomask")), np.float64)
        for mosaic in plan.registered_pair(slice_)
    )
    path = layout.registered_product(slice_, "transform.json")
    try:
        affine = Affine.from_dict(json.loads(path.read_bytes())["fixed_to_moving"])
    except (OSError, ValueError, KeyError) as error:
        raise CorruptInputError(
            f"{path} cannot be used ({error}); `optic-trigger doctor --fix` has it made again"
        ) from error
    shape = (normal.shape[0], normal.shape[1])
    warped: NDArray[Any] = warp(tilted, affine, shape)
    seen, seen_tilted = (
        stitched_tilemap(plan, mosaic).coverage() for mosaic in plan.registered_pair(slice_)
    )
    seen_tilted = coverage(affine, seen_tilted, shape)
    # Both on the same pixels, so that equal tissue has equal brightness.
    window, common = config.mosaic.jpeg_window_percentiles, seen & seen_tilted
    green = window_to_uint8(normal, seen, window, reference=common)
    magenta = window_to_uint8(warped, seen_tilted, window, reference=common)
    return np.stack([magenta, green, magenta], axis=-1)
