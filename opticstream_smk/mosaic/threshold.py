"""Where tissue begins, from how often each brightness occurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from opticstream_smk.errors import QualityError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BINS = 256
_SMOOTHING_BINS = 4.0  # about 0.5 dB of a range of 40 dB
_LEAST_VALUES = 1000
# Of the pixels: less is dust or a few hot pixels, and no class.
_LEAST_SHARE = 0.005
_LEAST_RANGE = 3.0
# Two classes leave a valley; noise on one leaves dents.
_DEEPEST_VALLEY = 0.5
# Background is the noise floor and hardly varies; grey beside white matter are two classes as well,
# but one varies nearly as much as the other (0.9 to 1.1 times on synthetic mosaics).
_FLAT = 0.7
# Or the classes are this many standard deviations apart, whatever they are.
_FAR_APART = 5.0


@dataclass(frozen=True)
class TissueThreshold:
    """A threshold between background and tissue.

    Attributes
    ----------
    threshold
        Middle of the least frequent values between them, in the unit of the image.
    background, tissue
        Median of either class.
    tissue_share
        Share of pixels above the threshold.
    """

    threshold: float
    background: float
    tissue: float
    tissue_share: float


def find_threshold(values: ArrayLike) -> TissueThreshold:
    """Threshold between background and tissue, if there are both.

    Every valley of the smoothed histogram is looked at. It parts background from tissue if it is at
    most half as high as the peaks on either side, both sides hold at least 0.5 % of the pixels, and
    what is below varies at most 0.7 times as much as what is above, or is far from it. Of these,
    the one that parts best is taken (the largest variance between classes: Otsu, IEEE Trans. SMC 9,
    62, 1979).

    Parameters
    ----------
    values
        Any shape; a smoothed AIP in dB. Values that are not finite are left out.

    Raises
    ------
    QualityError
        There are no two such classes: all is background, or all is tissue.
    """
    found = np.asarray(values, dtype=np.float32)
    found = found[np.isfinite(found)]
    if len(found) < _LEAST_VALUES:
        raise QualityError(
            f"{len(found)} pixels have a value: expected at least {_LEAST_VALUES} to tell tissue "
            "from background. Give the threshold as a number of dB."
        )
    low, high = (float(v) for v in np.percentile(found, (0.05, 99.95)))
    best: tuple[float, TissueThreshold] | None = None
    if high - low >= _LEAST_RANGE:
        counts, edges = np.histogram(found, bins=_BINS, range=(low, high))
        height = ndi.gaussian_filter1d(counts.astype(float), _SMOOTHING_BINS, mode="constant")
        for valley in _valleys(height):
            threshold = float((edges[valley] + edges[valley + 1]) / 2)
            score, fit = _judge(found, threshold)
            if fit is not None and (best is None or score > best[0]):
                best = score, fit
    if best is None:
        raise QualityError(
            f"background and tissue cannot be told apart by brightness ({low:.1f} to {high:.1f} "
            "dB): expected two classes of pixels with a gap between them. All is background, or "
            "all is tissue; give the threshold as a number of dB."
        )
    return best[1]


def _valleys(height: NDArray[np.float64]) -> list[int]:
    """Middles of the valleys that are low against the peaks on both of their sides."""
    left, right = np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1]
    is_low = height <= _DEEPEST_VALLEY * np.minimum(left, right)
    labels, count = ndi.label(is_low)
    middles = []
    for label in range(1, count + 1):
        bins = np.flatnonzero(labels == label)
        depth = height[bins]
        # An empty gap has many least bins.
        least = bins[depth <= depth.min() + 0.01 * min(left[bins[0]], right[bins[-1]])]
        middles.append(int(least[len(least) // 2]))
    return middles


def _judge(values: NDArray[np.float32], threshold: float) -> tuple[float, TissueThreshold | None]:
    """Variance between the classes, and the threshold if they are background and tissue."""
    is_tissue = values > threshold
    share = float(is_tissue.mean())
    if not _LEAST_SHARE <= share <= 1 - _LEAST_SHARE:
        return 0.0, None
    below, above = values[~is_tissue], values[is_tissue]
    score = share * (1 - share) * float(above.mean() - below.mean()) ** 2
    background, tissue = float(np.median(below)), float(np.median(above))
    spread_below, spread_above = _spread(below), _spread(above)
    is_flat = spread_below <= _FLAT * spread_above
    is_far = tissue - background >= _FAR_APART * np.hypot(spread_below, spread_above)
    if not (is_flat or is_far):
        return score, None
    return score, TissueThreshold(threshold, background, tissue, share)


def _spread(values: NDArray[np.float32]) -> float:
    """Standard deviation of the middle half, as of a normal distribution."""
    quarter, three = np.percentile(values, (25, 75))
    return float(three - quarter) / 1.349
