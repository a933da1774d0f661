"""Shading that all tiles of a mosaic share, found where they show the same place twice.

Lens and scanner dim every tile in the same way. Where two tiles overlap the sample is the same, so
their difference is that of the shading at two places of the tile, whatever the tissue is: a linear
system, solved robustly with a smooth shape and a level of its own for every tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from opticstream_smk.mosaic.blending import tile_corners
from opticstream_smk.mosaic.threshold import find_threshold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

Domain = Literal["offset", "gain"]

# Blocks average speckle, and make half a pixel of error in the positions no matter; larger ones
# are too far from each other to be compared where tissue changes.
_BLOCK_PX = 5
# A Gaussian beam falls off with the square in dB. With quartic terms, which the rims of a tile
# hardly tell from square ones, its middle would be off by up to 3 dB.
_DEGREE = 3
# Pairs of tissue along each axis: with fewer, one torn section decides the shape.
_LEAST_PAIRS = 4
# Blocks of tissue that a pair must share to count.
_LEAST_BLOCKS = 48
# How far levels of tiles differ against the scatter of a block: a sloped shading could else pass
# for levels that rise from tile to tile.
_LEVEL_TO_SCATTER = 0.1
_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class FlatField:
    """Shading of a tile.

    Attributes
    ----------
    shading
        (ny, nx) float32; offsets up to 0, or gains up to 1: the brightest place of a tile is taken
        as not dimmed.
    domain
        "offset": tile = sample + shading, for decibels; "gain": tile = sample * shading.
    pairs
        Overlaps of tissue along (y, x) that it was found from.
    scatter
        Standard deviation of a block of the overlaps about the fit, in the unit of the tiles or,
        for gains, as a fraction.
    """

    shading: NDArray[np.float32]
    domain: Domain
    pairs: tuple[int, int]
    scatter: float

    def correct(self, tile: ArrayLike) -> NDArray[np.float32]:
        """A (ny, nx) tile without the shading; NaN stays NaN."""
        image = np.asarray(tile, dtype=np.float32)
        return image - self.shading if self.domain == "offset" else image / self.shading


def estimate_flat_field(
    tiles: Iterable[ArrayLike],
    positions_px: ArrayLike,
    *,
    threshold: float | Literal["auto"],
    domain: Domain = "offset",
) -> FlatField | None:
    """Estimate the shading that all tiles share from their overlaps.

    Parameters
    ----------
    tiles
        N images (ny, nx), taken one after the other; pixels that are not finite are left out.
    positions_px
        (N, 2) float (y, x) of each tile's first pixel.
    threshold
        Only blocks of 5 px above it in both tiles count: shading dims what comes back from
        tissue, not the noise beside it. "auto": see `find_threshold`.
    domain
        "offset" for decibels, whose shading adds; "gain" for a linear unit.

    Returns
    -------
    FlatField or None
        None where fewer than 4 overlaps along either axis show tissue in both tiles: that does not
        tell shading from tissue.

    Raises
    ------
    ValueError
        If the tiles are fewer or more than the positions.
    QualityError
        If the threshold is "auto" and there are no two classes of blocks.
    """
    positions = np.asarray(positions_px, dtype=np.float64)
    tile_corners(positions)  # refuses what are no positions
    means, shape = _block_means(tiles)
    if len(means) != len(positions):
        raise ValueError(f"{len(means)} tiles for {len(positions)} positions.")
    if threshold == "auto":
        threshold = find_threshold(np.stack(means)).threshold
    blocks = [_tissue(values, threshold, domain) for values in means]
    system = _System(shape, len(blocks))
    counts = [0, 0]
    for first, second, axis in _neighbours(positions, shape):
        if system.add_pair(first, second, blocks, positions[second] - positions[first]):
            counts[axis] += 1
    if min(counts) < _LEAST_PAIRS:
        return None
    coefficients, scatter = system.solve()
    y, x = (np.linspace(-1, 1, length) for length in shape)
    shading = np.tensordot(coefficients, _terms(*np.meshgrid(y, x, indexing="ij")), 1)
    relative = shading - shading.max()
    if domain == "gain":
        relative = np.exp(relative)
    return FlatField(relative.astype(np.float32), domain, (counts[0], counts[1]), scatter)


class _System:
    """Robust least squares for the shape of the shading and the level of every tile."""

    def __init__(self, shape: tuple[int, int], tiles: int) -> None:
        self._shape = shape
        self._tiles = tiles
        self._pairs: list[tuple[int, int]] = []
        self._terms: list[NDArray[np.float64]] = []
        self._differences: list[NDArray[np.float64]] = []

    def add_pair(
        self, first: int, second: int, blocks: list[NDArray[np.float64]], shift: NDArray[np.float64]
    ) -> bool:
        """Take in where two tiles show the same; whether there is enough of it."""
        own = blocks[first]
        # Centres of the blocks of the first tile, px, and where they lie in the second.
        y, x = (_BLOCK_PX * (np.arange(n) + 0.5) - 0.5 for n in own.shape)
        centres = np.stack(np.meshgrid(y, x, indexing="ij"))
        there = centres - shift[:, None, None]
        other = _sample(blocks[second], (there + 0.5) / _BLOCK_PX - 0.5)
        both = np.isfinite(own) & np.isfinite(other)
        if both.sum() < _LEAST_BLOCKS:
            return False
        half = (np.array(self._shape)[:, None] - 1) / 2
        here_terms, there_terms = (
            _terms(*(place[:, both] / half - 1)) for place in (centres, there)
        )
        self._pairs.append((first, second))
        self._terms.append(here_terms - there_terms)
        self._differences.append(own[both] - other[both])
        return True

    def solve(self) -> tuple[NDArray[np.float64], float]:
        """Coefficients of the shape, and the scatter of a block."""
        sizes = [len(values) for values in self._differences]
        pairs = np.array(self._pairs)
        first, second = np.repeat(pairs, sizes, axis=0).T
        starts = np.cumsum([0, *sizes[:-1]])
        terms = np.concatenate(self._terms, axis=1)
        differences = np.concatenate(self._differences)
        shapes = len(terms)
        weights = np.ones(len(differences))
        solution = np.zeros(shapes + self._tiles, np.float64)
        scatter = float(differences.std())
        for _ in range(_ROUNDS):
            weighted = terms * weights
            normal, right = self._equations(
                weighted @ terms.T,
                weighted @ differences,
                np.add.reduceat(np.vstack([weighted, weights, weights * differences]), starts, 1),
                pairs,
            )
            solution = np.asarray(np.linalg.solve(normal, right))
            levels = solution[shapes:]
            residuals = differences - solution[:shapes] @ terms - levels[first] + levels[second]
            scatter = float(1.4826 * np.median(np.abs(residuals)))
            # Tukey's biweight: a fold or a bubble counts for nothing.
            inside = np.clip(1 - (residuals / max(4.685 * scatter, 1e-9)) ** 2, 0, None)
            weights = np.asarray(inside**2)
        return solution[:shapes], scatter

    def _equations(
        self,
        shape_normal: NDArray[np.float64],
        shape_right: NDArray[np.float64],
        sums: NDArray[np.float64],
        pairs: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Normal equations; `sums` over each pair are of terms, weights and differences."""
        shapes, tiles = len(shape_right), self._tiles
        normal = np.zeros((shapes + tiles, shapes + tiles))
        right = np.zeros(shapes + tiles)
        normal[:shapes, :shapes], right[:shapes] = shape_normal, shape_right
        signs = ((1, shapes + pairs[:, 0]), (-1, shapes + pairs[:, 1]))
        for sign, level in signs:
            np.add.at(normal[:shapes].T, level, sign * sums[:shapes].T)
            np.add.at(right, level, sign * sums[shapes + 1])
            for other_sign, other in signs:
                np.add.at(normal, (level, other), sign * other_sign * sums[shapes])
        normal[shapes:, :shapes] = normal[:shapes, shapes:].T
        # A level is no larger than scatter allows; the shape is hardly held, so that one that
        # nothing tells of is flat.
        diagonal = np.full(shapes + tiles, 1 / _LEVEL_TO_SCATTER**2)
        diagonal[:shapes] = 1e-5 * np.trace(shape_normal) / shapes
        return normal + np.diag(diagonal), right


def _block_means(
    tiles: Iterable[ArrayLike],
) -> tuple[list[NDArray[np.float64]], tuple[int, int]]:
    """Means of whole blocks of each tile, and the shape of a tile.

    A block with a pixel that is not finite has a mean that is not finite.
    """
    found = []
    shape = (0, 0)
    for tile in tiles:
        image = np.asarray(tile, dtype=np.float32)
        shape = (image.shape[0], image.shape[1])
        rows, columns = (length // _BLOCK_PX for length in shape)
        whole = image[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
        blocks = whole.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX)
        with np.errstate(invalid="ignore"):  # infinity of both signs in one block
            found.append(np.asarray(blocks.mean((1, 3), dtype=np.float64)))
    return found, shape


def _tissue(means: NDArray[np.float64], threshold: float, domain: Domain) -> NDArray[np.float64]:
    """Blocks above the threshold, NaN elsewhere; for gains their logarithm."""
    least = max(threshold, 0.0) if domain == "gain" else threshold
    known = np.isfinite(means) & (means > least)
    values = np.where(known, means, np.nan)
    return np.log(values) if domain == "gain" else values


def _neighbours(
    positions: NDArray[np.float64], shape: tuple[int, int]
) -> Iterable[tuple[int, int, int]]:
    """Pairs of tiles side by side, and the axis (0: y, 1: x) along which they lie."""
    apart = np.abs(positions[:, None] - positions) / np.array(shape)
    # Those that meet at a corner share little.
    meet = (apart.max(axis=-1) < 1) & (apart.min(axis=-1) < 0.5)
    for first, second in np.argwhere(np.triu(meet, 1)).tolist():
        yield first, second, int(apart[first, second].argmax())


def _sample(image: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Image at (2, ...) y, x, linearly between pixels; NaN outside and beside NaN."""
    low = np.floor(places).astype(int)
    share = places - low
    inside = (low >= 0).all(0)
    inside &= (low[0] < image.shape[0] - 1) & (low[1] < image.shape[1] - 1)
    y, x = np.where(inside, low, 0)
    dy, dx = share
    top = (1 - dx) * image[y, x] + dx * image[y, np.minimum(x + 1, image.shape[1] - 1)]
    y = np.minimum(y + 1, image.shape[0] - 1)
    below = (1 - dx) * image[y, x] + dx * image[y, np.minimum(x + 1, image.shape[1] - 1)]
    return np.where(inside, (1 - dy) * top + dy * below, np.nan)


def _terms(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products of Legendre polynomials up to a total degree, without the constant one."""
    along_y, along_x = (np.polynomial.legendre.legvander(v, _DEGREE) for v in (y, x))
    return np.stack(
        [
            along_y[..., i] * along_x[..., j]
            for i in range(_DEGREE + 1)
            for j in range(_DEGREE + 1 - i)
            if i + j
        ]
    )
