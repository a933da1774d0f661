"""The unit that runs the watcher as a service, and what the watcher tells systemd."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import small_values

TRIGGER = Path(sys.executable).with_name("optic-trigger")


def unit(folder, **overrides):
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "project.yaml"
    config.write_text(yaml.safe_dump(small_values(**overrides)))
    return subprocess.run(
        [TRIGGER, "systemd", "--config", config], capture_output=True, text=True, check=True
    ).stdout


def test_the_watcher_may_let_its_jobs_finish(tmp_path):
    text = unit(tmp_path / 'a "b" 100%')
    assert "Type=notify\n" in text
    assert "KillMode=mixed\n" in text
    assert "TimeoutStopSec=2h\n" in text
    assert "RestartPreventExitStatus=2\n" in text
    assert 'a \\"b\\" 100%%/project.yaml"' in text


def test_the_watchdog_is_slower_than_the_looks(tmp_path):
    assert "WatchdogSec=120\n" in unit(tmp_path)
    assert "WatchdogSec=1800\n" in unit(tmp_path, watch__poll_interval_s=600)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this host")
def test_systemd_takes_the_unit(tmp_path):
    path = tmp_path / "opticstream.service"
    path.write_text(unit(tmp_path / "with a space"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", path], capture_output=True, text=True
    )
    own = [line for line in done.stderr.splitlines() if "opticstream.service" in line]
    assert own == []


def test_systemd_hears_that_it_is_ready_and_alive(tmp_path, monkeypatch):
    unit(tmp_path)
    (tmp_path / "raw").mkdir()
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        command = ["watch", "--no-direct", "--until-idle", "1", "--poll-interval", "0.2"]
        watcher = subprocess.Popen(
            [TRIGGER, *command, "--config", tmp_path / "project.yaml"], stderr=subprocess.DEVNULL
        )
        heard = [listener.recv(100) for _ in range(3)]
        assert watcher.wait(timeout=30) == 0
    assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
