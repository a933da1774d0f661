"""A small synthetic mosaic with known positions."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from opticstream_smk.mosaic import nominal_positions, snake_order

_MARGIN = 16


@dataclass(frozen=True)
class Phantom:
    tiles: np.ndarray  # (N, ny, nx) float32
    cells: np.ndarray  # (N, 2)
    true: np.ndarray  # (N, 2) y, x
    nominal: np.ndarray  # (N, 2)
    has_tissue: np.ndarray  # (N,) bool
    stage: np.ndarray  # (N, 2) y, x where the stage goes on average


def make_phantom(
    rows,
    columns,
    tile_shape,
    overlap_percent,
    *,
    seed,
    jitter_px=1.5,
    step_error_px=(0.0, 0.0),
    backlash_px=0.0,
    looks=100,
    tissue_share=1.0,
    stage_seed=None,
    repeatability_px=0.0,
):
    """Texture of several scales under speckle of `looks` looks; `tissue_share` of the width.

    Phantoms of the same `stage_seed` have the same stage, which comes back to its places with a
    scatter of `repeatability_px`.
    """
    rng = np.random.default_rng(seed)
    of_stage = rng if stage_seed is None else np.random.default_rng(stage_seed)
    cells = snake_order(rows, columns)
    nominal = nominal_positions(cells, tile_shape, overlap_percent)
    true = nominal + cells * np.asarray(step_error_px)
    true[:, 0] += backlash_px * (cells[:, 1] % 2)
    true += np.clip(of_stage.normal(0, 1, true.shape), -2.5, 2.5) * jitter_px
    stage = true.copy()
    if repeatability_px:
        true += rng.normal(0, repeatability_px, true.shape)
    true += _MARGIN - true.min(axis=0)
    ny, nx = tile_shape
    height, width = (np.ceil(true.max(axis=0)) + tile_shape + _MARGIN).astype(int)

    scene = sum(
        strength * _unit(ndi.gaussian_filter(rng.normal(size=(height, width)), sigma))
        for sigma, strength in ((1.5, 3.0), (4.0, 3.0), (25.0, 6.0))
    )
    scene = 60 + scene
    scene[:, int(tissue_share * width) :] = 30
    vignette = 1 - 0.15 * (np.linspace(-1, 1, ny)[:, None] ** 2 + np.linspace(-1, 1, nx) ** 2) / 2
    tiles = np.empty((len(cells), ny, nx), dtype=np.float32)
    for tile, (y, x) in zip(tiles, true, strict=True):
        grid = np.meshgrid(y + np.arange(ny), x + np.arange(nx), indexing="ij")
        clean = ndi.map_coordinates(scene, grid, order=3, mode="nearest")
        speckle = rng.gamma(looks, 1 / looks, size=tile.shape)
        tile[:] = clean * vignette * speckle + rng.normal(0, 1, tile.shape)
    has_tissue = true[:, 1] + 0.2 * nx < tissue_share * width
    return Phantom(tiles, cells, true, nominal, has_tissue, stage)


def position_errors(positions, true, use=slice(None)):
    """Distance from the truth, px, after removing the median translation of the tiles `use`."""
    difference = np.asarray(positions) - true
    difference = difference - np.median(difference[use], axis=0)
    return np.hypot(difference[:, 0], difference[:, 1])


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def _unit(image):
    return (image - image.mean()) / image.std()
