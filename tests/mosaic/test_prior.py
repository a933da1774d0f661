"""An earlier solution instead of the lattice."""

import numpy as np
import pytest

from opticstream_smk.mosaic import measure_drift, solve_positions
from tests.mosaic.phantom import make_phantom, position_errors, rms

EMPTY = [0, 5, 9]


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 4, (120, 100), 25, seed=1, jitter_px=3.0, backlash_px=2)


@pytest.fixture(scope="module")
def partly_empty(phantom):
    tiles = phantom.tiles.copy()
    tiles[EMPTY] = 40 + np.random.default_rng(0).normal(0, 1, tiles[EMPTY].shape)
    return tiles


def solve(tiles, phantom, prior, sigma=None):
    return solve_positions(
        tiles, phantom.cells, overlap_percent=25, prior_px=prior, prior_sigma_px=sigma
    )


@pytest.mark.parametrize("sigma", [None, 0.3, np.full(12, 0.3), np.full((12, 2), 0.3)])
def test_tiles_without_content_follow_it(phantom, partly_empty, sigma):
    prior = (
        phantom.true + np.array([113.0, -40.0]) + np.random.default_rng(2).normal(0, 0.2, (12, 2))
    )
    result = solve(partly_empty, phantom, prior, sigma)
    assert np.flatnonzero(~result.is_anchored).tolist() == EMPTY
    assert position_errors(result.positions_px, phantom.true).max() < 1.2
    lattice = solve_positions(partly_empty, phantom.cells, overlap_percent=25)
    assert position_errors(lattice.positions_px, phantom.true)[EMPTY].max() > 2


def test_content_overrules_it(phantom, partly_empty):
    prior = phantom.true.copy()
    prior[6] += (7.0, -5.0)
    result = solve(partly_empty, phantom, prior, 0.3)
    assert result.is_anchored[6]
    errors = position_errors(result.positions_px, phantom.true)
    assert np.delete(errors, EMPTY).max() < 0.8


def test_a_shifted_prior_is_the_same_prior(phantom, partly_empty):
    found, shifted = (
        solve(partly_empty, phantom, phantom.true + shift).positions_px for shift in (0.0, 500.0)
    )
    assert np.allclose(found, shifted, atol=1e-6)


def test_tiles_that_it_lacks_lie_like_their_neighbours_there(phantom, partly_empty):
    prior = phantom.true * [0.97, 1.02]
    prior[5] = np.nan
    result = solve(np.full_like(partly_empty, np.nan), phantom, prior)
    assert not result.is_anchored.any()
    known = np.arange(12) != 5
    assert position_errors(result.positions_px, prior, known)[known].max() < 1e-6
    error = result.positions_px[5] - phantom.true[5] * [0.97, 1.02]
    error -= np.median((result.positions_px - prior)[known], axis=0)
    assert np.hypot(*error) < 12  # the stage is irregular by 3 px on each axis


def test_a_prior_without_any_tile_is_the_nominal_grid(phantom, partly_empty):
    empty = np.full_like(partly_empty, np.nan)
    result = solve(empty, phantom, np.full((12, 2), np.nan))
    assert rms(position_errors(result.positions_px, phantom.nominal)) < 1e-6


@pytest.mark.parametrize(
    ("prior", "sigma", "message"),
    [
        (np.zeros((11, 2)), None, r"expected \(12, 2\).*another grid"),
        (np.zeros((12, 2)), np.ones(5), r"prior_sigma_px of shape \(5,\)"),
        (np.zeros((12, 2)), 0.0, "above 0"),
        (np.zeros((12, 2)), np.nan, "above 0"),
    ],
)
def test_what_does_not_fit_is_refused(phantom, prior, sigma, message):
    with pytest.raises(ValueError, match=message):
        solve(phantom.tiles, phantom, prior, sigma)


@pytest.mark.parametrize("seed", [0, 4])
def test_a_slip_of_small_tiles_is_found_and_none_is_strange(seed):
    """Overlaps of 19 px: no match tells much by itself."""
    phantom = make_phantom(3, 3, (64, 64), 30, seed=seed, jitter_px=1.0)
    prior = phantom.true.copy()
    prior[4] += (5.0, -4.0)
    found = solve_positions(phantom.tiles, phantom.cells, overlap_percent=30, prior_px=prior)
    drift = measure_drift(found, prior)
    assert drift.worst_tile == 4
    assert drift.worst_px == pytest.approx(np.hypot(5, 4), abs=0.7)
    assert not found.is_stranger.any()
