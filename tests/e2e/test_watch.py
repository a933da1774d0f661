"""The watcher as operators run it: real processes, real snakemake, a real file system."""

import json
import os
import signal
import subprocess
import time

import pytest
import yaml

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.host import boot_id, host_name
from opticstream_smk.state.psoct import OctState
from tests.e2e.conftest import BIN, Project
from tests.e2e.watching import Watch, events, flags, products

QUICK = ("--stability-seconds", 0.5, "--poll-interval", 0.25)


def edit(project, **values):
    """Change keys of a project's configuration, section__key."""
    loaded = yaml.safe_load(project.config.read_text())
    for key, value in values.items():
        section, _, name = key.partition("__")
        loaded.setdefault(section, {})[name] = value
    project.config.write_text(yaml.safe_dump(loaded))


def take(raw, folder, *parts):
    """Links to those raw tiles whose names hold one of the parts, and to the calibration."""
    folder.mkdir(exist_ok=True)
    for path in raw.iterdir():
        if not path.name.startswith("mosaic") or any(part in path.name for part in parts):
            target = folder / path.name
            if path.is_file() and not target.exists():
                os.link(path, target)


@pytest.fixture
def one_batch(raw, tmp_path):
    """A project whose source holds the first batch of the first mosaic."""
    folder = tmp_path / "source"
    take(raw, folder, *(f"mosaic_001_image_000{image}" for image in (1, 2, 3)))
    return Project(tmp_path / "p", folder)


def test_a_night_comes_out_as_by_hand(finished_session, raw, tmp_path):
    """Everything is there already; the watcher makes what scan and snakemake make, once."""
    project = Project(tmp_path, raw)
    with Watch(project, *QUICK, "--until-idle", 6) as watch:
        assert watch.process.wait(timeout=240) == 0, watch.text
    assert flags(project.dir) == flags(finished_session.dir)
    assert products(project.dir) == products(finished_session.dir)
    assert len(events(project.dir, "linc.oct.batch.processed")) == 12
    assert len(events(project.dir, "linc.oct.mosaic.stitched")) == 4
    assert len(events(project.dir, "linc.oct.slice.registered")) == 2
    assert (project.dir / "report/slice-02.jpg").is_file()
    assert not list((project.dir / "state/control/drivers").iterdir())
    assert not list((project.dir / "logs/drivers").iterdir())
    assert watch.text.count(" ready: 3 tiles") == 12
    assert "Traceback" not in watch.text


@pytest.fixture
def replay(raw):
    """Let an acquisition arrive again in the background; ended with the test."""
    running = []

    def start(folder, *options):
        command = [BIN / "optic-trigger", "simulate", "replay", "--from", raw, "--out", folder]
        running.append(
            subprocess.Popen(
                [str(word) for word in (*command, *options)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def follow(watch, acquisition):
    """Batches that were ready and not processed, twice a second while the acquisition runs."""
    folder, backlog = watch.project.dir, []
    while acquisition.poll() is None:
        ready = len(list(folder.glob("mosaic-*/state/*.ready")))
        backlog.append(ready - len(list(folder.glob("mosaic-*/state/*.processed"))))
        time.sleep(0.5)
    assert acquisition.returncode == 0
    return backlog


def test_an_acquisition_is_followed_while_it_runs(finished_session, replay, tmp_path):
    """Slow writes in place, tiles out of order, tiles that are sent again; two seconds a tile."""
    folder = tmp_path / "arriving"
    folder.mkdir()
    project = Project(tmp_path / "p", folder)
    with Watch(project, "--stability-seconds", 2, "--poll-interval", 0.5) as watch:
        disorder = ("--shuffle", "4", "--duplicates", "3", "--seed", "7")
        backlog = follow(watch, replay(folder, "--slow-writes", *disorder))
        watch.until((project.dir / "report/slice-02.jpg").exists, 120, 0.2)
        watch.until((project.dir / "report/mosaic-04.jpg").exists, 60)
        watch.until(lambda: not watch.drivers(), 60)
        code, _ = watch.stop()
    assert code == 0
    assert max(backlog) <= 6, backlog
    made, expected = products(project.dir), products(finished_session.dir)
    different = {name for name in made.keys() | expected if made.get(name) != expected.get(name)}
    # A picture says nothing about a raw file that is not any more what was processed.
    for flag in project.dir.glob("mosaic-*/state/*.qc"):
        numbers = json.loads(flag.read_text())["numbers"].values()
        if any("saturation_share" not in of_tile for of_tile in numbers):
            different.discard(f"report/{flag.parts[-3]}_{flag.stem}.jpg")
    assert not different
    # A tile that is sent again enters its batch again, unless it is processed: results are kept.
    processed = events(project.dir, "linc.oct.batch.processed")
    again = len(events(project.dir, "linc.oct.batch.ready")) - 12
    assert 12 <= len(processed) <= 12 + again


def test_renamed_tiles_are_followed_too(replay, tmp_path):
    folder = tmp_path / "arriving"
    folder.mkdir()
    project = Project(tmp_path / "p", folder)
    with Watch(project, "--stability-seconds", 1, "--poll-interval", 0.5) as watch:
        backlog = follow(watch, replay(folder, "--renames", "--interval-s", "1", "--limit", "18"))
        watch.until((project.dir / "state/slice-01.registered").exists, 120, 0.2)
    assert max(backlog) <= 6, backlog
    assert len(events(project.dir, "linc.oct.batch.processed")) == 6
    assert len(events(project.dir, "linc.oct.batch.ready")) == 6


def test_it_ends_at_once_when_idle(one_batch):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Watch(one_batch, "--no-direct", "--poll-interval", 30) as watch:
            watch.until_it_looks()
            code, seconds = watch.stop(number)
        assert code == 0, watch.text
        assert seconds < 1.0


def test_the_first_signal_lets_jobs_finish_the_second_ends_them(one_batch):
    with Watch(one_batch, *QUICK) as watch:
        started = one_batch.dir / "mosaic-01/state/batch-001.started"
        watch.until(started.exists)
        code, _ = watch.stop()
        assert code == 0, watch.text
    # The job that ran has finished; the next one of its run was not begun.
    assert (one_batch.dir / "mosaic-01/state/batch-001.complex").exists()
    assert not (one_batch.dir / "mosaic-01/state/batch-001.processed").exists()
    with Watch(one_batch, *QUICK) as watch:
        watch.until(watch.drivers)
        time.sleep(0.5)
        watch.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        code, seconds = watch.stop()
        assert (code, watch.drivers()) == (0, [])
        assert seconds < 3
    with Watch(one_batch, *QUICK, "--until-idle", 2) as watch:
        assert watch.process.wait(timeout=60) == 0, watch.text
    assert (one_batch.dir / "mosaic-01/state/batch-001.processed").exists()


def test_a_second_watcher_is_told_who_holds_the_project(one_batch):
    with Watch(one_batch, "--no-direct", "--poll-interval", 30) as watch:
        watch.until_it_looks()
        second = one_batch.trigger("watch --until-idle 1", check=False)
        assert second.returncode == 4
        assert f"is being watched by process {watch.process.pid} on" in second.stderr


def test_without_direct_the_queue_and_the_event_are_all(one_batch):
    one_batch.trigger("watch --no-direct --until-idle 1", *QUICK)
    assert (one_batch.dir / "mosaic-01/state/batch-001.ready").exists()
    assert len(events(one_batch.dir, "linc.oct.batch.ready")) == 1
    assert not (one_batch.dir / "mosaic-01/state/batch-001.started").exists()
    # Ready and not done is taken up by the next watcher.
    one_batch.trigger("watch --until-idle 1", *QUICK)
    assert (one_batch.dir / "mosaic-01/state/batch-001.processed").exists()


def test_pause_survives_a_restart_and_resume_goes_on(one_batch):
    one_batch.trigger("pause", "--reason", "microscope is being aligned")
    with Watch(one_batch, *QUICK) as watch:
        watch.until(lambda: "paused" in watch.text)
        assert "microscope is being aligned" in watch.text
        watch.stop()
    with Watch(one_batch, *QUICK) as watch:
        watch.until(lambda: watch.text.count("no work is started") == 2)
        time.sleep(1)
        assert (one_batch.dir / "mosaic-01/state/batch-001.ready").exists()
        assert not (one_batch.dir / "mosaic-01/state/batch-001.started").exists()
        one_batch.trigger("resume")
        watch.until((one_batch.dir / "mosaic-01/state/batch-001.processed").exists)


def test_a_failure_is_retried_then_set_aside_and_retry_takes_it_up(raw, tmp_path):
    folder = tmp_path / "source"
    take(raw, folder, *(f"mosaic_001_image_000{image}" for image in range(1, 7)))
    project = Project(tmp_path / "p", folder)
    edit(project, run__retry={"data": {"first_s": 0.5, "longest_s": 1, "attempts": 2}})
    bad = folder / "mosaic_001_image_0002_spectral_0002.nii"
    content = bad.read_bytes()
    bad.unlink()
    bad.write_bytes(content[:352] + bytes(len(content) - 352))  # not one photon
    with Watch(project, *QUICK) as watch:
        watch.until(lambda: "set aside" in watch.text, 90)
        # The other batch has gone on, and one message said it.
        watch.until((project.dir / "mosaic-01/state/batch-002.processed").exists)
        time.sleep(1.5)
        assert watch.text.count("set aside: mend it") == 1
        failed = json.loads((project.dir / "mosaic-01/state/batch-001.failed").read_text())
        assert (failed["extra"]["attempts"], failed["extra"]["next_try"]) == (2, None)
        status = project.trigger("status", check=False)
        assert status.returncode == 3
        assert "optic-trigger retry" in status.stdout
        # Mended: the tile is replaced, which the watcher enters again by itself.
        part = bad.with_suffix(".tmp")
        part.write_bytes(content)
        part.replace(bad)
        watch.until((project.dir / "mosaic-01/state/batch-001.processed").exists, 60)
        assert not (project.dir / "mosaic-01/state/batch-001.failed").exists()


def test_retry_releases_what_was_set_aside(one_batch):
    edit(one_batch, run__retry={"data": {"first_s": 0.2, "longest_s": 1, "attempts": 1}})
    calibration = one_batch.raw / "wave-pixel.mat"
    good = calibration.read_bytes()
    calibration.unlink()
    calibration.write_bytes(b"no calibration")
    with Watch(one_batch, *QUICK) as watch:
        watch.until(lambda: "set aside: mend it" in watch.text)
        calibration.write_bytes(good)
        time.sleep(1)
        assert not (one_batch.dir / "mosaic-01/state/batch-001.processed").exists()
        one_batch.trigger("retry", "--mosaic", 1, "--batch", 1)
        watch.until((one_batch.dir / "mosaic-01/state/batch-001.processed").exists)


def test_a_redo_of_finished_work_is_noticed(finished):
    with Watch(finished, *QUICK) as watch:
        watch.until_it_looks()
        finished.trigger("redo", "--from", "register_slice", "--slice", 2)
        assert not (finished.dir / "state/slice-02.registered").exists()
        watch.until((finished.dir / "state/slice-02.registered").exists)


def test_what_was_deleted_is_made_again_at_start(finished):
    (finished.dir / "registered/slice-01_3daxis.nii").unlink()
    with Watch(finished, *QUICK, "--until-idle", 2) as watch:
        assert watch.process.wait(timeout=90) == 0, watch.text
    assert (finished.dir / "registered/slice-01_3daxis.nii").exists()
    assert "doctor: withdrawn" in watch.text


def test_the_configuration_is_read_again(one_batch):
    with Watch(one_batch, "--poll-interval", 0.25, "--stability-seconds", 0.5) as watch:
        watch.until((one_batch.dir / "mosaic-01/state/batch-001.processed").exists)
        good = one_batch.config.read_text()
        one_batch.config.write_text("project: [")
        watch.until(lambda: "goes on with the configuration that it has" in watch.text)
        one_batch.config.write_text(good)
        watch.until(lambda: "has changed and is read again" in watch.text)
        edit(one_batch, acquisition__grid_size_y=9)
        watch.until(lambda: "acquisition was changed while flags are present" in watch.text)
        assert watch.process.poll() is None


def test_refresh_hooks_run_after_a_batch(one_batch, tmp_path):
    edit(one_batch, watch__refresh_hooks={"mine": [["touch", str(tmp_path / "refreshed")]]})
    one_batch.trigger("watch --until-idle 1 --refresh mine", *QUICK)
    assert (tmp_path / "refreshed").exists()
    unknown = one_batch.trigger("watch --refresh yours", check=False)
    assert unknown.returncode == 2
    assert "mine" in unknown.stderr


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (("--poll-interval", 0), "watch.poll_interval_s"),
        (("--stability-seconds", -1), "watch.stability_s"),
        (("--mosaic-ranges", "5:1"), "mosaic_ranges"),
        (("--profile", "nowhere"), "profile nowhere"),
    ],
)
def test_impossible_options_are_refused(one_batch, options, key):
    done = one_batch.trigger("watch", *options, check=False)
    assert done.returncode == 2
    assert key in done.stderr


def test_a_source_that_was_never_there_is_a_mistake(tmp_path):
    project = Project(tmp_path / "p", tmp_path / "typo")
    done = project.trigger("watch", check=False)
    assert done.returncode == 2
    assert str(tmp_path / "typo") in done.stderr


def test_offset_ranges_and_heartbeat(one_batch, tmp_path):
    beat = tmp_path / "beat"
    options = ("--slice-offset", 2, "--mosaic-ranges", "1:1", "--heartbeat", beat)
    one_batch.trigger("watch --no-direct --until-idle 1", *QUICK, *options)
    assert (one_batch.dir / "mosaic-05/state/batch-001.ready").exists()
    assert abs(float(beat.read_text().split()[0]) - time.time()) < 30


def test_force_resend_does_everything_again_once(one_batch):
    one_batch.trigger("watch --until-idle 1", *QUICK)
    tile = one_batch.dir / "mosaic-01/processed/mosaic_001_image_0001_aip.nii"
    before = tile.stat().st_mtime_ns
    one_batch.trigger("watch --until-idle 3 --force-resend", *QUICK)
    assert tile.stat().st_mtime_ns > before
    assert len(events(one_batch.dir, "linc.oct.batch.processed")) == 2


def test_a_missing_tile_is_done_without_when_it_may_be(raw, tmp_path):
    folder = tmp_path / "source"
    take(raw, folder, *(f"mosaic_001_image_000{image}" for image in (1, 3)))
    project = Project(tmp_path / "p", folder)
    project.trigger(
        "watch --until-idle 3 --allow-missing 1 --incomplete-timeout 0.5",
        *QUICK,
    )
    flag = json.loads((project.dir / "mosaic-01/state/batch-001.processed").read_text())
    assert (flag["tiles"]["done"], flag["tiles"]["missing"]) == ([1, 3], [2])


# --------------------------------------------------------------------------------------- disk full
@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_pauses_and_space_resumes(raw, tmp_path, small_disk):
    folder = tmp_path / "source"
    take(raw, folder, *(f"mosaic_001_image_000{image}" for image in (1, 2, 3)))
    project = Project(tmp_path / "p", folder)
    edit(project, project__dir=str(small_disk), run__reserve_free_mb=10)
    project.dir = small_disk
    with Watch(project, *QUICK) as watch:
        watch.until(lambda: "no work is started: disk space" in watch.text)
        time.sleep(1)
        assert watch.text.count("no work is started") == 1
        assert not (small_disk / "mosaic-01/state/batch-001.started").exists()
        subprocess.run(["mount", "-o", "remount,size=900m", small_disk], check=True)
        watch.until((small_disk / "mosaic-01/state/batch-001.processed").exists)
        assert "work goes on" in watch.text


# ------------------------------------------------------------------------------ the disk goes away
def test_the_source_goes_away_and_comes_back(raw, tmp_path):
    folder = tmp_path / "source"
    take(raw, folder, *(f"mosaic_001_image_000{image}" for image in (1, 2)))
    project = Project(tmp_path / "p", folder)
    with Watch(project, *QUICK) as watch:
        watch.until(lambda: "2 of 3 tiles, missing 3" in watch.text)
        folder.rename(tmp_path / "unmounted")
        watch.until(lambda: "cannot be listed" in watch.text)
        time.sleep(1)
        assert watch.text.count("cannot be listed") == 1
        (tmp_path / "unmounted").rename(folder)
        take(raw, folder, "mosaic_001_image_0003")
        watch.until((project.dir / "mosaic-01/state/batch-001.processed").exists)


def test_an_unmounted_disk_leaves_an_empty_folder(raw, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    disk, folder = tmp_path / "disk", tmp_path / "source"
    take(raw, disk, *(f"mosaic_001_image_000{image}" for image in (1, 2)))
    folder.mkdir()
    subprocess.run(["mount", "--bind", disk, folder], check=True)
    project = Project(tmp_path / "p", folder)
    try:
        with Watch(project, *QUICK) as watch:
            watch.until(lambda: "2 of 3 tiles, missing 3" in watch.text)
            subprocess.run(["umount", folder], check=True)
            watch.until(lambda: "is the disk mounted?" in watch.text)
            time.sleep(1)
            assert watch.text.count("is the disk mounted?") == 1
            take(raw, disk, "mosaic_001_image_0003")
            subprocess.run(["mount", "--bind", disk, folder], check=True)
            watch.until((project.dir / "mosaic-01/state/batch-001.processed").exists)
    finally:
        subprocess.run(["umount", "-l", folder], check=False, stderr=subprocess.DEVNULL)


# ------------------------------------------------------------------------------------- after a kill
def test_a_live_driver_is_adopted(one_batch):
    with Watch(one_batch, *QUICK) as watch:
        driver = watch.until(watch.drivers)[0]
        watch.process.kill()
        watch.process.wait()
        watch.start()
        watch.until(lambda: "of an earlier watcher is still at work" in watch.text)
        assert watch.drivers() == [driver]
        watch.until((one_batch.dir / "mosaic-01/state/batch-001.processed").exists)
        watch.until(lambda: not watch.drivers())
        watch.until((one_batch.dir / "mosaic-01/state/batch-001.qc").exists)
    started = events(one_batch.dir, "linc.oct.batch.started")
    assert len(started) == 1  # one attempt


def test_a_watcher_never_ends_processes_that_are_not_its_own(one_batch):
    """A record of a dead driver whose process number has been given to somebody else."""
    with Watch(one_batch, "--no-direct", "--until-idle", 1, *QUICK) as watch:
        watch.process.wait(timeout=30)
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        drivers = one_batch.dir / "state/control/drivers"
        drivers.mkdir(parents=True)
        record = {"host": host_name(), "boot_id": boot_id(), "goals": [], "kind": "compute"}
        (drivers / "old.json").write_text(json.dumps(record))
        lock = one_batch.dir / "state/.locks/driver-old.lock"
        lock.write_text(json.dumps({"host": host_name(), "pid": other.pid}))
        one_batch.trigger("watch --until-idle 1", *QUICK)
        assert other.poll() is None
        assert not (drivers / "old.json").exists()
    finally:
        other.kill()
        other.wait()


def test_state_by_hand_while_it_runs(one_batch):
    """`state reset` during a run: what was reset is made again."""
    with Watch(one_batch, *QUICK) as watch:
        flag = one_batch.dir / "mosaic-01/state/batch-001.processed"
        watch.until(flag.exists)
        watch.until((one_batch.dir / "mosaic-01/state/batch-001.qc").exists)
        with OctState(ProjectLayout(one_batch.dir)).open_batch(1, 1) as node:
            node.withdraw("processed")
        assert not flag.exists()
        watch.until(flag.exists)
