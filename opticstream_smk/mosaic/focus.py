"""The surface that the instrument itself adds to every tile: the focus plane.

A tile's surface map is that of the sample plus one that all tiles share: optics and scanners bend
and tilt the plane of equal path length. Where two tiles overlap, the sample's part is the same, so
their difference is that of the shared part at two places of the tile. It is linear in the
coefficients of a polynomial, so that a few weighted least squares solve it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.errors import CorruptInputError, IncompleteInputError, QualityError
from opticstream_smk.mosaic.blending import tile_corners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

# Tukey's biweight keeps 95 % of the efficiency at 4.685 standard deviations of normal noise.
_TUKEY = 4.685
_MAD_TO_SIGMA = 1.4826
# Whole depth indices differ by 0.4 px rms for want of a finer grid alone.
_LEAST_SCALE_PX = 0.1
_ROUNDS = 40
_CONVERGED_PX = 1e-4
# More overlapping pixels than these change the plane by less than 1e-3 px: memory stays small.
_MOST_SAMPLES = 1_000_000
# A pair says how the plane changes along an axis when the tiles are shifted by so much of it.
_LEAST_SHIFT = 0.1
_LEAST_EIGENVALUE = 1e-7
# Surfaces of one place found twice differ by one or two samples; chance makes it a hundred.
_MOST_NOISE_PX = 10.0
# Surfaces are medians of 3 x 3 A-lines, of speckle that reaches farther than one: errors of planes
# of synthetic acquisitions were four times those of independent pixels.
_PIXELS_PER_SURFACE = 16


@dataclass(frozen=True, eq=False)
class FocusPlane:
    """The fitted plane, and how well it explains the overlaps.

    Attributes
    ----------
    plane_px
        (ny, nx) float32 depth samples, minimum 0, on the whole tile.
    coefficients
        (5,) of x, y, x^2, y^2, xy, with x and y running from -1 to 1 over the tile, depth samples.
    pairs
        (P, 2) 0-based tiles that overlap and were used.
    samples
        Overlapping pixels that were used.
    agreeing_share
        Share of the samples that are not outliers.
    residual_px
        Root mean square of what the plane does not explain, without outliers.
    before_px
        The same without the plane.
    uncertainty_px
        Standard error of the plane, root mean square over the tile: large where overlaps are
        narrow or few.
    """

    plane_px: NDArray[np.float32]
    coefficients: NDArray[np.float64]
    pairs: NDArray[np.int64]
    samples: int
    agreeing_share: float
    residual_px: float
    before_px: float
    uncertainty_px: float


def fit_focus_plane(
    surfaces: ArrayLike,
    positions_px: ArrayLike,
    *,
    usable: ArrayLike | None = None,
    crop_x_px: int = 15,
) -> NDArray[np.float32]:
    """Surface that every tile has in common, from the overlaps; see `solve_focus_plane`.

    Returns
    -------
    numpy.ndarray
        (ny, nx) float32 depth samples, minimum 0.
    """
    found = solve_focus_plane(surfaces, positions_px, usable=usable, crop_x_px=crop_x_px)
    return found.plane_px


def solve_focus_plane(
    surfaces: ArrayLike,
    positions_px: ArrayLike,
    *,
    usable: ArrayLike | None = None,
    crop_x_px: int = 15,
) -> FocusPlane:
    """Fit a polynomial of degree 2 to the differences of overlapping surfaces.

    Iteratively reweighted least squares: first without what lies beyond 1.5 interquartile ranges of
    each pair, then with Tukey's biweight, so that gross failures of surface finding (up to half of
    the pixels) have no weight. The constant term is not seen in differences; the minimum is 0.

    Parameters
    ----------
    surfaces
        (N, ny, nx) depth index of the surface in each tile, from any origin. Pixels that are not
        finite are not used. Unfiltered maps: masking or smoothing hides what is looked for.
    positions_px
        (N, 2) float (y, x) of each tile's first pixel, rounded to whole px.
    usable
        (N,) bool, tiles with tissue (mean intensity of 60 dB and more); None: all.
    crop_x_px
        First columns of each tile that are not used: the scanner still settles there.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    CorruptInputError
        If a position is not finite.
    IncompleteInputError
        If no usable tiles overlap, or only along one axis.
    QualityError
        If the surfaces do not agree in the overlaps, or do not determine the plane.
    """
    maps = np.asarray(surfaces, np.float32)
    corners = tile_corners(positions_px)
    if maps.ndim != 3 or len(maps) != len(corners):
        raise ValueError(
            f"surfaces of shape {maps.shape} for {len(corners)} positions: expected (N, ny, nx)."
        )
    if not 0 <= crop_x_px < maps.shape[2]:
        raise ValueError(f"crop of {crop_x_px} columns: expected 0 to {maps.shape[2] - 1}.")
    use = _usable_tiles(maps, usable)
    pairs = _overlapping(corners, maps.shape[1:], use, crop_x_px)
    _check_directions(corners, pairs, maps.shape[1:], use)
    terms, differences, starts = _samples(maps, corners, pairs, crop_x_px)
    coefficients, residuals, scale = _robust_fit(terms, differences, starts)
    if scale > _MOST_NOISE_PX:
        raise QualityError(
            f"the surfaces of {len(pairs)} overlapping pairs of tiles differ by {scale:.0f} depth "
            f"samples (standard deviation) beside what a focus plane explains; expected at most "
            f"{_MOST_NOISE_PX:g}. Look at the surf maps and the tile positions, or leave tiles "
            "without tissue out."
        )
    agreeing = np.abs(residuals) < _TUKEY * scale
    polynomial = _polynomial(*_tile_axes(maps.shape[1:]))
    plane = polynomial @ coefficients
    return FocusPlane(
        plane_px=np.asarray(plane - plane.min(), np.float32),
        coefficients=coefficients,
        pairs=pairs,
        samples=len(residuals),
        agreeing_share=float(agreeing.mean()),
        residual_px=_rms(residuals[agreeing]),
        before_px=_rms(differences[agreeing]),
        uncertainty_px=_uncertainty(polynomial, terms[agreeing], _rms(residuals[agreeing])),
    )


def _usable_tiles(maps: NDArray[np.float32], usable: ArrayLike | None) -> NDArray[np.bool_]:
    asked = np.ones(len(maps), np.bool_) if usable is None else np.asarray(usable, np.bool_)
    if asked.shape != (len(maps),):
        raise ValueError(f"usable of shape {asked.shape} for {len(maps)} tiles: expected (N,).")
    if not asked.any():
        raise IncompleteInputError(
            f"none of {len(maps)} tiles is usable for the focus plane: none has signal enough. "
            "Take another template slice, or lower the threshold for tissue."
        )
    known = np.array([bool(np.isfinite(surface).any()) for surface in maps])
    if not (asked & known).any():
        raise CorruptInputError(
            f"the surfaces of all {int(asked.sum())} usable tiles hold no finite value: expected "
            "depth indices. Look at the surf maps, and process the tiles again."
        )
    chosen: NDArray[np.bool_] = asked & known
    return chosen


def _overlapping(
    corners: NDArray[np.int64], shape: tuple[int, ...], use: NDArray[np.bool_], crop_x_px: int
) -> NDArray[np.int64]:
    """(P, 2) usable tiles that share pixels beyond the cropped columns."""
    shift = np.abs(corners[:, None] - corners[None])
    meet = (shift[..., 0] < shape[0]) & (shift[..., 1] < shape[1] - crop_x_px)
    meet &= use[:, None] & use[None]
    return np.argwhere(np.triu(meet, 1))


def _check_directions(
    corners: NDArray[np.int64],
    pairs: NDArray[np.int64],
    shape: tuple[int, ...],
    use: NDArray[np.bool_],
) -> None:
    remedy = (
        "Check the tile positions and the overlap; a mosaic of at least 2 x 2 tiles with tissue is "
        "needed."
    )
    if not len(pairs):
        raise IncompleteInputError(
            f"no two of {int(use.sum())} usable tiles overlap, so that the focus plane cannot be "
            f"found. {remedy}"
        )
    shift = np.abs(corners[pairs[:, 0]] - corners[pairs[:, 1]])
    for axis, name in enumerate("yx"):
        if (shift[:, axis] < _LEAST_SHIFT * shape[axis]).all():
            raise IncompleteInputError(
                f"no usable tiles are neighbours along {name} ({len(pairs)} pairs overlap, "
                f"{int(use.sum())} tiles are usable), so that the slope of the focus plane along "
                f"{name} cannot be found. {remedy}"
            )


def _samples(
    maps: NDArray[np.float32],
    corners: NDArray[np.int64],
    pairs: NDArray[np.int64],
    crop_x_px: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Differences of polynomial terms (M, 5) and of surfaces (M,), and where each pair starts."""
    shape = maps.shape[1:]
    y_axis, x_axis = _tile_axes(shape)
    windows = [list(_windows(corners[i], corners[j], shape, crop_x_px)) for i, j in pairs]
    areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for (rows, columns), _
             in windows]  # fmt: skip
    stride = max(1, -(-sum(areas) // _MOST_SAMPLES))
    terms, differences = [], []
    for (i, j), (first, second) in zip(pairs, windows, strict=True):
        change = maps[i][first].astype(np.float64) - maps[j][second]
        rise = _polynomial(y_axis[first[0]], x_axis[first[1]])
        rise -= _polynomial(y_axis[second[0]], x_axis[second[1]])
        chosen = np.flatnonzero(np.isfinite(change))[::stride]
        terms.append(rise.reshape(-1, rise.shape[-1])[chosen])
        differences.append(change.ravel()[chosen])
    counts = [len(part) for part in differences]
    if not sum(counts):
        raise CorruptInputError(
            f"the surfaces of {len(pairs)} overlapping pairs of tiles have no pixel where both are "
            "finite. Look at the surf maps, and process the tiles again."
        )
    starts = np.concatenate([[0], np.cumsum(counts)])
    return np.concatenate(terms), np.concatenate(differences), starts


def _windows(
    first: NDArray[np.int64], second: NDArray[np.int64], shape: tuple[int, ...], crop_x_px: int
) -> Iterator[tuple[slice, slice]]:
    """Where in each of two tiles the pixels lie that both have."""
    low = np.maximum(first, second) + np.array([0, crop_x_px])
    high = np.minimum(first, second) + shape
    for corner in (first, second):
        (y0, x0), (y1, x1) = low - corner, high - corner
        yield slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _robust_fit(
    terms: NDArray[np.float64], differences: NDArray[np.float64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Coefficients, residuals, and the scale of the noise."""
    weights = np.empty(len(differences))
    for start, stop in pairwise(starts.tolist()):
        weights[start:stop] = _within_quartiles(differences[start:stop])
    found = _least_squares(terms, differences, weights)
    scale = np.inf
    for _ in range(_ROUNDS):
        residuals = differences - terms @ found
        scale = max(_MAD_TO_SIGMA * float(np.median(np.abs(residuals))), _LEAST_SCALE_PX)
        weights = np.square(np.maximum(1 - np.square(residuals / (_TUKEY * scale)), 0))
        better = _least_squares(terms, differences, weights)
        moved = float(np.abs(better - found).max())
        found = better
        if moved < _CONVERGED_PX:
            break
    return found, differences - terms @ found, scale


def _uncertainty(
    polynomial: NDArray[np.float64], terms: NDArray[np.float64], noise_px: float
) -> float:
    """Standard error of the plane beside its mean, which nobody knows."""
    covariance = np.linalg.inv(terms.T @ terms) * noise_px**2 * _PIXELS_PER_SURFACE
    parts = polynomial.reshape(-1, polynomial.shape[-1])
    parts = parts - parts.mean(axis=0)
    return float(np.sqrt(np.mean(np.einsum("ij,jk,ik->i", parts, covariance, parts))))


def _least_squares(
    terms: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    weighted = terms * weights[:, None]
    normal = weighted.T @ terms / max(weights.sum(), 1e-9)
    if np.linalg.eigvalsh(normal)[0] < _LEAST_EIGENVALUE:
        raise QualityError(
            f"the overlaps ({len(values)} pixels, {int((weights > 0).sum())} of them agree) do not "
            "determine the focus plane. Look at the surf maps; more tiles with tissue are needed."
        )
    right = weighted.T @ values / max(weights.sum(), 1e-9)
    return np.asarray(np.linalg.solve(normal, right), np.float64)


def _within_quartiles(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    if not len(values):
        return np.zeros(0, np.bool_)
    low, high = np.percentile(values, [25, 75])
    # Indices are whole: a pair whose quartiles are equal still has its noise.
    reach = 1.5 * max(high - low, 1.0)
    within: NDArray[np.bool_] = (values >= low - reach) & (values <= high + reach)
    return within


def _tile_axes(shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates y (ny,) and x (nx,) from -1 to 1."""
    y, x = (np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in shape)
    return y, x


def _polynomial(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(ny, nx, 5): x, y, x^2, y^2, xy."""
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return np.stack([columns, rows, columns**2, rows**2, rows * columns], axis=-1)


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
