import os
from types import SimpleNamespace

import pytest

from opticstream_smk import estimate
from opticstream_smk.archive.folder import MARKER, archive_folder
from opticstream_smk.plan import project_layout
from opticstream_smk.preflight import archive as module
from opticstream_smk.preflight.archive import check_archive
from opticstream_smk.preflight.raw_files import look
from opticstream_smk.preflight.room import check_room
from tests.history import History


@pytest.fixture
def disk_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "is_on_disk_of_project", lambda _config: False)


def verdicts(config, slices=1):
    return {check.name.split(" /")[0]: check for check in check_archive(config, slices, "a guess")}


def test_no_archive_is_worth_a_note(make_config):
    (check,) = check_archive(make_config(), 1, "")
    assert (check.verdict, "nowhere else" in check.found) == ("note", True)


def test_raw_files_and_archive_on_one_disk(make_config):
    found = verdicts(make_config(archive__dir="archive"))
    assert found["archive"].verdict == "ok"
    assert "can be made" in found["archive"].found
    assert found["archive disk"].verdict == "warning"
    assert "archive space" not in found


def test_room_on_a_disk_of_its_own(make_config, disk_of_its_own, monkeypatch):
    config = make_config(archive__dir="archive")
    check = verdicts(config, 3)["archive space"]
    assert check.verdict == "ok"
    assert check.numbers["archive_bytes"] == estimate.run_archive_bytes(config, 3)
    free = SimpleNamespace(f_bavail=100, f_frsize=1, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _path: free)
    check = verdicts(config, 3)["archive space"]
    assert (check.verdict, check.exit_code) == ("FAILED", 4)
    assert "100 B are free on the disk of" in check.found


def test_what_is_archived_needs_no_room_any_more(make_config, disk_of_its_own):
    config = make_config(archive__dir="archive")
    history = History(config)
    for batch in (1, 2):
        history.write(history.place(1, batch), "archived")
    check = verdicts(config, 1)["archive space"]
    assert check.numbers["archive_bytes"] == 2 * estimate.batch_archive_bytes(config, "tilted")


def test_on_one_disk_it_is_counted_with_the_products(make_config, write_raw):
    with_archive = make_config(archive__dir="archive")
    write_raw(with_archive, 1, [1])
    (room,) = check_room(with_archive, look(with_archive), slices=2, assumption="")
    without = make_config()
    (bare,) = check_room(without, look(without), slices=2, assumption="")
    more = room.numbers["needed_bytes"] - bare.numbers["needed_bytes"]
    assert more == estimate.run_archive_bytes(with_archive, 2)
    assert "of archived raw files come to the same disk" in room.found


def test_an_archive_that_is_away(make_config):
    config = make_config(archive__dir="archive")
    folder = archive_folder(config, project_layout(config))
    folder.open("p")
    (folder.path / MARKER).unlink()
    (check,) = check_archive(config, 1, "")
    assert (check.verdict, check.exit_code) == ("FAILED", 4)
    assert "is the right disk mounted?" in check.found


def test_an_archive_that_cannot_be_written(make_config, monkeypatch):
    def refuse(_folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "_probe", refuse)
    (check,) = check_archive(make_config(archive__dir="archive"), 1, "")
    assert (check.verdict, check.exit_code) == ("FAILED", 4)
    assert "cannot write" in check.found


def test_nothing_stays_behind(make_config, tmp_path):
    (tmp_path / "archive").mkdir()
    check_archive(make_config(archive__dir="archive"), 1, "")
    assert list((tmp_path / "archive").iterdir()) == []


# --------------------------------------------------------------------------------------- estimates
def test_estimates_are_of_what_is_archived(make_config):
    config = make_config(archive__dir="archive")
    counts = config.acquisition.raw_tile_bytes("normal")
    assert counts * 2 * 0.7 < estimate.batch_archive_bytes(config, "normal") < counts * 2
    assert estimate.batch_archive_bytes(make_config(), "normal") == 0
    both = make_config(
        archive__dir="archive",
        archive__complex=True,
        acquisition__tile_saving_type="complex_with_spectral",
    )
    floats = both.acquisition.raw_tile_bytes("normal", "complex")
    assert estimate.batch_archive_bytes(both, "normal") > counts * 2 * 0.7 + floats * 2
    packed = make_config(archive__dir="archive", acquisition__tile_saving_type="spectral_12bit")
    least = packed.acquisition.raw_tile_bytes("normal") * 2
    assert estimate.batch_archive_bytes(packed, "normal") >= least


def test_interleaved_files_are_counted_once(make_config):
    config = make_config(
        archive__dir="archive",
        acquisition__mosaics_per_slice=3,
        acquisition__filename_preset="macaque",
    )
    one = estimate.batch_archive_bytes(config, "normal")
    assert estimate.run_archive_bytes(config, 2) == 2 * 2 * one
