"""What a stage that fails records: how often in a row, and when it is tried again."""

from dataclasses import replace
from datetime import timedelta

import pytest

from opticstream_smk.errors import ConfigError, CorruptInputError, ServiceError
from opticstream_smk.plan import project_layout
from opticstream_smk.stages.stage import Outcome, Stage, run_stage
from opticstream_smk.state.flags import now, read_flag
from opticstream_smk.state.places import batch_place, flag_path, mosaic_place, tilemap_place
from tests.report.flags import failed, ready


def a_stage(error=None, *, level="batch", flag="processed"):
    def compute(_context):
        if error is not None:
            raise error
        return Outcome(inputs=(), outputs=())

    return Stage("process_tiles", level, flag, lambda *_: {}, lambda _: [], compute)


def fail(config, error, place=None, **stage):
    place = place or batch_place(1, 1)
    with pytest.raises(type(error)):
        run_stage(a_stage(error, **stage), config, place)
    record_place = place if place.level != "tilemap" else mosaic_place(1)
    return read_flag(flag_path(project_layout(config), record_place, "failed")).extra


def wait_of(extra):
    at = extra["next_try"]
    return None if at is None else type(now()).fromisoformat(at) - now()


def test_the_wait_doubles_until_it_is_set_aside(make_config):
    config = make_config()
    ready(config, 1, 1)
    expected = [timedelta(seconds=60), timedelta(seconds=120), None]
    for attempt, wait in enumerate(expected, start=1):
        extra = fail(config, CorruptInputError("bad"))
        assert (extra["attempts"], extra["kind"]) == (attempt, "data")
        found = wait_of(extra)
        if wait is None:
            assert found is None
            assert extra["quarantined"] is True
        else:
            assert wait - timedelta(seconds=5) < found <= wait
            assert "quarantined" not in extra


def test_a_file_of_the_configuration_that_cannot_be_read(make_config):
    config = make_config()
    ready(config, 1, 1)

    def params(*_):
        raise ConfigError("cannot read wave-pixel.mat; correct acquisition.calibration_file")

    stage = replace(a_stage(), params=params)
    for attempt in (1, 2):
        with pytest.raises(ConfigError):
            run_stage(stage, config, batch_place(1, 1))
        record = read_flag(flag_path(project_layout(config), batch_place(1, 1), "failed"))
        assert (record.extra["kind"], record.extra["attempts"]) == ("config", attempt)
        assert "calibration_file" in record.extra["error"]
    # What is done stays done.
    run_stage(a_stage(), config, batch_place(1, 1))
    with pytest.raises(ConfigError):
        run_stage(stage, config, batch_place(1, 1))
    layout = project_layout(config)
    assert flag_path(layout, batch_place(1, 1), "processed").exists()
    assert not flag_path(layout, batch_place(1, 1), "failed").exists()


def test_each_kind_has_its_rule(make_config):
    config = make_config(run__retry={"service": {"first_s": 7, "longest_s": 9, "attempts": 2}})
    ready(config, 1, 1)
    assert timedelta(0) < wait_of(fail(config, ServiceError("full"))) <= timedelta(seconds=7)
    assert wait_of(fail(config, ServiceError("full"))) is None
    assert fail(config, ConfigError("wrong"))["kind"] == "config"
    assert fail(config, ZeroDivisionError())["error"] == "ZeroDivisionError"


def test_success_starts_anew(make_config):
    config = make_config()
    ready(config, 1, 1)
    fail(config, CorruptInputError("bad"))
    run_stage(a_stage(), config, batch_place(1, 1))
    assert fail(config, CorruptInputError("bad"), flag="qc")["attempts"] == 1


def test_another_flag_of_the_level_starts_at_one(make_config):
    config = make_config()
    ready(config, 1, 1)
    fail(config, CorruptInputError("bad"))
    fail(config, CorruptInputError("bad"))
    assert fail(config, CorruptInputError("bad"), flag="complex")["attempts"] == 1
    assert fail(config, CorruptInputError("bad"), flag="complex")["attempts"] == 2


def test_a_template_and_its_mosaic_count_by_themselves(make_config):
    config = make_config()
    ready(config, 1, 1)
    solving = {"level": "tilemap", "flag": "solved"}
    fail(config, CorruptInputError("bad"), tilemap_place("normal"), **solving)
    extra = fail(config, CorruptInputError("bad"), tilemap_place("normal"), **solving)
    assert (extra["attempts"], extra["flag"]) == (2, "tilemap-normal.solved")
    extra = fail(config, CorruptInputError("x"), mosaic_place(1), level="mosaic", flag="stitched")
    assert extra["attempts"] == 1


def test_what_was_marked_or_found_by_others_does_not_count(make_config):
    config = make_config()
    ready(config, 1, 1)
    failed(config, batch_place(1, 1), flag="batch-001.ready", attempts=5)
    assert fail(config, CorruptInputError("bad"))["attempts"] == 1
