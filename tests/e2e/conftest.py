"""One finished synthetic project for the whole run; tests work on copies made of hard links."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Project:
    """A project folder with its configuration, driven by the real commands."""

    root: Path
    raw: Path
    overrides: dict = field(default_factory=dict)

    def __post_init__(self):
        values = yaml.safe_load((REPO / "config/demo.yaml").read_text())
        values["project"] = {"name": "e2e", "dir": "project"}
        values["acquisition"] |= {
            "sources": [{"dir": str(self.raw)}],
            "calibration_file": str(self.raw / "wave-pixel.mat"),
            "dispersion_file": str(self.raw / "dispersion.bin"),
        }
        # Volumes have a test of their own.
        values["volume"] = {"enabled": False}
        # Tests that run side by side must not wait for each other.
        values["run"] = {"token_dir": "tokens"}
        for key, value in self.overrides.items():
            section, _, name = key.partition("__")
            values.setdefault(section, {})[name] = value
        self.root.mkdir(parents=True, exist_ok=True)
        self.config = self.root / "project.yaml"
        self.config.write_text(yaml.safe_dump(values))
        self.dir = self.root / "project"

    def run(self, *command, check=True):
        done = subprocess.run(
            [str(word) for word in command],
            cwd=REPO,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def trigger(self, command, *options, check=True):
        return self.run(
            "optic-trigger", *command.split(), "--config", self.config, *options, check=check
        )

    def stage(self, name, *options, check=True):
        return self.run("optic-stage", name, "--config", self.config, *options, check=check)

    def snakemake(self, *options, check=True):
        return self.run(
            "snakemake", "--profile", "zircon", "--configfile", self.config, *options, check=check
        )

    def planned(self):
        """Jobs that a run would do now: rule and the ids of its flag."""
        done = self.snakemake("-n", "--quiet", "host", "progress")
        jobs, rule = set(), None
        for line in done.stdout.splitlines() + done.stderr.splitlines():
            if line.startswith(("rule ", "localrule ")):
                rule = line.split()[1].rstrip(":")
            elif line.strip().startswith("output:") and rule:
                jobs.add((rule, line.split("output:")[1].split(",")[0].strip()))
                rule = None
        return jobs

    def copy(self, root):
        """A project of its own whose files are links to this one's."""
        other = Project(root, self.raw, self.overrides)
        shutil.copytree(self.dir, other.dir, copy_function=os.link, symlinks=True)
        return other


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Raw tiles of two slices, as the demo simulates them."""
    project = Project(tmp_path_factory.mktemp("simulated"), tmp_path_factory.mktemp("raw"))
    project.trigger("simulate psoct", "--out", project.raw, "--slices", 2, "--workers", 2)
    return project.raw


@pytest.fixture(scope="session")
def finished_session(raw, tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("finished"), raw)
    project.trigger("scan", "--assume-stable")
    project.snakemake()
    return project


@pytest.fixture
def finished(finished_session, tmp_path):
    """A finished project that a test may damage."""
    return finished_session.copy(tmp_path / "a copy")
