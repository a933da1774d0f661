"""Offset of two overlapping tiles by overlap-normalised cross-correlation.

Plain correlation is used and not phase correlation: whitening gives speckle, which is white and
differs between the tiles, the same say as tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft
from scipy import ndimage as ndi

from opticstream_smk.mosaic.correlate_kernels import box_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Candidates that stay within this distance of the peak are the same peak.
_PEAK_RADIUS_PX = 4
# Where the fine structure is as clear as this, the coarse one is not asked.
_CLEAR_MARGIN = 40.0
# Size of a pixel of the coarse images.
COARSE_STEP_PX = 4
# Parts of the overlap this wide do not depend on each other, in fine and in coarse pixels.
_CLUSTER_PX = 8
_COARSE_CLUSTER_PX = 3
# An overlap of fewer coarse pixels says nothing.
_MIN_COARSE_OVERLAP = 8
# With fewer parts their scatter is not known well enough to judge by it.
_MIN_CLUSTERS = 40
# The evidence formula diverges at a correlation of 1.
_MAX_NCC = 0.999


@dataclass(frozen=True)
class Peak:
    """Where two tiles match best, to the pixel.

    Attributes
    ----------
    dy, dx
        Offset of the second tile from the first, px.
    ncc
        Pearson correlation of the overlap at that offset.
    evidence
        Log likelihood ratio against "the overlaps are unrelated", in nats, plus that of the prior
        if there is one, less the logarithm of the number of independent places that were
        searched. The best of pure chance is below 1 in nine of ten pairs, seldom above 5.
    margin
        By how many nats the runner-up, at least `_PEAK_RADIUS_PX` away, is less likely.
    """

    dy: int
    dx: int
    ncc: float
    evidence: float
    margin: float


@dataclass(frozen=True)
class _Lags:
    """Along one axis: the offsets searched, and the parts of both tiles that can then overlap."""

    a: slice
    b: slice
    lags: NDArray[np.int64]

    @property
    def first_offset(self) -> int:
        return int(self.offsets[0])

    @property
    def offsets(self) -> NDArray[np.int64]:
        offsets: NDArray[np.int64] = self.lags + (self.a.start - self.b.start)
        return offsets

    @property
    def overlap_a(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        length_a, length_b = self.a.stop - self.a.start, self.b.stop - self.b.start
        return np.maximum(self.lags, 0), np.minimum(length_a, length_b + self.lags)

    @property
    def fft_length(self) -> int:
        # Long enough that no searched lag wraps round.
        length_a, length_b = self.a.stop - self.a.start, self.b.stop - self.b.start
        longest = max(length_a, length_b, length_b + self.lags[-1], length_a - self.lags[0])
        return int(fft.next_fast_len(int(longest), real=True))


def find_peak(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    expected: tuple[float, float],
    search: tuple[int, int],
    *,
    coarse: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    prior_sigma: tuple[float, float] | None = None,
) -> Peak | None:
    """Search the offset of tile `b` from tile `a` around an expected one.

    The correlation at each offset is normalised by the mean and energy of just those pixels that
    overlap there (Fourier correlation and summed-area tables), so that bright structure outside
    the overlap does not pull. Offsets of different overlap are compared by evidence, not by
    correlation: a thin overlap correlates highly by chance.

    Parameters
    ----------
    a, b
        (ny, nx) band-passed tiles of one shape.
    expected
        (dy, dx) in px, centre of the search.
    search
        Half width (y, x) of the search in px.
    coarse
        What `a` and `b` do not hold of the tiles, averaged over `COARSE_STEP_PX` px: a soft outline
        of the tissue has no fine structure. Its evidence is added.
    prior_sigma
        Standard deviation (y, x) in px with which the offset is known to lie around `expected`;
        None weighs all offsets alike.

    Returns
    -------
    Peak or None
        None if no searched offset gives an overlap with structure in both tiles.
    """
    rows = _lags(a.shape[0], expected[0], search[0])
    columns = _lags(a.shape[1], expected[1], search[1])
    if rows is None or columns is None:
        return None
    found = _evidence(a, b, rows, columns)
    if found is None:
        return None
    fine, ncc, cell_area = found
    prior = _log_prior(rows, columns, expected, prior_sigma)
    iy, ix, margin = _best(fine + prior)
    evidence = fine
    if coarse is not None and margin < _CLEAR_MARGIN:
        evidence = fine + _coarse_evidence(*coarse, rows, columns)
        iy, ix, margin = _best(evidence + prior)
    if evidence[iy, ix] <= 0:
        return None
    searched = float(fine.size)
    if prior_sigma is not None:
        searched = min(searched, 2 * np.pi * prior_sigma[0] * prior_sigma[1])
    places = max(searched / cell_area, 1.0)
    dy, dx = int(rows.offsets[iy]), int(columns.offsets[ix])
    believed = min(float(fine[iy, ix]), _clustered_evidence(a, b, dy, dx, _CLUSTER_PX))
    if coarse is not None and evidence is not fine:
        step = COARSE_STEP_PX
        believed += min(
            float(evidence[iy, ix] - fine[iy, ix]),
            _clustered_evidence(*coarse, round(dy / step), round(dx / step), _COARSE_CLUSTER_PX),
        )
    return Peak(
        dy=dy,
        dx=dx,
        ncc=float(ncc[iy, ix]),
        evidence=believed + float(prior[iy, ix] - np.log(places)),
        margin=margin,
    )


def _log_prior(
    rows: _Lags,
    columns: _Lags,
    expected: tuple[float, float],
    sigma: tuple[float, float] | None,
) -> NDArray[np.float64]:
    if sigma is None:
        return np.zeros((len(rows.lags), len(columns.lags)))
    off_y = (rows.offsets - expected[0]) / sigma[0]
    off_x = (columns.offsets - expected[1]) / sigma[1]
    log_prior: NDArray[np.float64] = -0.5 * (off_y[:, None] ** 2 + off_x[None, :] ** 2)
    return log_prior


def _best(score: NDArray[np.float64]) -> tuple[int, int, float]:
    """Index of the highest place, and by how much it surpasses every other."""
    iy, ix = np.unravel_index(int(np.argmax(score)), score.shape)
    margin = float(score[iy, ix]) - _best_rival(score, int(iy), int(ix))
    return int(iy), int(ix), margin


def _evidence(
    a: NDArray[np.float32], b: NDArray[np.float32], rows: _Lags, columns: _Lags
) -> tuple[NDArray[np.float64], NDArray[np.float64], float] | None:
    """Log likelihood ratio and correlation at every lag, and pixels per independent sample."""
    strip_a, strip_b = a[rows.a, columns.a], b[rows.b, columns.b]
    strip_a, strip_b = strip_a - strip_a.mean(), strip_b - strip_b.mean()
    if not (strip_a.any() and strip_b.any()):
        return None
    products, cell_area = _cross_correlation(strip_a, strip_b, rows, columns)
    ncc, count = _normalise(products, strip_a, strip_b, rows, columns)
    # Neighbouring pixels are correlated, so the samples that count are fewer than the pixels. The
    # log likelihood ratio of a bivariate normal with against without correlation is
    # -n/2 log(1 - r^2); 3 is the loss of freedom in the Fisher transform.
    samples = np.maximum(count / cell_area - 3, 0)
    positive = np.clip(ncc, 0, _MAX_NCC)
    return -0.5 * samples * np.log1p(-(positive**2)), ncc, cell_area


def _clustered_evidence(
    a: NDArray[np.float32], b: NDArray[np.float32], dy: int, dx: int, cluster_px: int
) -> float:
    """Log likelihood ratio at one offset, from how well parts of the overlap agree.

    Speckle is stronger where tissue is brighter, so that one bright corner can correlate by chance
    and outweigh the rest. The ratio of the mean of the parts' products to their own scatter does
    not depend on where the noise is strong. Infinite where the parts are too few to tell.
    """
    rows_a, rows_b = overlap_slices(a.shape[0], dy)
    columns_a, columns_b = overlap_slices(a.shape[1], dx)
    part_a, part_b = a[rows_a, columns_a], b[rows_b, columns_b]
    parts = [length // cluster_px for length in part_a.shape]
    if parts[0] * parts[1] < _MIN_CLUSTERS:
        return float(np.inf)
    products = (part_a - part_a.mean()) * (part_b - part_b.mean())
    starts = [np.arange(n) * cluster_px for n in parts]
    sums = np.add.reduceat(np.add.reduceat(products, starts[0], axis=0), starts[1], axis=1)
    total = float(sums.sum(dtype=np.float64))
    if total <= 0:
        return 0.0
    agreement = total**2 / (sums.size * float((sums.astype(np.float64) ** 2).sum()))
    return -0.5 * sums.size * float(np.log1p(-min(agreement, _MAX_NCC)))


def _coarse_evidence(
    a: NDArray[np.float32], b: NDArray[np.float32], rows: _Lags, columns: _Lags
) -> NDArray[np.float64]:
    """Evidence of the coarse structure at every lag of the fine one."""
    lags, places = [], []
    for length, fine in zip(a.shape, (rows, columns), strict=True):
        middle = fine.offsets.mean() / COARSE_STEP_PX
        reach = int(np.ceil(len(fine.offsets) / (2 * COARSE_STEP_PX))) + 1
        along = _lags(length, middle, reach)
        if along is None or length - abs(middle) < _MIN_COARSE_OVERLAP:
            return np.zeros((len(rows.lags), len(columns.lags)))
        lags.append(along)
        places.append(fine.offsets / COARSE_STEP_PX - along.first_offset)
    found = _evidence(a, b, lags[0], lags[1])
    if found is None:
        return np.zeros((len(rows.lags), len(columns.lags)))
    along_y = _interpolate(found[0], places[0])
    interpolated: NDArray[np.float64] = _interpolate(along_y.T, places[1]).T
    return interpolated


def _interpolate(values: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows at fractional `places`, linearly; beyond the rim the outermost rows go on."""
    places = np.clip(places, 0, len(values) - 1)
    low = np.minimum(places.astype(int), max(len(values) - 2, 0))
    high = np.minimum(low + 1, len(values) - 1)
    share = (places - low)[:, None]
    between: NDArray[np.float64] = values[low] * (1 - share) + values[high] * share
    return between


def overlap_slices(length: int, offset: int) -> tuple[slice, slice]:
    """Parts of two equal axes, the second shifted by `offset`, that cover the same ground."""
    overlap = max(length - abs(offset), 0)
    start_a, start_b = max(offset, 0), max(-offset, 0)
    return slice(start_a, start_a + overlap), slice(start_b, start_b + overlap)


def _lags(length: int, expected: float, search: int) -> _Lags | None:
    low = max(int(np.floor(expected + 0.5)) - search, 1 - length)
    high = min(int(np.floor(expected + 0.5)) + search, length - 1)
    if low > high:
        return None
    a = slice(max(low, 0), min(length, length + high))
    b = slice(max(-high, 0), min(length, length - low))
    return _Lags(a, b, np.arange(low, high + 1) + b.start - a.start)


def _cross_correlation(
    a: NDArray[np.float32], b: NDArray[np.float32], rows: _Lags, columns: _Lags
) -> tuple[NDArray[np.float32], float]:
    """sum(a b) at every searched lag, and the number of pixels per independent sample."""
    shape = (rows.fft_length, columns.fft_length)
    spectrum_a, spectrum_b = fft.rfft2(a, s=shape), fft.rfft2(b, s=shape)
    products = fft.irfft2(spectrum_a * np.conj(spectrum_b), s=shape)
    lags = np.ix_(rows.lags % shape[0], columns.lags % shape[1])

    # Bartlett: the variance of a chance correlation is sum_k rho_a(k) rho_b(k) / n, and by
    # Parseval that sum is over the power spectra. The half spectrum holds the others twice.
    power_a, power_b = np.abs(spectrum_a) ** 2, np.abs(spectrum_b) ** 2
    twice = np.full(power_a.shape[1], 2.0)
    twice[0] = 1.0
    if shape[1] % 2 == 0:
        twice[-1] = 1.0
    joint = float((power_a * power_b).sum(axis=0, dtype=np.float64) @ twice)
    total_a = float(power_a.sum(axis=0, dtype=np.float64) @ twice)
    total_b = float(power_b.sum(axis=0, dtype=np.float64) @ twice)
    cell_area = shape[0] * shape[1] * joint / (total_a * total_b)
    return products[lags], max(cell_area, 1.0)


def _normalise(
    products: NDArray[np.float32],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    rows: _Lags,
    columns: _Lags,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pearson correlation of the overlap at every lag, and its number of pixels."""
    (top, bottom), (left, right) = rows.overlap_a, columns.overlap_a
    count = (bottom - top)[:, None] * (right - left)[None, :]
    box_a = (top, bottom, left, right)
    box_b = (top - rows.lags, bottom - rows.lags, left - columns.lags, right - columns.lags)
    sum_a, square_a = box_sums(a, *box_a)
    sum_b, square_b = box_sums(b, *box_b)
    energy_a = square_a - sum_a**2 / count
    energy_b = square_b - sum_b**2 / count
    covariance = products - sum_a * sum_b / count
    # An overlap without structure in one tile divides by rounding errors.
    floor_a = 1e-6 * float(energy_a.max(initial=0.0))
    floor_b = 1e-6 * float(energy_b.max(initial=0.0))
    flat = (energy_a <= floor_a) | (energy_b <= floor_b)
    scale = np.sqrt(np.where(flat, 1.0, energy_a * energy_b))
    ncc = np.where(flat, 0.0, covariance / scale)
    return np.clip(ncc, -1, 1), count


def _best_rival(score: NDArray[np.float64], iy: int, ix: int) -> float:
    """Highest other local maximum; its slopes do not count, or a broad peak would rival itself."""
    is_maximum = score >= ndi.maximum_filter(score, size=3, mode="nearest")
    radius = _PEAK_RADIUS_PX
    is_maximum[max(iy - radius, 0) : iy + radius + 1, max(ix - radius, 0) : ix + radius + 1] = False
    return float(score[is_maximum].max(initial=0.0))
