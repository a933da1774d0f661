"""The whole preflight on simulated tiles."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from opticstream_smk.errors import ServiceError
from opticstream_smk.preflight import disk
from tests.preflight.conftest import preflight, tree

HEADER = 352
MAPS = ["aip", "mip", "ret", "ori"]

pytestmark = pytest.mark.usefixtures("no_software")


def first_tile(project):
    return project.raw / "mosaic_001_image_0001_spectral_0001.nii"


def overwrite(path, counts):
    """Replace the counts of a raw tile, keeping its header and times."""
    status = path.stat()
    stored = np.fromfile(path, "<u2", offset=HEADER)
    with path.open("r+b") as file:
        file.seek(HEADER)
        file.write(counts(stored).astype("<u2").tobytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_good_acquisition(make_project):
    project = make_project()
    raw = tree(project.raw)
    found = preflight(project)
    assert found.failures == []
    assert found.report.exit_code == 0
    tile = found.one("tile mosaic 001 image 0001")
    assert tile.verdict == "ok"
    assert 50 < tile.numbers["mean_db"] < 70
    assert tile.numbers["surface_coverage"] > 0.5
    assert found.one("raw counts").numbers["saturated_share"] == 0
    assert found.one("time of a tile").numbers["compute_s"] > 0
    assert tree(project.raw) == raw
    assert set(tree(project.dir)) == {"report", "report/preflight.jpg"}
    assert found.report.picture == project.dir / "report/preflight.jpg"
    with Image.open(found.report.picture) as picture:
        assert picture.width > 2000
        assert np.ptp(np.asarray(picture)) == 255


def test_any_tile_can_be_shown(make_project):
    project = make_project()
    found = preflight(project, mosaic=2, image=3)
    assert found.one("tile mosaic 002 image 0003").verdict == "ok"
    wrong = preflight(project, mosaic=2, image=9)
    assert wrong.report.exit_code == 2
    assert "no tile of mosaic 2 with image 9" in wrong.failures[0]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"acquisition__tile_saving_type": "spectral_12bit"}, "raw counts"),
        ({"processing__complex": "discard"}, "raw counts"),
        ({"acquisition__tile_saving_type": "complex"}, "tile"),
        ({"acquisition__tile_saving_type": "complex_with_spectral",
          "processing__complex": "discard"}, "tile"),
        ({"acquisition__tile_saving_type": "processed_with_spectral",
          "processing__modalities": MAPS, "mosaic__modalities": MAPS,
          "registration__enabled": False, "watch__min_file_bytes": 100}, "tile"),
        ({"acquisition__tile_saving_type": "processed"}, "tile"),
        ({"acquisition__mosaics_per_slice": 3, "acquisition__filename_preset": "macaque",
          "processing__save_volume_outputs": False}, "raw counts"),
    ],
    ids=["12 bits", "discard", "complex", "complex, discard", "maps",
         "maps alone", "three illuminations"],
)  # fmt: skip
def test_every_kind_of_input(simulate, overrides, name):
    project = simulate(**overrides)
    found = preflight(project)
    assert found.failures == []
    assert found.named(name, "ok")
    assert 50 < found.one("tile mosaic 001 image 0001").numbers["mean_db"] < 70
    if overrides.get("acquisition__tile_saving_type") == "processed":
        assert "no volume" in found.one("picture").found
        assert tree(project.dir) == {}
        return
    assert found.report.picture.is_file()
    assert set(tree(project.dir)) == {"report", "report/preflight.jpg"}


def test_a_tile_without_signal(make_project):
    project = make_project()
    overwrite(first_tile(project), np.zeros_like)
    found = preflight(project)
    assert found.report.exit_code == 3
    assert "no signal: every sample is 0" in found.one("raw counts").found
    assert "cannot be right" in found.one("tile mosaic 001 image 0001").found
    assert found.report.picture.is_file()


def test_a_saturated_tile(make_project):
    project = make_project()

    def saturate(counts):
        counts[: counts.size * 31 // 1000] = 4095
        return counts

    overwrite(first_tile(project), saturate)
    found = preflight(project)
    assert found.report.exit_code == 0
    check = found.one("raw counts", "warning")
    assert check.found == "the tile is saturated: 3.1 % of samples are 4095"
    assert "Lower power or exposure" in check.remedy


def test_cameras_of_16_bits(make_project):
    project = make_project()

    def brighten(counts):
        counts[: counts.size // 2] = 65535
        return counts

    overwrite(first_tile(project), brighten)
    saturated, top = preflight(project).named("raw counts")
    assert "50 % of samples are 65535" in saturated.found
    assert "processing.qc_limits.saturation_count 4095" in top.expected


def test_lines_that_were_dropped(make_project):
    project = make_project()

    def drop(counts):
        counts[: counts.size // 10] = 0
        return counts

    overwrite(first_tile(project), drop)
    check = preflight(project).one("raw counts")
    assert (check.verdict, check.found) == ("warning", "10 % of samples are 0")


def test_a_tile_of_noise(make_project):
    project = make_project()
    noise = np.random.default_rng(1)
    overwrite(first_tile(project), lambda counts: noise.normal(1000, 5, counts.size).round())
    check = preflight(project).named("tile mosaic 001 image 0001")[0]
    assert check.verdict == "warning"
    assert "a credible surface on only" in check.found
    assert "--image" in check.remedy


def test_a_truncated_first_tile(make_project):
    project = make_project()
    os.truncate(first_tile(project), 5000)
    found = preflight(project)
    assert found.report.exit_code == 3
    assert str(first_tile(project)) in found.one("size of normal tiles").found
    assert "see the size" in found.one("tile mosaic 001 image 0001").found
    assert found.report.picture is None


def test_a_wrong_tile_size(make_project):
    found = preflight(make_project(acquisition__tile_size_x_normal=30))
    assert found.report.exit_code == 2
    check = found.one("size of normal tiles")
    assert check.remedy == "Set acquisition.tile_size_x_normal: 32 instead of 30"


def test_a_missing_calibration(make_project):
    project = make_project()
    (project.raw / "wave-pixel.mat").unlink()
    found = preflight(project)
    assert found.report.exit_code == 2
    assert "wave-pixel.mat not found" in found.one("calibration").found
    assert found.one("first tile").verdict == "note"


def test_a_calibration_that_is_none(make_project):
    project = make_project()
    (project.raw / "wave-pixel.mat").write_text("nothing")
    assert preflight(project).one("calibration").exit_code == 3


def test_a_dispersion_of_another_length(make_project):
    project = make_project()
    np.zeros(1000).tofile(project.raw / "dispersion.bin")
    check = preflight(project).one("calibration")
    assert check.exit_code == 3
    assert "1000" in check.found
    assert "1024" in check.found


def test_a_missing_surface_file(make_project):
    check = preflight(make_project(processing__surface="surface.nii")).one("surface")
    assert check.exit_code == 2
    assert "processing.surface" in check.remedy


def test_an_empty_source_is_no_failure(make_project):
    project = make_project()
    for path in project.raw.glob("mosaic_*"):
        path.unlink()
    found = preflight(project, slices=2)
    assert found.failures == []
    assert found.one("first tile").found == "no tile yet: the first one cannot be decoded"
    assert found.one("space").numbers["slices"] == 2
    assert not project.dir.exists()


def test_a_project_that_cannot_be_written(make_project, monkeypatch):
    def refuse(folder, **_kwargs):
        raise ServiceError(f"cannot write {folder}: Read-only file system")

    monkeypatch.setattr(disk, "probe", refuse)
    project = make_project()
    found = preflight(project)
    assert found.report.exit_code == 4
    assert found.one("picture").found == "not drawn: the project folder is not writable"
    assert found.one("tile mosaic 001 image 0001").verdict == "ok"
    assert not project.dir.exists()


def test_a_grid_that_was_changed_after_scan(make_project):
    project = make_project()
    project.trigger("scan", "--assume-stable")
    project.overrides["acquisition__grid_size_y"] = 1
    project.__post_init__()
    found = preflight(project)
    assert found.report.exit_code == 2
    assert "redo --from scan" in found.one("configuration").found


def test_light_sheet_projects(make_project):
    project = make_project(project__pipeline="lsm", lsm__min_files=3, lsm__strips_per_slice=4)
    for name, files in (("Run1", 3), ("Run1_C2", 4), ("run1_2", 1), ("Runaway", 5), ("logs", 9)):
        folder = project.raw / name / "inner"
        folder.mkdir(parents=True)
        for number in range(files):
            (folder / f"{number}.dat").write_bytes(bytes(1000))
    found = preflight(project, slices=2)
    assert found.failures == []
    strips, small = found.named("strips")
    assert strips.found == "2 strip folders with 7 KB"
    assert "run1_2 (1)" in small.found
    assert "Runaway" in found.one("strip names").found
    assert found.one("space").numbers["needed_bytes"] == 2 * 4 * 3500
    assert found.one("first tile").verdict == "note"
    assert not found.named("calibration")
    assert not project.dir.exists()


def test_the_command(make_project):
    project = make_project()
    done = project.trigger("preflight", "--format", "json")
    report = json.loads(done.stdout)
    assert report["exit_code"] == 0
    assert report["picture"] == str(project.dir / "report/preflight.jpg")
    assert {"configuration", "space", "pace", "snakemake"} <= {c["name"] for c in report["checks"]}
    os.truncate(first_tile(project), 5000)
    done = project.trigger("preflight", check=False)
    assert done.returncode == 3
    assert "FAILED   size of normal tiles: 1 of 4 files" in done.stdout
    project.config.write_text("project: {name: x}\n")
    done = project.trigger("preflight", check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("FAILED   configuration:")
    assert project.trigger("preflight", "--slices", "0", check=False).returncode == 2
