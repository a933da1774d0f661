import os
import tempfile
from pathlib import Path

import pytest
import yaml

from opticstream_smk.config import load_config
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.state.flags import read_flag
from opticstream_smk.trigger.ready import scan
from tests.conftest import small_values


def ready(config):
    return Plan(config, project_layout(config)).ready


def test_complete_batches_become_ready(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2, 3])
    result = scan(config, assume_stable=True)
    assert result.written == [(1, 1)]
    assert ready(config) == {1: (1,)}
    assert result.waiting == ["mosaic 001 batch 002: 1 of 2 tiles, missing 4"]
    assert result.problems == []


def test_the_manifest_lists_absolute_paths_and_a_fingerprint(make_config, write_raw):
    config = make_config()
    paths = write_raw(config, 2, [1, 2])
    scan(config, assume_stable=True)
    flag = read_flag(project_layout(config).batch_flag(2, 1, "ready"))
    assert [file.path for file in flag.inputs] == [str(path) for path in paths]
    assert [file.size for file in flag.inputs] == [path.stat().st_size for path in paths]
    assert (flag.slice, flag.mosaic, flag.batch, flag.tiles.done) == (1, 2, 1, (1, 2))
    assert len(flag.extra["fingerprint"]) == 64


def test_an_equal_fingerprint_leaves_ready_alone(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2])
    scan(config, assume_stable=True)
    path = project_layout(config).batch_flag(1, 1, "ready")
    before = path.stat().st_mtime_ns
    again = scan(config)  # does not wait either: there is nothing new
    assert (again.written, again.unchanged) == ([], [(1, 1)])
    assert path.stat().st_mtime_ns == before


def test_a_lost_ready_comes_back(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2])
    scan(config, assume_stable=True)
    project_layout(config).batch_flag(1, 1, "ready").unlink()
    assert scan(config, assume_stable=True).written == [(1, 1)]


def test_a_truncated_tile_is_named_and_stops_only_its_batch(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2, 3, 4])
    path = write_raw(config, 1, [2], size=5000)[0]
    result = scan(config, assume_stable=True)
    assert result.written == [(1, 2)]
    assert len(result.problems) == 1
    assert str(path) in result.problems[0]
    assert "5000 bytes, expected" in result.problems[0]


def test_a_tile_that_is_too_long_points_at_the_configuration(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1])
    write_raw(config, 1, [2], size=config.acquisition.raw_tile_bytes("normal") + 2)
    assert "tile size in the configuration" in scan(config, assume_stable=True).problems[0]


def test_duplicates_are_not_guessed(make_config, write_raw):
    config = make_config()
    path = write_raw(config, 1, [1, 2])[0]
    twin = path.with_name("mosaic_001_image_0001_spectral_0777.nii")
    twin.write_bytes(path.read_bytes())
    result = scan(config, assume_stable=True)
    assert result.written == []
    assert "image 0001 of mosaic 001 is there twice" in result.problems[0]


def test_duplicates_from_two_sources(make_config, write_raw, tmp_path):
    config = make_config(acquisition__sources=[{"dir": "raw"}, {"dir": "raw2"}])
    (tmp_path / "raw2").mkdir()
    path = write_raw(config, 1, [1, 2])[0]
    (tmp_path / "raw2" / path.name).write_bytes(path.read_bytes())
    assert "there twice" in scan(config, assume_stable=True).problems[0]


def test_offsets_and_ranges(make_config, write_raw):
    config = make_config(
        acquisition__sources=[{"dir": "raw", "slice_offset": 4, "mosaic_ranges": "1:1"}]
    )
    write_raw(config, 1, [1, 2])
    write_raw(config, 2, [1, 2])
    assert scan(config, assume_stable=True).written == [(9, 1)]


def test_tiles_beyond_the_grid_are_one_problem(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, range(1, 9))
    result = scan(config, assume_stable=True)
    assert result.written == [(1, 1), (1, 2)]
    assert result.problems == [
        "mosaic 001: 4 tiles lie beyond the grid of 2 x 2 (image 0005 to 0008) and are ignored; "
        "correct acquisition.grid_size_x or grid_size_y if the grid is larger"
    ]


def test_small_files_and_other_names(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1], size=10)
    (config.acquisition.sources[0].dir / "notes.txt").write_text("x")
    (config.acquisition.sources[0].dir / "mosaic_001_image_0002_spectral_0002.nii").mkdir()
    result = scan(config, assume_stable=True)
    assert result.written == []
    assert len(result.problems) == 1
    assert "watch.min_file_bytes" in result.problems[0]


def test_a_missing_source_folder(make_config):
    config = make_config(acquisition__sources=[{"dir": "unmounted"}])
    assert "cannot be listed" in scan(config, assume_stable=True).problems[0]


@pytest.fixture
def open_folder():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def test_an_unreadable_tile(open_folder, as_somebody_else, write_raw):
    path = open_folder / "project.yaml"
    path.write_text(yaml.safe_dump(small_values()))
    (open_folder / "raw").mkdir()
    config = load_config(path)
    tile = write_raw(config, 1, [1, 2, 3, 4])[0]
    tile.chmod(0)
    result = scan(config, assume_stable=True)
    assert result.written == [(1, 2)]
    assert result.problems == [f"{tile} is not readable; correct its permissions"]


def test_a_batch_that_changes_while_it_is_watched_waits(make_config, write_raw):
    config = make_config(watch__stability_s=15)
    changing, _ = write_raw(config, 1, [1, 2])
    write_raw(config, 1, [3, 4])
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        os.utime(changing, (1, 1))

    result = scan(config, sleep=sleep)
    assert slept == [15]
    assert result.written == [(1, 2)]
    assert result.waiting == ["mosaic 001 batch 001: still being written"]


def test_replaced_raw_of_an_unprocessed_batch_is_taken(make_config, write_raw):
    config = make_config()
    path = write_raw(config, 1, [1, 2])[0]
    scan(config, assume_stable=True)
    os.utime(path, (1, 1))
    assert scan(config, assume_stable=True).written == [(1, 1)]


def test_replaced_raw_withdraws_the_complex_tiles_of_the_old_files(make_config, write_raw):
    from opticstream_smk.state.psoct import OctState
    from tests.state.test_flags import flag

    config = make_config()
    path = write_raw(config, 1, [1, 2])[0]
    scan(config, assume_stable=True)
    state = OctState(project_layout(config))
    with state.open_batch(1, 1) as node:
        node.add("complex", flag())
    # A lost .ready of the same files comes back and takes nothing with it.
    project_layout(config).batch_flag(1, 1, "ready").unlink()
    scan(config, assume_stable=True)
    assert state.read_batch(1, 1).has("complex")
    os.utime(path, (1, 1))
    assert scan(config, assume_stable=True).written == [(1, 1)]
    assert not state.read_batch(1, 1).has("complex")


def test_replaced_raw_of_a_processed_batch_keeps_the_results(make_config, write_raw):
    from opticstream_smk.state.psoct import OctState
    from tests.state.test_flags import flag

    config = make_config()
    path = write_raw(config, 1, [1, 2])[0]
    scan(config, assume_stable=True)
    with OctState(project_layout(config)).open_batch(1, 1) as node:
        node.add("processed", flag())
    before = project_layout(config).batch_flag(1, 1, "ready").read_bytes()
    os.utime(path, (1, 1))
    result = scan(config, assume_stable=True)
    assert result.stale == [(1, 1)]
    assert project_layout(config).batch_flag(1, 1, "ready").read_bytes() == before
    stale = read_flag(project_layout(config).batch_flag(1, 1, "stale"))
    assert stale.flag == "batch-001.stale"


def name_raw(config, name, label="normal"):
    path = config.acquisition.sources[0].dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.truncate(file.fileno(), config.acquisition.raw_tile_bytes(label))


def test_names_as_bids_spells_them(make_config):
    config = make_config(acquisition__filename_preset="bids")
    for image in (1, 2):
        name = f"sub-MF283_sample-slice037_chunk-{image:04d}_acq-tilted15deg_spectral.nii"
        name_raw(config, name, "tilted")
    assert scan(config, assume_stable=True).written == [(74, 1)]


def test_own_names_and_continuous_numbers(make_config):
    config = make_config(
        acquisition__filename_pattern="scan_{image}{extension}",
        acquisition__sources=[{"dir": "raw", "start_slice": 5, "start_mosaic": 2}],
        acquisition__tile_size_x_tilted=12,
    )
    # The tilted mosaic of slice 5 has 4 tiles, then the normal one of slice 6 begins.
    for image in range(1, 7):
        name_raw(config, f"scan_{image:05d}.nii")
    assert scan(config, assume_stable=True).written == [(10, 1), (10, 2), (11, 1)]


def test_a_source_of_one_acquisition(make_config):
    config = make_config(
        acquisition__filename_preset="bids",
        acquisition__sources=[{"dir": "raw", "acquisition": "normal0deg"}],
    )
    for image in (1, 2):
        for acq, label in (("normal0deg", "normal"), ("tilted15deg", "tilted")):
            name = f"sub-a_sample-slice001_chunk-{image:04d}_acq-{acq}_spectral.nii"
            name_raw(config, name, label)
    assert scan(config, assume_stable=True).written == [(1, 1)]


def test_three_illuminations_make_three_batches_of_one_file(make_config):
    config = make_config(acquisition__mosaics_per_slice=3, acquisition__filename_preset="macaque")
    for image in (1, 2, 5, 6):
        name_raw(config, f"spectral/spectral_{image:04d}.nii")
    # Four tiles a slice: images 5 and 6 are the first batch of slice 2.
    expected = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]
    assert scan(config, assume_stable=True).written == expected


def test_only_files_of_the_saving_type_are_taken(make_config, write_raw):
    config = make_config(acquisition__tile_saving_type="complex")
    write_raw(config, 1, [1, 2])
    assert scan(config, assume_stable=True).written == []
    for image in (1, 2):
        path = config.acquisition.sources[0].dir / f"mosaic_001_image_{image:04d}_processed.nii"
        with path.open("wb") as file:
            os.truncate(file.fileno(), config.acquisition.raw_tile_bytes("normal", "complex"))
    assert scan(config, assume_stable=True).written == [(1, 1)]


@pytest.mark.parametrize("name", ["ünïcode block", 'it\'s "quoted"', "a b/c d"])
def test_awkward_folder_names(make_config, write_raw, tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    config = make_config(acquisition__sources=[{"dir": name}], project__dir=f"{name}/project")
    write_raw(config, 1, [1, 2])
    assert scan(config, assume_stable=True).written == [(1, 1)]


def test_a_checksum_that_is_none_stops_only_its_batch(make_config, write_raw):
    config = make_config()
    path = write_raw(config, 1, [1, 2, 3, 4])[0]
    path.with_name(path.name + ".sha256").write_text("soon")
    result = scan(config, assume_stable=True)
    assert result.written == [(1, 2)]
    assert "holds no SHA-256" in result.problems[0]
