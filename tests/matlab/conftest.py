"""A small acquisition, and projects whose tiles psoct-toolbox computes: Octave, or a fake."""

import json
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from opticstream_smk.config import load_config
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.stages import find_stage
from opticstream_smk.stages.stage import run_stage
from opticstream_smk.state.places import batch_place
from opticstream_smk.trigger.ready import scan as enter_batches
from tests.e2e.conftest import Project
from tests.requirements import require

HERE = Path(__file__).parent
SMALL = {
    "acquisition__grid_size_x_normal": 1,
    "acquisition__grid_size_x_tilted": 1,
    "acquisition__grid_size_y": 3,
    "acquisition__tile_size_x_normal": 12,
    "acquisition__tile_size_x_tilted": 10,
    "acquisition__tile_size_y": 8,
    "watch__min_file_bytes": 1000,
    "watch__stability_s": 0,
    "processing__complex": "discard",
    "processing__tile_qc": False,
}
MAPS = ("aip", "mip", "ret", "ori", "biref")
PRODUCTS = ("dBI", "R3D", "O3D", "surf", *MAPS)
OCTAVE = ["octave-cli", "--no-gui", "--quiet", "--norc", "--eval", "{command}"]


class MatlabProject(Project):
    """A project of one mosaic with one batch of three tiles."""

    def process(self, *, check=True, name="process_tiles"):
        """Run the stage as snakemake does."""
        return self.stage(name, "--mosaic", 1, "--batch", 1, check=check)

    def attempt(self):
        """Run the stage in this process; returns the error that it ends with."""
        try:
            run_stage(find_stage("process_tiles"), load_config(self.config), batch_place(1, 1))
        except OpticStreamError as error:
            return error
        return None

    def product(self, image, name):
        return self.dir / f"mosaic-01/processed/mosaic_001_image_{image:04d}_{name}.nii"

    def array(self, image, name):
        return np.asarray(nibabel.load(self.product(image, name)).dataobj)

    def flag(self, state):
        return json.loads((self.dir / f"mosaic-01/state/batch-001.{state}").read_text())

    def kept(self):
        """Images whose receipts are there."""
        receipts = self.dir / "mosaic-01/processed/.receipts"
        return sorted(int(path.stem[-4:]) for path in receipts.glob("*.json"))

    def left_over(self):
        """What should not outlast a stage."""
        folder = self.dir / "mosaic-01/processed"
        return [*folder.glob(".matlab-*"), *folder.glob(".tmp-*")]


@pytest.fixture(scope="session")
def acquired(tmp_path_factory):
    """Raw tiles of one small slice; tests make links to them."""
    root = tmp_path_factory.mktemp("for matlab")
    project = Project(root, root / "raw", SMALL)
    project.trigger("simulate psoct", "--out", project.raw)
    return project.raw


@pytest.fixture
def make_project(acquired, tmp_path):
    """A project that is scanned; ``engine`` None leaves the native one."""

    def make(name="project", *, engine="matlab-batch", command=OCTAVE, scan=True, **overrides):
        root = tmp_path / name
        toolbox = root / "toolbox"
        if engine is not None:
            shutil.copytree(HERE / "toolbox", toolbox)
            shutil.copy(acquired / "wave-pixel.mat", toolbox)
            matlab = {"toolbox_dir": str(toolbox), "command": command}
            matlab.update(overrides.pop("matlab", {}))
            overrides = {"processing__engine": engine, "processing__matlab": matlab, **overrides}
        raw = root / "raw"
        shutil.copytree(acquired, raw)
        project = MatlabProject(root / "p", raw, {**SMALL, **overrides})
        if scan:
            assert not enter_batches(load_config(project.config), assume_stable=True).problems
        return project

    return make


@pytest.fixture
def octave():
    """Skip without Octave, or fail where it is required."""
    return require("octave")


@pytest.fixture(scope="session")
def good_products(tmp_path_factory):
    """Products that pass every check, as MATLAB leaves them; their names end as they should."""
    folder = tmp_path_factory.mktemp("good")
    random = np.random.default_rng(3)
    shape = (12, 8, 1000)
    volumes = {"dBI": (0, 90), "R3D": (0, 90), "O3D": (-89, 90)}
    maps = {"aip": (20, 60), "mip": (60, 90), "ret": (0, 90), "ori": (-89, 90), "biref": (0, 1e-3)}
    arrays = {n: random.uniform(*r, shape).astype(np.float32) for n, r in volumes.items()}
    for name, limits in maps.items():
        arrays[name] = random.uniform(*limits, (*shape[:2], 1)).astype(np.float32)
    arrays["surf"] = random.integers(100, 200, (*shape[:2], 1)).astype(np.float64)
    for name, array in arrays.items():
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii")
    return folder


@pytest.fixture
def fake(tmp_path, good_products):
    """Write a program that is started in place of MATLAB; returns the command that runs it.

    The program finds ``text`` (the MATLAB code), ``folder`` (where products go), ``images`` and
    ``leave(image, *names)``, which leaves good products of a tile there, or some of them.
    """

    def write(body: str, name="fake_matlab.py") -> list[str]:
        path = tmp_path / name
        path.write_text(_FAKE.format(good=str(good_products), body=body))
        return [sys.executable, str(path), "{command}"]

    return write


_FAKE = """
import os, re, shutil, sys, time
text = sys.argv[1]
(folder,) = re.findall(r"'([^']*/\\.matlab-[^']*)'", text)
(images,) = re.findall(r", (?:\\d+), \\[([\\d,]+)\\], ", text)
images = [int(image) for image in images.split(",")]

def leave(image, *names):
    for name in names or [n[:-4] for n in os.listdir({good!r})]:
        new = os.path.join(folder, f"mosaic_001_image_{{image:04d}}_{{name}}.nii")
        shutil.copy(os.path.join({good!r}, name + ".nii"), new)

{body}
"""
