"""A recorded acquisition arrives again: order, ways of writing, and byte for byte the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from opticstream_smk.config import load_config
from opticstream_smk.errors import (
    ConfigError,
    CorruptInputError,
    IncompleteInputError,
    OpticStreamError,
    ServiceError,
)
from opticstream_smk.naming.inputs import InputNames
from opticstream_smk.simulate.replay import ReplaySettings, replay
from opticstream_smk.trigger.discover import discover
from tests.conftest import REPO, small_values

COMPANIONS = ("wave-pixel.mat", "dispersion.bin", "truth.npz", "simulation.json")


def tile_name(mosaic, image, what=None):
    return f"mosaic_{mosaic:03d}_image_{image:04d}_{what or f'spectral_{image:04d}'}.nii"


@pytest.fixture
def recorded(tmp_path):
    """Two mosaics of six tiles, each of its own content and length."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    for mosaic in (1, 2):
        for image in range(1, 7):
            content = bytes([mosaic, image]) * (500 + image)
            (folder / tile_name(mosaic, image)).write_bytes(content)
    for name in COMPANIONS:
        (folder / name).write_bytes(name.encode())
    return folder


class Instrument:
    """A replay with a clock of its own, which notes what the folder shows while it waits."""

    def __init__(self, source, out):
        self.source, self.out = source, out
        self.now = 0.0
        self.sleeps = []
        self.seen = []
        self.arrived = []

    def sleep(self, seconds):
        self.now += seconds
        self.sleeps.append(seconds)
        self.look()

    def look(self):
        found = {path.name: path.stat().st_size for path in self.out.iterdir()}
        self.seen.append(found)
        self.arrived += [name for name in found if name not in self.arrived]

    def run(self, **settings):
        names = settings.pop("names", None)
        result = replay(
            self.source, self.out, ReplaySettings(**settings), names=names,
            sleep=self.sleep, clock=lambda: self.now,
        )  # fmt: skip
        self.look()
        return result

    @property
    def tiles(self):
        """Tiles in the order in which they were there, one look after each."""
        return [name for name in self.arrived if "_image_" in name and name.endswith(".nii")]


@pytest.fixture
def instrument(recorded, tmp_path):
    return Instrument(recorded, tmp_path / "out")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "replay.json"
    }


IN_ORDER = [tile_name(mosaic, image) for mosaic in (1, 2) for image in range(1, 7)]


def test_tiles_arrive_in_order_of_acquisition_after_the_other_files(instrument, recorded):
    before = {path: path.stat().st_mtime_ns for path in [recorded, *recorded.iterdir()]}
    result = instrument.run(interval_s=5)
    assert (result.n_tiles, result.n_duplicates, result.n_twins) == (12, 0, 0)
    assert {path.name for path in result.companions} == set(COMPANIONS)
    assert result.n_bytes == sum(len(content) for content in contents(recorded).values())
    assert result.duration_s == 55
    assert instrument.sleeps == [5.0] * 11
    assert instrument.tiles == IN_ORDER
    assert set(instrument.seen[0]) == {*COMPANIONS, "replay.json", IN_ORDER[0]}
    assert contents(instrument.out) == contents(recorded)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_numbers_decide_the_order_and_not_their_padding(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for image in (2, 10, 100):
        (source / f"mosaic_2_image_{image}_spectral_{image}.nii").write_bytes(b"x")
        (source / f"mosaic_10_image_{image}_spectral_{image}.nii").write_bytes(b"x")
    again = Instrument(source, tmp_path / "out")
    again.run(interval_s=1)
    assert again.tiles == [
        f"mosaic_{mosaic}_image_{image}_spectral_{image}.nii"
        for mosaic in (2, 10)
        for image in (2, 10, 100)
    ]


def test_files_of_a_tile_come_together_spectra_first(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for image in (1, 2):
        for what in ("aip", "processed", f"spectral_{image:04d}", "dBI"):
            (source / tile_name(1, image, what)).write_bytes(b"x")
    again = Instrument(source, tmp_path / "out")
    # Slow files of one byte have one piece: the waits are those between tiles.
    result = again.run(interval_s=1)
    assert result.n_tiles == 2
    assert {name for name in again.seen[0] if name.endswith(".nii")} == {
        tile_name(1, 1, what) for what in ("aip", "processed", "spectral_0001", "dBI")
    }


def test_slow_files_grow_in_place(instrument, recorded):
    instrument.run(slow_writes=True, limit=2)
    name = IN_ORDER[0]
    sizes = [found[name] for found in instrument.seen[:7]]
    full = (recorded / name).stat().st_size
    assert sizes == sorted(set(sizes))
    assert sizes[0] <= full // 8 + 1
    assert sizes[-1] < full
    assert len(instrument.sleeps) == 14
    assert contents(instrument.out).items() <= contents(recorded).items()


@pytest.mark.parametrize("suffix", [".tmp", ".part"])
def test_renamed_files_have_their_name_only_when_they_are_whole(instrument, recorded, suffix):
    instrument.run(slow_writes=True, temporary_suffix=suffix)
    whole = contents(recorded)
    partial = 0
    for found in instrument.seen:
        for name, size in found.items():
            if name.endswith(suffix):
                partial += 1
                assert size < len(whole[name.removesuffix(suffix)])
            elif name != "replay.json":
                assert size == len(whole[name])
    assert partial == 12 * 7
    assert contents(instrument.out) == whole


def test_shuffled_tiles_stay_near_their_place(instrument, recorded, tmp_path):
    instrument.run(interval_s=1, shuffle=4, seed=1)
    assert instrument.tiles != IN_ORDER
    assert sorted(instrument.tiles) == IN_ORDER
    for place, name in enumerate(instrument.tiles):
        assert abs(place - IN_ORDER.index(name)) < 4
    assert contents(instrument.out) == contents(recorded)
    same = Instrument(recorded, tmp_path / "same")
    same.run(interval_s=1, shuffle=4, seed=1)
    other = Instrument(recorded, tmp_path / "other")
    other.run(interval_s=1, shuffle=4, seed=2)
    assert same.tiles == instrument.tiles
    assert other.tiles != instrument.tiles
    alone = Instrument(recorded, tmp_path / "alone")
    alone.run(interval_s=1, shuffle=1)
    assert alone.tiles == IN_ORDER


def test_duplicates_are_written_again_in_place(instrument, recorded):
    result = instrument.run(slow_writes=True, temporary_suffix=".tmp", duplicates=3, seed=5)
    assert (result.n_tiles, result.n_duplicates) == (12, 3)
    # Only what is written again is ever short under its own name.
    whole = contents(recorded)
    short = {
        name
        for found in instrument.seen
        for name, size in found.items()
        if name in whole and size < len(whole[name])
    }
    assert len(short) == 3
    assert contents(instrument.out) == whole
    assert result.n_bytes == sum(map(len, whole.values())) + sum(len(whole[n]) for n in short)


def test_a_duplicate_is_the_same_file_with_a_new_time(recorded, tmp_path, monkeypatch):
    path = tmp_path / "out" / IN_ORDER[0]
    before = []

    def backdate(*_told):
        if not before:  # between the tile and its duplicate
            os.utime(path, ns=(10**9, 10**9))
            before.append(path.stat())

    monkeypatch.setattr("opticstream_smk.simulate.replay.log.info", backdate)
    result = replay(recorded, tmp_path / "out", ReplaySettings(limit=1, duplicates=1))
    after = path.stat()
    assert (result.n_tiles, result.n_duplicates) == (1, 1)
    assert (after.st_ino, after.st_size) == (before[0].st_ino, before[0].st_size)
    assert after.st_mtime_ns > before[0].st_mtime_ns
    assert path.read_bytes() == (recorded / IN_ORDER[0]).read_bytes()


def test_twins_are_a_second_file_of_the_same_tile(instrument, recorded):
    result = instrument.run(twins=2, seed=3)
    assert result.n_twins == 2
    whole, found = contents(recorded), contents(instrument.out)
    twins = found.keys() - whole.keys()
    assert len(twins) == 2
    names = InputNames()
    for twin in twins:
        parsed = names.parse(twin)
        original = tile_name(parsed.mosaic, parsed.image)
        assert parsed == names.parse(original)
        assert found[twin] == whole[original]
    assert {name: found[name] for name in whole} == whole


def test_the_watcher_sees_twins_as_a_problem_and_duplicates_as_none(tmp_path):
    values = small_values(acquisition__sources=[{"dir": "out"}])
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(path)
    source = tmp_path / "source"
    source.mkdir()
    for image in (1, 2, 3, 4):
        with (source / tile_name(1, image)).open("wb") as file:
            file.truncate(config.acquisition.raw_tile_bytes("normal"))
    Instrument(source, tmp_path / "out").run(duplicates=4)
    assert [batch.problems for batch in discover(config).batches] == [(), ()]
    values["acquisition"]["sources"] = [{"dir": "twins"}]
    path.write_text(yaml.safe_dump(values))
    Instrument(source, tmp_path / "twins").run(twins=1)
    problems = [batch.problems for batch in discover(load_config(path)).batches]
    assert sum(len(found) for found in problems) == 1
    assert "is there twice" in str(problems)


def test_the_rate_is_kept(instrument, recorded):
    n_bytes = sum(len(content) for content in contents(recorded).values())
    instrument.run(rate_mb_s=0.001)
    # The last file need not be waited for.
    last = len(contents(recorded)[IN_ORDER[-1]])
    assert instrument.now == pytest.approx((n_bytes - last) / 1000)


def test_an_interrupted_replay_goes_on_and_a_complete_one_writes_nothing(recorded, tmp_path):
    again = Instrument(recorded, tmp_path / "out")

    def stop(seconds):
        again.now += seconds
        if len(list(again.out.glob("mosaic*"))) == 4:
            raise KeyboardInterrupt

    settings = ReplaySettings(slow_writes=True)
    with pytest.raises(KeyboardInterrupt):
        replay(recorded, again.out, settings, sleep=stop, clock=lambda: again.now)
    assert (again.out / IN_ORDER[3]).stat().st_size < (recorded / IN_ORDER[3]).stat().st_size
    result = again.run()
    assert result.n_tiles == 9
    assert result.companions == ()
    assert contents(again.out) == contents(recorded)
    before = {path: path.stat().st_mtime_ns for path in again.out.iterdir()}
    done = again.run(slow_writes=True)
    assert (done.n_tiles, done.n_bytes) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in again.out.iterdir()} == before


def test_late_files_after_an_interruption_come_too(recorded, tmp_path):
    again = Instrument(recorded, tmp_path / "out")
    again.run(twins=6, duplicates=2)
    twins = [path for path in again.out.iterdir() if not (recorded / path.name).exists()]
    twins = [path for path in twins if path.name != "replay.json"]
    twins[0].unlink()
    assert again.run(twins=6, duplicates=2).n_twins >= 1
    assert twins[0].exists()
    assert len(contents(again.out)) == len(contents(recorded)) + 6


def test_progress_names_each_tile(instrument, caplog):
    caplog.set_level("INFO")
    instrument.run(limit=4, slow_writes=True, twins=1)
    lines = [message for message in caplog.messages if message.startswith("tile ")]
    assert len(lines) == 5
    assert lines[0].startswith(f"tile 1 of 4 (25 %)  {IN_ORDER[0]}  0.0 MB, 0 MB/s")
    assert any("second file: " in line for line in lines)


@pytest.mark.parametrize(
    ("files", "names", "first"),
    [
        (["spectral/spectral_0002.nii", "spectral/spectral_0001.nii", "wave-pixel.mat"], None,
         "spectral/spectral_0001.nii"),
        (["sub-a_sample-slice002_chunk-0001_acq-normal0deg_spectral.nii",
          "sub-a_sample-slice001_chunk-0009_acq-tilted15deg_spectral.nii",
          "sub-a_sample-slice001_chunk-0010_acq-normal0deg_spectral.nii"], None,
         "sub-a_sample-slice001_chunk-0010_acq-normal0deg_spectral.nii"),
        (["mosaic_001_image_0002_spectral_0002.raw", "mosaic_001_image_0001_spectral_0001.raw"],
         None, "mosaic_001_image_0001_spectral_0001.raw"),
        (["scan_7.nii", "scan_10.nii", "other.nii"],
         InputNames(filename_pattern="scan_{image}.nii"), "scan_7.nii"),
    ],
)  # fmt: skip
def test_other_names(tmp_path, files, names, first):
    source, out = tmp_path / "source", tmp_path / "out"
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode())
    order = []

    def note(_seconds):
        order.extend(path for path in contents(out) if path not in order)

    replay(source, out, ReplaySettings(interval_s=1), names=names, sleep=note)
    tiles = [name for name in order if name.endswith((".nii", ".raw")) and "other" not in name]
    assert tiles[0] == first
    assert contents(out) == contents(source)


def test_what_is_no_data_stays_behind(instrument, recorded):
    for name in (".nfs0001", "._" + IN_ORDER[0], IN_ORDER[0] + ".tmp", "x.part"):
        (recorded / name).write_bytes(b"x")
    (recorded / "logs").mkdir()
    (recorded / "logs" / "day.txt").write_bytes(b"x")
    instrument.run()
    assert set(contents(instrument.out)) == {*IN_ORDER, *COMPANIONS}


# ------------------------------------------------------------------------------------ bad input
def refused(kind, source, out, match, **settings):
    before = contents(out) if out.is_dir() else None
    with pytest.raises(kind, match=match):
        replay(source, out, ReplaySettings(**settings), sleep=lambda _: None)
    assert (contents(out) if out.is_dir() else None) == before


def test_a_folder_with_something_else_is_refused(recorded, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / tile_name(1, 1)).write_bytes(b"real data")
    refused(ConfigError, recorded, out, r"not empty \(mosaic_001_image_0001.* may hold real data")
    (out / tile_name(1, 1)).unlink()
    (out / ".gitkeep").touch()
    replay(recorded, out)
    (out / "notes").mkdir()
    (out / "notes" / "a.txt").write_bytes(b"x")
    refused(ConfigError, recorded, out, r"holds notes/a\.txt, which is not of this replay")


def test_another_replay_is_refused(recorded, tmp_path):
    out = tmp_path / "out"
    replay(recorded, out)
    refused(ConfigError, recorded, out, "with another seed, twins", seed=1, twins=1)
    (out / "replay.json").write_text("[]")
    refused(ConfigError, recorded, out, "not a record of a replay")


def test_nothing_is_written_into_the_source(recorded, tmp_path):
    (tmp_path / "link").symlink_to(recorded, target_is_directory=True)
    before = contents(recorded)
    for out in (recorded, recorded / "again", tmp_path / "link" / "deep" / "er"):
        with pytest.raises(ConfigError, match="which is only read"):
            replay(recorded, out)
    assert contents(recorded) == before
    assert not (recorded / "again").exists()
    # The folder around the source holds the source.
    refused(ConfigError, recorded, tmp_path, "not empty")


def test_a_source_without_tiles(recorded, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(IncompleteInputError, empty, tmp_path / "out", "no file in .*empty is named like")
    refused(IncompleteInputError, tmp_path / "gone", tmp_path / "out", "gone cannot be listed")
    assert not (tmp_path / "out").exists()


def test_an_unreadable_tile(recorded, tmp_path, monkeypatch):
    bad = recorded / IN_ORDER[2]
    real = Path.open

    def open_(path, *arguments, **options):
        if path == bad:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(CorruptInputError, match=rf"{bad.name} cannot be read \(Permission denied"):
        replay(recorded, tmp_path / "out")
    assert (tmp_path / "out" / IN_ORDER[1]).exists()


@pytest.mark.parametrize("change", [-100, 100])
def test_a_tile_that_changes_meanwhile(recorded, tmp_path, change):
    moving = recorded / IN_ORDER[0]
    size = moving.stat().st_size

    def disturb(_seconds):
        os.truncate(moving, size + change)

    with pytest.raises(CorruptInputError, match="changes while it is read"):
        replay(recorded, tmp_path / "out", ReplaySettings(slow_writes=True), sleep=disturb)


def test_a_full_disk(recorded):
    real = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, _data):
            raise OSError(28, "No space left on device")

    def open_(path, mode="r", *arguments, **options):
        file = real(path, mode, *arguments, **options)
        return Full(file) if mode == "wb" and "_image_" in path.name else file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_)
        with pytest.raises(ServiceError, match=r"image_0001.*the disk is full; free some space"):
            replay(recorded, recorded.parent / "out")
    assert replay(recorded, recorded.parent / "out").n_tiles == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval_s": -1}, "interval_s is -1, expected 0 or more"),
        ({"interval_s": float("nan")}, "interval_s is nan"),
        ({"rate_mb_s": 0}, "rate_mb_s is 0, expected more than 0"),
        ({"limit": 0}, "limit is 0, expected 1 or more"),
        ({"shuffle": -2}, "shuffle is -2"),
        ({"temporary_suffix": ".bak"}, r"'\.bak', expected one of \.tmp, \.part"),
        ({"duplicates": 13}, "13 duplicates of 12 tiles; ask for fewer"),
        ({"limit": 2, "twins": 3}, "3 twins of 2 tiles"),
    ],
)
def test_settings_that_cannot_be(recorded, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        replay(recorded, tmp_path / "out", ReplaySettings(**settings))
    assert not (tmp_path / "out").exists()


def test_names_without_a_second_number_have_no_twins(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "spectral_0001.nii").write_bytes(b"x")
    with pytest.raises(OpticStreamError, match="no number beside that of the image; leave twins"):
        replay(source, tmp_path / "out", ReplaySettings(twins=1))


# --------------------------------------------------------------------------------- command line
def command(*options):
    return subprocess.run(
        [Path(sys.executable).with_name("optic-trigger"), "simulate", "replay", *map(str, options)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip


def test_the_command(recorded, tmp_path):
    out = tmp_path / "out"
    done = command("--from", recorded, "--out", out, "--renames", "--shuffle", 3, "--twins", 1)
    assert done.returncode == 0, done.stderr
    assert f"{out}: 12 tiles, 4 other files, 0 written again, 1 second files; " in done.stdout
    assert done.stderr.count("tile ") == 13
    assert len(contents(out)) == 17
    again = command("--from", recorded, "--out", out)
    assert again.returncode == 2
    assert "with another shuffle, twins" in again.stderr
    assert command("--from", tmp_path / "gone", "--out", out).returncode == 3
    assert command("--from", recorded, "--out", out, "--renames", ".bak").returncode == 2


def test_the_command_reads_names_from_a_configuration(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "scan_3.nii").write_bytes(b"x")
    config = tmp_path / "project.yaml"
    config.write_text(
        yaml.safe_dump(small_values(acquisition__filename_pattern="scan_{image}.nii"))
    )
    out = tmp_path / "out"
    assert command("--from", source, "--out", out).returncode == 3
    done = command("--from", source, "--out", out, "--config", config)
    assert done.returncode == 0, done.stderr
    assert (out / "scan_3.nii").read_bytes() == b"x"
