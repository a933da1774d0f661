import json
import os
import time

import pytest

from opticstream_smk.archive.folder import MARKER, archive_folder
from opticstream_smk.plan import project_layout
from opticstream_smk.report.light_sheet import ChannelProgress
from opticstream_smk.report.look import Look
from opticstream_smk.report.progress import project_report
from opticstream_smk.report.text import status_lines
from opticstream_smk.state.flags import Flag, now, write_flag
from opticstream_smk.state.lsm import lsm_flag_path, strip_place
from opticstream_smk.state.places import (
    batch_place,
    flag_path,
    mosaic_place,
    slice_place,
    tilemap_place,
)
from opticstream_smk.trigger.control import pause
from tests.report.flags import (
    failed,
    finished_slice,
    processed,
    put,
    ready,
    watched,
    working,
)


def report_of(config, **kwargs):
    return project_report(Look(config, **kwargs))


def text_of(config):
    return "\n".join(status_lines(report_of(config)))


def mosaic_of(report, mosaic):
    return next(m for s in report.slices for m in s.mosaics if m.mosaic == mosaic)


def test_an_empty_project(make_config):
    config = make_config()
    report = report_of(config)
    assert (report.slices, report.failures, report.next) == ((), (), "optic-trigger scan")
    text = text_of(config)
    assert "nothing is ready yet" in text
    assert "watcher  not running" in text


def test_a_finished_slice(make_config):
    config = make_config()
    finished_slice(config)
    report = report_of(config)
    assert report.slices[0].status == "done"
    assert report.slices[0].percent == 100
    assert report.templates == {"normal": "done", "tilted": "done"}
    assert (report.failures, report.warnings, report.running) == ((), (), ())
    assert report.next == "nothing to do"
    assert "[##] 2 of 2 batches processed (100 % of 4 tiles)" in text_of(config)


def test_percent_has_the_grid_as_denominator(make_config):
    config = make_config()
    processed(config, 1, 1)
    report = report_of(config)
    # One of one known batch; two of four tiles of the mosaic, and of eight of the slice.
    assert mosaic_of(report, 1).percent == 50
    assert report.slices[0].percent == 25
    assert [m.mosaic for m in report.slices[0].mosaics] == [1, 2]
    assert mosaic_of(report, 2).batches == {1: "pending", 2: "pending"}
    assert report.next.startswith("optic-trigger watch ")


def test_states_of_batches(make_config):
    config = make_config(acquisition__grid_size_x_normal=6)
    processed(config, 1, 1)
    for batch in (2, 3, 4):
        ready(config, 1, batch)
    failed(config, batch_place(1, 3))
    note = "mosaic 001 batch 005: 1 of 2 tiles, missing 10"
    tracked = [{"where": "mosaic 001 batch 005", "unchanged_since": time.monotonic() - 4,
                "quiet_s": 15, "note": note}]  # fmt: skip
    with watched(config, tracked=tracked), working(config, batch_place(1, 2), "processed"):
        report = report_of(config)
        text = text_of(config)
    assert list(mosaic_of(report, 1).batches.values()) == [
        "done", "running", "failed", "ready", "acquiring", "pending",
    ]  # fmt: skip
    assert "[#>!.+ ]" in text
    assert "ACQUIRING mosaic 001 batch 005: 1 of 2 tiles, missing 10; stable for 4 s of 15" in text
    assert "RUNNING  mosaic 001 batch 002: process_tiles for " in text
    running = report.running[0]
    assert (running.where, running.stage, running.pid) == (
        "mosaic 001 batch 002", "process_tiles", os.getpid(),
    )  # fmt: skip
    assert running.since is not None


def test_tiles_that_do_not_come(make_config):
    config = make_config()
    ready(config, 1, 1)
    note = "mosaic 001 batch 002: 0 of 2 tiles, missing 3, 4"
    tracked = [{"where": "mosaic 001 batch 002", "unchanged_since": time.monotonic() - 1200,
                "quiet_s": 900, "note": note}]  # fmt: skip
    with watched(config, tracked=tracked):
        text = text_of(config)
    assert (
        "LATE     mosaic 001 batch 002: 0 of 2 tiles, missing 3, 4; nothing has come for 20 min\n"
        "         type: optic-trigger close --mosaic 1 --missing 3,4   "
    ) in text


def test_a_failure_says_everything(make_config):
    config = make_config()
    place = batch_place(1, 2)
    ready(config, 1, 2)
    error = "mosaic 001 batch 002: 1 of 2 tiles failed\n  image 0003: /raw/x.nii has 5 bytes"
    failed(config, place, attempts=2, error=error)
    log = project_layout(config).root / "logs/process_tiles/mosaic-01_batch-002.log"
    log.parent.mkdir(parents=True)
    log.write_text("x\n")
    with watched(config):
        text = text_of(config)
        report = report_of(config)
    assert (
        "FAILED   mosaic 001 batch 002 in process_tiles (data), attempt 2 of 3, next try in 4 min"
        in text
    )
    assert "image 0003: /raw/x.nii has 5 bytes" in text
    assert f"log:  {log}" in text
    assert "type: optic-trigger retry --mosaic 1 --batch 2" in text
    # It is tried again by itself.
    assert report.next == "nothing to type: the watcher is at work"
    plain = json.loads(json.dumps(report.as_json()))
    assert plain["failures"][0]["command"] == "optic-trigger retry --mosaic 1 --batch 2"
    assert plain["failures"][0]["max_attempts"] == 3
    assert "no watcher tries it again" in text_of(config)


def test_set_aside(make_config):
    config = make_config()
    ready(config, 1, 2)
    failed(config, batch_place(1, 2), attempts=3, wait_s=None)
    with watched(config):
        assert "attempt 3 of 3, set aside" in text_of(config)
        assert report_of(config).next.startswith("optic-trigger retry --mosaic 1 --batch 2 ")
        failed(config, mosaic_place(2), state="stitched", wait_s=None)
        assert "optic-trigger retry --all" in report_of(config).next
    assert report_of(config).next == (
        "mend what the failures name, then: snakemake --profile zircon"
    )


@pytest.mark.parametrize(
    ("failure", "watching", "command"),
    [
        ({"kind": "config"}, True,
         "optic-trigger config check && optic-trigger retry --mosaic 1 --batch 1"),
        ({"kind": "internal"}, True, "optic-trigger retry --mosaic 1 --batch 1"),
        ({"kind": "resource", "stage": "watch"}, True, "optic-trigger retry --mosaic 1 --batch 1"),
        ({"flag": "batch-001.ready", "stage": "watch", "wait_s": None}, True, ""),
        ({"flag": "batch-001.ready", "stage": "scan", "wait_s": None}, False,
         "optic-trigger scan"),
        ({"error": "raw tile X has 5 bytes. Restore it, then run `optic-trigger scan`"}, False,
         "optic-trigger scan"),
        ({"error": "raw tile X has 5 bytes. Restore it, then run `optic-trigger scan`"}, True,
         "optic-trigger retry --mosaic 1 --batch 1"),
    ],
)  # fmt: skip
def test_each_failure_has_its_command(make_config, failure, watching, command):
    config = make_config()
    failed(config, batch_place(1, 1), **failure)
    if watching:
        with watched(config):
            found = report_of(config).failures
    else:
        found = report_of(config).failures
    assert [f.command for f in found] == [command]
    assert found[0].when
    is_raw = str(failure.get("flag")).endswith(".ready")
    assert found[0].stage == (failure["stage"] if is_raw else "process_tiles")
    assert found[0].told_next(Look(config).at, watched=watching) == (
        "waits for its raw files" if is_raw
        else "next try in 4 min" if watching else "no watcher tries it again"
    )  # fmt: skip


def test_failures_of_slices_and_templates(make_config):
    config = make_config()
    finished_slice(config)
    layout = project_layout(config)
    flag_path(layout, slice_place(1), "registered").unlink()
    flag_path(layout, tilemap_place("normal"), "solved").unlink()
    failed(config, slice_place(1), state="registered", stage="register_slice")
    failed(config, mosaic_place(1), flag="tilemap-normal.solved", stage="solve_coordinates")
    found = {f.where: f for f in report_of(config).failures}
    assert found["slice 01"].command == "optic-trigger retry --slice 1"
    assert found["mosaic 001"].stage == "solve_coordinates"
    assert found["mosaic 001"].command == "optic-trigger retry --mosaic 1"


def test_what_succeeded_since_or_runs_again_is_no_failure(make_config):
    config = make_config()
    processed(config, 1, 1)
    failed(config, batch_place(1, 1))
    assert report_of(config).failures == ()
    ready(config, 1, 2)
    failed(config, batch_place(1, 2))
    with working(config, batch_place(1, 2), "processed"):
        assert report_of(config).failures == ()
    assert len(report_of(config).failures) == 1


def test_failed_pictures_are_failures_of_processed_batches(make_config):
    config = make_config()
    processed(config, 1, 1)
    place = batch_place(1, 1)
    flag_path(project_layout(config), place, "qc").unlink()
    failed(config, place, state="qc", stage="qc_tiles")
    report = report_of(config)
    assert mosaic_of(report, 1).batches[1] == "done"
    assert [f.stage for f in report.failures] == ["qc_tiles"]


def test_a_damaged_record_is_a_failure(make_config):
    config = make_config()
    ready(config, 1, 1)
    failed(config, batch_place(1, 1)).write_text("{torn")
    (failure,) = report_of(config).failures
    assert "cannot be read" in failure.error
    assert failure.command == "optic-trigger retry --mosaic 1 --batch 1"
    assert mosaic_of(report_of(config), 1).batches[1] == "failed"


def test_changed_raw_files_of_finished_batches(make_config):
    config = make_config()
    finished_slice(config)
    put(config, batch_place(2, 1), "stale")
    report = report_of(config)
    assert report.failures[0].command == ("optic-trigger redo --from scan --mosaic 2 --batch 1")
    assert "its results are kept" in text_of(config)
    assert report.next.startswith("optic-trigger redo --from scan --mosaic 2 --batch 1")


def test_marked_by_hand(make_config):
    config = make_config()
    put(config, batch_place(1, 1), "failed", stage="mark", kind="operator", error="marked by hand")
    (failure,) = report_of(config).failures
    assert (failure.kind, failure.is_set_aside, failure.max_attempts) == ("operator", True, None)
    assert "marked by hand" in text_of(config)


def test_warnings_of_every_level(make_config):
    config = make_config()
    finished_slice(config)
    put(config, mosaic_place(2), "stitched", stage="stitch_enface", warnings=["the mask is empty"])
    put(config, batch_place(1, 2), "qc", stage="qc_tiles", warnings=["image 0003 is dark", "b"])
    put(config, tilemap_place("normal"), "solved", template_slice=1, warnings=["one tile is loose"])
    assert report_of(config).warnings == (
        "normal tilemap: one tile is loose",
        "mosaic 001 batch 002: image 0003 is dark",
        "mosaic 001 batch 002: b",
        "mosaic 002: the mask is empty",
    )


def test_the_word_alone_is_no_warning(make_config):
    config = make_config()
    processed(config, 1, 1)
    put(config, batch_place(1, 1), "qc", note='said "warnings" once')
    flag_path(project_layout(config), batch_place(1, 1), "complex").write_text('{"warnings" torn')
    assert report_of(config).warnings == ()


def test_tiles_that_a_mosaic_is_made_without(make_config):
    config = make_config()
    processed(config, 1, 1)
    ready(config, 1, 2, lacking=[4])
    put(config, batch_place(1, 2), "processed", stage="process_tiles", lacking=[4])
    put(config, mosaic_place(1), "closed", stage="close", missing=[4])
    mosaic = mosaic_of(report_of(config), 1)
    assert (mosaic.tiles_done, mosaic.tiles_total, mosaic.percent) == (3, 4, 75)
    assert (mosaic.missing_tiles, mosaic.is_closed) == ((4,), True)
    assert "closed without 1 tiles (4)" in text_of(config)


def test_a_batch_closed_away(make_config):
    config = make_config()
    processed(config, 1, 1)
    put(config, mosaic_place(1), "closed", stage="close", missing=[3, 4])
    mosaic = mosaic_of(report_of(config), 1)
    assert mosaic.batches == {1: "done", 2: "absent"}
    assert "[#-]" in text_of(config)


def test_without_an_archive_raw_is_kept(make_config):
    config = make_config()
    finished_slice(config)
    for batch in (1, 2):  # of a time when there was one
        put(config, batch_place(1, batch), "archived")
    raw = mosaic_of(report_of(config), 1).raw
    assert (raw.safe_to_delete, raw.reason) == (False, "keep raw: no archive")
    assert "safe to delete raw: no (keep raw: no archive)" in text_of(config)


@pytest.mark.parametrize(
    ("acquisition", "reason"),
    [
        ({"acquisition__tile_saving_type": "complex"}, "keep raw: complex/ holds links to it"),
        (
            {
                "acquisition__tile_saving_type": "complex",
                "processing__complex": "discard",
            },
            "all 2 batches archived and processed",
        ),
        (
            {
                "acquisition__tile_saving_type": "complex_with_spectral",
                "processing__complex": "discard",
            },
            "all 2 batches archived (spectra, not complex tiles) and processed",
        ),
        (
            {"acquisition__tile_saving_type": "processed_with_spectral"},
            "keep raw: processed/ holds links to it",
        ),
    ],
)
def test_raw_that_is_linked_to_is_kept(make_config, acquisition, reason):
    config = make_config(archive__dir="archive", **acquisition)
    finished_slice(config)
    for batch in (1, 2):
        put(config, batch_place(1, batch), "archived")
    raw = mosaic_of(report_of(config), 1).raw
    assert (raw.safe_to_delete, raw.reason) == (reason.startswith("all"), reason)


def test_raw_is_kept_while_the_archive_is_away(make_config):
    config = make_config(archive__dir="archive")
    finished_slice(config)
    for batch in (1, 2):
        put(config, batch_place(1, batch), "archived")
    folder = archive_folder(config, project_layout(config))
    folder.open("p")
    assert mosaic_of(report_of(config), 1).raw.safe_to_delete
    (folder.path / MARKER).unlink()
    raw = mosaic_of(report_of(config), 1).raw
    assert (raw.safe_to_delete, raw.reason) == (False, "keep raw: the archive is not there now")


def test_raw_may_go_only_when_all_of_it_is_archived(make_config):
    config = make_config(archive__dir="archive")
    finished_slice(config)

    def raw():
        return mosaic_of(report_of(config), 1).raw

    assert (raw().safe_to_delete, raw().reason) == (False, "keep raw: 0 of 2 batches archived")
    layout = project_layout(config)
    archived = [flag_path(layout, batch_place(1, batch), "archived") for batch in (1, 2)]
    archived[0].write_text("{}")
    assert raw().reason == "keep raw: 1 of 2 batches archived"
    archived[1].write_text("{}")
    assert raw().safe_to_delete
    put(config, batch_place(1, 2), "stale")
    assert (raw().safe_to_delete, "batch 002 have changed" in raw().reason) == (False, True)
    flag_path(layout, batch_place(1, 2), "stale").unlink()
    flag_path(layout, batch_place(1, 2), "processed").unlink()
    assert raw().reason == "keep raw: 1 of 2 batches processed"


def test_watcher_pause_and_holds(make_config):
    config = make_config()
    processed(config, 1, 1)
    now_s = time.monotonic()
    snapshot = {
        "holds": ["disk space: 3 GB are free"],
        "queued": ["a"],
        "waiting": [{"goal": "g", "reason": "process_tiles failed 2 times", "until": now_s + 90}],
        "drivers": [{"id": "d", "pid": 7, "goals": ["x"], "since": now_s - 5}],
    }
    with watched(config, **snapshot):
        report = report_of(config)
        text = text_of(config)
        assert report.watcher.running
        assert report.watcher.pid == os.getpid()
        assert "HOLD     disk space: 3 GB are free" in text
        assert report.next == "nothing to type: work goes on when the hold above is gone"
        assert report.watcher.waiting[0].in_s == pytest.approx(90, abs=5)
        assert report.watcher.drivers[0].for_s == pytest.approx(5, abs=5)
        pause(project_layout(config), "moving the disk")
        assert ": moving the disk; nothing is started: optic-trigger resume" in text_of(config)
        assert report_of(config).next == "optic-trigger resume"
    report = report_of(config)
    assert not report.watcher.running
    assert report.watcher.paused["reason"] == "moving the disk"


def test_goals_held_back_without_a_failure(make_config):
    config = make_config()
    ready(config, 1, 1)
    failed(config, batch_place(1, 1))
    waiting = [
        {"goal": "mosaic-01/state/batch-001.processed", "reason": "process_tiles failed 1 times"},
        {"goal": "mosaic-02/state/batch-001.processed", "reason": "snakemake ended with 1",
         "until": time.monotonic() + 30},
        {"goal": "report/mosaic-01.jpg", "reason": "snakemake ended with 1"},
    ]  # fmt: skip
    with watched(config, waiting=waiting):
        held = [line for line in text_of(config).splitlines() if line.startswith("HELD")]
    assert held == [
        "HELD     mosaic-02/state/batch-001.processed: snakemake ended with 1; next try in 30 s",
        "HELD     report/mosaic-01.jpg: snakemake ended with 1",
    ]


def test_flags_that_cannot_be_read(make_config):
    config = make_config()
    processed(config, 1, 1)
    path = flag_path(project_layout(config), batch_place(1, 1), "qc")
    path.unlink()
    path.mkdir()  # root can read every file, but no folder
    (warning,) = report_of(config).warnings
    assert f"{path} cannot be read" in warning


def test_a_watcher_on_another_host(make_config):
    config = make_config()
    lock = project_layout(config).watcher_lock
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "elsewhere", "boot_id": "b", "pid": 12}))
    report = report_of(config)
    assert (report.watcher.running, report.watcher.known, report.watcher.host) == (
        True, False, "elsewhere",
    )  # fmt: skip
    assert "process 12 on elsewhere; what it sees is known on that host only" in text_of(config)


def test_without_registration_a_slice_is_done_with_its_mosaics(make_config):
    config = make_config(registration__enabled=False)
    finished_slice(config)
    flag_path(project_layout(config), slice_place(1), "registered").unlink()
    assert report_of(config).slices[0].status == "done"


def test_finished_work_is_not_parsed(make_config, monkeypatch):
    """What status costs must not explode with history: flags are listed, not parsed."""
    config = make_config()
    parsed = []

    def validate(content, original=Flag.model_validate):
        parsed.append(content)
        return original(content)

    monkeypatch.setattr(Flag, "model_validate", staticmethod(validate))
    counts = []
    for slice_ in range(1, 5):
        finished_slice(config, slice_)
        parsed.clear()
        report_of(config)
        counts.append(len(parsed))
    assert counts[0] == counts[-1] <= 4


def test_a_light_sheet_project(make_config):
    config = make_config(project__pipeline="lsm", lsm__strips_per_slice=3)
    assert report_of(config).next == "optic-trigger watch"
    for strip in (1, 2):
        enter = strip_place(1, 1, strip)
        path = lsm_flag_path(project_layout(config), enter, "ready")
        write_flag(path, a_flag(path.name))
    record = lsm_flag_path(project_layout(config), strip_place(1, 1, 3), "failed")
    write_flag(record, a_flag(record.name, error="Run3 holds a truncated file", kind="data"))
    report = report_of(config)
    assert report.channels == (ChannelProgress("slice 01 channel 01", 2, 0, 3),)
    assert report.failures[0].where == "slice 01 channel 01 strip 0003"
    text = text_of(config)
    assert "slice 01 channel 01  2 of 3 strips ready, 0 compressed" in text
    assert "Run3 holds a truncated file" in text
    with watched(config):
        assert report_of(config).next == "mend the folders that the failures name"
    record.write_text("{torn")
    assert "cannot be read" in text_of(config)


def a_flag(name, **extra):
    at = now()
    return Flag(flag=name, project="p", stage="watch", started=at, finished=at, duration_s=0,
                extra=extra)  # fmt: skip
