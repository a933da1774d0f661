"""Mosaics from a tile info: the tiles that it names to NIfTI, TIFF, JPEG or OME-Zarr."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti
from opticstream_smk.io.pictures import orientation_to_rgb, window_to_uint8, write_jpeg, write_tiff
from opticstream_smk.mosaic.blending import blend
from opticstream_smk.mosaic.compat import LincMosaic
from opticstream_smk.mosaic.compat_files import write_linc_images, write_linc_zarr
from opticstream_smk.mosaic.template import read_tile_info
from opticstream_smk.mosaic.tile_images import read_tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opticstream_smk.mosaic.blending import Placement
    from opticstream_smk.mosaic.template import TileInfo

log = logging.getLogger(__name__)

_USUAL_VOXEL_MM = (0.01, 0.01, 0.0025)
_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class MosaicOptions:
    """How the tiles of a tile info are stitched.

    Attributes
    ----------
    compat
        "linc": bit for bit as linc-convert; None: as the workflow stitches.
    tile_overlap
        Part of the tile (float) or pixels (int; without compat of the shorter side); None: what
        the tile info says, else 0.2.
    circular
        Axial angles in degrees.
    mask
        Image of the mosaic's size (x, y); None: that of the tile info, if any.
    allow_missing
        Whether a tile whose file is not there is left out; with compat it always is.
    clip_px
        Leading pixels of each tile along x and y that are left out; 0: what the tile info says.
    focus_plane, offset_px, depth_px, normalize
        Of volumes: see `LincMosaic` and `stitch_volume`, which always normalizes.
    voxel_mm
        x, y, z; None: what the tile info says, else 0.01, 0.01, 0.0025.
    placement, fill
        See `blend`; not with compat.
    chunk, shard
        Of an OME-Zarr: one length or z, y, x.
    """

    compat: Literal["linc"] | None = None
    tile_overlap: float | int | None = None
    circular: bool = False
    mask: Path | None = None
    allow_missing: bool = False
    clip_px: tuple[int, int] = (0, 0)
    focus_plane: Path | None = None
    offset_px: int = 30
    depth_px: int = 500
    normalize: bool = False
    voxel_mm: tuple[float, ...] | None = None
    placement: Placement = "rounded"
    fill: float = 0.0
    chunk: tuple[int, ...] = (128,)
    shard: tuple[int, ...] | None = None


def stitch_tile_info(
    path: Path, outputs: list[Path], options: MosaicOptions = MosaicOptions()
) -> tuple[int, ...]:
    """Stitch what a tile info names.

    Parameters
    ----------
    path
        The tile info; relative paths in it are relative to its folder.
    outputs
        Files to write; the suffix says what: ``.nii``, ``.tif``, ``.tiff``, ``.jpg`` of images,
        ``.zarr`` of volumes.

    Returns
    -------
    tuple of int
        Size of the mosaic (x, y[, z]).

    Raises
    ------
    ConfigError
        Outputs do not fit the tiles, or an option is out of range.
    IncompleteInputError
        Tile info or tiles are missing.
    CorruptInputError
        They cannot be read, or do not fit together.
    ServiceError
        The disk refuses.
    """
    info = read_tile_info(path)
    tiles, positions = _read_tiles(path, info, options)
    is_volume = tiles[0].ndim == 3
    for output in outputs:
        if (output.suffix == ".zarr") != is_volume:
            raise ConfigError(
                f"{output}: the tiles are {'volumes' if is_volume else 'images'}, expected an "
                f"output that ends in {'.zarr' if is_volume else '.nii, .tiff or .jpg'}"
            )
    stated = options.mask or (Path(info.mask) if info.mask else None)
    mask = None if stated is None else nifti.read_array(path.parent / stated)
    if options.compat == "linc":
        mosaic = LincMosaic(
            tiles,
            positions,
            overlap=_overlap(info, options),
            circular=options.circular,
            mask=mask,
            clip_px=_clip(info, options),
            focus_plane=_plane(path, options),
            offset_px=options.offset_px,
            depth_px=options.depth_px,
            normalize=options.normalize,
        )
        if is_volume:
            for output in outputs:
                write_linc_zarr(
                    mosaic, output, _voxel(info, options), chunk=options.chunk, shard=options.shard
                )
        else:
            write_linc_images(mosaic.image(), outputs, _voxel(info, options))
        return mosaic.shape
    if is_volume:
        raise ConfigError(
            f"{path} names volumes: expected images, or --compat linc. The workflow's "
            "stitch_volume, or `opticstream_smk.mosaic.stitch_volume`, makes volumes"
        )
    return _stitch_images(tiles, positions, mask, info, outputs, options)


def _read_tiles(
    path: Path, info: TileInfo, options: MosaicOptions
) -> tuple[list[NDArray[Any]], list[tuple[float, float]]]:
    tiles, positions, missing = [], [], []
    for entry in info.tiles:
        file = path.parent / info.base_dir / entry.filepath
        if not file.exists():
            missing.append(file)
            continue
        tiles.append(read_tile(file, info.file_key))
        if tiles[-1].shape != tiles[0].shape:
            raise CorruptInputError(
                f"tile {file} has shape {tiles[-1].shape}: expected {tiles[0].shape} like the "
                "first tile"
            )
        positions.append((entry.x, entry.y))
    if not tiles:
        raise IncompleteInputError(
            f"{path}: none of its {len(missing)} tiles is there, such as {missing[0]}; correct "
            "metadata.base_dir"
        )
    if missing:
        text = (
            f"{path}: {len(missing)} of {len(info.tiles)} tiles are not there: "
            f"{', '.join(map(str, missing))}"
        )
        if not (options.allow_missing or options.compat):
            raise IncompleteInputError(f"{text}; copy them there, or give --allow-missing")
        log.warning("%s; they are left out", text)
    return tiles, positions


def _overlap(info: TileInfo, options: MosaicOptions) -> float | int:
    if options.tile_overlap is not None:
        return options.tile_overlap
    return 0.2 if info.tile_overlap is None else info.tile_overlap


def _clip(info: TileInfo, options: MosaicOptions) -> tuple[int, int]:
    return options.clip_px[0] or info.clip_x, options.clip_px[1] or info.clip_y


def _voxel(info: TileInfo, options: MosaicOptions) -> tuple[float, float, float]:
    given = options.voxel_mm or info.scan_resolution or _USUAL_VOXEL_MM
    x, y, z = (*given, _USUAL_VOXEL_MM[2])[:3]
    return x, y, z


def _plane(path: Path, options: MosaicOptions) -> NDArray[Any] | None:
    if options.focus_plane is None:
        return None
    plane = nifti.read_array(path.parent / options.focus_plane)
    return plane[:, :, 0] if plane.ndim == 3 and plane.shape[2] == 1 else plane


def _stitch_images(
    tiles: list[NDArray[Any]],
    positions: list[tuple[float, float]],
    mask: NDArray[Any] | None,
    info: TileInfo,
    outputs: list[Path],
    options: MosaicOptions,
) -> tuple[int, ...]:
    clip_x, clip_y = _clip(info, options)
    overlap = _overlap(info, options)
    if isinstance(overlap, int):
        overlap = overlap / max(min(tiles[0].shape), 1)
    image, origin = blend(
        [tile[clip_x:, clip_y:].T for tile in tiles],
        [(y + clip_y, x + clip_x) for x, y in positions],
        overlap_percent=100 * overlap,
        circular=options.circular,
        placement=options.placement,
        mask=None if mask is None else np.squeeze(mask).T,
    )
    known = np.isfinite(image)
    filled = np.where(known, image, np.float32(options.fill))
    x_mm, y_mm, z_mm = _voxel(info, options)
    geometry = nifti.Geometry((x_mm, y_mm, z_mm), (origin[1] * x_mm, origin[0] * y_mm, 0.0))
    for output in outputs:
        if output.suffix == ".nii":
            nifti.write_image(output, filled, geometry)
        elif output.suffix in (".tif", ".tiff"):
            write_tiff(output, filled, pixel_mm=(x_mm, y_mm))
        elif options.circular:
            write_jpeg(output, orientation_to_rgb(image, known))
        else:
            write_jpeg(output, window_to_uint8(image, known, _PERCENTILES))
    return image.shape[::-1]
