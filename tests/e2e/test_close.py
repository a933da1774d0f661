"""Mosaics that lack tiles: held, allowed, closed, opened again, by the commands people type."""

import json
import os
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from opticstream_smk.config import load_config
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.stages.tilemap import read_tilemap, stitched_tilemap
from opticstream_smk.trigger.discover import discover
from opticstream_smk.trigger.ready import enter_batch
from tests.e2e.conftest import Project


def tiles(mosaic, *images):
    return {f"mosaic_{mosaic:03d}_image_{i:04d}_spectral_{i:04d}.nii" for i in images}


@pytest.fixture
def lacking(raw, tmp_path):
    """A project of slice 1 without some raw tiles."""

    def make(absent, **overrides):
        def ignore(_folder, names):
            return [n for n in names if n in absent or n.startswith(("mosaic_003", "mosaic_004"))]

        folder = tmp_path / "raw"
        shutil.copytree(raw, folder, copy_function=os.link, ignore=ignore)
        discard = {"processing__complex": "discard"}
        return Project(tmp_path / "project", folder, {**discard, **overrides})

    return make


def image(project, mosaic, name):
    path = project.dir / f"mosaic-{mosaic:02d}/stitched/mosaic_{mosaic:03d}_{name}.nii"
    return nibabel.load(path).get_fdata().T


def flag(project, path):
    return json.loads((project.dir / path).read_text())


def plan_of(project):
    config = load_config(project.config)
    return Plan(config, project_layout(config))


def test_a_closed_slice_goes_all_the_way(lacking, finished_session):
    # Mosaic 1 lacks its centre and gives the template; mosaic 2 lacks its last batch.
    project = lacking(tiles(1, 5) | tiles(2, 7, 8, 9))
    scan = project.trigger("scan", "--assume-stable")
    assert "mosaic 001 batch 002: 2 of 3 tiles, missing 5" in scan.stdout
    project.snakemake()
    assert list(project.dir.glob("mosaic-*/state/*.stitched")) == []

    wrong = project.trigger("close", "--mosaic", 1, "--missing", "5,6", check=False)
    assert wrong.returncode == 2
    assert "1 of 9 tiles are: 5" in wrong.stderr
    project.trigger("close", "--mosaic", 1, "--missing", 5, "--reason", "bubble")
    project.trigger("close", "--mosaic", 2)
    assert not (project.dir / "mosaic-02/state/batch-003.ready").exists()
    project.snakemake()
    assert project.planned() == set()
    assert project.trigger("doctor").stdout.startswith("0 findings")
    assert "next: nothing to do" in project.trigger("status").stdout
    assert (project.dir / "state/slice-01.registered").exists()
    assert (project.dir / "report/mosaic-01_batch-002.jpg").exists()

    # What is missing is written down wherever it matters.
    assert flag(project, "mosaic-01/state/batch-002.processed")["tiles"] == {
        "done": [4, 6], "missing": [5]
    }  # fmt: skip
    stitched = flag(project, "mosaic-01/state/mosaic-01.stitched")
    assert stitched["tiles"]["missing"] == [5]
    assert "1 of 9 tiles are missing (images 5)" in stitched["extra"]["warnings"][0]
    assert flag(project, "mosaic-02/state/mosaic-02.stitched")["tiles"]["missing"] == [7, 8, 9]
    solved = flag(project, "state/tilemap-normal.solved")
    assert solved["tiles"]["missing"] == [5]
    assert "template mosaic 001 lacks 1 of 9 tiles" in solved["extra"]["warnings"][-1]
    registered = flag(project, "state/slice-01.registered")
    assert any("mosaic 002 lacks images 7,8,9" in w for w in registered["extra"]["warnings"])

    # Every other tile lies where it lies in the whole mosaic; a missing one where the stage
    # should have been, which is better known between other tiles than beyond them.
    whole, short = plan_of(finished_session), plan_of(project)
    for acquisition, missing, near_px in (("normal", [5], 3), ("tilted", [7, 8, 9], 8)):
        expected = read_tilemap(whole.config, whole.layout, acquisition)
        found = read_tilemap(short.config, short.layout, acquisition)
        there = ~np.isin(np.arange(1, 10), missing)
        shift = np.median((found.positions_px - expected.positions_px)[there], axis=0)
        off = np.abs(found.positions_px - expected.positions_px - shift)
        assert off[there].max() < 0.5
        assert off[~there].max() < near_px
        assert not found.is_anchored[~there].any()

    # Where the missing tile alone would lie there is no value, no tissue and no axis.
    tilemap = stitched_tilemap(short, 1)
    gaps = tilemap.gaps()
    assert gaps.sum() > 100
    assert not (gaps & tilemap.coverage()).any()
    mask = image(project, 1, "mask") > 0
    assert mask.any()
    assert not mask[gaps].any()
    for name in ("aip_nomask", "aip", "ori_nomask", "biref"):
        assert not image(project, 1, name)[gaps].any()
    axis = nibabel.load(project.dir / "registered/slice-01_3daxis.nii").get_fdata()
    assert not np.swapaxes(axis, 0, 1)[gaps].any()
    assert np.swapaxes(axis, 0, 1)[~gaps].any()

    # Beside it a mosaic holds what its neighbours alone have there.
    stitched_aip = image(project, 1, "aip_nomask")
    areas = {number: touched(tilemap, number) for number in range(1, 10)}
    alone = sum(areas[number].astype(int) for number in areas if number != 5) == 1
    for number in (2, 4, 6, 8):
        aip = f"mosaic-01/processed/mosaic_001_image_{number:04d}_aip.nii"
        tile = np.zeros(areas[number].shape)
        tile[areas[number]] = nibabel.load(project.dir / aip).get_fdata().T.ravel()
        beside = areas[number] & areas[5] & alone
        assert beside.sum() > 100
        np.testing.assert_allclose(stitched_aip[beside], tile[beside], rtol=1e-5)
    judged = json.loads(project.trigger("simulate compare", "--format", "json", check=False).stdout)
    assert [row for row in judged if not row["passed"]] == []


def touched(tilemap, number):
    """Where a tile lies on the canvas."""
    others = frozenset(range(1, 10)) - {number}
    return replace(tilemap, missing=others).coverage()


def test_missing_tiles_hold_a_mosaic_until_they_are_allowed(lacking):
    project = lacking(tiles(1, 5) | tiles(2, *range(1, 10)))
    project.trigger("scan", "--assume-stable")
    config = load_config(project.config)
    [short] = [batch for batch in discover(config).batches if batch.missing]
    enter_batch(config, short)
    done = project.snakemake()
    message = "mosaic 001: 1 of 9 tiles missing (5) in"
    assert message in done.stderr
    assert "Set mosaic.allow_missing_tiles: 1 to go on, or run" in done.stderr
    assert (project.dir / "mosaic-01/state/batch-002.processed").exists()
    assert not (project.dir / "mosaic-01/state/mosaic-01.stitched").exists()
    assert message in project.trigger("status").stdout
    by_hand = project.stage("stitch_enface", "--mosaic", 1, check=False)
    assert by_hand.returncode == 3
    assert message in by_hand.stderr

    text = project.config.read_text()
    project.config.write_text(text + "mosaic: {allow_missing_tiles: 1}\n")
    project.snakemake()
    stitched = flag(project, "mosaic-01/state/mosaic-01.stitched")
    assert stitched["tiles"]["missing"] == [5]
    # Less is allowed later: what is finished stays.
    project.config.write_text(text)
    assert project.planned() == set()
    assert project.trigger("doctor").returncode == 0


def test_a_late_tile_after_close(lacking, raw):
    project = lacking(tiles(1, 5) | tiles(2, *range(1, 10)))
    project.trigger("scan", "--assume-stable")
    project.trigger("close", "--mosaic", 1)
    project.snakemake()
    assert (project.dir / "mosaic-01/state/mosaic-01.stitched").exists()
    [name] = tiles(1, 5)
    os.link(raw / name, project.raw / name)
    undone = project.trigger("close", "--mosaic", 1, "--undo")
    assert "mosaic-01.stitched" in undone.stdout
    project.trigger("scan", "--assume-stable")
    # The template was solved without the tile: it stays until it is redone.
    assert {rule for rule, _ in project.planned()} == {
        "process_tiles", "qc_tiles", "solve_mosaic_coordinates", "stitch_enface", "qc_mosaic"
    }  # fmt: skip
    project.snakemake()
    log = (project.dir / "logs/process_tiles/mosaic-01_batch-002.log").read_text()
    assert log.count("kept") == 2  # receipts: only the late tile is computed
    assert flag(project, "mosaic-01/state/mosaic-01.stitched")["tiles"]["missing"] == []
    plan = plan_of(project)
    assert image(project, 1, "aip_nomask")[stitched_tilemap(plan, 1).coverage()].all()
