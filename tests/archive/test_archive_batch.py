"""A batch to its archive: what is written, what is kept, what is refused."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opticstream_smk.archive import files
from opticstream_smk.errors import ConfigError, CorruptInputError, ServiceError
from opticstream_smk.io import gzip_file
from opticstream_smk.plan import Plan
from opticstream_smk.stages.stage import TilesFailedError
from opticstream_smk.trigger.ready import scan
from tests.archive.conftest import damage, tree


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(".tmp-*"))


# ---------------------------------------------------------------------------------------- written
def test_every_raw_file_is_there_and_listed(bench):
    bench.everything()
    for mosaic, label in ((1, "normal"), (2, "tilted")):
        rows = bench.rows(label)
        assert [row["image"] for row in rows] == ["1", "2", "3", "4"]
        for image, row in enumerate(rows, start=1):
            raw, path = bench.raw_file(image, mosaic), bench.file(image, label)
            assert gzip.decompress(path.read_bytes()) == raw.read_bytes()
            assert (row["asset_path"], row["content_name"]) == (path.name, raw.name)
            assert (row["size"], row["sha256"]) == (str(path.stat().st_size), sha256(path))
            assert (row["content_size"], row["content_sha256"]) == (
                str(raw.stat().st_size), sha256(raw),
            )  # fmt: skip
            link = bench.layout.archived(mosaic, path.name)
            assert link.is_symlink()
            assert not link.readlink().is_absolute()
            assert link.samefile(path)
    assert not leftovers(bench.folder)


def test_the_flag_says_what_was_verified(bench):
    flag = bench.archive()
    raw, packed = bench.raw_file(2), bench.file(2)
    assert [file.sha256 for file in flag.inputs] == [sha256(bench.raw_file(i)) for i in (1, 2)]
    assert flag.inputs[1].path == str(raw)
    assert flag.outputs[1].path == f"mosaic-01/archived/{packed.name}"
    assert flag.outputs[1].size == packed.stat().st_size
    assert flag.tiles.done == (1, 2)
    recorded = flag.extra["archived"][1]
    assert (recorded["name"], recorded["sha256"]) == (packed.name, sha256(packed))
    assert recorded["compressor"] == "igzip level 2"
    content = sum(bench.raw_file(i).stat().st_size for i in (1, 2))
    assert flag.numbers["content_bytes"] == content
    assert 0.5 < flag.numbers["ratio"] < 1
    assert flag == bench.flag()


def test_checksum_files_are_what_sha256sum_reads(bench):
    bench.everything()
    names = sorted(path.name for path in bench.folder.glob("*.sha256"))
    assert len(names) == 8
    check = ["sha256sum", "--check", "--strict", *names]
    subprocess.run(check, cwd=bench.folder, check=True, capture_output=True)
    damage(bench.file(3), "flip")
    done = subprocess.run(check, cwd=bench.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{bench.file(3).name}: FAILED" in done.stdout


def test_two_archives_of_the_same_files_are_bit_identical(make_bench, tmp_path):
    first = make_bench()
    first.everything()
    shutil.move(first.folder, tmp_path / "first")
    shutil.rmtree(first.layout.root)
    other = make_bench(run__archive_threads=3)
    scan(other.config, assume_stable=True)
    for mosaic in (2, 1):
        for batch in (2, 1):
            other.archive(mosaic, batch, threads=3)
    for folder in (tmp_path / "first", other.folder):
        # An archive's own identity, which is drawn.
        (folder / ".opticstream-archive.json").unlink()
    names = {path.name for path in other.folder.iterdir()}
    assert len(names) == 8 + 8 + 2
    assert all(
        (tmp_path / "first" / n).read_bytes() == (other.folder / n).read_bytes() for n in names
    )


def test_packed_spectra_are_not_called_nifti(make_bench):
    bench = make_bench(acquisition__tile_saving_type="spectral_12bit")
    bench.archive()
    path = bench.file(1).with_name(bench.file(1).name.replace(".nii.gz", ".raw.gz"))
    assert gzip.decompress(path.read_bytes()) == bench.raw_file(1).read_bytes()
    assert not bench.file(1).exists()


def test_folders_in_the_template(make_bench):
    bench = make_bench(archive__name="{acq}/slice {slice_id:03d}/{tile_id}.nii.gz")
    bench.archive()
    path = bench.folder / "normal/slice 001/2.nii.gz"
    assert gzip.decompress(path.read_bytes()) == bench.raw_file(2).read_bytes()
    assert bench.layout.archived(1, "2.nii.gz").samefile(path)
    check = ["sha256sum", "--check", "2.nii.gz.sha256"]
    subprocess.run(check, cwd=path.parent, check=True, capture_output=True)


# ------------------------------------------------------------------------------- kinds of raw data
def test_complex_tiles_where_there_is_nothing_else(make_bench):
    bench = make_bench(kinds=("complex",), acquisition__tile_saving_type="complex")
    flag = bench.archive()
    raw = bench.raw_file(1, kind="processed")
    assert gzip.decompress(bench.file(1).read_bytes()) == raw.read_bytes()
    assert "warnings" not in flag.extra


@pytest.mark.parametrize("both", [False, True])
def test_spectra_go_before_complex_tiles(make_bench, both):
    bench = make_bench(
        kinds=("spectral", "complex"),
        acquisition__tile_saving_type="complex_with_spectral",
        archive__complex=both,
    )
    flag = bench.archive()
    assert gzip.decompress(bench.file(1).read_bytes()) == bench.raw_file(1).read_bytes()
    beside = bench.file(1).with_name(bench.file(1).name.replace("_OCT", "_proc-complex_OCT"))
    assert beside.exists() == both
    assert len(flag.outputs) == len(flag.inputs) == (4 if both else 2)
    if both:
        raw = bench.raw_file(1, kind="processed")
        assert gzip.decompress(beside.read_bytes()) == raw.read_bytes()
        assert len(bench.rows()) == 4


def test_a_tile_without_its_spectra_is_told(make_bench):
    bench = make_bench(
        kinds=("spectral", "complex"),
        acquisition__tile_saving_type="complex_with_spectral",
        scanned=False,
    )
    bench.raw_file(2).unlink()
    scan(bench.config, assume_stable=True)
    flag = bench.archive()
    assert flag.extra["warnings"] == [
        "image 0002 has no spectral file; its complex tile is archived instead"
    ]
    # Its spectra may still come: their name is free.
    assert not bench.file(2).exists()


def test_maps_alone_are_nothing_to_archive(make_bench):
    bench = make_bench(acquisition__tile_saving_type="processed_with_spectral", scanned=False)
    maps = ("processed", "surf", *bench.config.processing.modalities)
    for image in (1, 2):
        for name in maps:
            stem = bench.raw / f"mosaic_001_image_{image:04d}_{name}.nii"
            header = b"\x5c\x01\0\0" + bytes(36) + b"\2\0" + b"\1\0" * 7 + bytes(16) + b"\x20\0"
            header = header.ljust(108, b"\0") + b"\0\0\xb0\x43"
            stem.write_bytes(header.ljust(200_000, b"\0"))
    bench.raw_file(2).unlink()
    scan(bench.config, assume_stable=True)
    with pytest.raises(
        TilesFailedError, match="has neither a spectral nor a complex file"
    ) as error:
        bench.archive()
    assert error.value.images == (2,)
    assert gzip.decompress(bench.file(1).read_bytes()) == bench.raw_file(1).read_bytes()


def test_interleaved_raw_files_are_archived_once(make_config):
    config = make_config(
        archive__dir="archive",
        acquisition__mosaics_per_slice=3,
        acquisition__filename_preset="macaque",
    )
    from tests.archive.conftest import Bench, noise

    bench = Bench(config)
    for image in range(1, 5):
        size = config.acquisition.raw_tile_bytes("normal")
        noise(bench.raw / f"spectral_{image:04d}.nii", size, image)
    scan(config, assume_stable=True)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(bench.archive, (3, 1, 2)))
    assert sorted(path.name for path in bench.folder.glob("*.gz")) == [
        bench.file(1).name, bench.file(2).name,
    ]  # fmt: skip
    compressors = [
        file["compressor"] for m in (1, 2, 3) for file in bench.flag(m).extra["archived"]
    ]
    assert sorted(compressors) == [""] * 4 + ["igzip level 2"] * 2
    assert all(
        bench.layout.archived(m, bench.file(1).name).samefile(bench.file(1)) for m in (1, 2, 3)
    )
    assert len(bench.rows()) == 2


# ----------------------------------------------------------------------------------- the dandiset
def test_links_lead_over_the_dandiset(make_bench, tmp_path):
    bench = make_bench(project__dandiset_dir="dandi", project__subject="I55")
    (tmp_path / "dandi").mkdir()
    (tmp_path / "dandi/.bidsignore").write_text("notes.txt")
    bench.archive()
    shown = tmp_path / "dandi/rawdata/sub-I55/sample-slice-001_chunk-0002_acq-normal_OCT.nii.gz"
    link = bench.layout.archived(1, bench.file(2).name)
    assert not link.readlink().is_absolute()
    assert not shown.readlink().is_absolute()
    assert Path(os.path.normpath(link.parent / link.readlink())) == shown
    assert shown.samefile(bench.file(2))
    assert (tmp_path / "dandi/.bidsignore").read_text() == "notes.txt\nrawdata/\n"
    bench.archive(1, 2)
    assert (tmp_path / "dandi/.bidsignore").read_text() == "notes.txt\nrawdata/\n"


def test_an_archive_in_the_dandiset_is_linked_to_directly(make_bench, tmp_path):
    bench = make_bench(project__dandiset_dir="dandi", archive__dir="dandi/rawdata")
    bench.archive()
    link = bench.layout.archived(1, bench.file(1).name)
    assert Path(os.path.normpath(link.parent / link.readlink())) == bench.file(1)
    assert not (tmp_path / "dandi/rawdata/sub-testblock").exists()


def test_a_file_in_the_place_of_a_link_is_left_alone(make_bench, tmp_path):
    bench = make_bench(project__dandiset_dir="dandi")
    shown = tmp_path / "dandi/rawdata/sub-testblock"
    shown.mkdir(parents=True)
    taken = shown / "sample-slice-001_chunk-0001_acq-normal_OCT.nii.gz"
    taken.write_bytes(b"precious")
    with pytest.raises(TilesFailedError, match="is a file; expected nothing or a link") as error:
        bench.archive()
    assert error.value.images == (1,)
    assert taken.read_bytes() == b"precious"


# ----------------------------------------------------------------------------------- kept, redone
def test_a_second_run_reads_no_raw_file_and_verifies(bench, monkeypatch):
    bench.archive()
    before = tree(bench.folder)
    for image in (1, 2):
        bench.raw_file(image).unlink()
    read = []
    monkeypatch.setattr(files, "read_digest", lambda p: read.append(p) or gzip_file.read_digest(p))
    bench.archive(force=True)
    assert read == [bench.file(1), bench.file(2)]
    assert tree(bench.folder) == before


@pytest.mark.parametrize("how", ["flip", "other"])
def test_redo_finds_an_archive_that_has_changed(bench, how):
    bench.archive()
    damage(bench.file(2), how)
    # Where its size is as it was, its receipt proves the tile, and it is only read again.
    expected = "has changed since it was verified" if how == "flip" else "holds another file than"
    content = bench.file(2).read_bytes()
    with pytest.raises(TilesFailedError, match=expected) as error:
        bench.archive(force=True)
    assert error.value.images == (2,)
    assert bench.flag() is None
    assert bench.file(2).read_bytes() == content
    # As the message says: moved away, it is archived again.
    bench.file(2).rename(bench.file(2).with_suffix(".damaged"))
    bench.archive()
    assert gzip.decompress(bench.file(2).read_bytes()) == bench.raw_file(2).read_bytes()


def test_a_project_that_begins_anew_takes_over_its_archive(bench):
    bench.everything()
    before = tree(bench.folder)
    shutil.rmtree(bench.layout.root)
    scan(bench.config, assume_stable=True)
    flag = bench.archive()
    bench.archive(1, 2)
    assert tree(bench.folder) == before
    assert [file["compressor"] for file in flag.extra["archived"]] == ["", ""]


def test_what_is_archived_needs_no_raw_file(bench):
    """Receipts are lost, the raw files were deleted: the manifest still vouches for them."""
    bench.archive()
    shutil.rmtree(bench.layout.archived(1))
    for image in (1, 2):
        bench.raw_file(image).unlink()
    flag = bench.archive(force=True)
    assert [file["name"] for file in flag.extra["archived"]] == [
        bench.file(1).name, bench.file(2).name,
    ]  # fmt: skip
    damage(bench.file(1), "flip")
    shutil.rmtree(bench.layout.archived(1))
    with pytest.raises(
        TilesFailedError, match=r"is damaged|is not what its manifest says"
    ) as error:
        bench.archive(force=True)
    assert error.value.images == (1,)


def test_a_raw_file_that_never_was_archived_is_missed(bench):
    bench.raw_file(1).unlink()
    with pytest.raises(TilesFailedError, match="cannot be seen any more") as error:
        bench.archive()
    assert error.value.images == (1,)
    assert bench.file(2).exists()


def test_one_bad_tile_stops_no_other_and_a_retry_does_only_that(bench, monkeypatch):
    raw = bench.raw_file(1)
    content, times = raw.read_bytes(), (raw.stat().st_atime_ns, raw.stat().st_mtime_ns)
    raw.write_bytes(content[:5000])
    with pytest.raises(TilesFailedError, match="has 5000 bytes; it had"):
        bench.archive()
    raw.write_bytes(content)
    os.utime(raw, ns=times)
    written = []
    monkeypatch.setattr(
        files, "write_gzip", lambda s, t, **k: written.append(s) or gzip_file.write_gzip(s, t, **k)
    )
    bench.archive()
    assert written == [raw]


def test_new_raw_files_do_not_replace_an_archive(bench):
    """A mosaic that is acquired again, with the same ids."""
    from tests.archive.conftest import noise

    bench.archive()
    before = tree(bench.folder)
    old, raw = bench.file(1).read_bytes(), bench.raw_file(1)
    noise(raw, raw.stat().st_size, 77)
    scan(bench.config, assume_stable=True)
    assert bench.flag() is None
    with pytest.raises(TilesFailedError) as error:
        bench.archive()
    message = str(error.value)
    assert hashlib.sha256(gzip.decompress(old)).hexdigest() in message
    assert sha256(raw) in message
    assert "outside of the archive" in message
    assert tree(bench.folder) == before
    aside = bench.folder.parent / "superseded"
    aside.mkdir()
    for path in bench.folder.glob("*chunk-0001*"):
        path.rename(aside / path.name)
    bench.archive()
    assert gzip.decompress(bench.file(1).read_bytes()) == raw.read_bytes()
    assert (aside / bench.file(1).name).read_bytes() == old
    rows = {row["image"]: row for row in bench.rows()}
    assert rows["1"]["content_sha256"] == sha256(raw)


# ------------------------------------------------------------------------------------------ refused
def test_without_a_folder_the_stage_says_so(make_bench):
    bench = make_bench(archive__dir=None)
    assert all(state != "archived" for _, state in Plan(bench.config, bench.layout).flags())
    with pytest.raises(ConfigError, match=r"archive\.dir is not set"):
        bench.archive()


def test_a_raw_file_that_changes_while_it_is_read(bench, monkeypatch):
    def write(source, target, **options):
        digest = gzip_file.write_gzip(source, target, **options)
        with source.open("rb+") as file:
            file.write(b"changed")
        return digest

    monkeypatch.setattr(files, "write_gzip", write)
    with pytest.raises(TilesFailedError, match="was written again after its batch became ready"):
        bench.archive()
    assert not list(bench.folder.glob("*.gz*"))
    assert not leftovers(bench.folder)


def test_a_checksum_beside_a_raw_file_is_kept_to(make_bench):
    bench = make_bench(scanned=False)
    for image, digest in ((1, "0" * 64), (2, sha256(bench.raw_file(2)))):
        raw = bench.raw_file(image)
        raw.with_name(f"{raw.name}.sha256").write_text(f"{digest}  {raw.name}\n")
    scan(bench.config, assume_stable=True)
    with pytest.raises(TilesFailedError, match="is not what the checksum beside it says") as error:
        bench.archive()
    assert error.value.images == (1,)
    assert not bench.file(1).exists()


@pytest.mark.parametrize("how", ["flip", "truncate", "other"])
def test_what_does_not_read_back_gets_no_name(bench, monkeypatch, how):
    """A disk or a memory that returns other bytes than it was given."""

    def write(source, target, **options):
        digest = gzip_file.write_gzip(source, target, **options)
        damage(target, how)
        return digest

    monkeypatch.setattr(files, "write_gzip", write)
    with pytest.raises(ServiceError, match="read back") as error:
        bench.archive()
    assert "check the disk" in str(error.value)
    assert not list(bench.folder.glob("*.gz*"))
    assert not leftovers(bench.folder)
    assert bench.flag(state="failed").extra["kind"] == "service"


def test_an_archived_file_that_cannot_be_read_stops_no_other(bench, monkeypatch):
    bench.archive()

    def read(path):
        if path == bench.file(1):
            raise OSError(5, "Input/output error")
        return gzip_file.read_digest(path)

    monkeypatch.setattr(files, "read_digest", read)
    with pytest.raises(TilesFailedError, match=r"cannot be read \(Input/output error\)") as error:
        bench.archive(force=True)
    assert error.value.images == (1,)
    assert "1 are done and kept" in str(error.value)


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(bench, monkeypatch):
    def write(source, target, **options):
        final = target.with_name(target.name.removeprefix(".tmp-"))
        final.write_bytes(gzip.compress(b"of another project"))
        return gzip_file.write_gzip(source, target, **options)

    monkeypatch.setattr(files, "write_gzip", write)
    with pytest.raises(TilesFailedError, match="holds another file"):
        bench.archive()
    assert gzip.decompress(bench.file(1).read_bytes()) == b"of another project"
    assert not leftovers(bench.folder)


def test_a_file_system_without_hard_links(bench, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    bench.archive()
    assert gzip.decompress(bench.file(1).read_bytes()) == bench.raw_file(1).read_bytes()
    assert not leftovers(bench.folder)


def test_one_who_died_while_it_gave_the_name(bench):
    """Both names lead to one file then: writing the temporary one again would end the archive."""
    bench.archive()
    content = bench.file(1).read_bytes()
    temporary = bench.file(2).with_name(f".tmp-{bench.file(2).name}")
    temporary.hardlink_to(bench.file(1))
    bench.file(2).unlink()
    bench.archive(force=True)
    assert bench.file(1).read_bytes() == content
    assert gzip.decompress(bench.file(2).read_bytes()) == bench.raw_file(2).read_bytes()


def test_a_wrong_checksum_file_is_corrected_once_the_file_is_verified(bench, caplog):
    bench.archive()
    sidecar = files.checksum_path(bench.file(1))
    right = sidecar.read_text()
    sidecar.write_text(right.replace(right[:8], "00000000"))
    bench.layout.receipt(1, 1, "archived").unlink()
    bench.archive(force=True)
    assert sidecar.read_text() == right
    assert "said something else" in caplog.text


def test_no_space_is_told_before_anything_is_written(bench, monkeypatch):
    real = os.statvfs

    class Full:
        f_bavail, f_frsize = 1000, 1

    monkeypatch.setattr(
        os, "statvfs", lambda path: Full if Path(path) == bench.folder else real(path)
    )
    with pytest.raises(ServiceError) as error:
        bench.archive()
    message = str(error.value)
    for part in ("may take 164 KB on the file system of /", str(bench.folder), "1 KB are free"):
        assert part in message
    assert not list(bench.folder.glob("*.gz"))


# ----------------------------------------------------------------------------------- the manifest
def test_batches_that_finish_at_once_are_all_listed(bench):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bench.archive, (1, 1, 2, 2), (1, 2, 1, 2)))
    assert [row["image"] for row in bench.rows()] == ["1", "2", "3", "4"]
    assert [row["image"] for row in bench.rows("tilted")] == ["1", "2", "3", "4"]


def test_a_manifest_keeps_what_the_project_does_not_know(bench):
    bench.everything()
    before = bench.manifest().read_bytes()
    shutil.rmtree(bench.layout.root)
    scan(bench.config, assume_stable=True)
    bench.archive(1, 2)
    assert bench.manifest().read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"path,hash\na,b\n", "last line cut short", "a column less"]
)
def test_a_damaged_manifest_is_told_and_left_alone(bench, content):
    bench.archive()
    right = bench.manifest().read_bytes()
    if content == "last line cut short":
        content = right[:-20]
    elif content == "a column less":
        content = right.replace(b",spectral\n", b"\n", 1)
    bench.manifest().write_bytes(content)
    with pytest.raises(CorruptInputError, match="is no list of archived files"):
        bench.archive(1, 2)
    assert bench.manifest().read_bytes() == content
    bench.manifest().unlink()
    bench.archive(1, 2)
    assert len(bench.rows()) == 4
    assert json.loads(bench.layout.archives.read_text())
