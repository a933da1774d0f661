import getpass
import json

import pytest

from opticstream_smk.errors import ServiceError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.host import host_name
from opticstream_smk.trigger.control import pause, pause_path, paused, resume


@pytest.fixture
def layout(tmp_path):
    return ProjectLayout(tmp_path / "project")


def test_pause_and_resume(layout):
    assert paused(layout) is None
    record = pause(layout, "moving the disk")
    assert paused(layout) == record
    assert record.by == f"{getpass.getuser()}@{host_name()}"
    assert str(record).endswith(f" by {record.by}: moving the disk")
    content = json.loads((layout.root / "state/control/paused.json").read_text())
    assert content == {
        "since": record.since.isoformat(), "by": record.by, "reason": "moving the disk",
    }  # fmt: skip
    assert resume(layout) is True
    assert paused(layout) is None
    assert resume(layout) is False


def test_who_paused_first_stays_on_record(layout):
    first = pause(layout, "a")
    assert pause(layout, "b") == first
    assert paused(layout).reason == "a"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"since": "x"}', '{"since": 3, "by": "", "reason": ""}', "\xff"],
)
def test_a_damaged_file_pauses_too(layout, content):
    path = pause_path(layout)
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    found = paused(layout)
    assert found.since is None
    assert str(path) in str(found)
    assert "optic-trigger resume" in str(found)
    # Pausing again mends the record.
    assert pause(layout, "really").reason == "really"
    assert paused(layout).problem == ""


def test_a_file_that_cannot_be_read_pauses_too(layout, monkeypatch):
    pause(layout)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert "Permission denied" in str(paused(layout))


def test_a_file_that_cannot_be_removed_stays(layout):
    pause_path(layout).mkdir(parents=True)
    with pytest.raises(ServiceError, match=r"paused\.json"):
        resume(layout)
    assert paused(layout) is not None


def test_a_user_without_a_name(layout, monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert pause(layout).by == f"4711@{host_name()}"
