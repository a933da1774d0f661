"""Where tiles should lie before anything is known of their content: lattice or earlier solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from opticstream_smk.mosaic.grid import nominal_positions
from opticstream_smk.mosaic.stage_model import StageModel, fit_stage_model, robust_sigma

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Regularity of a stage as long as nothing has been measured.
_STAGE_SCATTER_PX = 2.0
# The same for an earlier solution: stages come back to where they were better than they step.
_PRIOR_SCATTER_PX = 0.5
# No stage is trusted beyond this, or what is expected would overrule good content.
_MIN_SCATTER_PX = 0.1


@dataclass(frozen=True)
class Geometry:
    """The grid of a mosaic in pixels, as it should be.

    Attributes
    ----------
    cells
        (N, 2) int row, column.
    tile_shape
        (ny, nx) px.
    step, overlap
        (2,) nominal (y, x), px.
    """

    cells: NDArray[np.int64]
    tile_shape: tuple[int, int]
    step: NDArray[np.float64]
    overlap: NDArray[np.float64]

    @classmethod
    def of(
        cls, cells: NDArray[np.int64], tile_shape: tuple[int, int], overlap_percent: float
    ) -> Geometry:
        """The grid of `cells` at a nominal overlap in percent."""
        step = nominal_positions([[1, 1]], tile_shape, overlap_percent)[0]
        return cls(cells, tile_shape, step, np.asarray(tile_shape) - step)

    @property
    def nominal(self) -> NDArray[np.float64]:
        """(N, 2) positions of a perfect stage, px."""
        return self.cells * self.step


@dataclass(frozen=True)
class Prior:
    """An earlier solution of the same grid.

    Attributes
    ----------
    positions
        (N, 2) px, complete: tiles that it lacks are placed by its own lattice.
    sigma
        (N, 2) px that tiles are off from it on each axis, or None: to be measured.
    """

    positions: NDArray[np.float64]
    sigma: NDArray[np.float64] | None


@dataclass(frozen=True)
class Expectation:
    """Where tiles should lie, and how well neighbours keep to it.

    Attributes
    ----------
    positions
        (N, 2) px.
    scatter
        (P, 2) standard deviation (y, x), px, of the offset of each pair of neighbours.
    """

    positions: NDArray[np.float64]
    scatter: NDArray[np.float64]


def checked_prior(
    geometry: Geometry, pairs: NDArray[np.int64], prior_px: ArrayLike, sigma_px: ArrayLike | None
) -> Prior:
    """Complete and check a prior as given to `solve_positions`; ValueError if it does not fit."""
    n_tiles = len(geometry.cells)
    given = np.asarray(prior_px, dtype=np.float64)
    if given.shape != (n_tiles, 2):
        raise ValueError(
            f"prior_px of shape {given.shape} for {n_tiles} tiles: expected ({n_tiles}, 2), y and "
            "x of each tile, NaN where the earlier solution has none. Is it one of another grid?"
        )
    sigma = None
    if sigma_px is not None:
        sigma = np.asarray(sigma_px, dtype=np.float64)
        if sigma.ndim == 1 and len(sigma) == n_tiles:
            sigma = sigma[:, None]
        try:
            sigma = np.broadcast_to(sigma, (n_tiles, 2))
        except ValueError:
            raise ValueError(
                f"prior_sigma_px of shape {sigma.shape} for {n_tiles} tiles: expected one number, "
                f"({n_tiles},) or ({n_tiles}, 2), in px."
            ) from None
        if not (np.isfinite(sigma).all() and (sigma > 0).all()):
            raise ValueError("prior_sigma_px: expected finite numbers above 0, in px.")
    return Prior(_completed(geometry, pairs, given), sigma)


def fit_lattice(
    geometry: Geometry, ends: NDArray[np.int64], offsets: NDArray[np.float64]
) -> StageModel:
    """The lattice that (E, 2) offsets of the tiles `ends` (E, 2) suggest."""
    model = fit_stage_model(
        geometry.cells[ends[:, 0]],
        geometry.cells[ends[:, 1]],
        offsets,
        nominal_step=geometry.step,
        # Stages are off by a few percent of the overlap; more would be a grid in a wrong order.
        step_sigma=np.maximum(geometry.overlap / 12, 1.0),
        prior_scatter_px=_STAGE_SCATTER_PX,
    )
    return StageModel(model.coefficients, np.maximum(model.scatter, _MIN_SCATTER_PX))


def expect(
    stage: StageModel,
    prior: Prior | None,
    geometry: Geometry,
    pairs: NDArray[np.int64],
    ends: NDArray[np.int64],
    offsets: NDArray[np.float64],
) -> Expectation:
    """What to expect of all `pairs` (P, 2), given sure offsets (E, 2) of the tiles `ends`.

    The prior if there is one, else the lattice `stage`, which is fitted to the same offsets.
    """
    if prior is None:
        scatter = np.broadcast_to(stage.scatter, (len(pairs), 2))
        return Expectation(stage.positions(geometry.cells), scatter)
    if prior.sigma is not None:
        scatter = np.hypot(prior.sigma[pairs[:, 0]], prior.sigma[pairs[:, 1]])
        return Expectation(prior.positions, np.maximum(scatter, _MIN_SCATTER_PX))
    misfit = np.abs(offsets - (prior.positions[ends[:, 1]] - prior.positions[ends[:, 0]]))
    # The offset of two tiles has the variance of both.
    assumed = np.sqrt(2.0) * _PRIOR_SCATTER_PX
    measured = np.array([robust_sigma(misfit[:, axis], assumed) for axis in range(2)])
    scatter = np.broadcast_to(np.maximum(measured, _MIN_SCATTER_PX), (len(pairs), 2))
    return Expectation(prior.positions, scatter)


def _completed(
    geometry: Geometry, pairs: NDArray[np.int64], given: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Tiles that the prior lacks lie like the nearest that it has, along its lattice."""
    known = np.asarray(np.isfinite(given).all(axis=1))
    if not known.any():
        return geometry.nominal
    if known.all():
        return given
    both = pairs[known[pairs].all(axis=1)]
    lattice = fit_lattice(geometry, both, given[both[:, 1]] - given[both[:, 0]])
    expected = lattice.positions(geometry.cells)
    departure = given[known] - expected[known]
    cells = geometry.cells
    distance = ((cells[:, None] - cells[known][None]) ** 2).sum(axis=2)
    return np.where(known[:, None], given, expected + departure[np.argmin(distance, axis=1)])
