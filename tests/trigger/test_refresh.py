import logging
import time
from pathlib import Path

import psutil
import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.trigger import refresh
from opticstream_smk.trigger.refresh import command_hook, find_refresh, register_refresh_hook


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(refresh, "_hooks", dict(refresh._hooks))


@pytest.mark.parametrize("name", [None, "", "  ", "none", " None "])
def test_nothing_to_do(name, caplog):
    caplog.set_level(logging.INFO)
    chosen = find_refresh(name)
    assert not chosen
    assert chosen.run()
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["sas", "sas2", "SAS3", " sas2 "])
def test_built_in_hooks_unmount_and_mount(name, monkeypatch):
    commands = []
    monkeypatch.setattr(refresh, "_run_command", lambda words, _limit: commands.append(words))
    chosen = find_refresh(name)
    assert chosen.run()
    key = name.strip().lower()
    assert chosen.name == key
    assert commands == [
        ("bash", f"/usr/etc/{key}_unmount"),
        ("bash", f"/usr/etc/{key}_mount"),
    ]


def test_an_unknown_name_lists_all():
    configured = {"Lab": (("true",),)}
    with pytest.raises(ValueError, match=r"'sas9' is not known; there are none, lab, sas, sas2, s"):
        find_refresh("sas9", configured)
    with pytest.raises(ConfigError):
        find_refresh("sas9")


def test_hooks_of_the_configuration(tmp_path):
    configured = {" Lab ": (("touch", f"{tmp_path}/a b"), ("touch", f"{tmp_path}/second"))}
    assert find_refresh("lab", configured).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "second"]


def test_the_configuration_may_replace_a_built_in_hook(tmp_path):
    assert find_refresh("sas2", {"sas2": (("touch", str(tmp_path / "own")),)}).run()
    assert (tmp_path / "own").exists()


def test_a_script_that_is_missing_is_a_warning(caplog):
    # No test host has these scripts.
    assert not Path("/usr/etc/sas3_unmount").exists()
    assert not find_refresh("sas3").run()
    assert "refresh sas3 failed" in caplog.text
    assert "`bash /usr/etc/sas3_unmount` ended with 127" in caplog.text
    assert "No such file" in caplog.text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("sh", "-c", "echo target is busy >&2; exit 32"), "ended with 32: target is busy"),
        (("false",), "ended with 1: it said nothing"),
        (("/no/such/program",), "/no/such/program"),
    ],
)
def test_what_fails_is_a_warning_and_ends_the_hook(caplog, tmp_path, command, message):
    configured = {"lab": (command, ("touch", str(tmp_path / "after")))}
    assert not find_refresh("lab", configured).run()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert message in caplog.text
    assert not (tmp_path / "after").exists()


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(caplog, tmp_path):
    # The inner shell has the output of the outer one and would keep a pipe to us open.
    script = f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & wait"
    hook = command_hook([("sh", "-c", script)], timeout_s=0.4)
    register_refresh_hook("slow", hook)
    started = time.monotonic()
    assert not find_refresh("slow").run()
    assert time.monotonic() - started < 5
    assert "took longer than 0.4 s" in caplog.text
    inner = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(inner) and psutil.Process(inner).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_own_hooks_are_registered_once():
    calls = []
    register_refresh_hook(" Mine ", lambda: calls.append(1))
    assert find_refresh("mine").run()
    for taken in ("MINE", "sas", "none"):
        with pytest.raises(ValueError, match="overwrite=True"):
            register_refresh_hook(taken, lambda: None)
    register_refresh_hook("mine", lambda: calls.append(2), overwrite=True)
    assert find_refresh("mine").run()
    assert calls == [1, 2]
    with pytest.raises(ValueError, match="needs a name"):
        register_refresh_hook(" ", lambda: None)


def test_a_hook_with_a_defect_does_not_end_the_watcher(caplog):
    def broken():
        raise ZeroDivisionError

    register_refresh_hook("broken", broken)
    assert not find_refresh("broken").run()
    assert "refresh broken failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
