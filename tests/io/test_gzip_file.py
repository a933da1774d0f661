import gzip
import hashlib
import os
import subprocess
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io import gzip_file, throttle
from opticstream_smk.io.gzip_file import Digest, read_digest, read_gzip, write_gzip
from opticstream_smk.simulate.formats import spectral_header

BLOCK = gzip_file._BLOCK_BYTES


def counts(n_bytes: int) -> bytes:
    """Camera counts: 12 bits of noise in 16, from integers alone, so that every CPU agrees."""
    n = np.arange(n_bytes // 2 + 1, dtype=np.uint64)
    noise = (n * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)) >> np.uint64(54)
    drift = (n % np.uint64(2048)) // np.uint64(2)
    return (drift + noise).astype("<u2").tobytes()[:n_bytes]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def pack(tmp_path):
    def pack_(content: bytes, threads: int = 1) -> Path:
        source, target = tmp_path / "raw.nii", tmp_path / f"{threads}.nii.gz"
        source.write_bytes(content)
        assert write_gzip(source, target, threads=threads) == Digest(len(content), sha256(content))
        return target

    return pack_


@pytest.mark.parametrize(
    "size", [0, 1, 7, 100_000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK // 2]
)
def test_what_goes_in_comes_out(pack, size):
    content = counts(size)
    path = pack(content)
    packed = path.read_bytes()
    assert gzip.decompress(packed) == content
    assert read_gzip(path) == gzip_file.GzipDigests(
        Digest(len(packed), sha256(packed)), Digest(size, sha256(content))
    )
    assert read_digest(path) == Digest(len(packed), sha256(packed))


def test_the_number_of_threads_does_not_show(pack):
    content = counts(6 * BLOCK + 12345)
    first = pack(content).read_bytes()
    assert all(pack(content, threads).read_bytes() == first for threads in (2, 3, 8))


def test_neither_name_nor_time_is_in_it(pack, tmp_path):
    content = counts(1000)
    first = pack(content).read_bytes()
    other = tmp_path / "another name.nii"
    other.write_bytes(content)
    os.utime(other, (1, 1))
    write_gzip(other, tmp_path / "other.gz")
    assert (tmp_path / "other.gz").read_bytes() == first
    assert first[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def has_sse42() -> bool:
    try:
        return "sse4_2" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not has_sse42(), reason="other CPUs write other bytes of the same content")
def test_the_bytes_are_those_of_every_earlier_version(pack):
    """A new release of the compressor that changes them must not pass unnoticed."""
    path = pack(counts(BLOCK + 4321))
    assert read_digest(path) == Digest(
        2108453, "1cb20536c73e095ed86ce90a223b02d79df2fcaca83b788dc3afb19711f34e35"
    )


def test_every_reader_reads_it(tmp_path):
    shape = (256, 24, 8)
    content = spectral_header(12, 8, 256) + counts(2 * int(np.prod(shape)))
    source, target = tmp_path / "tile.nii", tmp_path / "tile.nii.gz"
    source.write_bytes(content)
    write_gzip(source, target)
    subprocess.run(["gzip", "--test", target], check=True)
    assert subprocess.run(["zcat", target], capture_output=True, check=True).stdout == content
    packed = np.asanyarray(nibabel.load(target).dataobj)
    assert np.array_equal(packed, np.asanyarray(nibabel.load(source).dataobj))


def test_it_is_read_once_and_no_faster_than_allowed(pack, monkeypatch):
    asked = []
    monkeypatch.setattr(throttle, "wait_for", asked.append)
    content = counts(2 * BLOCK + 5)
    pack(content)
    assert sum(asked) == len(content)


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_does_not_grow_with_the_file(tmp_path, threads):
    source = tmp_path / "large.nii"
    with source.open("wb") as file:
        file.write(counts(3 * BLOCK))
        os.truncate(file.fileno(), 30 * BLOCK)
    tracemalloc.start()
    try:
        write_gzip(source, tmp_path / "large.nii.gz", threads=threads)
        read_gzip(tmp_path / "large.nii.gz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (4 * threads + 2) * BLOCK


# ------------------------------------------------------------------------------------------ damage
@pytest.mark.parametrize("at", [0, 2, 9, 10, 11, 5000, -9, -8, -5, -4, -1])
def test_one_wrong_bit_is_found(pack, at):
    path = pack(counts(300_000))
    before = read_gzip(path)
    packed = bytearray(path.read_bytes())
    packed[at] ^= 0x10
    path.write_bytes(packed)
    if at in (9, -9):  # the system that wrote it, padding: the content is right, the file another
        assert read_gzip(path).content == before.content
        assert read_gzip(path).file != before.file
        return
    with pytest.raises(CorruptInputError, match=r"1\.nii\.gz is (damaged|truncated)"):
        read_gzip(path)


@pytest.mark.parametrize("keep", [0, 5, 10, 1000, -1])
def test_a_short_file_is_found(pack, keep):
    path = pack(counts(300_000))
    packed = path.read_bytes()[:keep]
    path.write_bytes(packed)
    with pytest.raises(CorruptInputError, match=f"is truncated: it ends after {len(packed)} bytes"):
        read_gzip(path)


def test_what_comes_after_the_end_is_found(pack):
    path = pack(counts(1000))
    with path.open("ab") as file:
        file.write(b"garbage")
    with pytest.raises(CorruptInputError, match="is damaged"):
        read_gzip(path)


def test_several_streams_in_a_file_are_one_content(tmp_path):
    path = tmp_path / "by another program.gz"
    path.write_bytes(gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two"))
    assert read_gzip(path).content == Digest(7, sha256(b"one two"))


def test_what_is_no_gzip_file(tmp_path):
    path = tmp_path / "plain.nii.gz"
    path.write_bytes(counts(1000))
    with pytest.raises(CorruptInputError, match="incorrect header"):
        read_gzip(path)


def test_it_is_read_from_the_disk(pack, monkeypatch):
    path = pack(counts(1000))
    advised = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *advice: advised.append(advice[1:]))
    read_gzip(path)
    assert advised[0] == (0, 0, os.POSIX_FADV_DONTNEED)


def test_a_raw_file_that_cannot_be_read(tmp_path):
    source = tmp_path / "raw.nii"
    with pytest.raises(CorruptInputError, match=r"raw\.nii cannot be read \(No such file"):
        write_gzip(source, tmp_path / "out.gz")
    assert not (tmp_path / "out.gz").exists()


def test_a_raw_file_that_breaks_off(tmp_path, monkeypatch):
    source = tmp_path / "raw.nii"
    source.write_bytes(counts(1000))

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(throttle, "read_into", broken)
    with pytest.raises(CorruptInputError, match=r"raw\.nii cannot be read \(Input/output error\)"):
        write_gzip(source, tmp_path / "out.gz")
