import numpy as np
import pytest

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.stages.tilemap import TileFiles, Tilemap, tile_count

SHAPE = (4, 5)


def tilemap(missing=()):
    """Two rows of two tiles that overlap by one pixel."""
    positions = np.array([(0.0, 0.0), (3.0, 0.0), (0.0, 4.0), (3.0, 4.0)])
    return Tilemap(positions, np.ones(4, bool), SHAPE, np.ones(4), missing=frozenset(missing))


def test_the_canvas_has_room_for_missing_tiles():
    whole, short = tilemap(), tilemap([4])
    assert whole.canvas_px == short.canvas_px == (7, 9)
    assert whole.origin_px == short.origin_px
    assert whole.coverage().all()
    assert not whole.gaps().any()


def test_a_gap_is_what_only_missing_tiles_cover():
    short = tilemap([4])
    gaps = np.zeros((7, 9), bool)
    gaps[4:, 5:] = True  # the overlap with tiles 2 and 3 is theirs
    np.testing.assert_array_equal(short.gaps(), gaps)
    np.testing.assert_array_equal(short.coverage(), ~gaps)
    assert not short.tile_borders()[-1, 5:].any()
    assert tilemap().tile_borders()[-1, 5:].all()


def test_all_tiles_may_be_missing_but_one():
    assert tilemap([2, 3, 4]).coverage().sum() == 20
    assert tilemap([1, 2, 3, 4]).gaps().all()


def test_a_missing_tile_is_read_as_nothing(tmp_path):
    files = TileFiles(ProjectLayout(tmp_path), 1, "aip", SHAPE, 4, missing=[2, 3])
    assert files[1].shape == SHAPE
    assert np.isnan(files[1]).all()
    assert [path.name for path in files.paths] == [
        "mosaic_001_image_0001_aip.nii",
        "mosaic_001_image_0004_aip.nii",
    ]
    with pytest.raises(Exception, match="mosaic_001_image_0001_aip"):
        files[0]


def test_tiles_of_a_mosaic_are_counted():
    counted = tile_count(range(1, 5), {3, 2})
    assert (counted.done, counted.missing) == ((1, 4), (2, 3))
