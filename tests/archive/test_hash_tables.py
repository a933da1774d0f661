"""hash-dir and compare-hashes."""

import csv
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opticstream_smk.archive.compare import compare, read_tables
from opticstream_smk.archive.hash_table import hash_folder
from opticstream_smk.errors import ConfigError, CorruptInputError, NamingError


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def rows_of(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def run(command, *options):
    trigger = Path(sys.executable).with_name("optic-trigger")
    done = [trigger, command, *map(str, options)]
    return subprocess.run(done, capture_output=True, text=True, check=False)


# --------------------------------------------------------------------------------------- hash-dir
def test_every_file_in_order_of_the_paths(tmp_path):
    folder = tmp_path / "in"
    contents = {
        "b.nii": b"b", "a/z.nii": b"z", "a/y/.hidden": b"", "a.nii": b"a" * 3_000_000,
        'with "quotes", and commas': b"q", "Gewebe µm.nii": b"u", "line\nbreak": b"n",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    result = hash_folder(folder, tmp_path / "out.csv")
    assert rows_of(tmp_path / "out.csv") == [
        (name, sha256(contents[name]), "sha256") for name in sorted(contents, key=os.fsencode)
    ]
    assert (result.files, result.skipped) == (len(contents), [])
    assert result.bytes == sum(map(len, contents.values()))
    before = (tmp_path / "out.csv").read_bytes()
    hash_folder(folder, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == before


def test_it_is_what_sha256sum_says(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / f"in/{number}").write_bytes(os.urandom(number * 1000))
    hash_folder(tmp_path / "in", tmp_path / "out.csv")
    lines = "".join(f"{digest}  {name}\n" for name, digest, _ in rows_of(tmp_path / "out.csv"))
    check = ["sha256sum", "--check", "--strict"]
    subprocess.run(
        check, cwd=tmp_path / "in", input=lines.encode(), check=True, capture_output=True
    )


def test_names_that_are_no_text_come_back(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9.nii")
    (folder / name).write_bytes(b"x")
    hash_folder(folder, tmp_path / "out.csv")
    assert rows_of(tmp_path / "out.csv") == [(name, sha256(b"x"), "sha256")]


def test_links(tmp_path):
    folder = tmp_path / "in"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(b"e")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "inner/circle").symlink_to(folder)
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    result = hash_folder(folder, tmp_path / "out.csv")
    assert rows_of(tmp_path / "out.csv") == [("link", sha256(b"e"), "sha256")]
    told = "\n".join(sorted(result.skipped))
    assert "dangling cannot be read (No such file or directory)" in told
    assert "pipe is no plain file" in told
    assert len(result.skipped) == 2


def test_the_table_itself_is_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    for _ in range(2):
        hash_folder(tmp_path, tmp_path / "out.csv")
        assert [row[0] for row in rows_of(tmp_path / "out.csv")] == ["a"]


def test_files_that_cannot_be_read_are_told_and_the_others_hashed(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good").write_bytes(b"g")
    (folder / "bad").symlink_to("/proc/self/mem")  # may be opened, and cannot be read
    result = hash_folder(folder, tmp_path / "out.csv")
    assert [row[0] for row in rows_of(tmp_path / "out.csv")] == ["good"]
    assert "bad cannot be read (Input/output error)" in result.skipped[0]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "blake2b"])
def test_other_algorithms(tmp_path, algorithm):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(b"a")
    hash_folder(tmp_path / "in", tmp_path / "out.csv", algorithm)
    assert rows_of(tmp_path / "out.csv") == [
        ("a", hashlib.new(algorithm, b"a").hexdigest(), algorithm)
    ]


def test_what_cannot_be_hashed(tmp_path):
    with pytest.raises(ConfigError, match=r"'sha257': expected one of .*sha256"):
        hash_folder(tmp_path, tmp_path / "out.csv", "sha257")
    with pytest.raises(ConfigError, match="is no folder"):
        hash_folder(tmp_path / "none", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_command_hash_dir(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(b"a")
    done = run("hash-dir", "--input", tmp_path / "in", "--output", tmp_path / "out.csv")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/out.csv: 1 files (1 B), 0 skipped\n")
    (tmp_path / "in/b").symlink_to("nowhere")
    done = run("hash-dir", "--input", tmp_path / "in", "--output", tmp_path / "out.csv")
    assert done.returncode == 3
    assert done.stdout.startswith(f"SKIPPED  {tmp_path}/in/b cannot be read")
    assert run("hash-dir", "--input", tmp_path / "no", "--output", "x").returncode == 2


# --------------------------------------------------------------------------------- compare-hashes
def table(path, header, *rows):
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def statuses(first, second, **options):
    found = compare(
        read_tables([first], "mosaic", **options), read_tables([second], "rawdata", **options)
    )
    return [(line.tile, line.status) for line in found]


def mosaic_name(mosaic, image, kind="spectral_0001"):
    return f"day 1/mosaic_{mosaic:03d}_image_{image:04d}_{kind}.nii"


def test_acquisitions_become_mosaics(tmp_path):
    first = table(
        tmp_path / "1.csv", "path,hash,algorithm",
        (mosaic_name(1, 1), "aa", "sha256"), (mosaic_name(2, 1), "bb", "sha256"),
        (mosaic_name(73, 41), "CC", "sha256"), (mosaic_name(74, 41), "dd", "sha256"),
        ("notes.txt", "ee", "sha256"), (mosaic_name(1, 1, "aip"), "ff", "sha256"),
    )  # fmt: skip
    second = table(
        tmp_path / "2.csv", "asset_path,sha256",
        ("rawdata/sub-X/sample-slice-001_chunk-0001_acq-normal_OCT.nii.gz", "AA"),
        ("rawdata/sub-X/sample-slice-001_chunk-0001_acq-tilted_OCT.nii.gz", "b0"),
        ("p_sample-slice37_chunk-0041_acq-normal0deg_OCT.nii.gz", "cc"),
        ("p_sample-slice38_chunk-0041_acq-tilted15deg_OCT.nii.gz", "dd"),
    )  # fmt: skip
    assert statuses(first, second) == [
        ((1, 1), "match"),
        ((2, 1), "mismatch"),
        ((73, 41), "match"),
        ((74, 41), "missing in 2"),
        ((76, 41), "missing in 1"),
    ]
    assert read_tables([first], "mosaic").ignored == ["notes.txt", mosaic_name(1, 1, "aip")]


def test_three_mosaics_in_a_slice(tmp_path):
    first = table(
        tmp_path / "1.csv", "path,hash", *((mosaic_name(m, 1), f"{m}") for m in (4, 5, 6))
    )
    second = table(
        tmp_path / "2.csv", "path,sha256",
        *((f"sample-slice002_chunk-0001_acq-{acq}_OCT.nii.gz", f"{m}")
          for acq, m in (("normal", 4), ("tiltPos", 5), ("tiltNeg", 6))),
    )  # fmt: skip
    found = statuses(first, second, mosaics_per_slice=3)
    assert found == [((m, 1), "match") for m in (4, 5, 6)]


def test_a_tile_with_two_files(tmp_path):
    first = table(
        tmp_path / "1.csv", "path,hash",
        (mosaic_name(1, 1), "s1"), (mosaic_name(1, 1, "processed"), "c1"),
        (mosaic_name(1, 2), "s2"), (mosaic_name(1, 2, "processed"), "c2"),
    )  # fmt: skip
    second = table(
        tmp_path / "2.csv", "asset_path,sha256",
        ("p_sample-slice01_chunk-0001_acq-normal_proc-complex_OCT.nii.gz", "c1"),
        ("p_sample-slice01_chunk-0001_acq-normal_OCT.nii.gz", "s1"),
        ("p_sample-slice01_chunk-0002_acq-normal_OCT.nii.gz", "s2"),
    )  # fmt: skip
    assert statuses(first, second) == [
        ((1, 1), "match"), ((1, 1), "match"), ((1, 2), "match"), ((1, 2), "missing in 2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("name,hash\na,b\n", CorruptInputError, "has the columns name, hash; expected path or"),
        ("path,md5\na,b\n", CorruptInputError, "expected hash or sha256"),
        ("", CorruptInputError, "has the columns none"),
        ("path,hash\nx.txt,b\n", CorruptInputError, "no name in it is a tile in the format rawd"),
        (
            "path,hash\nsample-slice01_chunk-0001_acq-normal_OCT.nii.gz\n",
            CorruptInputError,
            "line 2",
        ),
        (
            "path,hash\nsample-slice01_chunk-0001_acq-sideways_OCT.nii.gz,b\n",
            NamingError,
            "acquisition 'sideways' is not known",
        ),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, error, told):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(error, match=re.escape(told)):
        read_tables([path], "rawdata")


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="is not there"):
        read_tables([tmp_path / "none.csv"], "mosaic")


def test_raw_files_against_the_archive(bench, tmp_path):
    """Two commands that know nothing of each other, and not the stage's own digests."""
    bench.everything()
    raw, out = tmp_path / "raw.csv", tmp_path / "out.csv"
    assert run("hash-dir", "--input", bench.raw, "--output", raw).returncode == 0
    manifests = [bench.manifest("normal"), bench.manifest("tilted")]
    files = ("--file1", raw, "--format1", "mosaic", "--format2", "rawdata")
    done = run("compare-hashes", *files, "--file2", *manifests, "--output", out)
    assert (done.returncode, done.stdout) == (
        0, "8 match, 0 differ, 0 are missing in file2, 0 in file1\n",
    )  # fmt: skip
    assert [row[:3] for row in rows_of(out)] == [
        (str(mosaic), str(image), "match") for mosaic in (1, 2) for image in (1, 2, 3, 4)
    ]
    bench.raw_file(2).write_bytes(b"x" * 2000)
    run("hash-dir", "--input", bench.raw, "--output", raw)
    done = run("compare-hashes", *files, "--file2", manifests[0])
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0].startswith("mismatch     mosaic 001 image 0002: mosaic_001_image_0002_spectral")
    assert lines[-1] == "3 match, 1 differ, 4 are missing in file2, 0 in file1"
    assert run("compare-hashes", *files, "--file2", tmp_path / "none").returncode == 2
