"""Two mosaics of each reference preset; `make perf` has more of them, and the cost."""

import numpy as np
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


@pytest.mark.parametrize(("preset", "seed", "far_px"), [("stage", 1000, 2), ("standard", 257, 12)])
def test_no_tile_is_farther_off_than_the_stage(preset, seed, far_px):
    """Overlaps of next to no tissue: a chance match is not believed, a small real one is.

    In the first, an empty overlap matches 29 px off; in the second, tile 16 is linked by overlaps
    of which 6 and 8 percent are tissue.
    """
    mosaic = make_golden(preset, 4, 5, seed=seed, tile_px=240)
    found = solve_positions(mosaic.tiles, mosaic.cells, overlap_percent=20)
    assert (found.island[~mosaic.is_weak] == 0).all()
    rms, _ = error_px(found.positions_px, mosaic)
    assert rms <= LIMITS_PX[preset][1]
    errors = found.positions_px - mosaic.true
    errors -= np.median(errors[~mosaic.is_weak], axis=0)
    assert np.abs(errors).max() < far_px
