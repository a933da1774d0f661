import sys
from types import SimpleNamespace

import pytest

from opticstream_smk.cli import trigger


@pytest.fixture
def run_command(monkeypatch, capsys, caplog):
    """Run ``optic-trigger`` in this process; returns exit code, output and messages."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["optic-trigger", *map(str, words)])
        capsys.readouterr()
        caplog.clear()
        try:
            code = trigger.main()
        except SystemExit as usage:
            code = usage.code
        output = capsys.readouterr()
        return SimpleNamespace(code=code, out=output.out, err=output.err + caplog.text)

    return run
