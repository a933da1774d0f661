"""Several mosaics of one stage solved together."""

import numpy as np
import pytest

from opticstream_smk.mosaic import solve_jointly, solve_positions
from tests.mosaic.phantom import make_phantom, position_errors, rms

REPEATABILITY_PX = 0.15


def slices(n, *, seed=0, looks=100, repeatability_px=REPEATABILITY_PX):
    """Other tissue on each, the same stage."""
    return [
        make_phantom(
            4,
            4,
            (100, 90),
            25,
            seed=10 * seed + k,
            stage_seed=seed,
            repeatability_px=repeatability_px,
            jitter_px=3.0,
            looks=looks,
        )
        for k in range(n)
    ]


@pytest.fixture(scope="module")
def three():
    return slices(3)


def test_each_shows_what_the_others_do_not(three):
    """Every tile is empty in two of three mosaics, every overlap is seen at most once."""
    stage = three[0].stage
    tiles = [phantom.tiles.copy() for phantom in three]
    column = three[0].cells[:, 1]
    for k, shown in enumerate(((0, 1), (1, 2), (2, 3))):
        tiles[k][~np.isin(column, shown)] = np.nan
    found = solve_jointly(iter(tiles), three[0].cells, overlap_percent=25)
    assert found.is_anchored.all()
    assert (found.island == 0).all()
    errors = position_errors(found.positions_px, stage)
    assert errors.max() < 1.2
    alone = solve_positions(tiles[0], three[0].cells, overlap_percent=25)
    assert position_errors(alone.positions_px, stage).max() > 3


def test_the_mean_is_better_than_one(three):
    stage = three[0].stage
    found = solve_jointly([p.tiles for p in three], three[0].cells, overlap_percent=25)
    one = [
        rms(
            position_errors(
                solve_positions(p.tiles, p.cells, overlap_percent=25).positions_px, stage
            )
        )
        for p in three
    ]
    assert rms(position_errors(found.positions_px, stage)) < 0.85 * np.mean(one)
    assert found.edges["used"].all()
    # The table holds what the stage does: the offsets are as uncertain as it.
    a, b = found.edges["tile_a"], found.edges["tile_b"]
    offsets = np.stack([found.edges["dy"], found.edges["dx"]], axis=1)
    errors = (offsets - (stage[b] - stage[a])) * np.sqrt(found.edges["weight"])[:, None]
    assert 0.5 < rms(errors) < 2.0


def test_one_mosaic_is_as_alone(three):
    phantom = three[0]
    alone = solve_positions(phantom.tiles, phantom.cells, overlap_percent=25)
    found = solve_jointly([phantom.tiles], phantom.cells, overlap_percent=25)
    assert np.allclose(found.positions_px, alone.positions_px, atol=0.01)
    assert (found.edges["used"] == alone.edges["used"]).all()


def test_a_wrong_mosaic_is_outvoted(three):
    """Tiles of the second in another order: nothing of it fits."""
    tiles = [phantom.tiles.copy() for phantom in three]
    tiles[1][[5, 6, 9]] = tiles[1][[6, 9, 5]]
    found = solve_jointly(tiles, three[0].cells, overlap_percent=25)
    assert found.is_anchored.all()
    assert position_errors(found.positions_px, three[0].stage).max() < 1.0
    assert found.is_stranger[[5, 6, 9]].any()
    assert not np.delete(found.is_stranger, [5, 6, 9]).any()


def test_a_mosaic_that_slipped_is_outvoted(three):
    tiles = [phantom.tiles.copy() for phantom in three]
    # The same content 4 px off: a tile cut from another place of the same scene.
    tiles[2][6] = np.roll(tiles[2][6], (4, 4), axis=(0, 1))
    found = solve_jointly(tiles, three[0].cells, overlap_percent=25)
    assert position_errors(found.positions_px, three[0].stage).max() < 1.0


def test_background_in_every_mosaic_is_the_nominal_grid():
    cells = slices(1)[0].cells
    rng = np.random.default_rng(0)
    mosaics = (30 + rng.normal(0, 1, (16, 100, 90)) for _ in range(6))
    found = solve_jointly(mosaics, cells, overlap_percent=25)
    assert not found.is_anchored.any()
    nominal = cells * [75.0, 67.5]
    assert np.allclose(found.positions_px, nominal - nominal.min(axis=0))


def test_signal_of_each_mosaic(three):
    signal = np.ones((3, 16), dtype=bool)
    signal[:, 6] = False
    tiles = [phantom.tiles for phantom in three]
    found = solve_jointly(tiles, three[0].cells, overlap_percent=25, signal=signal)
    assert np.flatnonzero(~found.is_anchored).tolist() == [6]
    signal[1, 6] = True
    found = solve_jointly(tiles, three[0].cells, overlap_percent=25, signal=signal)
    assert found.is_anchored.all()
    with pytest.raises(ValueError, match="signal has 2 rows"):
        solve_jointly(tiles, three[0].cells, overlap_percent=25, signal=signal[:2])


def test_what_does_not_fit_is_refused(three):
    cells = three[0].cells
    with pytest.raises(ValueError, match="no mosaics"):
        solve_jointly([], cells, overlap_percent=25)
    with pytest.raises(ValueError, match=r"mosaic 1 has tiles of \(50, 90\)"):
        solve_jointly([three[0].tiles, three[1].tiles[:, :50]], cells, overlap_percent=25)
    with pytest.raises(ValueError, match="for 15 tiles"):
        solve_jointly([three[0].tiles, three[1].tiles[:15]], cells, overlap_percent=25)
