import logging
import subprocess
import sys
import time

import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io import nifti, throttle
from opticstream_smk.io.throttle import PIECE_BYTES, STATE_NAME, _Limiter
from opticstream_smk.psoct import read_spectral
from opticstream_smk.state.host import boot_id

MB = 1_000_000


class Clock:
    """Time that only passes while somebody sleeps."""

    def __init__(self, now=1000.0):
        self.now = now
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def no_limit(tmp_path):
    yield
    throttle.limit_reading(None, tmp_path)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Bytes that were asked for, with a limit on raw data in ``tmp_path/raw``; nobody waits."""
    sizes = []
    (tmp_path / "raw").mkdir()
    throttle.limit_reading(1, tmp_path / "tokens", [tmp_path / "raw"])
    monkeypatch.setattr(throttle._limiter, "wait_for", sizes.append)
    return sizes


def limiter(folder, mb_s, clock):
    return _Limiter(mb_s, folder, clock=clock, sleep=clock.sleep)


def test_the_rate_is_kept(tmp_path):
    clock = Clock()
    limit = limiter(tmp_path / "tokens", 40, clock)
    for _ in range(11):
        limit.wait_for(8 * MB)
    # The first piece goes at once, each further one when those before it have had their time.
    assert clock.now == pytest.approx(1000 + 10 * 8 / 40)


def test_two_readers_share_the_rate(tmp_path):
    clock = Clock()
    first, second = (limiter(tmp_path / "tokens", 40, clock) for _ in range(2))
    for _ in range(5):
        first.wait_for(8 * MB)
        second.wait_for(8 * MB)
    assert clock.now == pytest.approx(1000 + 9 * 8 / 40)


def test_a_pause_saves_nothing_up(tmp_path):
    clock = Clock()
    limit = limiter(tmp_path / "tokens", 40, clock)
    limit.wait_for(8 * MB)
    clock.now += 3600
    limit.wait_for(8 * MB)
    assert clock.slept == []
    limit.wait_for(8 * MB)
    assert sum(clock.slept) == pytest.approx(8 / 40)


@pytest.mark.parametrize(
    "left",
    [
        "",
        "nonsense",
        "an-earlier-boot 1100.0",
        f"{boot_id()} nan",
        f"{boot_id()} inf",
        # No queue of readers can be that long.
        f"{boot_id()} {1000 + 2 * 1024 * PIECE_BYTES / 40e6}",
        f"{boot_id()} -5",
    ],
)
def test_what_no_reader_of_this_boot_wrote_is_ignored(tmp_path, left):
    clock = Clock()
    limit = limiter(tmp_path / "tokens", 40, clock)
    (tmp_path / "tokens" / STATE_NAME).write_text(left)
    limit.wait_for(8 * MB)
    assert clock.slept == []
    limit.wait_for(8 * MB)
    assert clock.slept == [pytest.approx(8 / 40)]


def test_what_a_reader_of_this_boot_wrote_counts(tmp_path):
    clock = Clock()
    limit = limiter(tmp_path / "tokens", 40, clock)
    (tmp_path / "tokens" / STATE_NAME).write_text(f"{boot_id()} 1007.5")
    limit.wait_for(8 * MB)
    assert clock.slept == [7.5]


def test_a_folder_that_cannot_be_used_leaves_an_own_limit(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    (tmp_path / "file").write_text("")
    clock = Clock()
    limit = limiter(tmp_path / "file" / "tokens", 40, clock)
    for _ in range(3):
        limit.wait_for(8 * MB)
    assert clock.now == pytest.approx(1000 + 2 * 8 / 40)
    assert len(caplog.messages) == 1
    assert "holds for this process alone" in caplog.text
    assert str(tmp_path / "file" / "tokens") in caplog.text
    assert "run.token_dir" in caplog.text


def test_a_state_that_cannot_be_used_leaves_an_own_limit(tmp_path, caplog):
    clock = Clock()
    limit = limiter(tmp_path / "tokens", 40, clock)
    limit.wait_for(8 * MB)
    (tmp_path / "tokens" / STATE_NAME).unlink()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "tokens" / STATE_NAME).symlink_to(tmp_path / "victim")
    for _ in range(3):
        limit.wait_for(8 * MB)
    assert sum(clock.slept) == pytest.approx(2 * 8 / 40)
    assert len(caplog.messages) == 1
    assert (tmp_path / "victim").read_text() == "precious"


def test_all_processes_of_a_host_together_keep_the_limit(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from opticstream_smk.io import throttle\n"
        "throttle.limit_reading(40, Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for _ in range(4): throttle.wait_for(2_000_000)\n"
        "print(time.monotonic(), flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tokens")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        before = time.monotonic()
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        last = max(float(process.stdout.readline()) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    # Twelve pieces of 50 ms, of which each process alone would have needed four.
    assert last - before >= 11 * 0.05 - 0.001


def test_without_a_limit_nothing_is_made_and_nobody_waits(tmp_path):
    throttle.limit_reading(None, tmp_path / "tokens")
    started = time.monotonic()
    for _ in range(1000):
        throttle.wait_for(10**12)
    assert time.monotonic() - started < 1
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 5])
def test_files_are_read_in_pieces(tmp_path, asked, size):
    content = np.random.default_rng(1).bytes(size)
    (tmp_path / "x").write_bytes(content)
    buffer = bytearray(size)
    with (tmp_path / "x").open("rb", buffering=0) as file:
        assert throttle.read_into(file, memoryview(buffer)) == size
    assert bytes(buffer) == content
    assert sum(asked) == size
    assert max(asked, default=0) <= PIECE_BYTES


def test_a_file_that_ends_before_the_buffer(tmp_path, asked):
    (tmp_path / "x").write_bytes(b"12345")
    buffer = bytearray(8)
    with (tmp_path / "x").open("rb", buffering=0) as file:
        assert throttle.read_into(file, memoryview(buffer)) == 5
    assert bytes(buffer) == b"12345\0\0\0"


def raw_tile(path, bits):
    counts = np.random.default_rng(0).integers(0, 4096, (8, 2, 6, 64), dtype=np.uint16)
    if bits == 16:
        path.write_bytes(bytes(352) + counts.astype("<u2").tobytes())
    else:
        first, second = counts.ravel()[0::2], counts.ravel()[1::2]
        triples = np.stack([first & 255, first >> 8 | (second & 15) << 4, second >> 4], axis=1)
        path.write_bytes(triples.astype(np.uint8).tobytes())
    return counts


@pytest.mark.parametrize("bits", [16, 12])
def test_raw_tiles_are_read_within_the_limit(tmp_path, asked, monkeypatch, bits):
    monkeypatch.setattr(throttle, "PIECE_BYTES", 1000)
    counts = raw_tile(tmp_path / "raw/tile", bits)
    read = read_spectral(
        tmp_path / "raw/tile", alines=6, blines=8, samples=64, bits=bits, in_memory=True
    )
    np.testing.assert_array_equal(read, counts)
    assert sum(asked) == counts.size * bits // 8
    assert max(asked) == 1000


def test_a_raw_folder_in_place_of_a_tile_is_still_an_error(tmp_path, asked):
    with pytest.raises(CorruptInputError, match="cannot be read"):
        read_spectral(tmp_path / "raw", alines=6, blines=8, samples=64, in_memory=True)


@pytest.mark.parametrize("linked", [False, True])
def test_complex_tiles_and_maps_of_the_host_are_read_within_the_limit(tmp_path, asked, linked):
    path = tmp_path / "raw/tile.nii"
    tile = np.random.default_rng(0).normal(size=(16, 5, 7)).astype(np.float32)
    nifti.write_array(path, tile, nifti.Geometry((0.01, 0.01, 0.0025)))
    if linked:
        (tmp_path / "project").mkdir()
        link = tmp_path / "project/tile.nii"
        link.symlink_to(path)
        path = link
    np.testing.assert_array_equal(nifti.read_array(path, shape=tile.shape), tile)
    assert sum(asked) == path.stat().st_size


def test_products_of_our_own_are_read_freely(tmp_path, asked):
    path = tmp_path / "project/tile.nii"
    nifti.write_array(path, np.zeros((4, 4), np.float32), nifti.Geometry((1, 1, 1)))
    nifti.read_array(path)
    assert asked == []


def test_sampled_b_lines_of_a_mapped_tile_are_asked_for(
    make_config, write_raw, monkeypatch, tmp_path
):
    from opticstream_smk.qc.tile_numbers import sampled_blines
    from opticstream_smk.stages.qc_tiles import STAGE, _raw
    from opticstream_smk.stages.stage import stage_context
    from opticstream_smk.state.places import batch_place
    from opticstream_smk.trigger.ready import scan

    config = make_config(acquisition__tile_size_y=40)
    path = write_raw(config, 1, [1, 2])[0]
    content = np.random.default_rng(2).integers(0, 4096, (40, 2, 12, 256), dtype=np.uint16)
    path.write_bytes(bytes(352) + content.astype("<u2").tobytes())
    scan(config, assume_stable=True)
    sizes = []
    throttle.limit_reading(1, tmp_path / "tokens")
    monkeypatch.setattr(throttle._limiter, "wait_for", sizes.append)
    sampled = _raw(stage_context(STAGE, config, batch_place(1, 1)), 1)
    lines = sampled_blines(40)
    np.testing.assert_array_equal(sampled, content[lines])
    assert sum(sizes) == content[lines].nbytes
