import errno
import gzip
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import watchdog.observers
from astropy.io import fits
from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
)

from opticstream_smk.errors import ConfigError
from opticstream_smk.trigger import FileWatcher, ImageWatcher, headers
from opticstream_smk.trigger.debounce import Debouncer
from opticstream_smk.trigger.files import EVENT_DELAY_S, _Run
from opticstream_smk.trigger.headers import read_header

DELAY_S = 0.15


class Told(list):
    """Callback that keeps what it is told, and when."""

    def __init__(self):
        super().__init__()
        self.times = []
        self.came = threading.Condition()

    def __call__(self, event):
        with self.came:
            self.append(event)
            self.times.append(time.monotonic())
            self.came.notify_all()

    def wait_for(self, count, timeout_s=10):
        with self.came:
            assert self.came.wait_for(lambda: len(self) >= count, timeout_s), self.names
        return self.names

    @property
    def names(self):
        return [Path(event["path"]).name for event in self]


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def watch(tmp_path, told):
    """Start a real watcher of ``tmp_path``; it is stopped, and must leave no thread behind."""
    started = []
    threads = set(threading.enumerate())

    def start(kind=ImageWatcher, delay_s=DELAY_S, callback=told, folder=tmp_path, **options):
        watcher = kind(str(folder), callback, delay_s, **options)
        started.append(watcher)
        assert watcher.start() is None
        return watcher

    yield start
    for watcher in started:
        watcher.stop()
    assert set(threading.enumerate()) <= threads


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Stepped:
    """A watcher without a thread, on a clock that the test moves."""

    def __init__(self, folder, told, *, open_it=True, **options):
        options = {"debounce_delay": 2.0, "observer": "poll", **options}
        self.folder = folder
        self.clock = Clock()
        self.run = _Run(ImageWatcher(folder, told, **options)._settings, self.clock)
        if open_it:
            self.run.open()

    def pass_time(self, seconds, step=0.25):
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now += step
            while self.run.turn() == 0 and not self.run.is_stopped:
                pass

    def event(self, kind, *names):
        self.run._note(kind(*(str(self.folder / name) for name in names)))

    def close(self):
        self.run._events.stop()


@pytest.fixture
def by_events(tmp_path, told):
    """Only events tell this one, and the test makes them: its next look is far away."""
    return Stepped(tmp_path, told, poll_interval_s=1e6)


@pytest.fixture
def by_polling(tmp_path, told):
    return Stepped(tmp_path, told)


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ----------------------------------------------------------------------------- I1: a new file
@pytest.mark.parametrize("observer", ["auto", "native", "poll"])
def test_a_new_file_is_told_once_after_the_delay(tmp_path, told, watch, observer):
    watch(observer=observer, poll_interval_s=0.1)
    (tmp_path / "m31.fits").write_bytes(b"x" * 2560)
    written = time.monotonic()
    assert told.wait_for(1) == ["m31.fits"]
    assert told.times[0] - written >= DELAY_S - 0.02
    time.sleep(2 * DELAY_S)
    assert told == [{"path": str(tmp_path / "m31.fits"), "header": {}, "size_kb": 2.5}]


def test_the_path_is_absolute(tmp_path, told, watch, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    watch(folder=Path("in"))
    (tmp_path / "in" / "a.fit").touch()
    told.wait_for(1)
    assert told[0]["path"] == str(tmp_path / "in" / "a.fit")


def test_the_default_delay_is_2_s(tmp_path, told):
    watcher = FileWatcher(tmp_path, told)
    assert watcher._settings.delay_s == 2.0
    assert {".fits", ".nii.gz", ".raw"} <= set(watcher._settings.extensions)
    assert ImageWatcher(tmp_path, told)._settings.extensions == (".fits", ".fit")


# --------------------------------------------------------------- I2: events start the time again
@pytest.mark.parametrize("kind", [FileCreatedEvent, FileModifiedEvent, FileClosedEvent])
def test_each_event_starts_the_time_again(by_events, told, kind):
    (by_events.folder / "a.fits").touch()
    by_events.event(FileCreatedEvent, "a.fits")
    for _ in range(5):
        by_events.pass_time(1.75)
        by_events.event(kind, "a.fits")
    assert told == []
    by_events.pass_time(1.75)
    assert told == []
    by_events.pass_time(0.25)
    assert told.names == ["a.fits"]
    by_events.pass_time(10)
    assert len(told) == 1


def test_created_then_moved_is_one_file(by_events, told):
    (by_events.folder / "a.fits").touch()
    by_events.event(FileCreatedEvent, "a.fits")
    by_events.pass_time(1)
    by_events.event(FileMovedEvent, "b.tmp", "a.fits")
    by_events.pass_time(1.5)
    assert told == []
    by_events.pass_time(10)
    assert told.names == ["a.fits"]


def test_a_slow_writer_whose_events_come_is_not_told_early(tmp_path, told, watch):
    watch(delay_s=0.6, observer="native")
    with (tmp_path / "slow.fits").open("wb", buffering=0) as stream:
        for _ in range(7):
            stream.write(b"x" * 1024)
            time.sleep(0.1)
        assert told == []
    told.wait_for(1)
    assert [event["size_kb"] for event in told] == [7.0]


def test_a_writer_without_events_is_found_by_size(by_events, told):
    path = by_events.folder / "a.fits"
    path.write_bytes(b"x")
    by_events.event(FileCreatedEvent, "a.fits")
    for size in range(2, 6):
        by_events.pass_time(1.75)
        path.write_bytes(b"x" * size)
    assert told == []
    by_events.pass_time(4)
    assert [event["size_kb"] for event in told] == [5 / 1024]


def test_a_file_written_in_place_is_found_by_its_time(by_polling, told):
    path = by_polling.folder / "a.fits"
    path.write_bytes(b"0000")
    by_polling.pass_time(2)
    assert told == []
    path.write_bytes(b"1111")
    os.utime(path, ns=(1, 1))  # whatever the resolution of the clock of the file system
    by_polling.pass_time(2)
    assert told == []
    by_polling.pass_time(2)
    assert len(told) == 1


def test_a_told_file_that_is_changed_in_place_is_not_told_again(by_events, told):
    path = by_events.folder / "a.fits"
    path.touch()
    by_events.event(FileCreatedEvent, "a.fits")
    by_events.pass_time(3)
    path.write_bytes(b"a world coordinate system")
    by_events.event(FileModifiedEvent, "a.fits")
    by_events.event(FileClosedEvent, "a.fits")
    by_events.pass_time(10)
    assert len(told) == 1


def test_writing_to_a_file_whose_creation_was_lost_tells_it(by_events, told):
    (by_events.folder / "a.fits").touch()
    by_events.event(FileModifiedEvent, "a.fits")
    by_events.pass_time(2.5)
    assert told.names == ["a.fits"]


# --------------------------------------------------------------------------- I3: renaming
@pytest.mark.parametrize("observer", ["native", "poll"])
def test_a_rename_counts_by_its_final_name(tmp_path, told, watch, observer):
    watch(delay_s=0.4, observer=observer, poll_interval_s=0.05)
    (tmp_path / "one.tmp").write_bytes(b"1")
    (tmp_path / "one.tmp").rename(tmp_path / "one.fits")
    (tmp_path / ".tmp-two.fits").write_bytes(b"2")
    (tmp_path / ".tmp-two.fits").rename(tmp_path / "two.fits")
    (tmp_path / "three.fits").write_bytes(b"3")
    (tmp_path / "three.fits").rename(tmp_path / "three.txt")
    told.wait_for(2)
    time.sleep(0.6)
    assert sorted(told.names) == ["one.fits", "two.fits"]


def test_a_renamed_file_is_told_by_the_new_name_only(by_events, told):
    (by_events.folder / "a.fits").touch()
    by_events.event(FileCreatedEvent, "a.fits")
    by_events.pass_time(1)
    (by_events.folder / "a.fits").rename(by_events.folder / "b.fits")
    by_events.event(FileMovedEvent, "a.fits", "b.fits")
    by_events.pass_time(10)
    assert told.names == ["b.fits"]


@pytest.mark.parametrize("observer", ["native", "poll"])
def test_another_file_that_takes_the_name_is_told(tmp_path, told, watch, observer):
    watch(observer=observer, poll_interval_s=0.05)
    for size in (1024, 2048):
        (tmp_path / "new").write_bytes(b"x" * size)
        (tmp_path / "new").rename(tmp_path / "latest.fits")
        told.wait_for(size // 1024)
    time.sleep(2 * DELAY_S)
    assert [event["size_kb"] for event in told] == [1.0, 2.0]


def test_an_inode_that_changes_alone_is_no_other_file(by_polling, told, monkeypatch):
    (by_polling.folder / "a.fits").touch()
    by_polling.pass_time(4)
    listing = by_polling.run._list
    monkeypatch.setattr(
        by_polling.run, "_list", lambda: {name: inode + 7 for name, inode in listing().items()}
    )
    by_polling.pass_time(10)
    assert len(told) == 1


# ------------------------------------------------------------------------- I4: extensions
@pytest.mark.parametrize("observer", ["native", "poll"])
def test_extensions_in_any_case(tmp_path, told, watch, observer):
    watch(observer=observer, poll_interval_s=0.05)
    for name in ("a.FIT", "b.Fits", "c.txt", "d.fits.tmp", "e.fits.gz", "fits", ".fits", "._a.fit"):
        (tmp_path / name).touch()
    told.wait_for(2)
    time.sleep(2 * DELAY_S)
    assert sorted(told.names) == ["a.FIT", "b.Fits"]


def test_extensions_of_several_dots(tmp_path, told, watch):
    watch(FileWatcher, extensions=[".nii.gz", ".RAW"])
    for name in ("a.nii", "b.gz", "c.NII.gz", "d.raw"):
        (tmp_path / name).touch()
    told.wait_for(2)
    time.sleep(2 * DELAY_S)
    assert sorted(told.names) == ["c.NII.gz", "d.raw"]


@pytest.mark.parametrize("extension", ["fits", "*.fits", "", ".", "/a.fits"])
def test_extensions_that_make_no_sense(tmp_path, told, extension):
    with pytest.raises(ConfigError, match="with its dot"):
        FileWatcher(tmp_path, told, extensions=[extension])


def test_other_arguments_that_make_no_sense(tmp_path, told):
    with pytest.raises(ConfigError, match="no extension"):
        FileWatcher(tmp_path, told, extensions=[])
    for delay_s in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="debounce delay"):
            FileWatcher(tmp_path, told, delay_s)
    for interval_s in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="poll interval"):
            FileWatcher(tmp_path, told, poll_interval_s=interval_s)
    with pytest.raises(ConfigError, match="auto, poll, native"):
        FileWatcher(tmp_path, told, observer="inotify")
    with pytest.raises(ConfigError, match="cannot be called"):
        FileWatcher(tmp_path, None)


def test_one_extension_as_a_word(tmp_path, told):
    assert FileWatcher(tmp_path, told, extensions=".Tif")._settings.extensions == (".tif",)


# ------------------------------------------------------------------------ I5: deleted in time
@pytest.mark.parametrize("how", ["by_events", "by_polling"])
def test_a_file_that_is_deleted_in_time_is_not_told(how, request, told, caplog):
    stepped = request.getfixturevalue(how)
    (stepped.folder / "a.fits").touch()
    stepped.event(FileCreatedEvent, "a.fits")
    stepped.pass_time(1)
    (stepped.folder / "a.fits").unlink()
    if how == "by_events":
        stepped.event(FileDeletedEvent, "a.fits")
    stepped.pass_time(10)
    assert told == []
    assert warnings_in(caplog) == []


def test_a_deletion_without_event_is_noticed_when_due(by_events, told, caplog):
    (by_events.folder / "a.fits").touch()
    by_events.event(FileCreatedEvent, "a.fits")
    by_events.pass_time(1)
    (by_events.folder / "a.fits").unlink()
    by_events.pass_time(10)
    assert told == []
    assert warnings_in(caplog) == []


def test_a_file_that_is_deleted_and_written_anew_is_told_again(by_events, told):
    for count in (1, 2):
        (by_events.folder / "a.fits").touch()
        by_events.event(FileCreatedEvent, "a.fits")
        by_events.pass_time(3)
        assert len(told) == count
        (by_events.folder / "a.fits").unlink()
        by_events.event(FileDeletedEvent, "a.fits")


# ------------------------------------------------------------------- I6: the callback raises
@pytest.mark.parametrize("error", [ValueError("no plate solution"), SystemExit(1)])
def test_a_callback_that_raises_stops_nothing(tmp_path, told, watch, caplog, error):
    def fail_first(event):
        told(event)
        if len(told) == 1:
            raise error

    watch(callback=fail_first)
    (tmp_path / "a.fits").touch()
    told.wait_for(1)
    (tmp_path / "b.fits").touch()
    assert told.wait_for(2) == ["a.fits", "b.fits"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert str(tmp_path / "a.fits") in errors[0].getMessage()
    assert errors[0].exc_info[1] is error


# ---------------------------------------------------------------------- I7: not recursive
@pytest.mark.parametrize("observer", ["native", "poll"])
def test_files_of_sub_folders_and_folders_are_left_out(tmp_path, told, watch, observer):
    (tmp_path / "before").mkdir()
    watch(observer=observer, poll_interval_s=0.05, existing=True)
    (tmp_path / "sub").mkdir()
    (tmp_path / "folder.fits").mkdir()
    for folder in ("before", "sub", "folder.fits"):
        (tmp_path / folder / "a.fits").touch()
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    (tmp_path / "dangling.fits").symlink_to("nowhere")
    (tmp_path / "link.fits").symlink_to("before/a.fits")
    told.wait_for(1)
    time.sleep(2 * DELAY_S)
    assert told.names == ["link.fits"]


# --------------------------------------------------------------- I8: the folder is not there
def test_a_missing_folder_is_logged_and_can_be_started_later(tmp_path, told, watch, caplog):
    threads = threading.active_count()
    watcher = watch(folder=tmp_path / "in")
    assert not watcher.is_running
    assert threading.active_count() == threads
    assert str(tmp_path / "in") in caplog.text
    assert caplog.records[-1].levelno == logging.ERROR
    watcher.stop()
    (tmp_path / "in").mkdir()
    watcher.start()
    assert watcher.is_running
    (tmp_path / "in" / "a.fits").touch()
    assert told.wait_for(1) == ["a.fits"]


def test_a_file_is_no_folder(tmp_path, watch, caplog):
    (tmp_path / "in").touch()
    assert not watch(folder=tmp_path / "in").is_running
    assert "Not a directory" in caplog.text


@pytest.fixture
def open_folder():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.mark.parametrize("observer", ["auto", "poll"])
def test_a_folder_without_permission(open_folder, as_somebody_else, told, caplog, observer):
    closed = open_folder / "closed"
    closed.mkdir(mode=0)
    watcher = ImageWatcher(closed, told, observer=observer)
    watcher.start()
    closed.chmod(0o700)
    assert not watcher.is_running
    assert "Permission denied" in caplog.text
    assert str(closed) in caplog.text


def test_permission_that_goes_and_comes_back(open_folder, as_somebody_else, told, caplog):
    folder = open_folder / "in"
    folder.mkdir()
    stepped = Stepped(folder, told)
    (folder / "a.fits").touch()
    stepped.pass_time(4)
    folder.chmod(0)
    stepped.pass_time(10)
    folder.chmod(0o700)
    (folder / "b.fits").touch()
    stepped.pass_time(10)
    assert told.names == ["a.fits", "b.fits"]
    assert caplog.text.count("cannot be looked at any more (Permission denied)") == 1


def test_a_file_without_permission_has_no_header(open_folder, as_somebody_else, told, caplog):
    stepped = Stepped(open_folder, told)
    (open_folder / "a.fits").write_bytes(b"x" * 1024)
    (open_folder / "a.fits").chmod(0)
    stepped.pass_time(5)
    assert told == [{"path": str(open_folder / "a.fits"), "header": {}, "size_kb": 1.0}]
    assert "Permission denied" in caplog.text


# ---------------------------------------------------------------------------- I9: stopping
def test_stop_may_be_called_before_start_and_twice(tmp_path, told, watch):
    ImageWatcher(tmp_path, told).stop()
    watcher = watch()
    watcher.start()  # once more does nothing
    watcher.stop()
    watcher.stop()
    assert not watcher.is_running


@pytest.mark.parametrize("observer", ["native", "poll"])
def test_nothing_is_told_after_stop(tmp_path, told, watch, observer):
    watcher = watch(delay_s=0.5, observer=observer, poll_interval_s=0.05)
    (tmp_path / "a.fits").touch()
    deadline = time.monotonic() + 5
    while not len(watcher._run._waiting):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    watcher.stop()
    time.sleep(0.6)
    assert told == []


def test_a_stopped_watcher_starts_again(tmp_path, told, watch):
    watcher = watch()
    watcher.stop()
    (tmp_path / "meanwhile.fits").touch()
    watcher.start()
    (tmp_path / "after.fits").touch()
    told.wait_for(1)
    time.sleep(2 * DELAY_S)
    assert told.names == ["after.fits"]


def test_stop_inside_the_callback(tmp_path, told, watch):
    def stop(event):
        watcher.stop()
        told(event)

    watcher = watch(callback=stop, existing=True)
    threads = watcher._run._thread
    (tmp_path / "a.fits").touch()
    (tmp_path / "b.fits").touch()
    told.wait_for(1)
    threads.join(5)
    assert not threads.is_alive()
    assert not watcher.is_running
    time.sleep(2 * DELAY_S)
    assert len(told) == 1


def test_stop_waits_for_the_callback_that_runs(tmp_path, watch):
    begun, ended = threading.Event(), threading.Event()

    def work(_event):
        begun.set()
        time.sleep(0.3)
        ended.set()

    watcher = watch(callback=work, delay_s=0)
    (tmp_path / "a.fits").touch()
    assert begun.wait(10)
    watcher.stop()
    assert ended.is_set()


def test_threads_are_daemons(watch):
    watcher = watch()
    ours = {watcher._run._thread, watcher._run._events._observer}
    assert all(thread.daemon for thread in threading.enumerate() if thread in ours)
    assert ours <= set(threading.enumerate())


# ------------------------------------------------------------------- I10: several at a time
def test_two_files_have_times_of_their_own(by_events, told):
    for name in ("a.fits", "b.fits"):
        (by_events.folder / name).touch()
    by_events.event(FileCreatedEvent, "a.fits")
    by_events.pass_time(1)
    by_events.event(FileCreatedEvent, "b.fits")
    by_events.pass_time(0.5)
    by_events.event(FileModifiedEvent, "a.fits")
    by_events.pass_time(1.5)
    assert told.names == ["b.fits"]
    by_events.pass_time(0.5)
    assert told.names == ["b.fits", "a.fits"]


def test_a_burst_needs_no_more_threads(tmp_path, told, watch):
    watch(FileWatcher, extensions=[".raw"])
    before = threading.active_count()
    most = 0
    names = [f"{number:04d}.raw" for number in range(2000)]
    for name in names:
        (tmp_path / name).touch()
        most = max(most, threading.active_count())
    told.wait_for(len(names), timeout_s=30)
    time.sleep(2 * DELAY_S)
    assert told.names == names
    assert most == before


def test_files_that_come_during_a_callback_are_told(tmp_path, told, watch):
    def work(event):
        if not told:
            for number in range(5):
                (tmp_path / f"{number}.fits").touch()
            time.sleep(2 * DELAY_S)
        told(event)

    watch(callback=work)
    (tmp_path / "first.fits").touch()
    assert told.wait_for(6) == ["first.fits", *(f"{number}.fits" for number in range(5))]


# ------------------------------------------------------------------------- I11: what is told
def fits_header():
    header = fits.Header()
    header["OBJECT"] = "  M 31  "
    header["EXPTIME"] = (10.5, "seconds")
    header["FILTER"] = None
    header["GAIN"] = 80
    header["DITHER"] = True
    header["COMMENT"] = "not told"
    header["HISTORY"] = "not told"
    header["LONG"] = "x" * 150
    return header


FITS_VALUES = {
    "SIMPLE": True,
    "NAXIS": 2,
    "OBJECT": "M 31",
    "EXPTIME": 10.5,
    "FILTER": None,
    "GAIN": 80,
    "DITHER": True,
    "LONG": "x" * 150,
}


def test_what_is_told_of_a_fits_file(tmp_path, told, watch):
    watch()
    path = tmp_path / "m31.fits"
    fits.PrimaryHDU(np.zeros((8, 9), np.int16), fits_header()).writeto(path)
    told.wait_for(1)
    assert set(told[0]) == {"path", "header", "size_kb"}
    assert type(told[0]["path"]) is str
    assert type(told[0]["header"]) is dict
    assert type(told[0]["size_kb"]) is float
    assert told[0]["size_kb"] == path.stat().st_size / 1024
    header = told[0]["header"]
    assert {key: header[key] for key in FITS_VALUES} == FITS_VALUES
    assert not {"COMMENT", "HISTORY", "", "END"} & set(header)


def test_a_fits_header_of_other_files(tmp_path):
    plain = tmp_path / "a.fit"
    fits.PrimaryHDU(np.zeros((8, 9), np.int16), fits_header()).writeto(plain)
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_header(packed) == read_header(plain)
    # The header counts, not the image behind it; and only the first header.
    short = tmp_path / "short.fits"
    short.write_bytes(plain.read_bytes()[:5760])
    assert read_header(short) == read_header(plain)
    long = tmp_path / "long.fits"
    fits.HDUList(
        [fits.PrimaryHDU(header=fits.Header({f"K{n}": n for n in range(500)})), fits.ImageHDU()]
    ).writeto(long)
    assert read_header(long)["K499"] == 499
    assert "XTENSION" not in read_header(long)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "SIMPLE"),
        (b"\0" * 5760, "SIMPLE"),
        (os.urandom(9000), "SIMPLE"),
        (b"SIMPLE  =                    T".ljust(80), "ends after 80 bytes"),
        (b"SIMPLE  =                    T".ljust(2880, b"\0") + b"\0" * 4_000_000, "no END"),
        (b"SIMPLE  =                    T".ljust(80) + b"OBJECT  = 'M".ljust(80)
         + b"END".ljust(2720), "OBJECT"),
        (b"\x1f\x8b" + b"\0" * 100, ""),
    ],
    ids=["empty", "zeros", "noise", "cut", "allocated", "bad card", "bad gzip"],
)  # fmt: skip
def test_a_corrupt_fits_header_is_empty(tmp_path, told, caplog, content, reason):
    stepped = Stepped(tmp_path, told)
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    stepped.pass_time(5)
    assert told == [{"path": str(path), "header": {}, "size_kb": len(content) / 1024}]
    [warning] = warnings_in(caplog)
    assert str(path) in warning
    assert reason in warning


def test_a_nifti_header(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.float32), np.diag([2, 3, 4, 1]))
    image.header["descrip"] = b"tile 7"
    for name in ("a.nii", "a.NII.GZ"):
        nibabel.save(image, tmp_path / name.lower())
        header = read_header((tmp_path / name.lower()).rename(tmp_path / name))
        assert header["dim"] == [3, 3, 4, 5, 1, 1, 1, 1]
        assert header["descrip"] == "tile 7"
        assert header["pixdim"][1:4] == [2.0, 3.0, 4.0]
        assert all(type(value) in (int, float, str, list) for value in header.values())


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_corrupt_nifti_header_is_empty(tmp_path, caplog, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b" + b"\0" * 500)
    assert read_header(tmp_path / name) == {}
    assert str(tmp_path / name) in caplog.text


def test_other_files_have_no_header(tmp_path, caplog):
    (tmp_path / "a.raw").write_bytes(b"x")
    assert read_header(tmp_path / "a.raw") == {}
    assert caplog.text == ""


def test_without_astropy_headers_are_empty_and_it_is_said_once(tmp_path, told, caplog, monkeypatch):
    headers._fits.cache_clear()
    monkeypatch.setitem(sys.modules, "astropy.io.fits", None)
    stepped = Stepped(tmp_path, told)
    for name in ("a.fits", "b.fits"):
        (tmp_path / name).write_bytes(b"SIMPLE  =                    T")
    stepped.pass_time(5)
    headers._fits.cache_clear()
    assert [event["header"] for event in told] == [{}, {}]
    [warning] = warnings_in(caplog)
    assert "pip install 'opticstream-smk[fits]'" in warning


# ----------------------------------------------------------------------------- I12: at once
@pytest.mark.parametrize("observer", ["auto", "native", "poll"])
def test_without_delay_a_file_is_told_at_once_and_once(tmp_path, told, watch, observer):
    watch(delay_s=0, observer=observer, poll_interval_s=0.05)
    (tmp_path / "a.fits").touch()
    begun = time.monotonic()
    told.wait_for(1)
    if observer == "native":
        assert told.times[0] - begun < 1
    for number in range(20):
        (tmp_path / f"{number}.fits").touch()
        time.sleep(0.01)
    told.wait_for(21)
    time.sleep(0.2)
    assert sorted(told.names) == sorted({"a.fits", *(f"{number}.fits" for number in range(20))})


# ------------------------------------------------------------------- I13: what was there before
@pytest.mark.parametrize("observer", ["native", "poll"])
def test_files_that_are_there_before(tmp_path, told, watch, observer):
    for name in ("b.fits", "a.fits", "c.txt"):
        (tmp_path / name).touch()
    watch(observer=observer, poll_interval_s=0.05)
    (tmp_path / "new.fits").touch()
    told.wait_for(1)
    time.sleep(2 * DELAY_S)
    assert told.names == ["new.fits"]


def test_files_that_are_there_before_are_told_on_request(tmp_path, told, watch):
    for name in ("b.fits", "a.fits", "c.txt"):
        (tmp_path / name).touch()
    watch(existing=True)
    assert told.wait_for(2) == ["a.fits", "b.fits"]
    (tmp_path / "new.fits").touch()
    assert told.wait_for(3) == ["a.fits", "b.fits", "new.fits"]


# --------------------------------------------------------- events that fail; a folder that goes
def test_a_look_finds_what_events_missed(tmp_path, told):
    stepped = Stepped(tmp_path, told, observer="auto", debounce_delay=0.5)
    stepped.run._events._note = lambda _event: None
    assert stepped.run._events.are_alive
    (tmp_path / "a.fits").touch()
    stepped.pass_time(1)  # the look
    stepped.pass_time(EVENT_DELAY_S - 0.25)  # its event, if one were on its way, would come now
    assert told == []
    stepped.pass_time(0.5)
    assert told.names == ["a.fits"]
    stepped.close()


def test_without_a_look_native_relies_on_events(tmp_path, told):
    stepped = Stepped(tmp_path, told, observer="native")
    stepped.run._events._note = lambda _event: None
    (tmp_path / "a.fits").touch()
    stepped.pass_time(10)
    assert told == []
    stepped.close()


@pytest.mark.parametrize("observer", ["auto", "native"])
def test_without_events_it_polls(tmp_path, told, watch, caplog, monkeypatch, observer):
    def refuse(_self):
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(watchdog.observers.Observer, "start", refuse)
    watch(observer=observer, poll_interval_s=0.05)
    (tmp_path / "a.fits").touch()
    assert told.wait_for(1) == ["a.fits"]
    [warning] = [text for text in warnings_in(caplog) if "no events from" in text]
    assert "inotify instance limit reached" in warning
    assert "max_user_instances" in warning


def test_a_folder_that_goes_away_and_comes_back(by_polling, told, caplog):
    folder = by_polling.folder
    (folder / "told.fits").touch()
    by_polling.pass_time(4)
    (folder / "waiting.fits").touch()
    by_polling.pass_time(1)
    folder.rename(folder.with_name("elsewhere"))
    by_polling.pass_time(30)
    assert told.names == ["told.fits"]
    [warning] = [text for text in warnings_in(caplog) if "cannot be looked at" in text]
    assert str(folder) in warning
    (folder.with_name("elsewhere") / "meanwhile.fits").touch()
    folder.with_name("elsewhere").rename(folder)
    by_polling.pass_time(2)
    assert told.names == ["told.fits"]  # the time has started again
    by_polling.pass_time(10)
    assert sorted(told.names) == ["meanwhile.fits", "told.fits", "waiting.fits"]
    assert [text for text in warnings_in(caplog) if "is back" in text]


def test_an_unmounted_disk_leaves_an_empty_folder(tmp_path, told, caplog, monkeypatch):
    is_mounted = True
    monkeypatch.setattr(Path, "is_mount", lambda _self: is_mounted)
    stepped = Stepped(tmp_path, told)
    (tmp_path / "a.fits").touch()
    stepped.pass_time(4)
    is_mounted = False
    (tmp_path / "a.fits").rename(tmp_path / "hidden")
    stepped.pass_time(10)
    is_mounted = True
    (tmp_path / "hidden").rename(tmp_path / "a.fits")
    stepped.pass_time(10)
    assert told.names == ["a.fits"]
    assert [text for text in warnings_in(caplog) if "no disk is mounted on it" in text]


@pytest.mark.parametrize("observer", ["auto", "native"])
def test_a_folder_that_is_deleted_and_made_again(tmp_path, told, watch, caplog, observer):
    folder = tmp_path / "in"
    folder.mkdir()
    watch(folder=folder, observer=observer, poll_interval_s=0.05)
    for count in (1, 2, 3):
        (folder / "a.fits").touch()
        told.wait_for(count)
        shutil.rmtree(folder)
        deadline = time.monotonic() + 10
        while caplog.text.count("cannot be looked at") < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        folder.mkdir()
    assert told.names == ["a.fits"] * 3


def test_a_folder_that_is_replaced_between_two_looks(tmp_path, told, watch):
    folder = tmp_path / "in"
    folder.mkdir()
    watch(folder=folder, observer="native", poll_interval_s=0.05)
    folder.rename(tmp_path / "old")
    folder.mkdir()
    (folder / "a.fits").touch()
    told.wait_for(1)
    (folder / "b.fits").touch()
    assert told.wait_for(2) == ["a.fits", "b.fits"]


def test_a_listing_of_a_folder_that_just_changed_is_not_believed(by_polling, told, monkeypatch):
    (by_polling.folder / "a.fits").touch()
    by_polling.pass_time(4)
    places = [(0, 0), (1, 1)]
    real = by_polling.run._find_place
    monkeypatch.setattr(by_polling.run, "_find_place", lambda: places.pop(0) if places else real())
    monkeypatch.setattr(by_polling.run, "_list", dict)
    by_polling.pass_time(1)
    assert "a.fits" in by_polling.run._known


def test_a_huge_folder_is_looked_at_less_often(by_polling, monkeypatch):
    looks = []

    def slow_list():
        looks.append(by_polling.clock.now)
        by_polling.clock.now += 1
        return {}

    monkeypatch.setattr(by_polling.run, "_list", slow_list)
    by_polling.pass_time(50)
    assert len(looks) == 3


def test_a_defect_of_ours_stops_nothing(tmp_path, told, watch, caplog, monkeypatch):
    real = _Run._look
    fails = [RuntimeError("defect")]

    def look(self):
        if fails:
            raise fails.pop()
        real(self)

    monkeypatch.setattr(_Run, "_look", look)
    watch(observer="poll", poll_interval_s=0.05)
    (tmp_path / "a.fits").touch()
    assert told.wait_for(1) == ["a.fits"]
    assert "internal error" in caplog.text


def test_idle_time(by_events, told):
    assert by_events.run.idle_s == 0
    by_events.pass_time(5)
    assert by_events.run.idle_s == 5
    (by_events.folder / "a.fits").touch()
    by_events.event(FileCreatedEvent, "a.fits")
    by_events.pass_time(1.5)
    assert by_events.run.idle_s == 0
    by_events.pass_time(3)
    assert by_events.run.idle_s == 2.5
    assert len(told) == 1


def test_a_told_file_that_was_changed_in_place_is_known_again_after_an_absence(by_polling, told):
    def solve(event):
        told(event)
        Path(event["path"]).write_bytes(b"with a world coordinate system")

    object.__setattr__(by_polling.run._settings, "callback", solve)
    folder = by_polling.folder
    (folder / "a.fits").touch()
    by_polling.pass_time(4)
    folder.rename(folder.with_name("elsewhere"))
    by_polling.pass_time(2)
    folder.with_name("elsewhere").rename(folder)
    by_polling.pass_time(10)
    assert len(told) == 1


def test_an_inode_that_is_used_again_after_an_absence(by_polling, told):
    folder = by_polling.folder
    (folder / "a.fits").touch()
    by_polling.pass_time(4)
    folder.rename(folder.with_name("elsewhere"))
    by_polling.pass_time(2)
    # Written in place: the same inode, as another file may get after a deletion.
    (folder.with_name("elsewhere") / "a.fits").write_bytes(b"another image")
    folder.with_name("elsewhere").rename(folder)
    by_polling.pass_time(10)
    assert [event["size_kb"] * 1024 for event in told] == [0, 13]


# ----------------------------------------------------------------------------- the heap
def test_the_debouncer_forgets_and_moves_deadlines():
    waiting = Debouncer()
    seen = (1, 2, 3)
    for name, deadline in (("a", 5), ("b", 3), ("c", 4), ("d", 4)):
        waiting.arm(name, deadline, seen)
    waiting.arm("b", 9, seen)  # later
    waiting.arm("a", 1, (4, 5, 6))  # earlier
    waiting.forget("c")
    waiting.arm("c", 6, seen)  # anew
    assert len(waiting) == 4
    assert waiting.next_deadline() == 1
    assert waiting.pop_due(0.9) is None
    assert [waiting.pop_due(10) for _ in range(5)] == [
        ("a", (4, 5, 6)), ("d", seen), ("c", seen), ("b", seen), None,
    ]  # fmt: skip
    assert waiting.next_deadline() is None


# -------------------------------------------------------------------------------- imports
def test_the_package_is_cheap_to_import():
    code = (
        "import sys\n"
        "import opticstream_smk.trigger\n"
        "heavy = {'watchdog', 'numpy', 'astropy', 'nibabel'}\n"
        "assert not heavy & set(sys.modules)\n"
        "from opticstream_smk.trigger import FileWatcher, ImageWatcher\n"
        "assert issubclass(ImageWatcher, FileWatcher)\n"
        "assert not (heavy - {'watchdog'}) & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ImportError):
        from opticstream_smk.trigger import Nonsense  # noqa: F401
