"""Focus planes and volumes by the commands that people type, on a finished synthetic project."""

import json
import os
import shutil
import signal
import subprocess
import time

import nibabel
import numpy as np
import pytest
import zarr

from tests.e2e.conftest import BIN, REPO, Project
from tests.e2e.watching import Watch, events, flags

DEPTH, OFFSET = 128, 256
VOLUME = {
    "volume__enabled": True,
    "volume__modalities": ["dBI"],
    "volume__focus_crop_x_px": 2,
    "volume__offset_px": OFFSET,
    "volume__depth_px": DEPTH,
    "volume__chunk": [16],
    # Many parts, so that a killed run has made some.
    "volume__shard": [32],
}
STITCHED = "mosaic-01/state/mosaic-01.volume_stitched"
DBI = "mosaic-01/state/mosaic-01.volume_dBI"
FITTED = "state/focus-normal.fitted"


@pytest.fixture
def project(finished_session, raw, tmp_path):
    """What was finished before volumes were switched on."""
    other = Project(tmp_path, raw, VOLUME)
    shutil.copytree(finished_session.dir, other.dir, copy_function=os.link, symlinks=True)
    return other


def read(project, level=0):
    path = project.dir / "mosaic-01/stitched/mosaic_001_dBI.ome.zarr"
    return np.asarray(zarr.open_group(str(path), mode="r")[str(level)])


def kill_while_it_writes(project):
    """Start stitch_volume and kill it once it has begun to write."""
    temporary = project.dir / "mosaic-01/stitched/.tmp-mosaic_001_dBI.ome.zarr"
    process = subprocess.Popen(
        [str(BIN / "optic-stage"), "stitch_volume", "--config", str(project.config),
         "--mosaic", "1", "--modality", "dBI"],
        cwd=REPO,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not temporary.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return temporary


def test_from_stitched_mosaics_to_volumes_and_back(project):
    made = project.planned()
    assert ("fit_focus", FITTED) in made
    assert ("stitch_volume", DBI) in made
    # What was made before is not made again.
    assert {rule for rule, _ in made} == {"fit_focus", "stitch_volume", "qc_focus"}
    project.snakemake("--", STITCHED, "report/focus-normal.jpg")
    values = read(project)
    aip = nibabel.load(project.dir / "mosaic-01/stitched/mosaic_001_aip.nii").get_fdata().T
    assert values.shape == (DEPTH, *aip.shape)
    # The mask of the mosaic is that of the volume; below its surface, tissue shines.
    np.testing.assert_array_equal(values.any(axis=0), aip != 0)
    tissue = aip != 0
    assert values[60:100][:, tissue].mean() > values[:20][:, tissue].mean() + 3
    assert (project.dir / "report/focus-normal.jpg").stat().st_size > 20_000
    told = project.trigger("status").stdout
    assert "focus planes normal done, tilted pending" in told
    assert "volumes done" in told
    assert project.trigger("doctor", check=False).returncode == 0
    (event,) = events(project.dir, "linc.oct.mosaic.volume_stitched")
    assert event["aliases"] == ["linc.opticstream.psoct.mosaic.volume_stitched"]

    # A killed run leaves no volume, and the next one makes the same.
    project.trigger("redo", "--from", "stitch_volume", "--mosaic", 1)
    assert kill_while_it_writes(project).exists()
    assert not (project.dir / DBI).exists()
    assert project.trigger("doctor", check=False).returncode == 0
    project.snakemake("--", STITCHED)
    np.testing.assert_array_equal(read(project), values)

    # The focus plane is made anew only by redo, with everything that used it.
    withdrawn = project.trigger("redo", "--from", "fit_focus", "--acquisition", "normal").stdout
    assert {line.split("/project/")[1] for line in withdrawn.splitlines() if "/project/" in line} \
        == {FITTED, DBI, STITCHED}  # fmt: skip
    project.snakemake("--", STITCHED)
    np.testing.assert_array_equal(read(project), values)

    # Half a volume is found and made again.
    (project.dir / "mosaic-01/stitched/mosaic_001_dBI.ome.zarr/zarr.json").unlink()
    found = project.trigger("doctor", check=False)
    assert found.returncode == 3
    assert "mosaic_001_dBI.ome.zarr is missing" in found.stdout
    project.trigger("doctor", "--fix")
    assert ("stitch_volume", DBI) in project.planned()
    assert not (project.dir / STITCHED).exists()
    project.snakemake("--", STITCHED)
    np.testing.assert_array_equal(read(project), values)


def test_a_focus_plane_that_cannot_be_fitted_stops_volumes_alone(project):
    values = {**VOLUME, "volume__focus_signal_db": 99}
    strict = Project(project.root, project.raw, values)
    failed = strict.snakemake("--", STITCHED, check=False)
    assert failed.returncode != 0
    told = strict.trigger("status", check=False).stdout
    assert "focus planes normal failed" in told
    assert "of whose 9 tiles 0 have 99 dB and more" in told
    assert "volume.focus: false" in told
    assert "mosaic 001 normal   done" in told
    flat = Project(project.root, project.raw, {**values, "volume__focus": False})
    flat.snakemake("--", STITCHED)
    flag = json.loads((project.dir / DBI).read_text())
    assert flag["extra"]["focus_sha256"] is None
    assert "FAILED" not in flat.trigger("status").stdout


def test_the_watcher_makes_them_beside_everything_else(project):
    wanted = {
        f"mosaic-{mosaic:02d}/state/mosaic-{mosaic:02d}.volume_{what}"
        for mosaic in (1, 2, 3, 4)
        for what in ("dBI", "stitched")
    } | {f"state/focus-{acquisition}.fitted" for acquisition in ("normal", "tilted")}
    pictures = [project.dir / f"report/focus-{a}.jpg" for a in ("normal", "tilted")]
    with Watch(project, "--stability-seconds", 0, "--poll-interval", 0.5) as watch:

        def is_done():
            return wanted <= flags(project.dir) and all(path.exists() for path in pictures)

        watch.until(is_done, 300, 0.5)
        assert watch.stop()[0] == 0
    assert not list(project.dir.rglob("*.failed"))
    assert project.planned() == set()
