import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.stages.tilemap import (
    TileFiles,
    Tilemap,
    read_tilemap,
    tile_count,
    write_tilemap,
)

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


def test_a_template_without_some_tiles(make_config, tmp_path):
    """The canvas ends with the others; what is dropped is missing, and stays dropped."""
    config = make_config()  # 2 x 2 tiles of 8 x 12 px
    path = ProjectLayout(tmp_path).template("normal")
    positions = np.array([(6.0, 0.0), (0.0, 0.5), (0.5, 9.0), (6.5, 9.5)])
    given = Tilemap(positions, np.ones(4, bool), (8, 12), np.ones(4), dropped=frozenset([3, 4]))
    write_tilemap(config, path, given)
    read = read_tilemap(config, ProjectLayout(tmp_path), "normal", [2])
    assert read.dropped == {3, 4}
    assert read.missing == {2, 3, 4}
    np.testing.assert_array_equal(read.positions_px[:2], positions[:2])
    np.testing.assert_array_equal(np.isnan(read.listed_px[:, 0]), [False, False, True, True])
    assert read.canvas_px == (14, 12)
    assert read.coverage().sum() == 8 * 12  # of tile 1
    assert read.gaps().sum() == 6 * 12  # what tile 2 alone would have
    write_tilemap(config, path, read)
    assert read_tilemap(config, ProjectLayout(tmp_path), "normal").dropped == {3, 4}


def test_a_template_that_lacks_tiles_without_saying_so(make_config, tmp_path):
    config = make_config()
    path = ProjectLayout(tmp_path).template("normal")
    given = Tilemap(np.zeros((4, 2)), np.ones(4, bool), (8, 12), np.ones(4), dropped=frozenset([3]))
    write_tilemap(config, path, given)
    path.write_text(path.read_text().replace("  dropped: [3]\n", ""))
    with pytest.raises(
        CorruptInputError, match=r"lists 3 tiles and 0 that were dropped.*edit-tiles"
    ):
        read_tilemap(config, ProjectLayout(tmp_path), "normal")
