"""A failure of the archive and one of the computation stand beside each other."""

import pytest

from opticstream_smk.errors import CorruptInputError, ServiceError
from opticstream_smk.plan import project_layout, project_state
from opticstream_smk.report.look import Look
from opticstream_smk.report.progress import project_report
from opticstream_smk.report.text import status_lines
from opticstream_smk.stages.stage import Outcome, Stage, run_stage
from opticstream_smk.state.events import read_events
from opticstream_smk.state.failures import failure_about, failures_in, is_same_work
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.places import batch_place, flag_path
from tests.report.flags import ready, working

PLACE = batch_place(1, 1)
NAMES = {"processed": "process_tiles", "qc": "qc_tiles", "archived": "archive_batch"}


class Batch:
    def __init__(self, config):
        self.config = config
        self.layout = project_layout(config)
        ready(config, 1, 1)

    def run(self, flag, error=None):
        def compute(_context):
            if error is not None:
                raise error
            return Outcome(inputs=(), outputs=())

        stage = Stage(NAMES[flag], "batch", flag, lambda *_: {}, lambda _: [], compute)
        if error is None:
            return run_stage(stage, self.config, PLACE)
        with pytest.raises(type(error)):
            run_stage(stage, self.config, PLACE)
        return None

    @property
    def record(self):
        return read_flag(flag_path(self.layout, PLACE, "failed"))

    def about(self, state):
        found = failure_about(self.record, f"batch-001.{state}")
        return None if found is None else (found.extra["error"], found.extra["attempts"])

    def failure_events(self):
        events = read_events(self.layout)
        return [event["error"] for event in events if event["event"].endswith("batch.failed")]


@pytest.fixture
def batch(make_config):
    return Batch(make_config(archive__dir="archive"))


def test_both_are_kept_and_counted_by_themselves(batch):
    for _ in range(2):
        batch.run("processed", CorruptInputError("bad tile"))
        batch.run("archived", ServiceError("disk full"))
    assert batch.about("processed") == ("bad tile", 2)
    assert batch.about("archived") == ("disk full", 2)
    assert batch.about("complex") == ("bad tile", 2)  # of the same work
    assert len(failures_in(batch.record)) == 2
    assert batch.failure_events() == ["bad tile", "disk full"] * 2


def test_three_attempts_at_bad_data_set_both_aside(batch):
    for _ in range(3):
        batch.run("processed", CorruptInputError("bad tile"))
        batch.run("archived", CorruptInputError("bad tile"))
    assert all(f.extra["quarantined"] for f in failures_in(batch.record))


@pytest.mark.parametrize(
    ("first", "second"), [("processed", "archived"), ("archived", "processed")]
)
def test_success_of_one_leaves_the_other(batch, first, second):
    batch.run(first, CorruptInputError(first))
    batch.run(second, CorruptInputError(second))
    batch.run(second)
    assert batch.about(second) is None
    assert batch.about(first) == (first, 1)
    # Nothing has failed again: no event says so.
    assert batch.failure_events() == [first, second]
    batch.run(first)
    assert batch.record is None


def test_success_without_a_failure_leaves_the_other(batch):
    batch.run("processed", CorruptInputError("bad tile"))
    before = batch.record
    batch.run("archived")
    assert batch.record == before
    batch.run("processed")
    assert batch.record is None


def test_status_and_explain_tell_both(batch):
    batch.run("archived", ServiceError("disk full"))
    batch.run("processed", CorruptInputError("bad tile"))
    look = Look(batch.config)
    assert [(f.stage, f.error) for f in look.failures()] == [
        ("process_tiles", "bad tile"),
        ("archive_batch", "disk full"),
    ]
    assert look.failure(PLACE, "batch-001.archived").error == "disk full"
    assert look.status(PLACE) == "failed"
    text = "\n".join(status_lines(project_report(look)))
    for part in (
        "in process_tiles (data), attempt 1 of 3",
        "in archive_batch (service), attempt 1",
    ):
        assert part in text


def test_an_archive_that_fails_is_no_failed_batch(batch):
    batch.run("archived", ServiceError("disk full"))
    assert Look(batch.config).status(PLACE) == "ready"
    with working(batch.config, PLACE, "archived"):
        look = Look(batch.config)
        assert look.status(PLACE) == "ready"
        assert look.failures() == []  # it is being tried again
        assert [state for _, state, _ in look.running()] == ["archived"]


def test_a_batch_that_is_entered_again_forgets_both(batch):
    batch.run("archived", ServiceError("disk full"))
    batch.run("processed", CorruptInputError("bad tile"))
    with project_state(batch.config).open(PLACE) as node:
        node.drop("failed")
    assert failures_in(batch.record) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("batch-001.processed", "batch-001.complex", True),
        ("batch-001.archived", "batch-001.archived", True),
        ("batch-001.archived", "batch-001.processed", False),
        ("mosaic-01_batch-001.jpg", "batch-001.qc", True),  # a picture is of the computation
        ("mosaic-01_batch-001.jpg", "batch-001.archived", False),
    ],
)
def test_what_belongs_together(one, other, same):
    assert is_same_work(one, other) == is_same_work(other, one) == same
