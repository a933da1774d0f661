"""Decimated, smoothed copies of an image that may have holes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from opticstream_smk.registration.affine import Affine

# Enough to make cubic interpolation exact to 0.01 px and to calm speckle; more costs detail.
_SMOOTHING_SIGMA_PX = 1.0

# Contrast is evened out over windows of this sigma: wide enough to keep the texture, narrow
# enough to lose vignetting, and tissue that is brighter in one view.
_CONTRAST_SIGMA_PX = 10.0

# Local contrast below this share of the overall contrast is not raised further: the noise of the
# background would be.
_CONTRAST_FLOOR = 0.5

# Share of a pixel's smoothing window that must be valid: drops the one or two pixels along an
# edge whose gradients see the filling, and only a few around a single NaN.
_MIN_WINDOW_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class Level:
    """One level of the pyramid of one image.

    Attributes
    ----------
    step
        Full-resolution pixels per pixel.
    image
        (y, x) float64, smoothed, less its mean; filled where not valid.
    valid
        bool (y, x).
    """

    step: int
    image: NDArray[np.float64]
    valid: NDArray[np.bool_]

    @cached_property
    def spline(self) -> NDArray[np.float64]:
        """(y, x) cubic B-spline coefficients of ``image``."""
        return ndimage.spline_filter(self.image, order=3, mode="mirror")

    @cached_property
    def gradient(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Central differences of ``image`` along y and x, per level pixel."""
        return np.gradient(self.image, axis=0), np.gradient(self.image, axis=1)


def decimate(
    image: NDArray[np.floating], valid: NDArray[np.bool_], step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average blocks of ``step`` x ``step`` pixels over their valid pixels.

    Level pixel ``i`` is centred on full-resolution pixel ``step * i + (step - 1) / 2``; an
    incomplete last block is dropped.

    Returns
    -------
    (mean, share) : (y // step, x // step) float64
        Block mean (0 where nothing is valid) and share of valid pixels.
    """
    rows, columns = image.shape[0] // step, image.shape[1] // step
    total = np.zeros((rows, columns))
    count = np.zeros((rows, columns))
    # Strided sums instead of one reshaped mean: no full-size temporary in double precision.
    for dy in range(step):
        for dx in range(step):
            part = (slice(dy, rows * step, step), slice(dx, columns * step, step))
            good = valid[part]
            total += np.where(good, image[part], 0)
            count += good
    return total / np.maximum(count, 1), count / step**2


def make_level(image: NDArray[np.floating], valid: NDArray[np.bool_], step: int) -> Level:
    """Decimate and smooth an image (y, x).

    Every average is taken over valid pixels only. What lies beyond the image counts as not valid,
    too: replicated edges would differ from what the other image shows there.
    """
    mean, share = decimate(image, valid, step)
    known = share >= 0.5
    middle = mean[known].mean() if known.any() else 0.0
    smooth, window = _smooth(mean - middle, known, _SMOOTHING_SIGMA_PX)
    return Level(step=step, image=smooth, valid=known & (window > _MIN_WINDOW_SHARE))


def even_contrast(level: Level) -> Level:
    """Subtract the local mean and divide by the local standard deviation."""
    mean, _ = _smooth(level.image, level.valid, _CONTRAST_SIGMA_PX)
    detail = level.image - mean
    variance, _ = _smooth(detail**2, level.valid, _CONTRAST_SIGMA_PX)
    floor = _CONTRAST_FLOOR**2 * variance[level.valid].mean() if level.valid.any() else 0.0
    contrast = np.sqrt(variance + floor + np.finfo(np.float64).tiny)
    return Level(step=level.step, image=detail / contrast, valid=level.valid)


def matched_pair(fixed: Level, moving: Level, affine: Affine) -> tuple[Level, Level]:
    """Bring two levels to the fixed grid by ``affine`` (level pixels) and even out their contrast.

    Both averages run over the pixels that both images have: otherwise the edge of a mask that
    only one of them has would leave a false trace in it.
    """
    shape = fixed.image.shape
    seen = ndimage.affine_transform(
        moving.spline,
        affine.A,
        affine.t,
        output_shape=shape,
        order=3,
        mode="mirror",
        prefilter=False,
    )
    share = ndimage.affine_transform(
        moving.valid.astype(np.float32), affine.A, affine.t, output_shape=shape, order=1
    )
    both = fixed.valid & (share > 0.5)
    return (
        even_contrast(Level(fixed.step, fixed.image, both)),
        even_contrast(Level(fixed.step, seen, both)),
    )


def _smooth(
    image: NDArray[np.float64], known: NDArray[np.bool_], sigma_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Gaussian mean over known pixels and the share of the window that is known."""
    window = ndimage.gaussian_filter(known.astype(np.float64), sigma_px, mode="constant")
    total = ndimage.gaussian_filter(np.where(known, image, 0.0), sigma_px, mode="constant")
    return np.where(window > 0.01, total / np.maximum(window, 0.01), 0.0), window


def to_level(affine: Affine, step: int) -> Affine:
    """Return the same map in level pixels, for a pair of levels of equal step."""
    centre = np.full(2, (step - 1) / 2)
    return Affine(affine.A, (affine.A @ centre + affine.t - centre) / step)


def from_level(affine: Affine, step: int) -> Affine:
    """Undo :func:`to_level`."""
    centre = np.full(2, (step - 1) / 2)
    return Affine(affine.A, step * affine.t + centre - affine.A @ centre)


def independent_samples(fixed: Level, moving: Level) -> float:
    """Count the independent samples that a correlation over a matched pair has.

    Neighbouring pixels of smooth images say the same thing: for unrelated images the correlation
    scatters by ``1 / sqrt(n)`` with ``n = pixels / sum of acf_fixed * acf_moving`` (Bartlett),
    which is taken from the power spectra.
    """
    power = [
        np.abs(fft.rfft2(np.where(level.valid, level.image, 0.0))) ** 2 for level in (fixed, moving)
    ]
    # The half spectrum holds each frequency beyond the first column for two.
    weight = np.full(power[0].shape[1], 2.0)
    weight[0] = 1.0
    alike = (power[0] * power[1] * weight).sum()
    if alike == 0.0:
        return 0.0
    total = (power[0] * weight).sum() * (power[1] * weight).sum()
    # The spectra stand for all shifts, with less overlap on average than the actual one.
    return float(fixed.valid.mean() * total / alike)
