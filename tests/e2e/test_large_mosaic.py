"""A mosaic of the usual number of tiles, 22 x 16, from maps through the workflow to the truth."""

import json

import numpy as np
import pytest
from PIL import Image

from opticstream_smk.config import load_config
from opticstream_smk.io import nifti
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.simulate.compare import truth_patch
from opticstream_smk.stages.tilemap import stitched_tilemap
from tests.e2e.conftest import Project

TILE = 112
SETTINGS = {
    "acquisition__tile_saving_type": "processed",
    "acquisition__grid_size_x_normal": 22,
    "acquisition__grid_size_x_tilted": 22,
    "acquisition__grid_size_y": 16,
    "acquisition__tile_size_x_normal": TILE,
    "acquisition__tile_size_x_tilted": 64,
    "acquisition__tile_size_y": TILE,
    "acquisition__tile_overlap_percent": 20,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The normal mosaic alone: a column costs as much as one of large tiles, to start its jobs."""
    root = tmp_path_factory.mktemp("large")
    source = {"dir": str(root / "raw"), "mosaic_ranges": "1:1"}
    project = Project(root, root / "raw", SETTINGS | {"acquisition__sources": [source]})
    project.trigger("simulate psoct", "--out", project.raw)
    ready = project.trigger("scan", "--assume-stable")
    assert "22 batches newly ready, 0 ready before, 0 waiting, 0 problems" in ready.stdout
    project.snakemake()
    return project


@pytest.fixture(scope="module")
def truth(finished):
    with np.load(finished.raw / "truth.npz") as content:
        return {name: content[name] for name in content.files}


@pytest.fixture(scope="module")
def tilemap(finished):
    config = load_config(finished.config)
    return stitched_tilemap(Plan(config, project_layout(config)), 1)


def test_positions(finished, truth, tilemap):
    known = truth["positions_px"][0]
    tissue = truth["tissue"][0]
    share = np.array([tissue[y : y + TILE, x : x + TILE].mean() for y, x in known.astype(int)])
    seen = share >= 0.1
    assert tilemap.is_anchored[seen].all()
    error = tilemap.positions_px - known
    error = np.hypot(*(error - np.median(error[seen], axis=0)).T)
    assert seen.sum() > 230
    assert np.sqrt((error[seen] ** 2).mean()) < 0.1
    assert error[seen].max() < 0.5
    # The others are where the stage model puts them; it jitters by 2 px per axis.
    assert np.sqrt((error[~seen] ** 2).mean()) < 6
    solved = json.loads((finished.dir / "state/tilemap-normal.solved").read_text())
    told = set(solved["extra"]["unanchored_images"])
    assert told == {image for image, known in enumerate(tilemap.is_anchored, 1) if not known}
    assert solved["extra"]["verdict"] == "warn"


def test_mosaics(finished, truth, tilemap):
    stitched = finished.dir / "mosaic-01/stitched"
    shift = np.median(truth["positions_px"][0] - tilemap.positions_px, axis=0)

    def read(name):
        return np.asarray(nifti.read_image(stitched / f"mosaic_001_{name}.nii"), float)

    mask = read("mask") > 0
    tissue = truth_patch(truth["tissue"][0], shift, mask.shape) == 1
    assert (mask & tissue).sum() / (mask | tissue).sum() > 0.97
    inside = mask & tissue
    expected = truth_patch(truth["orientation_deg"][0], shift, mask.shape)
    error = (read("ori") - expected + 90) % 180 - 90
    assert np.nanmedian(np.abs(error[inside])) < 3
    aip = truth_patch(truth["aip"][0], shift, mask.shape)
    assert np.corrcoef(read("aip")[inside], aip[inside])[0, 1] > 0.8
    assert read("aip")[~mask].min() == read("aip")[~mask].max()


def test_pictures(finished):
    stitched = finished.dir / "mosaic-01/stitched"
    pictures = [stitched / f"mosaic_001_{name}.jpg" for name in ("aip", "ret", "ori", "biref")]
    for path in [*pictures, finished.dir / "report/mosaic-01.jpg"]:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"), float)
        assert min(pixels.shape) > 500
        assert pixels.std() > 20
    assert finished.planned() == set()
