"""Machine code of the compiled loops is kept somewhere, on whatever installation."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest

from opticstream_smk import compiled

REPO = Path(__file__).resolve().parents[1]
COUNT = """
import numpy as np
from opticstream_smk.psoct import depth_kernels
lengths = np.zeros(2, np.int64)
depth_kernels.signal_lengths(np.ones((3, 1, 2), np.float32), 0, np.float32(0), lengths)
assert lengths.tolist() == [3, 3]
print(*depth_kernels.signal_lengths.stats.cache_hits.values())
"""


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Neither the package nor the home can be written."""
    monkeypatch.setattr(compiled, "_is_writable", lambda _folder: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    return tmp_path


def test_a_read_only_installation_keeps_code_in_a_folder_of_the_user(nowhere):
    compiled._keep_code_somewhere()
    folder = Path(numba.config.CACHE_DIR)
    assert folder.parent == nowhere
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    compiled._keep_code_somewhere()
    numba.config.CACHE_DIR = ""
    compiled._keep_code_somewhere()
    assert Path(numba.config.CACHE_DIR) == folder  # the next process finds it again


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to somebody else, which root can")
def test_a_folder_of_somebody_else_is_not_trusted(nowhere):
    planted = nowhere / f"opticstream-smk-kernels-{os.getuid()}"
    planted.mkdir()
    os.chown(planted, 65534, 65534)
    compiled._keep_code_somewhere()
    assert Path(numba.config.CACHE_DIR) != planted
    assert Path(numba.config.CACHE_DIR).parent == nowhere


def test_a_choice_of_the_user_stays(nowhere, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "/elsewhere")
    compiled._keep_code_somewhere()
    assert numba.config.CACHE_DIR == "/elsewhere"


def test_the_second_process_compiles_nothing(tmp_path):
    def run():
        return subprocess.run(
            [sys.executable, "-c", COUNT],
            cwd=REPO,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()

    assert run() == []
    assert run() == ["1"]
