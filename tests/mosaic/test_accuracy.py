"""Two mosaics of each reference preset; `make perf` has more of them, and the cost."""

import pytest

from opticstream_smk.mosaic import solve_positions
from tests.mosaic.golden_presets import LIMITS_PX, error_px, make_golden


@pytest.mark.parametrize("seed", [2001, 2002])
@pytest.mark.parametrize("preset", LIMITS_PX)
def test_positions_of_reference_mosaics(preset, seed):
    mosaic = make_golden(preset, 4, 4, seed=seed, tile_px=240)
    found = solve_positions(mosaic.tiles, mosaic.cells, overlap_percent=20)
    assert found.is_anchored[~mosaic.is_weak].all()
    rms, farthest = error_px(found.positions_px, mosaic)
    assert rms <= LIMITS_PX[preset][1]
    assert farthest < 3 * LIMITS_PX[preset][1]


def test_tissue_is_matched_across_many_empty_tiles():
    """Islands and empty tiles are said to be; what is linked is where it belongs."""
    mosaic = make_golden("sparse", 5, 6, seed=1001, tile_px=300)
    found = solve_positions(mosaic.tiles, mosaic.cells, overlap_percent=20)
    linked = found.island == 0
    assert 10 <= linked.sum() < 30
    assert (linked | mosaic.is_weak | (found.island > 0)).all()
    rms, _ = error_px(found.positions_px, mosaic, linked & ~mosaic.is_weak)
    assert rms <= LIMITS_PX["sparse"][1]
