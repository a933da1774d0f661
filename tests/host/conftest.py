import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from opticstream_smk.config.run import RunSection


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Limits of a small host whose tokens nobody else takes."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def make(**values) -> RunSection:
        return RunSection(
            **{"token_dir": tmp_path / "tokens", "cores": 4, "memory_mb": 1000, **values}
        )

    return make


@pytest.fixture
def open_folder():
    """A folder that every user reaches, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="optic-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def somebody_else():
    """Context in which files are made and opened as another user."""
    if os.geteuid() != 0:
        pytest.skip("needs root to act as another user")

    @contextmanager
    def act(uid=65534):
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(0)

    return act


@pytest.fixture
def child():
    """Start Python code in a process; ends what is left of it."""
    started = []

    def start(code, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
