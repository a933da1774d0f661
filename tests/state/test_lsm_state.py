import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.errors import NamingError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.naming.lsm import parse_lsm_flag
from opticstream_smk.state import nodes
from opticstream_smk.state.events import read_events
from opticstream_smk.state.flags import Flag, InputFile
from opticstream_smk.state.lsm import (
    FLAGS,
    LsmProjectState,
    LsmState,
    channel_place,
    has_all_strips,
    lsm_flag_path,
    lsm_slice_place,
    strip_place,
)
from tests.state.test_flags import flag

LAYOUT = ProjectLayout(Path("/data/my block"))
ids = st.integers(1, 9999)


@pytest.fixture
def state(tmp_path):
    return LsmState(ProjectLayout(tmp_path))


EVERYTHING = [
    (strip_place(1, 1, 1), "ready"),
    (strip_place(1, 1, 1), "compressed"),
    (strip_place(1, 1, 1), "archived"),
    (strip_place(1, 1, 1), "uploaded"),
    (strip_place(1, 1, 1), "cleaned"),
    (strip_place(1, 1, 2), "compressed"),
    (channel_place(1, 1), "mip_stitched"),
    (channel_place(1, 1), "volume_stitched"),
    (channel_place(1, 1), "volume_uploaded"),
    (strip_place(1, 2, 1), "ready"),
    (channel_place(1, 2), "mip_stitched"),
    (strip_place(2, 1, 1), "ready"),
]


@pytest.fixture
def finished(state):
    with state.open_project() as project:
        for place, name in EVERYTHING:
            project.node(place).add(name, flag(flag=f"{place}.{name}"))
    return state


def present(state):
    return {entry for entry in EVERYTHING if lsm_flag_path(state.layout, *entry).exists()}


def test_names_of_the_design():
    root = LAYOUT.root
    assert LAYOUT.strip_flag(1, 1, 1, "ready") == (
        root / "slice-01/channel-01/state/strip-0001.ready"
    )
    assert LAYOUT.channel_flag(1, 2, "mip_stitched") == (
        root / "slice-01/channel-02/state/channel-02.mip_stitched"
    )
    assert FLAGS["strip"] == ("ready", "compressed", "archived", "uploaded", "cleaned")
    assert FLAGS["channel"] == ("mip_stitched", "volume_stitched", "volume_uploaded")


@given(ids, ids, ids, st.sampled_from(FLAGS["strip"]))
def test_flag_paths_tell_the_strip(slice_, channel, strip, name):
    path = lsm_flag_path(LAYOUT, strip_place(slice_, channel, strip), name)
    parsed = parse_lsm_flag(path.name)
    assert (parsed.level, parsed.id, parsed.state) == ("strip", strip, name)
    assert path.parent == LAYOUT.channel_state(slice_, channel)


def test_places_for_people():
    assert str(strip_place(1, 2, 3)) == "slice 01 channel 02 strip 0003"
    assert str(channel_place(1, 2)) == "slice 01 channel 02"
    assert str(lsm_slice_place(1)) == "slice 01"


@pytest.mark.parametrize(
    ("withdrawn", "gone"),
    [
        ((strip_place(1, 1, 1), "ready"), {0, 1, 2, 3, 4, 6, 7, 8}),
        ((strip_place(1, 1, 1), "compressed"), {1, 3, 4, 6, 7, 8}),
        ((strip_place(1, 1, 1), "archived"), {2, 4}),
        ((strip_place(1, 1, 1), "uploaded"), {3}),
        ((strip_place(1, 1, 1), "cleaned"), {4}),
        ((strip_place(1, 1, 2), "compressed"), {5, 6, 7, 8}),
        ((channel_place(1, 1), "mip_stitched"), {6, 7, 8}),
        ((channel_place(1, 1), "volume_stitched"), {7, 8}),
        ((strip_place(1, 2, 1), "ready"), {9, 10}),
    ],
)
def test_withdrawing_takes_everything_downstream(finished, withdrawn, gone):
    place, name = withdrawn
    with finished.open(place) as node:
        node.withdraw(name)
    assert present(finished) == {e for i, e in enumerate(EVERYTHING) if i not in gone}
    kept = [path for path in finished.layout.withdrawn.rglob("*") if path.is_file()]
    assert len(kept) == len(gone)


def test_withdrawn_flags_of_two_channels_keep_apart(finished):
    with finished.open_project() as project:
        for channel in (1, 2):
            project.node(strip_place(1, channel, 1)).withdraw("ready")
    names = {path.name for path in finished.layout.withdrawn.rglob("*.ready")}
    assert names == {
        "slice-01.channel-01.strip-0001.ready",
        "slice-01.channel-02.strip-0001.ready",
    }


def test_what_lies_furthest_downstream_is_withdrawn_first(finished, monkeypatch):
    order = []
    monkeypatch.setattr(nodes, "_move", lambda source, _target: order.append(source.name))
    with finished.open_strip(1, 1, 1) as node:
        node.withdraw("ready")
    assert order == [
        "channel-01.volume_uploaded",
        "channel-01.volume_stitched",
        "channel-01.mip_stitched",
        "strip-0001.cleaned",
        "strip-0001.uploaded",
        "strip-0001.archived",
        "strip-0001.compressed",
        "strip-0001.ready",
    ]


def test_a_record_that_is_replaced_stays(finished):
    with finished.open_strip(1, 1, 1) as node:
        node.add("failed", flag())
    with finished.open_strip(1, 1, 1) as node:
        node.drop("failed")
        assert not node.has("failed")
        node.add("failed", flag(stage="again"))
        assert node.get("failed").stage == "again"
    assert finished.read_strip(1, 1, 1).flags["failed"].stage == "again"
    with finished.open_strip(1, 1, 1) as node:
        node.drop("failed")
    assert not finished.read_strip(1, 1, 1).has("failed")


def test_nothing_is_saved_when_the_block_raises(finished):
    def fail():
        with finished.open_strip(1, 1, 1) as node:
            node.withdraw("ready")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert present(finished) == set(EVERYTHING)


def test_views_are_frozen_and_detached(finished):
    view = finished.read_strip(1, 1, 1)
    with pytest.raises(AttributeError):
        view.running = True
    with pytest.raises(TypeError):
        view.flags["x"] = 1
    with finished.open_strip(1, 1, 1) as node:
        node.withdraw("compressed")
    assert view.has("compressed")
    assert not finished.peek_strip(1, 1, 1).has("compressed")


def test_reading_creates_nothing(state):
    assert state.peek_strip(1, 1, 1) is None
    assert state.read_strip(1, 1, 1) is None
    assert state.peek_channel(1, 1) is None
    assert state.read_channel(1, 1) is None
    assert state.peek_slice(1) is None
    assert state.read_slice(1) is None
    assert state.read_project().children == ()
    assert state.peek_project().status == "pending"
    assert not (state.layout.root / "slice-01").exists()


def test_defaults_of_a_level_that_was_never_touched(state):
    with state.open_project() as project:
        node = project.node(strip_place(1, 1, 1))
        assert node is project.node(strip_place(1, 1, 1))
        view = node.to_view()
    assert (view.status, dict(view.flags)) == ("pending", {})
    assert not (state.layout.root / "slice-01").exists()


def test_saving_a_strip_creates_its_levels(state):
    with state.open_strip(3, 2, 7) as node:
        node.add("ready", flag())
    (channel,) = state.read_slice(3).children
    assert (channel.place.channel, channel.children[0].place.strip) == (2, 7)
    assert state.peek_project().children[0].place.slice == 3


def test_ids_are_counted_from_one(state):
    for place in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, -1)):
        with pytest.raises(NamingError), state.open_strip(*place):
            pass


def test_a_level_has_only_its_own_flags(state):
    with pytest.raises(NamingError, match="no flag 'ready'"), state.open_channel(1, 1) as node:
        node.add("ready", flag())
    with pytest.raises(NamingError, match="no flag 'ready'"), state.open_slice(1) as node:
        node.add("ready", flag())


def test_status_is_done_before_failed_before_ready(state):
    def add(name):
        with state.open_strip(1, 1, 1) as node:
            node.add(name, flag())
        return state.peek_strip(1, 1, 1).status

    assert add("ready") == "ready"
    assert add("failed") == "failed"
    assert add("compressed") == "done"


def test_a_slice_is_what_its_channels_are(state):
    def status():
        return state.peek_slice(1).status

    with state.open_project() as project:
        project.node(strip_place(1, 1, 1)).add("ready", flag())
    assert status() == "pending"  # its strip is ready, its channel has nothing yet
    with state.open_channel(1, 1) as node:
        node.add("mip_stitched", flag())
    assert status() == "done"
    with state.open_strip(1, 2, 1) as node:
        node.add("ready", flag())
    assert status() == "ready"
    with state.open_channel(1, 2) as node:
        node.add("failed", flag())
    assert status() == "failed"


def test_all_strips_of_a_channel(state):
    def complete(count):
        return has_all_strips(state.peek_channel(1, 1), count)

    for strip in (1, 3):
        with state.open_strip(1, 1, strip) as node:
            node.add("compressed", flag())
    assert complete(1)
    assert not complete(3)
    with state.open_strip(1, 1, 2) as node:
        node.add("ready", flag())
    assert not complete(3)
    with state.open_strip(1, 1, 2) as node:
        node.add("compressed", flag())
    assert complete(3)
    assert not complete(4)


@pytest.mark.parametrize(
    ("place", "gone"),
    [
        (strip_place(1, 1, 2), {5, 6, 7, 8}),
        (channel_place(1, 1), {0, 1, 2, 3, 4, 5, 6, 7, 8}),
        (lsm_slice_place(1), {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
    ],
)
def test_a_reset_tells_whether_there_was_anything(finished, place, gone):
    with finished.open_strip(1, 1, 2) as node:
        node.add("failed", flag())
    assert finished.reset(place) is True
    assert present(finished) == {e for i, e in enumerate(EVERYTHING) if i not in gone}
    assert not finished.layout.strip_flag(1, 1, 2, "failed").exists()
    assert finished.reset(place) is False


def test_files_of_other_names_are_no_strips(state):
    folder = state.layout.channel_state(1, 1)
    folder.mkdir(parents=True)
    for name in ("strip-1.ready", "strip-0000.ready", "channel-02.mip_stitched", "notes.txt"):
        (folder / name).write_text("{}")
    assert LsmProjectState(state.layout).present() == []


def test_events_have_the_names_and_the_payload_of_opticstream(state):
    ready = Flag.model_validate(
        {
            **flag(flag="strip-0003.ready", project="p").as_json(),
            "inputs": [InputFile(path="/raw/Run1_2", size=9, mtime_ns=1)],
            "extra": {"force_rerun": True},
        }
    )
    with state.open_strip(1, 2, 3) as node:
        node.add("ready", ready)
    with state.open_channel(1, 2) as node:
        node.add("mip_stitched", flag(project="p"))
    first, second = read_events(state.layout)
    assert first["event"] == "linc.opticstream.lsm.strip.ready"
    assert first["aliases"] == []
    assert first["strip_ident"] == {
        "project_name": "p",
        "slice_id": 1,
        "channel_id": 2,
        "strip_id": 3,
    }
    assert (first["strip_path"], first["force_rerun"]) == ("/raw/Run1_2", True)
    assert (first["slice_id"], first["channel_id"], first["strip_id"]) == (1, 2, 3)
    assert second["event"] == "linc.opticstream.lsm.channel.mip_stitched"
    assert second["channel_ident"] == {"project_name": "p", "slice_id": 1, "channel_id": 2}


def test_concurrent_writers_lose_nothing(state):
    def write(number):
        with state.open_strip(1, 1, number) as node:
            node.add("ready", flag())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.read_channel(1, 1).children) == 8
    assert len(read_events(state.layout)) == 8
