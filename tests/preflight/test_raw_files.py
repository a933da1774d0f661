"""Names, grid and sizes of raw files; nothing of their content is needed."""

import os
import struct
import time

import pytest

from opticstream_smk.preflight.grid import check_grid
from opticstream_smk.preflight.raw_files import check_files, check_names, look
from opticstream_smk.preflight.sizes import check_sizes
from opticstream_smk.simulate.formats import nifti1_header, spectral_header


def settle(paths):
    """Let files be older than watch.stability_s."""
    for path in paths:
        os.utime(path, (time.time() - 100, time.time() - 100))


def names(config):
    return check_names(config, look(config))


def grid(config):
    return check_grid(look(config))


def sizes(config):
    return check_sizes(look(config))


# ------------------------------------------------------------------------------------ names
def test_tiles_are_counted(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2, 3])
    (check,) = names(config)
    assert (check.verdict, check.numbers["tiles"]) == ("ok", 3)


def test_an_empty_folder_is_no_failure(make_config):
    (check,) = names(make_config())
    assert (check.verdict, check.found) == ("note", "no tile yet")


def test_tiles_of_another_naming_are_named(make_config, write_raw):
    config = make_config()
    folder = config.acquisition.sources[0].dir
    for image in range(1, 5):
        (folder / f"spectral_{image:04d}.nii").write_bytes(bytes(2000))
    (folder / "notes.txt").write_bytes(bytes(2000))
    (folder / "small.nii").write_bytes(bytes(10))
    none_yet, strange = names(config)
    assert none_yet.verdict == "note"
    assert (strange.verdict, strange.exit_code) == ("FAILED", 2)
    assert strange.found == (
        "4 files named like tiles of another naming: spectral_0001.nii, spectral_0002.nii, "
        "spectral_0003.nii and 1 more"
    )
    assert "filename_preset: macaque" in strange.remedy
    write_raw(config, 1, [1])
    known, strange = names(config)
    assert (known.verdict, strange.verdict) == ("ok", "warning")


def test_names_that_no_preset_reads(make_config):
    config = make_config()
    (config.acquisition.sources[0].dir / "block7-tile3.nii").write_bytes(bytes(2000))
    _, strange = names(config)
    assert strange.verdict == "warning"
    assert "filename_pattern" in strange.remedy


def test_tiles_of_another_saving_type(make_config):
    config = make_config(acquisition__tile_saving_type="complex")
    name = "mosaic_001_image_0001_spectral_0001.nii"
    (config.acquisition.sources[0].dir / name).write_bytes(bytes(2000))
    (check,) = names(config)
    assert check.exit_code == 2
    assert "1 spectral.nii" in check.found
    assert "tile_saving_type" in check.remedy


def test_small_files_are_left_out(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1])
    write_raw(config, 1, [2], size=10)
    assert [check.verdict for check in names(config)] == ["ok", "warning"]
    assert "watch.min_file_bytes" in names(config)[1].found


def test_twins_and_unreadable_files(make_config, write_raw, monkeypatch):
    config = make_config()
    first, _ = write_raw(config, 1, [1, 2])
    first.with_name("mosaic_001_image_0001_spectral_0777.nii").write_bytes(bytes(5000))
    (twin,) = check_files(look(config))
    assert twin.exit_code == 3
    assert "image 0001 of mosaic 001 (spectral)" in twin.found
    # Root may read everything, so the answer of the system is replaced.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, *a, **k: path != first and access(path, *a, **k))
    _, closed = check_files(look(config))
    assert closed.exit_code == 4
    assert str(first) in closed.found


# ------------------------------------------------------------------------------------- grid
def test_complete_and_growing_mosaics(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2, 3, 4])
    write_raw(config, 2, [1])
    normal, tilted = grid(config)
    assert (normal.verdict, tilted.verdict) == ("ok", "ok")
    assert "1 complete mosaic" in normal.found
    assert "mosaic 002 has 1 so far" in tilted.found


def test_images_beyond_the_grid(make_config, write_raw):
    config = make_config()
    write_raw(config, 2, range(1, 7))
    beyond, _ = grid(config)
    assert beyond.exit_code == 2
    assert "2 tiles lie beyond the grid of 2 x 2 (image 0005 to 0006)" in beyond.found
    assert "grid_size_x_tilted" in beyond.remedy


def test_a_grid_that_is_smaller_than_configured(make_config, write_raw):
    config = make_config(acquisition__grid_size_x_normal=3)
    for mosaic in (1, 3):
        write_raw(config, mosaic, [1, 2, 3, 4])
    write_raw(config, 4, [1])
    check = grid(config)[0]
    assert check.exit_code == 2
    assert "001, 003) has the images 1 to 4" in check.found
    assert "2 columns of 2 rows would have 4 tiles" in check.remedy


def test_a_mosaic_with_a_gap(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2, 4])
    write_raw(config, 2, [1])
    check = grid(config)[0]
    assert check.verdict == "warning"
    assert "mosaic 001 lacks 1, although the next mosaic was begun" in check.found


# ------------------------------------------------------------------------------------ sizes
def test_files_of_the_configured_size(make_config, write_raw):
    config = make_config()
    settle(write_raw(config, 1, [1, 2]) + write_raw(config, 2, [1]))
    normal, tilted = sizes(config)
    assert (normal.verdict, tilted.verdict) == ("ok", "ok")
    assert "12 A-lines x 8 B-lines x 2 cameras x 256 samples" in normal.found


def test_a_truncated_file_is_a_damaged_file(make_config, write_raw):
    config = make_config()
    settle(write_raw(config, 1, [1, 2, 3]))
    (bad,) = write_raw(config, 1, [2], size=5000)
    settle([bad])
    (check,) = sizes(config)
    assert check.exit_code == 3
    assert f"1 of 3 files are truncated or too long: {bad} has 5000 bytes" in check.found


def test_a_file_that_grows_is_not_damaged(make_config, write_raw):
    config = make_config(watch__stability_s=15)
    settle(write_raw(config, 1, [1]))
    write_raw(config, 1, [2], size=5000)
    whole, growing = sizes(config)
    assert (whole.verdict, growing.verdict) == ("ok", "note")
    assert growing.found == "1 file still being written"


def test_a_wrong_tile_size_is_a_wrong_configuration(make_config, write_raw):
    config = make_config()
    right = 352 + 15 * 8 * 2 * 256 * 2
    settle(write_raw(config, 1, [1, 2], size=right))
    (check,) = sizes(config)
    assert check.exit_code == 2
    assert f"all 2 files have {right} bytes" in check.found
    # Every one of the three would explain the length.
    assert check.remedy == (
        "Set acquisition.samples_per_aline: 320 instead of 256 or acquisition.tile_size_x_normal: "
        "15 instead of 12 or acquisition.tile_size_y: 10 instead of 8"
    )


def test_the_header_tells_which_size_is_wrong(make_config, write_raw):
    config = make_config()
    paths = write_raw(config, 2, [1, 2], size=352 + 14 * 9 * 2 * 300 * 2)
    for path in paths:
        with path.open("r+b") as file:
            file.write(spectral_header(14, 9, 300))
    settle(paths)
    (check,) = sizes(config)
    assert check.exit_code == 2
    assert check.remedy == (
        "Set acquisition.samples_per_aline: 300 instead of 256 and acquisition.tile_size_x_tilted: "
        "14 instead of 10 and acquisition.tile_size_y: 9 instead of 8"
    )


def test_a_header_that_disagrees_is_one_warning(make_config, write_raw):
    config = make_config()
    paths = write_raw(config, 1, [1, 2])
    for path in paths:
        with path.open("r+b") as file:
            file.write(spectral_header(8, 12, 256))
    settle(paths)
    size, header = sizes(config)
    assert (size.verdict, header.verdict) == ("ok", "warning")
    assert header.found.startswith("256 samples x 16 A-lines of both cameras x 12 B-lines")
    with paths[0].open("r+b") as file:
        file.write(spectral_header(12, 8, 256))
    settle(paths)
    assert [check.verdict for check in sizes(config)] == ["ok"]


def test_a_file_that_is_not_nifti_has_no_header(make_config, write_raw):
    config = make_config()
    (path,) = write_raw(config, 1, [1])
    with path.open("r+b") as file:
        file.write(struct.pack("<i", 7) * 88)
    settle([path])
    assert [check.verdict for check in sizes(config)] == ["ok"]


def test_packed_tiles(make_config):
    config = make_config(acquisition__tile_saving_type="spectral_12bit")
    path = config.acquisition.sources[0].dir / "mosaic_001_image_0001_spectral_0001.raw"
    path.write_bytes(bytes(12 * 8 * 2 * 256 * 3 // 2))
    settle([path])
    assert [check.verdict for check in sizes(config)] == ["ok"]
    path.write_bytes(bytes(12 * 9 * 2 * 256 * 3 // 2))
    settle([path])
    (check,) = sizes(config)
    assert "tile_size_y: 9 instead of 8" in check.remedy


def test_complex_tiles(make_config):
    config = make_config(acquisition__tile_saving_type="complex")
    path = config.acquisition.sources[0].dir / "mosaic_001_image_0001_processed.nii"
    path.write_bytes(nifti1_header((48, 8, 104), "float32") + bytes(48 * 8 * 104 * 4))
    settle([path])
    assert [check.verdict for check in sizes(config)] == ["ok"]
    path.write_bytes(nifti1_header((48, 8, 232), "float32") + bytes(48 * 8 * 232 * 4))
    settle([path])
    (check,) = sizes(config)
    assert check.remedy == "Set acquisition.samples_per_aline: 512 instead of 256"


def test_interleaved_tiles_are_counted_once(make_config):
    config = make_config(acquisition__mosaics_per_slice=3, acquisition__filename_preset="macaque")
    folder = config.acquisition.sources[0].dir
    paths = [folder / f"spectral_{image:04d}.nii" for image in range(1, 5)]
    for path in paths:
        size = 352 + 3 * 12 * 8 * 2 * 256 * 2
        path.write_bytes(spectral_header(36, 8, 256) + bytes(size - 352))
    settle(paths)
    raw = look(config)
    assert len(raw.raw_tiles()) == 4
    (check,) = check_sizes(raw)
    assert "3 x 12 A-lines" in check.found
    assert [check.verdict for check in check_grid(raw)] == ["ok", "ok", "ok"]
    (named,) = check_names(config, raw)
    assert named.numbers["tiles"] == 4


@pytest.mark.parametrize("modality", ["dBI", "aip"])
def test_maps_are_not_judged_by_their_length(make_config, modality):
    maps = ["aip", "ret", "ori"]
    config = make_config(
        acquisition__tile_saving_type="processed_with_spectral",
        processing__modalities=maps,
        mosaic__modalities=maps,
        registration__enabled=False,
    )
    folder = config.acquisition.sources[0].dir
    word = "processed" if modality == "dBI" else modality
    (folder / f"mosaic_001_image_0001_{word}.nii").write_bytes(bytes(2000))
    assert sizes(config) == []
