"""Filters that make two tiles comparable where they overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from opticstream_smk.mosaic.correlate import COARSE_STEP_PX
from opticstream_smk.mosaic.subpixel_kernels import (
    smooth_columns,
    smooth_rows,
    subtract_background,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Speckle is white at the pixel scale while tissue is not, so a little smoothing costs hardly any
# tissue detail; it also leaves the image band-limited enough for cubic interpolation to be exact
# to a few thousandths of a pixel.
SMOOTHING_SIGMA_PX = 1.0
# Vignetting and tile-to-tile gain vary over the whole tile, but the search gains from a far finer
# background: the less neighbouring pixels resemble each other, the more independent samples an
# overlap has. On phantoms 4-6 px gives 2-3 times the evidence of 20 px, and more on small tiles.
BACKGROUND_SIGMA_PX = 5.0


@dataclass(frozen=True)
class FilteredTile:
    """One tile, prepared for matching.

    Attributes
    ----------
    spline
        (ny, nx) float32, cubic B-spline coefficients of the tile smoothed by
        `SMOOTHING_SIGMA_PX`; missing pixels filled.
    band
        (ny, nx) float32, the smoothed tile less its local background, about zero mean. 0 where
        pixels are missing; all 0 for a tile that is constant or has no finite pixel.
    coarse
        (ny // 4, nx // 4) float32, what `band` lacks, down to four times coarser structure, in
        pixels of `COARSE_STEP_PX`.
    valid
        (ny, nx) bool, False where the tile is not finite. None if it is finite everywhere.
    """

    spline: NDArray[np.float32]
    band: NDArray[np.float32]
    coarse: NDArray[np.float32]
    valid: NDArray[np.bool_] | None

    @property
    def has_structure(self) -> bool:
        """Whether there is anything to match."""
        return bool(self.band.any())


def filter_tile(tile: ArrayLike) -> FilteredTile:
    """Prepare a (ny, nx) image in any unit; pixels that are not finite count as missing."""
    image = np.asarray(tile, dtype=np.float32)
    valid = np.isfinite(image)
    if valid.all():
        return _filter_filled(image, None)
    if not valid.any():
        return _filter_filled(np.zeros_like(image), valid)
    return _filter_filled(_fill_missing(image, valid), valid)


def gaussian_taps(sigma_px: float) -> NDArray[np.float32]:
    """(R + 1,) one half of a Gaussian filter of sum 1, its middle first; R is 4 sigma."""
    distance = np.arange(int(4 * sigma_px + 0.5) + 1)
    return _normalised(np.exp(-0.5 * (distance / sigma_px) ** 2))


def smooth(image: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter (ny, nx) along both axes; beyond the rim the outermost pixels go on."""
    along_y, both = np.empty_like(image), np.empty_like(image)
    smooth_rows(image, taps, along_y)
    smooth_columns(along_y, taps, both)
    return both


def _filter_filled(image: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> FilteredTile:
    spline = smooth(np.ascontiguousarray(image), _SPLINE_TAPS)
    band = smooth(spline, _SAMPLE_TAPS)
    background = subtract_background(band, _box_of_sigma(BACKGROUND_SIGMA_PX), 0.0)
    coarse = _decimate(background)
    if coarse.size:
        # Soft outlines of tissue often end at the rim as a slope.
        subtract_background(coarse, _box_of_sigma(BACKGROUND_SIGMA_PX), 1.0)
    if valid is not None:
        band[~valid] = 0
    # What is left of a constant tile is rounding, and must not pass for texture.
    if float(np.abs(band).max()) <= 1e-5 * float(np.abs(image).max()):
        band[:] = 0
        coarse[:] = 0
    return FilteredTile(spline, band, coarse, valid)


def _decimate(image: NDArray[np.float32]) -> NDArray[np.float32]:
    step = COARSE_STEP_PX
    rows, columns = image.shape[0] // step, image.shape[1] // step
    blocks = image[: rows * step, : columns * step].reshape(rows, step, columns, step)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _fill_missing(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Replace missing pixels by the average of those around them, far from any by the mean."""
    known = np.where(valid, image, np.float32(0))
    box = _box_of_sigma(BACKGROUND_SIGMA_PX)
    share = ndi.uniform_filter(valid.astype(np.float32), size=box, mode="nearest")
    nearby = ndi.uniform_filter(known, size=box, mode="nearest")
    # A share below one pixel of the box is rounding of the running sum.
    has_neighbours = share > 0.5 / box**2
    around = np.where(
        has_neighbours, nearby / np.where(has_neighbours, share, 1), known[valid].mean()
    )
    return np.where(valid, known, around).astype(np.float32)


def _box_of_sigma(sigma_px: float) -> int:
    # Three boxes of width w have variance 3 (w^2 - 1) / 12, so sigma is about w / 2.
    return 2 * int(sigma_px) + 1


def _normalised(half: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(half / (2 * half.sum() - half[0]), dtype=np.float32)


def _smoothing_spline_taps() -> NDArray[np.float32]:
    """Gaussian and inverse of the sampled cubic B-spline in one filter, see `gaussian_taps`."""
    reach = 6
    pole = np.sqrt(3.0) - 2
    distance = np.abs(np.arange(-4 * reach, 4 * reach + 1))
    gaussian = np.exp(-0.5 * (distance / SMOOTHING_SIGMA_PX) ** 2)
    both = np.convolve(gaussian, pole**distance, mode="same")
    return _normalised(both[4 * reach : 5 * reach + 1])


_SPLINE_TAPS = _smoothing_spline_taps()
# A cubic B-spline at whole pixels.
_SAMPLE_TAPS = _normalised(np.array([4.0, 1.0]))
