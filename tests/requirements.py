"""Programs that some tests need and Python cannot install."""

import os
import shutil

import pytest

_PROGRAMS = {"octave": "octave-cli", "chromium": "chromium", "slurm": "sbatch"}


def require(what: str) -> str:
    """Path of a program; skips the test without it, or fails it where OPTIC_TEST_REQUIRE says."""
    path = shutil.which(_PROGRAMS[what])
    if path:
        return path
    message = f"needs {what} ({_PROGRAMS[what]} is not installed)"
    if what in os.environ.get("OPTIC_TEST_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)
