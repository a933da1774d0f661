"""How far a mosaic lies from its template, and the verdict on it."""

from dataclasses import replace

import numpy as np
import pytest

from opticstream_smk.mosaic import Limits, judge_positions, measure_drift, solve_positions
from tests.mosaic.phantom import make_phantom


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 5, (120, 100), 25, seed=1, jitter_px=1.0)


@pytest.fixture(scope="module")
def solved(phantom):
    return solve_positions(phantom.tiles, phantom.cells, overlap_percent=25)


def test_a_shift_of_all_tiles_is_no_drift(solved):
    drift = measure_drift(solved, solved.positions_px - (12.5, -3.0))
    assert np.allclose(drift.shift_px, (12.5, -3.0))
    assert np.allclose(drift.residual_px, 0)
    assert (drift.rms_px, drift.worst_px) == pytest.approx((0, 0))


def test_one_moved_tile_is_named(solved):
    template = solved.positions_px.copy()
    template[7] += (3.0, 4.0)
    drift = measure_drift(solved, template)
    assert drift.worst_tile == 7
    assert drift.worst_px == pytest.approx(5.0)
    assert drift.rms_px == pytest.approx(5 / np.sqrt(15))
    assert np.allclose(np.delete(drift.residual_px, 7), 0)


def test_what_is_not_anchored_has_no_drift_and_islands_have_their_own(phantom, solved):
    tiles = phantom.tiles.copy()
    gap = phantom.cells[:, 1] == 2
    tiles[gap] = np.nan
    found = solve_positions(tiles, phantom.cells, overlap_percent=25)
    assert set(found.island) == {0, 1, -1}
    template = phantom.true.copy()
    template[found.island == 1] += (8.0, 0.0)
    template[0] = np.nan
    drift = measure_drift(found, template)
    assert np.isnan(drift.residual_px[gap]).all()
    assert np.isnan(drift.residual_px[0])
    compared = np.isfinite(drift.residual_px)
    assert compared.sum() == 11
    assert drift.worst_px < 1.0
    nothing = measure_drift(found, np.full((15, 2), np.nan))
    assert (nothing.worst_tile, nothing.rms_px) == (None, 0.0)


def test_a_template_of_another_grid_is_refused(solved):
    with pytest.raises(ValueError, match="another grid"):
        measure_drift(solved, np.zeros((12, 2)))


def test_a_good_mosaic_is_ok(solved):
    verdict = judge_positions(solved, signal=np.ones(15, dtype=bool))
    assert (verdict.level, verdict.reasons) == ("ok", ())
    assert verdict.numbers["anchored_share"] == 1
    assert verdict.numbers["edges_used"] == 22


@pytest.mark.parametrize("signal", [None, np.zeros(15, dtype=bool)])
def test_background_is_never_a_failure(phantom, signal):
    tiles = 40 + np.random.default_rng(0).normal(0, 1, phantom.tiles.shape)
    found = solve_positions(tiles, phantom.cells, overlap_percent=25)
    verdict = judge_positions(found, signal=signal)
    assert verdict.level == "warn"
    assert "background" in verdict.reasons[0]
    assert len(verdict.reasons) == 1


def test_tissue_that_matches_nowhere_is_a_failure(phantom):
    cells = phantom.cells[np.random.default_rng(0).permutation(15)]
    found = solve_positions(phantom.tiles, cells, overlap_percent=25)
    verdict = judge_positions(found, signal=np.ones(15, dtype=bool))
    assert verdict.level == "fail"
    assert any("not linked" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("field", "limit", "reason"),
    [
        ("max_residual_rms_px", (1e-6, None), "px rms"),
        ("max_islands", (0, None), "1 groups"),
        ("min_anchored_share", (1.1, None), "0 of 15"),
        ("max_rejected_share", (-0.1, None), "0 of 22"),
        ("max_strangers", (-1, None), "another place"),
    ],
)
def test_every_limit_warns_and_fails(solved, field, limit, reason):
    warned = judge_positions(solved, replace(Limits(), **{field: limit}))
    assert warned.level == "warn"
    assert [reason in text for text in warned.reasons] == [True]
    failed = judge_positions(solved, replace(Limits(), **{field: limit[::-1]}))
    assert failed.level == "fail"
    never = judge_positions(solved, replace(Limits(), **{field: (None, None)}))
    assert never.level == "ok"


def test_tiles_are_named_as_the_microscope_counts_them(phantom):
    tiles = phantom.tiles.copy()
    tiles[[1, 13]] = tiles[[13, 1]]
    found = solve_positions(tiles, phantom.cells, overlap_percent=25)
    verdict = judge_positions(found, signal=np.ones(15, dtype=bool))
    assert verdict.level == "warn"
    assert any("tiles 2, 14 show tissue and match no" in reason for reason in verdict.reasons)
    assert any("Tiles 2 and 14 look swapped" in reason for reason in verdict.reasons)
