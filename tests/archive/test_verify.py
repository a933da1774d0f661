"""What is wrong with an archive is found, whatever it is; and nothing where nothing is."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opticstream_smk.archive.files import checksum_path
from opticstream_smk.archive.folder import MARKER
from opticstream_smk.archive.records import Selection
from opticstream_smk.archive.verify import verify_archive
from opticstream_smk.doctor import examine
from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.state import locks
from opticstream_smk.trigger.ready import scan
from tests.archive.conftest import damage, tree


@pytest.fixture
def full(bench):
    bench.everything()
    return bench


def faults(bench, *, against_raw=False, **selection):
    found = verify_archive(bench.config, Selection(**selection), against_raw=against_raw)
    return {(fault.kind, fault.path) for fault in found.faults}


def test_nothing_is_wrong_and_nothing_is_changed(full):
    before = tree(full.folder) | tree(full.layout.root)
    found = verify_archive(full.config, Selection(), against_raw=True, threads=3)
    assert (found.files, found.raw_files, found.faults, found.exit_code) == (8, 8, [], 0)
    raw = sum(path.stat().st_size for path in full.raw.glob("*.nii"))
    assert found.content_bytes == raw
    assert tree(full.folder) | tree(full.layout.root) == before


@pytest.mark.parametrize(
    ("selection", "files"),
    [
        ({"slice": 1}, 8),
        ({"mosaic": 1}, 4),
        ({"mosaic": 2, "batch": 1}, 2),
        ({"slice": 1, "mosaic": 2}, 4),
    ],
)
def test_a_part_of_it(full, selection, files):
    assert verify_archive(full.config, Selection(**selection)).files == files


@pytest.mark.parametrize("selection", [{}, {"slice": 2}, {"mosaic": 3}])
def test_nothing_to_verify(bench, selection):
    with pytest.raises(IncompleteInputError, match="nothing is archived of what is asked for"):
        verify_archive(bench.config, Selection(**selection))


@pytest.mark.parametrize(
    ("how", "kind"),
    [("flip", "corrupted"), ("truncate", "corrupted"), ("other", "corrupted"), ("", "missing")],
)
def test_a_damaged_file(full, how, kind):
    path = full.file(3)
    if how:
        damage(path, how)
    else:
        path.unlink()
    found = verify_archive(full.config, Selection())
    assert [(fault.kind, fault.path) for fault in found.faults] == [(kind, path)]
    assert (found.files, found.exit_code) == (7, 3)
    # Not where it is not asked for.
    assert faults(full, mosaic=2) == set()
    assert faults(full, mosaic=1, batch=1) == set()


def test_every_byte_counts(full):
    """One wrong bit anywhere in the file."""
    path = full.file(1)
    right = path.read_bytes()
    for at in range(0, len(right), len(right) // 40):
        wrong = bytearray(right)
        wrong[at] ^= 1
        path.write_bytes(wrong)
        assert faults(full, mosaic=1, batch=1) == {("corrupted", path)}, at
    path.write_bytes(right)
    assert faults(full) == set()


def test_a_file_with_the_content_of_another(full):
    """It is a sound gzip file, and its checksum file was made anew: only the records know."""
    shutil.copy(full.file(1), full.file(2))
    line = subprocess.run(
        ["sha256sum", full.file(2).name], cwd=full.folder, capture_output=True, check=True
    ).stdout
    checksum_path(full.file(2)).write_bytes(line)
    assert faults(full) == {("corrupted", full.file(2))}


@pytest.mark.parametrize("content", [None, "", "0" * 64 + "  x\n", "of another file", "no newline"])
def test_a_checksum_file_that_is_wrong(full, content):
    path = checksum_path(full.file(1))
    if content is None:
        path.unlink()
    elif content == "of another file":
        path.write_text(checksum_path(full.file(2)).read_text())
    elif content == "no newline":
        path.write_text(path.read_text().strip())
    else:
        path.write_text(content)
    assert faults(full) == {("checksum", path)}


@pytest.mark.parametrize("how", ["gone", "torn", "edited", "shortened"])
def test_a_manifest_that_is_wrong(full, how):
    path = full.manifest()
    right = path.read_text()
    lines = right.splitlines(keepends=True)
    if how == "gone":
        path.unlink()
    elif how == "torn":
        path.write_text(right[:-10])
    elif how == "edited":
        digest = full.rows()[0]["content_sha256"]
        path.write_text(right.replace(digest, "0" * 64))
    else:
        path.write_text("".join(lines[:-1]))
    assert faults(full) == {("manifest", path)}
    # The flags vouch for the files all the same; what the project knows is written again.
    path.unlink(missing_ok=True)
    full.archive(1, 1, force=True)
    assert path.read_text() == right
    assert faults(full) == set()


def test_a_file_that_nobody_vouches_for(full):
    strangers = [
        full.folder / "test block_sample-slice09_chunk-0001_acq-normal_OCT.nii.gz",
        full.folder / "below/tile.raw.gz",
        full.folder / "x.nii.gz.sha256",
        full.folder / ".tmp-y.nii.gz",
    ]
    strangers[1].parent.mkdir()
    for path in strangers:
        path.write_bytes(gzip.compress(b"?"))
    (full.folder / "notes.txt").write_text("on the shelf to the left")
    assert faults(full) == {("extra", path) for path in strangers}
    assert faults(full, mosaic=1) == set()


def test_files_of_a_batch_that_is_being_archived_are_no_strangers(full):
    stranger = full.folder / "new.nii.gz"
    stranger.write_bytes(gzip.compress(b"?"))
    lock = full.layout.lock(full.layout.batch_flag(1, 1, "archived"))
    with locks.hold(lock):
        assert faults(full) == set()
    assert faults(full) == {("extra", stranger)}


def test_two_projects_in_one_archive(make_bench, full):
    other = make_bench(project__name="other", project__dir="other")
    other.everything()
    assert faults(other) == faults(full) == set()
    assert verify_archive(other.config, Selection()).files == 8


def test_a_raw_file_that_is_another_one_now(full):
    raw = full.raw_file(2)
    raw.write_bytes(bytes(raw.stat().st_size))
    assert faults(full) == set()
    assert faults(full, against_raw=True) == {("raw", raw)}
    full.raw_file(1).unlink()  # it may have been deleted: it is archived
    assert faults(full, against_raw=True) == {("raw", raw)}


def test_a_project_that_is_gone_but_for_its_manifests(full):
    shutil.rmtree(full.layout.root)
    scan(full.config, assume_stable=True)
    found = verify_archive(full.config, Selection())
    assert (found.files, found.faults) == (8, [])
    damage(full.file(1), "flip")
    assert faults(full) == {("corrupted", full.file(1))}
    assert faults(full, mosaic=1, batch=2) == set()


def test_a_flag_that_cannot_be_read(full):
    path = full.layout.batch_flag(1, 1, "archived")
    path.write_text("{torn")
    assert faults(full) == {("corrupted", path)}


def test_an_archive_that_is_away(full):
    (full.folder / MARKER).rename(full.folder.parent / "marker")
    found = verify_archive(full.config, Selection(), against_raw=True)
    assert [(fault.kind, fault.path) for fault in found.faults] == [("away", full.folder)]
    assert found.exit_code == 4


# ------------------------------------------------------------------------------------- the doctor
def problems(bench, *, fix=False):
    return [finding for finding in examine(bench.config, fix=fix) if not finding.advisory]


def test_the_doctor_finds_nothing(full):
    assert examine(full.config) == []


def test_the_doctor_withdraws_what_is_not_true(full):
    full.file(1).unlink()
    (found,) = problems(full, fix=True)
    assert found.fixed
    assert "is missing" in found.problem
    assert full.flag(1, 1) is None
    assert full.flag(1, 2) is not None
    full.archive(1, 1)
    assert faults(full) == set()


def test_the_doctor_leaves_flags_alone_while_the_archive_is_away(full):
    full.folder.rename(full.folder.with_name("away"))
    full.folder.mkdir()
    (found,) = problems(full, fix=True)
    assert (found.where, found.fixed, found.remains) == (str(full.folder), False, True)
    assert "of 4 batches, such as mosaic 001 batch 001, is not there" in found.problem
    assert all(full.flag(mosaic, batch) for mosaic in (1, 2) for batch in (1, 2))
    full.folder.rmdir()
    full.folder.with_name("away").rename(full.folder)
    assert examine(full.config) == []


def test_the_doctor_follows_an_archive_that_was_moved(full, make_config):
    from tests.archive.conftest import Bench

    full.folder.rename(full.folder.with_name("new disk"))
    moved = Bench(make_config(archive__dir="new disk"))
    found = problems(moved, fix=True)
    assert len(found) == 4
    assert all(finding.fixed for finding in found)
    assert examine(moved.config) == []
    assert moved.layout.archived(1, moved.file(1).name).samefile(moved.file(1))
    assert faults(moved) == set()


def test_the_doctor_mends_links_over_the_dandiset(make_bench, tmp_path):
    bench = make_bench(project__dandiset_dir="dandi")
    bench.archive()
    shutil.rmtree(tmp_path / "dandi")
    link = bench.layout.archived(1, bench.file(1).name)
    assert not link.exists()
    problems(bench, fix=True)
    assert link.samefile(bench.file(1))
    assert "dandi" in str(link.readlink())
    assert examine(bench.config) == []


def test_the_doctor_clears_what_a_dead_process_left(full):
    left = full.layout.archived(1, ".tmp-x.nii.gz")
    left.symlink_to("nowhere")
    found = examine(full.config, fix=True)
    assert [(finding.where, finding.fixed) for finding in found] == [(str(left), True)]


# -------------------------------------------------------------------------------------- the command
def run(bench, *options):
    config = bench.layout.root.parent / "project.yaml"
    trigger = Path(sys.executable).with_name("optic-trigger")
    command = [trigger, "verify-archive", "--config", config, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command(full):
    done = run(full, "--against-raw", "--threads", 2)
    assert (done.returncode, done.stderr) == (0, "")
    told = "8 archived files verified (724 KB of raw data), 8 raw files compared; 0 faults\n"
    assert done.stdout == told
    damage(full.file(2), "flip")
    full.file(4).unlink()
    done = run(full, "--mosaic", 1)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"CORRUPTED  {full.file(2)}: ")
    assert lines[1].startswith(
        f"MISSING    {full.file(4)}: is not there. Bring it back from a copy"
    )
    assert lines[2].startswith("2 archived files verified")
    report = json.loads(run(full, "--format", "json", "--mosaic", 1).stdout)
    assert (report["files"], report["exit_code"]) == (2, 3)
    assert [fault["kind"] for fault in report["faults"]] == ["corrupted", "missing"]


@pytest.mark.parametrize("options", [("--batch", 1), ("--threads", 0)])
def test_the_command_line_is_checked(full, options):
    assert run(full, *options).returncode == 2
