import json
import threading

import pytest

from opticstream_smk.errors import ConfigError, NamingError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.events import append_event, read_events
from opticstream_smk.state.places import (
    batch_place,
    flag_path,
    mosaic_place,
    slice_place,
    tilemap_place,
)
from opticstream_smk.state.psoct import OctState
from tests.state.test_flags import flag


@pytest.fixture
def state(tmp_path):
    return OctState(ProjectLayout(tmp_path))


EVERYTHING = [
    (batch_place(1, 1), "ready"),
    (batch_place(1, 1), "complex"),
    (batch_place(1, 1), "processed"),
    (batch_place(1, 2), "processed"),
    (mosaic_place(1), "stitched"),
    (mosaic_place(2), "stitched"),
    (mosaic_place(3), "stitched"),
    (slice_place(1), "registered"),
    (slice_place(2), "registered"),
    (tilemap_place("normal"), "solved"),
    (mosaic_place(1), "coordinates"),
    (mosaic_place(2), "coordinates"),
    (mosaic_place(3), "coordinates"),
]


@pytest.fixture
def finished(state):
    with state.open_project() as project:
        for place, name in EVERYTHING:
            project.node(place).add(name, flag(flag=f"{place}.{name}"))
    return state


def present(state):
    return {entry for entry in EVERYTHING if flag_path(state.layout, *entry).exists()}


@pytest.mark.parametrize(
    ("withdrawn", "gone"),
    [
        ((batch_place(1, 1), "ready"), {0, 1, 2, 10, 4, 7}),
        ((batch_place(1, 1), "complex"), {1, 2, 10, 4, 7}),
        ((batch_place(1, 1), "processed"), {2, 10, 4, 7}),
        ((mosaic_place(1), "coordinates"), {10, 4, 7}),
        ((mosaic_place(1), "stitched"), {4, 7}),
        ((mosaic_place(3), "stitched"), {6, 8}),
        ((slice_place(1), "registered"), {7}),
        ((tilemap_place("normal"), "solved"), {9, 10, 12, 4, 6, 7, 8}),
    ],
)
def test_withdrawing_takes_everything_downstream(finished, withdrawn, gone):
    place, name = withdrawn
    with finished.open(place) as node:
        node.withdraw(name)
    assert present(finished) == {e for i, e in enumerate(EVERYTHING) if i not in gone}
    kept = list(finished.layout.withdrawn.rglob("*.*"))
    assert len([path for path in kept if path.is_file()]) == len(gone)


def test_downstream_goes_even_when_the_flag_itself_is_missing(finished):
    flag_path(finished.layout, mosaic_place(1), "stitched").unlink()
    with finished.open_batch(1, 1) as node:
        node.withdraw("processed")
    assert (slice_place(1), "registered") not in present(finished)


def test_nothing_is_saved_when_the_block_raises(finished):
    def fail():
        with finished.open_batch(1, 1) as node:
            node.withdraw("ready")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert present(finished) == set(EVERYTHING)


def test_views_are_frozen_and_detached(finished):
    view = finished.read_batch(1, 1)
    assert view.has("processed")
    with pytest.raises(AttributeError):
        view.running = True
    with pytest.raises(TypeError):
        view.flags["x"] = 1
    with finished.open_batch(1, 1) as node:
        node.withdraw("processed")
    assert view.has("processed")
    assert not finished.peek_batch(1, 1).has("processed")


def test_reading_creates_nothing(state):
    assert state.peek_batch(1, 1) is None
    assert state.read_mosaic(1) is None
    assert state.read_slice(4) is None
    assert state.read_project().children == ()
    assert not (state.layout.root / "mosaic-01").exists()


def test_ids_are_counted_from_one(state):
    with pytest.raises(NamingError), state.open_batch(1, 0):
        pass
    with pytest.raises(NamingError), state.open_mosaic(0):
        pass


def test_a_level_has_only_its_own_flags(state):
    with pytest.raises(NamingError, match="has no flag 'registered'"), state.open_mosaic(1) as node:
        node.add("registered", flag())


def test_status_is_done_before_failed_before_ready(state):
    def status():
        return state.peek_batch(1, 1).status

    with state.open_batch(1, 1) as node:
        node.add("ready", flag())
    assert status() == "ready"
    with state.open_batch(1, 1) as node:
        node.add("failed", flag())
    assert status() == "failed"
    with state.open_batch(1, 1) as node:
        node.add("processed", flag())
    assert status() == "done"


def test_the_project_view_is_the_whole_hierarchy(finished):
    project = finished.peek_project()
    first, second, template = project.children
    assert (first.status, second.status, template.status) == ("done", "done", "done")
    assert [mosaic.place.mosaic for mosaic in first.children] == [1, 2]
    assert [batch.place.batch for batch in first.children[0].children] == [1, 2]


def test_every_flag_is_an_event(finished):
    events = read_events(finished.layout)
    assert len(events) == len(EVERYTHING)
    processed = next(e for e in events if e["event"] == "linc.oct.batch.processed")
    assert processed["aliases"] == ["linc.opticstream.psoct.batch.enface_processed"]
    assert (processed["project_name"], processed["mosaic_id"]) == ("p", 1)


def test_torn_lines_are_ignored_and_not_continued(finished):
    log = next(finished.layout.events.glob("*.jsonl"))
    with log.open("a") as file:
        file.write('{"event": "linc.oct.batch.rea')
    append_event(finished.layout, "batch", "ready", project="p", ids={"batch": 3})
    events = read_events(finished.layout)
    assert len(events) == len(EVERYTHING) + 1
    assert json.loads(log.read_text().splitlines()[-1])["batch_id"] == 3


def test_payloads_cannot_override_the_base(state):
    with pytest.raises(ConfigError, match="override host"):
        append_event(state.layout, "batch", "ready", project="p", ids={}, payload={"host": "x"})


def test_defaults_of_a_level_that_was_never_touched(state):
    with state.open_project() as project:
        node = project.node(batch_place(1, 1))
        assert node is project.node(batch_place(1, 1))
        view = node.to_view()
    assert view.status == "pending"
    assert dict(view.flags) == {}
    assert not (state.layout.root / "mosaic-01").exists()


def test_a_failed_level_is_not_finished(state):
    with state.open_batch(1, 1) as node:
        node.add("failed", flag())
    view = state.read_batch(1, 1)
    assert (view.status, view.has("processed")) == ("failed", False)


def test_a_slice_is_opened_like_a_batch(state):
    with state.open_slice(4) as node:
        node.add("registered", flag())
    assert state.read_slice(4).status == "done"


def test_saving_a_level_creates_it(state):
    with state.open_batch(3, 2) as node:
        node.add("ready", flag())
    assert state.read_mosaic(3).children[0].has("ready")
    assert state.read_slice(2).children[0].place.mosaic == 3


def test_concurrent_writers_lose_nothing(state):

    def write(number):
        with state.open_batch(1, number) as node:
            node.add("ready", flag())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.read_mosaic(1).children) == 8
    assert len(read_events(state.layout)) == 8
