import os
import time

import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.plan import project_layout
from opticstream_smk.report.explain import explain, explain_lines
from opticstream_smk.state.places import (
    batch_place,
    flag_path,
    mosaic_place,
    slice_place,
    tilemap_place,
)
from opticstream_smk.trigger.control import pause
from opticstream_smk.trigger.ready import scan
from tests.report.flags import failed, finished_slice, processed, put, ready, watched, working

GOAL = "mosaic-01/state/batch-002.processed"


def steps_of(explanation):
    return {step.name: step for step in explanation.steps}


def tell(config, **ids):
    explanation = explain(config, **ids)
    return steps_of(explanation), explanation.next, "\n".join(explain_lines(explanation))


def tracked(batch, note="", unchanged_s=4.0, quiet_s=15):
    since = None if unchanged_s is None else time.monotonic() - unchanged_s
    where = f"mosaic 001 batch {batch:03d}"
    return {"where": where, "unchanged_since": since, "quiet_s": quiet_s,
            "note": f"{where}: {note}" if note else ""}  # fmt: skip


def test_an_incomplete_batch_as_the_watcher_sees_it(make_config):
    config = make_config()
    with watched(config, tracked=[tracked(2, "1 of 2 tiles, missing 4")]):
        steps, next_, text = tell(config, mosaic=1, batch=2)
    assert steps["raw"].text == "1 of 2 tiles, missing 4; stable for 4 s of 15"
    assert steps["ready"].state == "pending"
    assert next_ == "nothing to do: it moves by itself"
    assert "mosaic 001 batch 002  (slice 1, normal, tiles 3 to 4)" in text


def test_a_batch_that_settles_and_one_that_changes(make_config):
    config = make_config()
    with watched(config, tracked=[tracked(1), tracked(2, unchanged_s=None)]):
        settling, _, _ = tell(config, mosaic=1, batch=1)
        changing, _, _ = tell(config, mosaic=1, batch=2)
    assert settling["raw"].text == "all tiles are there; stable for 4 s of 15"
    assert "still changing" in changing["raw"].text


def test_tiles_that_do_not_come(make_config):
    config = make_config()
    late = tracked(2, "0 of 2 tiles, missing 3, 4", unchanged_s=901, quiet_s=900)
    with watched(config, tracked=[late]):
        _, next_, _ = tell(config, mosaic=1, batch=2)
        assert next_.startswith("optic-trigger close --mosaic 1 --missing 3,4 ")
        assert tell(config, mosaic=1)[1] == next_


def test_without_a_watcher_the_folders_are_looked_at(make_config, write_raw):
    config = make_config()
    paths = write_raw(config, 1, [3])
    long_ago = time.time() - 40
    os.utime(paths[0], (long_ago, long_ago))
    steps, next_, text = tell(config, mosaic=1, batch=2)
    assert steps["raw"].text == (
        "1 of 2 tiles, missing 4; the newest was written 40 s ago; no watcher is running"
    )
    assert next_ == "optic-trigger watch"
    assert text.endswith("next: optic-trigger watch")
    write_raw(config, 1, [4], size=5000)
    steps, _, _ = tell(config, mosaic=1, batch=2)
    assert steps["raw"].state == "failed"
    assert "has 5000 bytes, expected" in steps["raw"].details[0]
    twin = paths[0].with_name("mosaic_001_image_0003_spectral_0777.nii")
    twin.write_bytes(paths[0].read_bytes())
    assert any(
        "is there twice" in line for line in tell(config, mosaic=1, batch=2)[0]["raw"].details
    )


def test_a_source_folder_that_is_away(make_config):
    config = make_config()
    config.acquisition.sources[0].dir.rmdir()
    steps, _, _ = tell(config, mosaic=1, batch=1)
    assert steps["raw"].state == "failed"
    assert str(config.acquisition.sources[0].dir) in steps["raw"].details[0]


def test_raw_problems_that_the_watcher_recorded(make_config):
    config = make_config()
    failed(config, batch_place(1, 2), flag="batch-002.ready", stage="watch", wait_s=None,
           error="image 0003 of mosaic 001 is there twice")  # fmt: skip
    with watched(config, tracked=[tracked(2, "image 0003 of mosaic 001 is there twice")]):
        steps, next_, _ = tell(config, mosaic=1, batch=2)
    assert steps["raw"].state == "failed"
    assert "is there twice" in steps["raw"].text
    assert next_.startswith("nothing: the watcher takes the raw files")


def test_from_the_queue_to_the_result(make_config):
    config = make_config()
    ready(config, 1, 2, stage="watch")
    with watched(config, queued=[GOAL]):
        steps, next_, _ = tell(config, mosaic=1, batch=2)
        assert steps["raw"].text == "2 of 2 tiles"
        assert steps["ready"].text.endswith("by watch")
        assert steps["process_tiles"].text == "queued: starts when a snakemake run is free"
        assert next_ == "nothing to do: it moves by itself"
    driver = {"id": "d7", "pid": 1, "goals": [GOAL], "since": time.monotonic() - 5}
    with watched(config, drivers=[driver]):
        assert tell(config, mosaic=1, batch=2)[0]["process_tiles"].text == (
            "asked for by snakemake run d7, 5 s ago"
        )
    waiting = {"goal": GOAL, "reason": "snakemake ended with 1", "until": time.monotonic() + 60}
    with watched(config, waiting=[waiting]):
        assert tell(config, mosaic=1, batch=2)[0]["process_tiles"].text == (
            "snakemake ended with 1; retry in 60 s"
        )
    put(config, batch_place(1, 2), "started", stage="convert_complex", attempt=2)
    with watched(config), working(config, batch_place(1, 2), "complex"):
        step = tell(config, mosaic=1, batch=2)[0]["convert_complex"]
        assert step.state == "running"
        assert f"process {os.getpid()} on " in step.text
        assert step.text.endswith("attempt 2")
    assert tell(config, mosaic=1, batch=2)[1] == "snakemake --profile zircon"
    processed(config, 1, 2)
    step = tell(config, mosaic=1, batch=2)[0]["process_tiles"]
    assert step.state == "done"
    assert " in 12.3 s on " in step.text


def test_a_failure_with_its_error_and_log(make_config):
    config = make_config()
    ready(config, 1, 2)
    failed(config, batch_place(1, 2), attempts=2, error="first line\nsecond line")
    log = project_layout(config).root / "logs/process_tiles/mosaic-01_batch-002.log"
    log.parent.mkdir(parents=True)
    log.write_text("")
    with watched(config):
        steps, next_, text = tell(config, mosaic=1, batch=2)
    step = steps["process_tiles"]
    assert step.text == "failed (data), attempt 2 of 3, next try in 4 min"
    assert step.details == ("first line", "second line", f"log: {log}")
    assert next_ == "nothing to do: it moves by itself"
    assert "second line" in text
    failed(config, batch_place(1, 2), attempts=3, wait_s=None)
    with watched(config):
        assert tell(config, mosaic=1, batch=2)[1].startswith(
            "optic-trigger retry --mosaic 1 --batch 2 "
        )
        # It stands in the way of its mosaic and slice, too.
        assert tell(config, mosaic=1)[1] == tell(config, slice_=1)[1]
        assert tell(config, slice_=1)[1].startswith("optic-trigger retry --mosaic 1 --batch 2 ")


def test_a_mosaic_says_which_batches_it_lacks(make_config):
    config = make_config(acquisition__grid_size_x_normal=4)
    processed(config, 1, 1)
    ready(config, 1, 2)
    failed(config, batch_place(1, 2))
    ready(config, 1, 3)
    with watched(config, tracked=[tracked(4, "1 of 2 tiles, missing 8")]):
        steps, _, _ = tell(config, mosaic=1)
    assert steps["raw"].text == "3 of 4 batches ready"
    assert steps["raw"].details == ("batch 4: 1 of 2 tiles, missing 8; stable for 4 s of 15",)
    assert steps["process_tiles"].text == "1 of 4 batches processed"
    assert steps["process_tiles"].details[0].startswith("batch 2: process_tiles failed (data)")
    assert steps["stitch_enface"].text == (
        "mosaic 001 waits for batch 2, 3, 4: 1 of 4 batches processed"
    )
    assert "solved from mosaic 001, which waits for batch 2, 3, 4" in (
        steps["solve_coordinates normal"].text
    )
    assert steps["register_slice"].text == "slice 01 waits for mosaic 001 and 002"


def test_a_mosaic_without_template(make_config):
    config = make_config()
    ready(config, 1, 1)
    for batch in (1, 2):
        processed(config, 3, batch)
    steps, _, _ = tell(config, mosaic=3)
    assert "solved from mosaic 001" in steps["solve_coordinates normal"].text
    assert (
        steps["stitch_enface"].text == "mosaic 003 waits for the coordinates of the normal template"
    )
    failed(config, mosaic_place(1), flag="tilemap-normal.solved", stage="solve_coordinates",
           wait_s=None, error="no overlap fits")  # fmt: skip
    steps, next_, _ = tell(config, mosaic=3)
    assert steps["solve_coordinates normal"].details[0] == "no overlap fits"
    assert next_.startswith("optic-trigger retry --mosaic 1 ")


def test_a_slice_says_which_mosaics_it_lacks(make_config):
    config = make_config()
    finished_slice(config)
    steps, next_, _ = tell(config, slice_=1)
    assert [step.state for step in steps.values()] == ["done", "done", "done"]
    assert next_ == "nothing to do: it is done"
    layout = project_layout(config)
    flag_path(layout, slice_place(1), "registered").unlink()
    flag_path(layout, mosaic_place(2), "stitched").unlink()
    steps, next_, _ = tell(config, slice_=1)
    assert steps["mosaic 002 tilted"].state == "pending"
    assert steps["register_slice"].text == "slice 01 waits for mosaic 002"
    assert next_ == "snakemake --profile zircon"


def test_pause_and_holds(make_config):
    config = make_config()
    ready(config, 1, 1)
    with watched(config, holds=["disk space: 3 GB are free"]):
        assert "disk space: 3 GB" in tell(config, mosaic=1, batch=1)[1]
        pause(project_layout(config), "tests")
        assert tell(config, mosaic=1, batch=1)[1].startswith("optic-trigger resume ")
    assert tell(config, mosaic=1, batch=1)[1] == "snakemake --profile zircon"


def test_changed_raw_files(make_config):
    config = make_config()
    finished_slice(config)
    put(config, batch_place(1, 1), "stale")
    steps, next_, _ = tell(config, mosaic=1, batch=1)
    assert steps["raw"].state == "failed"
    assert next_.startswith("optic-trigger redo --from scan --mosaic 1 --batch 1")


def test_a_batch_closed_away(make_config):
    config = make_config()
    processed(config, 1, 1)
    put(config, mosaic_place(1), "closed", stage="close", missing=[3, 4])
    steps, _, _ = tell(config, mosaic=1, batch=2)
    assert steps["raw"].text == "none of its tiles will come: the mosaic was closed so"
    assert "closed without tiles 3, 4" in tell(config, mosaic=1)[0]["raw"].text


def test_damaged_flags_are_told(make_config):
    config = make_config()
    finished_slice(config)
    layout = project_layout(config)
    flag_path(layout, batch_place(1, 1), "qc").write_text("{torn")
    flag_path(layout, batch_place(1, 1), "ready").write_text("{torn")
    steps, _, _ = tell(config, mosaic=1, batch=1)
    assert "doctor --fix" in steps["qc_tiles"].text
    assert steps["ready"].state == "failed"
    assert steps["process_tiles"].state == "done"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"mosaic": 1, "batch": 3}, r"batches 1 to 2 \(its grid is 2 x 2 tiles\)"),
        ({"mosaic": 1, "batch": 0}, "batches 1 to 2"),
        ({"mosaic": 99}, "mosaic 099 is unknown.*normal 2 x 2, tilted 2 x 2"),
        ({"slice_": 7}, "slice 07 is unknown"),
        ({"batch": 1}, "--batch needs --mosaic"),
        ({}, "name what to explain"),
        ({"slice_": 2, "mosaic": 1}, "mosaic 1 is of slice 1"),
    ],
)
def test_ids_that_name_nothing(make_config, ids, message):
    config = make_config()
    ready(config, 1, 1)
    with pytest.raises(ConfigError, match=message):
        explain(config, **ids)


def test_what_may_be_acquired_next_is_known(make_config, write_raw):
    config = make_config()
    ready(config, 1, 1)
    steps, _, _ = tell(config, mosaic=3)
    assert "0 of 2 batches ready" in steps["raw"].text
    write_raw(config, 9, [1])  # slice 5 is in the source folder already
    assert tell(config, mosaic=10)[0]["raw"].state == "waiting"


def test_after_scan_it_is_the_turn_of_snakemake(make_config, write_raw):
    config = make_config()
    write_raw(config, 1, [1, 2])
    scan(config, assume_stable=True)
    steps, next_, _ = tell(config, mosaic=1, batch=1)
    assert steps["ready"].text.endswith("by scan")
    assert next_ == "snakemake --profile zircon"


def test_it_is_plain_data(make_config):
    config = make_config()
    finished_slice(config)
    plain = explain(config, mosaic=1, batch=1).as_json()
    assert [step["name"] for step in plain["steps"]][:3] == ["raw", "ready", "convert_complex"]
    assert isinstance(plain["at"], str)
    assert flag_path(project_layout(config), tilemap_place("normal"), "solved").exists()
