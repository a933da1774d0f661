import json
from datetime import datetime

from opticstream_smk.errors import QualityError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import project_layout, project_state
from opticstream_smk.report.event_lines import event_line, last_events, parse_event
from opticstream_smk.report.times import duration
from opticstream_smk.state.events import append_event, flag_payload, read_events
from opticstream_smk.state.flags import Flag, now
from opticstream_smk.state.places import batch_place
from tests.report.flags import failed


def an_event(**content):
    return {"event": "linc.oct.batch.processed", "time": "2026-02-03T10:00:00+00:00", **content}


def test_a_line_has_time_event_place_duration_and_stage():
    event = an_event(mosaic_id=3, batch_id=7, slice_id=2, duration_s=12.34, stage="process_tiles")
    at = datetime.fromisoformat(event["time"]).astimezone()
    assert event_line(event).split(maxsplit=2) == [
        f"{at:%Y-%m-%d}", f"{at:%H:%M:%S}",
        "batch processed   mosaic 003 batch 007      12.3 s  process_tiles",
    ]  # fmt: skip


def test_lines_of_slices_failures_jobs_and_drivers():
    assert "slice 02" in event_line(an_event(slice_id=2))
    line = event_line(an_event(mosaic_id=3, stage="x", error="first\nsecond", attempts=2))
    assert line.endswith("x (attempt 2): first (and 1 more lines)")
    job = an_event(event="linc.oct.job.failed", rule="stitch_enface", mosaic_id=1, duration_s=0.5)
    assert "job failed        mosaic 001                 0.5 s  stitch_enface" in event_line(job)
    run = an_event(event="linc.oct.driver.started", driver="20260203T100000-7-1")
    assert "driver started    20260203T100000-7-1" in event_line(run)
    assert event_line({"event": "x"})  # nothing of it is needed


def test_torn_lines_are_no_events():
    assert parse_event('{"event": "a"}') == {"event": "a"}
    assert parse_event('{"event": "a') is None
    assert parse_event("[1]") is None


def test_events_of_all_hosts_in_order_of_time(tmp_path):
    layout = ProjectLayout(tmp_path)
    layout.events.mkdir(parents=True)
    for host, times in (("a", (1, 4)), ("b", (2, 3))):
        lines = [json.dumps(an_event(time=f"2026-02-03T10:00:0{t}+00:00", stage=t)) for t in times]
        (layout.events / f"{host}.jsonl").write_text("\n".join([*lines, '{"torn']))
    assert [line[-1] for line in last_events(layout, 40)] == ["1", "2", "3", "4"]
    assert [line[-1] for line in last_events(layout, 2)] == ["3", "4"]
    assert last_events(layout, 0) == []


def test_events_of_failures_say_why(make_config):
    config = make_config()
    record = json.loads(
        failed(config, batch_place(1, 1), error=str(QualityError("dark"))).read_text()
    )
    layout = project_layout(config)
    with project_state(config).open_batch(1, 1) as node:
        node.add("failed", Flag.model_validate(record))
    (event,) = read_events(layout)
    assert (event["error"], event["kind"], event["attempts"]) == ("dark", "data", 1)
    assert last_events(layout, 1)[0].endswith("process_tiles (attempt 1): dark")


def test_other_flags_have_no_error(tmp_path):
    at = now()
    flag = Flag(flag="batch-001.qc", project="p", stage="qc_tiles", started=at, finished=at,
                duration_s=1, extra={"warnings": ["x"]})  # fmt: skip
    append_event(ProjectLayout(tmp_path), "batch", "qc", project="p", ids={"mosaic": 1},
                 payload=flag_payload(flag))  # fmt: skip
    assert "error" not in read_events(ProjectLayout(tmp_path))[0]


def test_durations():
    assert [duration(s) for s in (-3, 0, 4.4, 99, 240, 5940, 7500, 7200, 90000, 280800)] == [
        "0 s", "0 s", "4 s", "99 s", "4 min", "99 min", "2 h 5 min", "2 h", "25 h", "3 d 6 h",
    ]  # fmt: skip
