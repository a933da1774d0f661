"""Tile volumes, and what a volume of them should hold, by plain NumPy."""

import numpy as np
import zarr

from opticstream_smk.io.ome_zarr import ZarrOptions
from opticstream_smk.mosaic import blend, stitch_volume

TILE = (44, 36, 40)  # z, y, x
POSITIONS = np.array([[0, 0], [0.4, 30.4], [25.6, -2], [27, 31], [52, 1], [51, 29]])
OVERLAP = 20
SMALL = ZarrOptions(chunk=(8,), shard=(32,))
VOXEL_UM = (2.5, 10.0, 12.0)


def make_tiles(*, circular=False, seed=0, count=6):
    rng = np.random.default_rng(seed)
    tiles = rng.normal(50, 15, (count, *TILE)).astype(np.float32)
    return [(tile * 5 + 90) % 180 - 90 if circular else tile for tile in tiles]


def make_plane(seed=0):
    y, x = np.mgrid[: TILE[1], : TILE[2]]
    return 6.3 + 0.11 * x + 0.003 * y**2


def stitch(tiles, out, **options):
    given = {"depth_px": 37, "offset_px": 3, "options": SMALL, "threads": 2} | options
    return stitch_volume(
        tiles, POSITIONS[: len(tiles)], out, overlap_percent=OVERLAP, voxel_um=VOXEL_UM, **given
    )


def read(out, level=0):
    return np.asarray(zarr.open_group(str(out), mode="r")[str(level)])


def expected(tiles, *, plane=None, offset=3, depth=37, circular=False, mask=None, fill=0.0):
    """Every depth blended as an image."""
    shift = np.zeros(TILE[1:], int) + offset
    if plane is not None:
        shift += np.rint(plane - plane.min()).astype(int)
    y, x = np.mgrid[: TILE[1], : TILE[2]]
    planes = []
    for k in range(depth):
        z = k + shift
        inside = (z >= 0) & (z < TILE[0])
        images = [
            np.full(TILE[1:], np.nan)
            if tile is None
            else np.where(inside, tile[np.clip(z, 0, TILE[0] - 1), y, x], np.nan)
            for tile in tiles
        ]
        planes.append(
            blend(
                images,
                POSITIONS[: len(tiles)],
                overlap_percent=OVERLAP,
                circular=circular,
                mask=mask,
                fill=fill,
            )[0]
        )
    return np.stack(planes)


def halved(volume, *, fill=0.0, circular=False):
    """The next level: mean of what has a value in 2 x 2 x 2 voxels, axes of one voxel kept."""
    values = np.where(volume == fill, np.nan, volume.astype(np.float64))
    for axis in range(3):
        if values.shape[axis] == 1:
            values = np.concatenate([values, np.full_like(values, np.nan)], axis)
    z, y, x = (n // 2 for n in values.shape)
    blocks = values[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
    if circular:
        vector = np.exp(2j * np.deg2rad(blocks))
        known = np.isfinite(blocks)
        mean = np.where(known, vector, 0).sum((1, 3, 5))
        out = np.rad2deg(np.angle(mean)) / 2
        return np.where(known.any((1, 3, 5)), out, fill)
    count = np.isfinite(blocks).sum((1, 3, 5))
    total = np.nansum(blocks, (1, 3, 5))
    return np.where(count > 0, total / np.maximum(count, 1), fill)


def axial(difference):
    return (np.asarray(difference, np.float64) + 90) % 180 - 90
