"""Small acquisitions, and the checks of one project by name."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from opticstream_smk.config import load_config
from opticstream_smk.preflight import Options, Report, run_preflight
from tests.e2e.conftest import Project

SMALL = {
    "acquisition__grid_size_x_normal": 2,
    "acquisition__grid_size_x_tilted": 2,
    "acquisition__grid_size_y": 2,
    "acquisition__tile_size_x_normal": 32,
    "acquisition__tile_size_x_tilted": 28,
    "acquisition__tile_size_y": 30,
    "acquisition__samples_per_aline": 1024,
    "watch__min_file_bytes": 1000,
    "watch__stability_s": 0,
    "run__reserve_free_mb": 0,
}


@dataclass(frozen=True)
class Looked:
    """A report whose checks are asked for by the beginning of their names."""

    report: Report

    def named(self, name, verdict=None):
        return [
            check
            for check in self.report.checks
            if check.name.startswith(name) and verdict in (None, check.verdict)
        ]

    def one(self, name, verdict=None):
        (check,) = self.named(name, verdict)
        return check

    @property
    def failures(self):
        return [str(check) for check in self.report.checks if check.verdict == "FAILED"]


def preflight(project, **options):
    return Looked(run_preflight(load_config(project.config), Options(**options)))


@pytest.fixture
def no_software(monkeypatch):
    """Leave out the checks that start snakemake, which takes a second."""
    monkeypatch.setattr("opticstream_smk.preflight.check_software", lambda _profile: [])


@pytest.fixture(scope="session")
def acquired(tmp_path_factory):
    """Raw tiles of one small slice."""
    root = tmp_path_factory.mktemp("acquired")
    project = Project(root, root / "raw", SMALL)
    project.trigger("simulate psoct", "--out", project.raw)
    return project.raw


@pytest.fixture
def make_project(acquired, tmp_path):
    """A project with raw tiles of its own, which a test may damage."""

    def make(**overrides) -> Project:
        raw = tmp_path / "raw"
        shutil.copytree(acquired, raw)
        return Project(tmp_path / "configured", raw, {**SMALL, **overrides})

    return make


@pytest.fixture
def simulate(tmp_path):
    """A project with simulated tiles of another kind."""

    def make(**overrides) -> Project:
        project = Project(tmp_path / "configured", tmp_path / "raw", {**SMALL, **overrides})
        project.trigger("simulate psoct", "--out", project.raw)
        return project

    return make


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with size and modification time."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_size if path.is_file() else 0,
            path.lstat().st_mtime_ns if path.is_file() else 0,
        )
        for path in folder.rglob("*")
    }
