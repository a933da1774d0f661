"""Fiji is run by a macro, and only what this run has written counts."""

import numpy as np
import pytest
import tifffile

from opticstream_smk.config.fiji import FijiSection
from opticstream_smk.errors import (
    ConfigError,
    CorruptInputError,
    OpticStreamError,
    QualityError,
    ResourceError,
    ServiceError,
)
from opticstream_smk.mosaic.fiji import find_fiji, run_fiji, stitching_macro
from opticstream_smk.mosaic.given_positions import adopt_positions
from tests.mosaic.fake_fiji import FakeFiji
from tests.mosaic.phantom import make_phantom, position_errors

ROWS, COLUMNS, SHAPE, OVERLAP = 3, 4, (24, 20), 25


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(ROWS, COLUMNS, SHAPE, OVERLAP, seed=2, jitter_px=0.5)


@pytest.fixture
def fiji(tmp_path):
    return FakeFiji(tmp_path / 'Fiji of "the" lab (64 bit)', memory_mb=2000)


@pytest.fixture
def run(fiji, tmp_path, phantom):
    def run(*, timeout_s=60, executable=fiji.path, tiles=phantom.tiles, folder="project $HOME 'x'"):
        return run_fiji(
            tiles,
            columns=COLUMNS,
            rows=ROWS,
            grid_type="snake-by-columns",
            order="up-right",
            overlap_percent=OVERLAP,
            fiji=FijiSection(executable=executable, timeout_s=timeout_s, java_memory_mb=2000),
            folder=tmp_path / folder,
            label="normal",
        )

    yield run
    left = [path for path in tmp_path.glob("project*/*") if path.name.startswith(".fiji-normal")]
    assert left == []  # however it ended


def test_positions_come_back_and_the_unlinked_are_flagged(run, fiji, phantom):
    given = phantom.true - phantom.true[5]
    given[[0, 8]] = 0.0
    fiji.behave(registered=given.tolist())
    positions = run()
    np.testing.assert_array_equal(positions, given)
    solved = adopt_positions(
        phantom.tiles, positions, phantom.cells, overlap_percent=OVERLAP, source="Fiji"
    )
    assert np.flatnonzero(~solved.is_anchored).tolist() == [0, 8]
    errors = position_errors(solved.positions_px, phantom.true, solved.is_anchored)
    assert errors[solved.is_anchored].max() < 1e-9
    assert errors.max() < 2.5


def test_what_fiji_is_asked_for(run, fiji, phantom, caplog):
    caplog.set_level("INFO")
    fiji.behave(registered=phantom.true.tolist(), says=["Loading: tile_0001.tif ... "])
    run()
    called = fiji.called
    assert "project $HOME 'x'/.fiji-normal-" in called["directory"]
    assert called["type"] == "Grid: snake by columns"
    assert called["order"] == "Up & Right"
    assert (called["grid_size_x"], called["grid_size_y"]) == ("4", "3")
    assert called["tile_overlap"] == "25"
    assert called["file_names"] == "tile_{iiii}.tif"
    assert called["regression_threshold"] == "0.30"
    assert called["max/avg_displacement_threshold"] == "2.50"
    assert called["absolute_displacement_threshold"] == "3.50"
    assert called["flags"] == ["compute_overlap", "subpixel_accuracy"]
    assert called["fusion_method"] == "Do not fuse images (only write TileConfiguration)"
    assert "fiji: Loading: tile_0001.tif ... " in caplog.messages


def test_tiles_are_exported_as_they_are(run, fiji, phantom, tmp_path, monkeypatch):
    tiles = phantom.tiles.copy()
    tiles[3] = np.nan  # a missing tile
    tiles[4, 2, 1] = np.inf
    written = {}
    write = tifffile.imwrite

    def imwrite(path, pixels, **options):
        write(path, pixels, **options)
        written[path.name] = tifffile.imread(path)

    monkeypatch.setattr(tifffile, "imwrite", imwrite)
    fiji.behave(registered=phantom.true.tolist())
    run(tiles=tiles)
    assert list(written) == [f"tile_{n:04d}.tif" for n in range(1, 13)]
    np.testing.assert_array_equal(written["tile_0001.tif"], tiles[0])
    assert (written["tile_0004.tif"] == 0).all()
    assert written["tile_0005.tif"][2, 1] == 0
    assert written["tile_0005.tif"].shape == SHAPE


GRIDS = {
    ("row-by-row", "down-right"): ("Grid: row-by-row", "Right & Down                "),
    ("row-by-row", "up-left"): ("Grid: row-by-row", "Left & Up"),
    ("row-by-row", "down-left"): ("Grid: row-by-row", "Left & Down"),
    ("row-by-row", "up-right"): ("Grid: row-by-row", "Right & Up"),
    ("snake-by-rows", "right-down"): ("Grid: snake by rows", "Right & Down                "),
    ("snake-by-rows", "left-up"): ("Grid: snake by rows", "Left & Up"),
    ("snake-by-rows", "left-down"): ("Grid: snake by rows", "Left & Down"),
    ("snake-by-rows", "right-up"): ("Grid: snake by rows", "Right & Up"),
    ("column-by-column", "down-right"): ("Grid: column-by-column", "Down & Right                "),
    ("column-by-column", "right-up"): ("Grid: column-by-column", "Up & Right"),
    ("column-by-column", "down-left"): ("Grid: column-by-column", "Down & Left"),
    ("column-by-column", "up-left"): ("Grid: column-by-column", "Up & Left"),
    ("snake-by-columns", "right-down"): ("Grid: snake by columns", "Down & Right                "),
    ("snake-by-columns", "up-right"): ("Grid: snake by columns", "Up & Right"),
    ("snake-by-columns", "down-left"): ("Grid: snake by columns", "Down & Left"),
    ("snake-by-columns", "left-up"): ("Grid: snake by columns", "Up & Left"),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_in_the_words_of_fiji(grid, tmp_path):
    """The names of its menus, two of which end in blanks."""
    macro = stitching_macro(
        tmp_path,
        columns=9,
        rows=7,
        grid_type=grid[0],
        order=grid[1],
        overlap_percent=12.5,
        n_tiles=63,
    )
    kind, order = GRIDS[grid]
    assert f"type=[{kind}] order=[{order}] grid_size_x=9 grid_size_y=7 tile_overlap=12.5 " in macro


def test_a_folder_that_a_macro_cannot_name(run):
    with pytest.raises(ConfigError, match=r"brackets .*project.dir"):
        run(folder="project [2]")


def test_quotes_and_backslashes_in_the_path(run, fiji, phantom):
    fiji.behave(registered=phantom.true.tolist())
    run(folder='project "a" \\b order=x')
    assert 'project "a" \\b order=x/.fiji-' in fiji.called["directory"]
    assert fiji.called["order"] == "Up & Right"


def test_a_result_of_another_run_is_not_taken(run, tmp_path):
    """What a killed run left is removed, and Fiji gets a folder of its own."""
    old = tmp_path / "project $HOME 'x'" / ".fiji-normal-old"
    old.mkdir(parents=True)
    (old / "TileConfiguration.registered.txt").write_text("dim = 2\ntile_0001.tif; ; (1, 1)\n")
    with pytest.raises(QualityError, match=r"left no TileConfiguration.registered.txt"):
        run()
    assert not old.exists()


@pytest.mark.parametrize(
    ("behaviour", "kind", "expected"),
    [
        ({"says": ["Could not initialise stitching."]}, QualityError, "Could not initialise"),
        (
            {"says": ['Unrecognized command: "Grid/Collection stitching"']},
            ConfigError,
            "Stitching plugin",
        ),
        ({"code": 3, "says": ["java: no such thing"]}, OpticStreamError, "exit code 3, expected 0"),
        (
            {"code": 1, "says": ["java.lang.OutOfMemoryError: Java heap space"]},
            ResourceError,
            "mosaic.fiji.java_memory_mb",
        ),
        ({"kill": True}, ResourceError, "ended by SIGKILL"),
    ],
)
def test_a_fiji_that_fails(run, fiji, behaviour, kind, expected):
    fiji.behave(**behaviour)
    with pytest.raises(kind) as caught:
        run()
    assert type(caught.value) is kind
    assert expected in str(caught.value)
    for line in behaviour.get("says", []):
        assert line in str(caught.value)


def test_a_file_does_not_excuse_a_failure(run, fiji, phantom):
    fiji.behave(registered=phantom.true.tolist(), code=1)
    with pytest.raises(OpticStreamError, match=r"exit code 1"):
        run()
    fiji.behave(registered=phantom.true.tolist(), kill=True)
    with pytest.raises(ResourceError, match=r"SIGKILL"):
        run()


def test_a_result_that_is_not_whole(run, fiji, phantom):
    fiji.behave(registered=phantom.true[:10].tolist())
    with pytest.raises(QualityError, match=r"lists 10 of 12 tiles, without tile_0011.tif"):
        run()
    fiji.behave(registered=[("NaN", "NaN")] * 12)
    with pytest.raises(CorruptInputError, match=r"line 5: 'tile_0001.tif; ; \(NaN, NaN\)'"):
        run()


def test_a_fiji_that_hangs_is_ended(run, fiji, phantom):
    fiji.behave(registered=phantom.true.tolist(), sleep_s=600, says=["waiting for a window"])
    with pytest.raises(ServiceError, match=r"ended after 1.5 s .*\n.*\n    waiting for a window"):
        run(timeout_s=1.5)


def test_a_fiji_that_is_not_there(run, tmp_path):
    with pytest.raises(ConfigError, match=r"not there or cannot be executed"):
        run(executable=tmp_path / "ImageJ-linux64")
    broken = tmp_path / "ImageJ-broken"
    broken.write_text("#!/no/such/java\n")
    broken.chmod(0o755)
    with pytest.raises(ConfigError, match=r"cannot be started"):
        run(executable=broken)
    with pytest.raises(ConfigError, match=r"needs mosaic.fiji.executable"):
        find_fiji(FijiSection())


def test_a_disk_that_is_full(run, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(ServiceError, match=r"tile_0001.tif: .*free some space"):
        run()
