"""Tile volumes to one OME-Zarr volume of the mosaic, in one pass and little memory.

The canvas is cut into footprints, each the area of one shard. A footprint is made at once, at every
level of the pyramid that has whole shards there, and proved by a receipt, so that a killed run goes
on where it was. Memory follows from chunk and shard, not from the mosaic.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io.ome_zarr import ImageMetadata, Shape, ZarrOptions
from opticstream_smk.mosaic.blending import (
    canvas_shape,
    checked_mask,
    ramp_weights,
    tile_corners,
)
from opticstream_smk.mosaic.grid import check_overlap
from opticstream_smk.mosaic.volume_blocks import ArrayVolume, Scene, VolumeReader
from opticstream_smk.mosaic.volume_footprints import (
    block_makers,
    write_footprints,
    write_remaining_levels,
)
from opticstream_smk.mosaic.volume_store import VolumeStore, pyramid_layout

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Stored blocks of an earlier run are used again only by code that would make the same ones.
_METHOD = 1


@dataclass(frozen=True)
class VolumeReport:
    """What was stitched.

    Attributes
    ----------
    shape
        (z, y, x) of the full resolution.
    levels
        Arrays of the pyramid.
    origin_px
        (y, x) of its first voxel in the frame of the positions.
    out_of_range_voxels
        Voxels inside tiles and mask that hold the fill value because no tile there is that deep.
    not_finite_voxels
        Voxels that hold it because no tile there has a finite value.
    wanted_voxels
        Voxels inside tiles and mask.
    read_bytes, tile_bytes
        What was read of the tiles, and what they hold. Both without what receipts proved.
    written_bytes
        Size of all chunks on disk.
    footprints, resumed_footprints
        How many parts, and how many were there from an earlier run.
    workers
        Blocks that were made at a time.
    window
        Values shown black and white.
    """

    shape: Shape
    levels: int
    origin_px: tuple[int, int]
    out_of_range_voxels: int
    not_finite_voxels: int
    wanted_voxels: int
    read_bytes: int
    tile_bytes: int
    written_bytes: int
    footprints: int
    resumed_footprints: int
    workers: int
    window: tuple[float, float]


def stitch_volume(
    readers: Sequence[VolumeReader | NDArray[np.float32] | None],
    positions_px: ArrayLike,
    out_zarr: Path | str,
    *,
    overlap_percent: float = 20.0,
    voxel_um: tuple[float, float, float] = (2.5, 10.0, 10.0),
    origin_um: tuple[float, float, float] = (0.0, 0.0, 0.0),
    focus_plane: ArrayLike | None = None,
    offset_px: int = 30,
    depth_px: int = 500,
    circular: bool = False,
    mask: ArrayLike | None = None,
    options: ZarrOptions = ZarrOptions(),  # noqa: B008  # frozen
    label: str = "",
    window: tuple[float, float] | None = None,
    limits: tuple[float, float] | None = None,
    threads: int = 1,
    memory_mb: int = 1100,
) -> VolumeReport:
    """Blend tile volumes and write them as OME-Zarr with all levels of its pyramid.

    Voxel (k, y, x) is the weighted mean over the tiles of ``tile[k + focus + offset_px, y', x']``,
    with the weights of `blend` and the focus plane rounded to whole depth samples. Voxels that no
    tile reaches or that are masked hold the fill value. A level is the mean of 2 x 2 x 2 voxels of
    the level above that have a value; of axial angles, the mean axis.

    The volume grows under a hidden temporary name beside it and is renamed when it is complete. A
    run that was killed is continued: a footprint (the area of a shard) whose receipt was written is
    not made again, as long as tiles, positions and parameters are the same.

    Parameters
    ----------
    readers
        One (Z, ny, nx) volume per tile, depth from the surface down; None for a missing tile, whose
        place stays empty. All of one shape.
    positions_px
        (N, 2) float (y, x) of each tile's first pixel, also of the missing ones: they have their
        place on the canvas.
    out_zarr
        Folder, usually ``*.ome.zarr``.
    overlap_percent
        Width of the ramps in percent of the tile.
    voxel_um
        z, y, x size of a voxel.
    origin_um
        z, y, x of the centre of voxel 0.
    focus_plane
        (ny, nx) depth samples, see `fit_focus_plane`; its minimum is taken off. None: flat.
    offset_px
        Added to the focus plane; may be negative.
    depth_px
        Depth samples of the volume.
    circular
        Axial angles in degrees (orientation).
    mask
        (y, x) on the canvas; where it is 0 or False the volume has the fill value.
    options
        How it is stored.
    label
        Name of the channel, such as dBI.
    window, limits
        Values shown black and white, and the range to choose these from; None: from the
        values of a coarse level, percentiles 1 and 99.8, least and greatest.
    threads
        Blocks that are made at a time; fewer where `memory_mb` does not allow as many.
    memory_mb
        Most memory for blocks, beside some 200 MB for the program.

    Raises
    ------
    ValueError
        If numbers of tiles and positions differ, or a plane has another shape than a tile.
    ConfigError
        If the overlap is out of range, chunk and shard need more memory than there may be, or there
        is such a volume and it is not to be replaced.
    IncompleteInputError
        If all tiles are missing.
    CorruptInputError
        If a tile has another shape than the others or cannot be read, a position or the focus plane
        is not finite, or the mask has another shape than the canvas.
    ServiceError
        If the disk refuses.
    """
    out = Path(out_zarr)
    if out.exists() and not options.overwrite:
        raise ConfigError(f"{out} exists; remove it, or set overwrite to have it replaced.")
    scene, origin = _scene(
        readers,
        positions_px,
        overlap_percent=overlap_percent,
        focus_plane=focus_plane,
        offset_px=offset_px,
        depth_px=depth_px,
        circular=circular,
        mask=mask,
    )
    pyramid = pyramid_layout(scene.shape, options)
    makers = block_makers(scene, pyramid, threads, memory_mb * 10**6)
    with VolumeStore(out, pyramid, options, fingerprint=_fingerprint(scene, options)) as store:
        numbers = write_footprints(scene, pyramid, store, makers)
        write_remaining_levels(scene, pyramid, store)
        found, extremes = store.find_window()
        shown = window or found
        written = store.complete(
            ImageMetadata(
                name=out.name.removesuffix(".zarr").removesuffix(".ome"),
                voxel_um=voxel_um,
                origin_um=origin_um,
                window=shown,
                limits=limits or (min(extremes[0], shown[0]), max(extremes[1], shown[1])),
                label=label,
            )
        )
    return VolumeReport(
        shape=scene.shape,
        levels=len(pyramid.levels),
        origin_px=origin,
        out_of_range_voxels=numbers["out_of_range"],
        not_finite_voxels=numbers["not_finite"],
        wanted_voxels=numbers["wanted"],
        read_bytes=sum(maker.read_bytes for maker in makers),
        tile_bytes=4 * math.prod(scene.tile_shape) * sum(r is not None for r in scene.readers),
        written_bytes=written,
        footprints=numbers["footprints"],
        resumed_footprints=numbers["resumed"],
        workers=len(makers),
        window=shown,
    )


def _scene(
    readers: Sequence[VolumeReader | NDArray[np.float32] | None],
    positions_px: ArrayLike,
    *,
    overlap_percent: float,
    focus_plane: ArrayLike | None,
    offset_px: int,
    depth_px: int,
    circular: bool,
    mask: ArrayLike | None,
) -> tuple[Scene, tuple[int, int]]:
    check_overlap(overlap_percent)
    corners = tile_corners(positions_px)
    if len(readers) != len(corners):
        raise ValueError(f"{len(readers)} tiles for {len(corners)} positions.")
    if depth_px < 1:
        raise ValueError(f"depth of {depth_px} samples: expected at least 1.")
    tiles: list[VolumeReader | None] = [
        ArrayVolume(tile) if isinstance(tile, np.ndarray) else tile for tile in readers
    ]
    present = [(i, tile) for i, tile in enumerate(tiles) if tile is not None]
    if not present:
        raise IncompleteInputError(
            f"all {len(tiles)} tiles of the volume are missing; process the tiles first."
        )
    shape = present[0][1].shape
    for i, tile in present:
        if tile.shape != shape:
            raise CorruptInputError(
                f"tile {i} has shape {tile.shape} (z, y, x): expected {shape} like tile "
                f"{present[0][0]}. Process it again with the same settings."
            )
    canvas, origin = canvas_shape(positions_px, shape[1:])
    return (
        Scene(
            readers=tiles,
            corners=corners - np.array(origin),
            tile_shape=shape,
            shape=(depth_px, *canvas),
            shift=_shift(focus_plane, shape[1:], offset_px),
            weights=ramp_weights(shape[1:], overlap_percent),
            circular=circular,
            mask=checked_mask(mask, canvas),
        ),
        origin,
    )


def _shift(
    focus_plane: ArrayLike | None, tile_shape: tuple[int, int], offset_px: int
) -> NDArray[np.int32]:
    if focus_plane is None:
        return np.full(tile_shape, offset_px, np.int32)
    plane = np.asarray(focus_plane, np.float64)
    if plane.shape != tile_shape:
        raise ValueError(f"focus plane of shape {plane.shape} for tiles of {tile_shape}.")
    if not np.isfinite(plane).all():
        raise CorruptInputError(
            f"the focus plane has {int((~np.isfinite(plane)).sum())} values that are not finite; "
            "fit it again."
        )
    shift: NDArray[np.int32] = np.rint(plane - plane.min()).astype(np.int32) + np.int32(offset_px)
    return shift


def _fingerprint(scene: Scene, options: ZarrOptions) -> str:
    """Hash over everything that the stored values follow from."""
    content = {
        "method": _METHOD,
        "tiles": [reader and reader.identity for reader in scene.readers],
        "corners": scene.corners.tolist(),
        "tile_shape": scene.tile_shape,
        "shape": scene.shape,
        "circular": scene.circular,
        "options": {k: v for k, v in asdict(options).items() if k != "overwrite"},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for array in (scene.shift, scene.weights, scene.mask):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
