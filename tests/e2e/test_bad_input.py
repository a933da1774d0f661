"""Every kind of bad input: a message that names file, value and remedy, and nothing is lost.

The table in docs/bad-input.md lists the same cases.
"""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.e2e.conftest import Project

RAW = "mosaic_001_image_0002_spectral_0002.nii"


@pytest.fixture
def project(raw, tmp_path):
    """One mosaic whose raw files may be damaged, processed without complex tiles."""
    folder = tmp_path / "raw"
    others = ("mosaic_002*", "mosaic_003*", "mosaic_004*")
    shutil.copytree(raw, folder, copy_function=os.link, ignore=shutil.ignore_patterns(*others))
    return Project(tmp_path / "p", folder, {"processing__complex": "discard"})


def replace(path: Path, content: bytes) -> None:
    """Write a file of its own where a hard link to the shared one was."""
    path.unlink()
    path.write_bytes(content)


def process(project, batch=1):
    return project.stage("process_tiles", "--mosaic", 1, "--batch", batch, check=False)


def kept(project):
    """Images of the first batch that were finished."""
    receipts = project.dir / "mosaic-01/processed/.receipts"
    return sorted(int(path.stem[-4:]) for path in receipts.glob("*.json"))


def assert_failed(project, done, *parts, kind="data", code=3, finished=(1, 3)):
    assert done.returncode == code
    for part in parts:
        assert str(part) in done.stderr
    state = project.dir / "mosaic-01/state"
    assert not (state / "batch-001.processed").exists()
    record = json.loads((state / "batch-001.failed").read_text())
    assert record["extra"]["kind"] == kind
    assert kept(project) == list(finished)


def test_truncated_after_scan(project):
    project.trigger("scan", "--assume-stable")
    path = project.raw / RAW
    replace(path, path.read_bytes()[:5000])
    assert_failed(project, process(project), path, "has 5000 bytes; it had", "optic-trigger scan")


def test_replaced_after_scan(project):
    project.trigger("scan", "--assume-stable")
    path = project.raw / RAW
    replace(path, path.read_bytes())
    assert_failed(project, process(project), path, "was written again after its batch became ready")


def test_vanished_after_scan(project):
    project.trigger("scan", "--assume-stable")
    (project.raw / RAW).unlink()
    assert_failed(project, process(project), RAW, "cannot be seen any more", "is the disk mounted")


def test_longer_is_refused_by_scan(project):
    path = project.raw / RAW
    replace(path, path.read_bytes() + b"12")
    done = project.trigger("scan", "--assume-stable", check=False)
    assert done.returncode == 3
    assert f"{path} has" in done.stdout
    assert "too long" in done.stdout
    assert not (project.dir / "mosaic-01/state/batch-001.ready").exists()
    assert (project.dir / "mosaic-01/state/batch-002.ready").exists()


def test_duplicate_is_refused_by_scan(project):
    shutil.copy(project.raw / RAW, project.raw / "mosaic_001_image_0002_spectral_0009.nii")
    done = project.trigger("scan", "--assume-stable", check=False)
    assert done.returncode == 3
    assert "is there twice" in done.stdout
    assert "which one is wrong is not guessed" in done.stdout


def test_unknown_names_are_left_alone(project):
    (project.raw / "notes.txt").write_text("x" * 200000)
    (project.raw / "._mosaic_001_image_0002_spectral_0002.nii").write_bytes(b"x" * 200000)
    assert "0 problems" in project.trigger("scan", "--assume-stable").stdout


def test_an_all_zero_tile(project):
    path = project.raw / RAW
    size = path.stat().st_size
    replace(path, path.read_bytes()[:352] + bytes(size - 352))
    project.trigger("scan", "--assume-stable")
    assert_failed(
        project, process(project), "image 0002", "cannot be right", "Look at the raw tile"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_complex_tiles_with_values_that_are_not_finite(raw, tmp_path, value):
    project = Project(
        tmp_path, tmp_path / "raw",
        {"acquisition__tile_saving_type": "complex", "acquisition__grid_size_x_normal": 1,
         "acquisition__grid_size_x_tilted": 1, "acquisition__grid_size_y": 2},
    )  # fmt: skip
    project.trigger("simulate psoct", "--out", project.raw)
    path = project.raw / "mosaic_001_image_0002_processed.nii"
    with path.open("rb+") as file:
        file.seek(352)
        file.write(struct.pack("<f", value) * 2_000_000)
    project.trigger("scan", "--assume-stable")
    project.stage("convert_complex", "--mosaic", 1, "--batch", 1)
    done = process(project)
    assert_failed(project, done, "image 0002", "finite", "processing.validation", finished=(1,))


def test_complex_tiles_of_another_shape(tmp_path):
    project = Project(
        tmp_path, tmp_path / "raw",
        {"acquisition__tile_saving_type": "complex", "acquisition__grid_size_x_normal": 1,
         "acquisition__grid_size_x_tilted": 1, "acquisition__grid_size_y": 2},
    )  # fmt: skip
    project.trigger("simulate psoct", "--out", project.raw)
    path = project.raw / "mosaic_001_image_0002_processed.nii"
    array = nibabel.load(path, mmap=False).get_fdata(dtype=np.float32)
    swapped = nibabel.Nifti1Image(array.reshape(96, 96, 1000, order="F"), np.eye(4))
    nibabel.save(swapped, path)
    project.trigger("scan", "--assume-stable")
    project.stage("convert_complex", "--mosaic", 1, "--batch", 1)
    assert_failed(
        project, process(project), "shape (96, 96, 1000), expected (192, 48, 1000)", finished=(1,)
    )


def test_dispersion_of_another_length(project):
    replace(project.raw / "dispersion.bin", np.zeros(1000).tobytes())
    project.trigger("scan", "--assume-stable")
    done = process(project)
    assert done.returncode == 3
    assert "dispersion.bin" in done.stderr
    assert "1000" in done.stderr
    assert "2048" in done.stderr


def test_missing_calibration(project):
    (project.raw / "wave-pixel.mat").unlink()
    project.trigger("scan", "--assume-stable")
    done = process(project)
    assert done.returncode == 2
    assert "wave-pixel.mat" in done.stderr
    assert "acquisition.calibration_file" in done.stderr


def test_calibration_that_is_none(project):
    replace(project.raw / "wave-pixel.mat", b"not a MATLAB file")
    project.trigger("scan", "--assume-stable")
    done = process(project)
    assert done.returncode == 3
    assert "wave-pixel.mat" in done.stderr


def test_a_link_to_itself_among_the_raw_files(project):
    path = project.raw / RAW
    path.unlink()
    path.symlink_to(path)
    done = project.trigger("scan", "--assume-stable", check=False)
    assert done.returncode == 3
    assert RAW in done.stdout
    assert "internal error" not in done.stderr


def mounted(folder: Path, *options: str) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def mounts():
    """Folders to unmount at the end."""
    folders: list[Path] = []
    yield folders
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("megabytes", [1, 9, 18, 27, 28])
def test_a_full_disk(project, mounts, megabytes):
    """A tile's volumes are 9 MB each: the disk is full at another product each time."""
    if not mounted(project.dir, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs"):
        pytest.skip("needs the right to mount a tmpfs")
    mounts.append(project.dir)
    project.trigger("scan", "--assume-stable")
    done = process(project)
    assert done.returncode == 4
    assert "the disk is full; free some space and run again" in done.stderr
    assert not (project.dir / "mosaic-01/state/batch-001.processed").exists()
    assert list(project.dir.rglob(".tmp-*")) == []
    subprocess.run(["mount", "-o", "remount,size=200m", str(project.dir)], check=True)
    again = process(project)
    assert again.returncode == 0
    assert (project.dir / "mosaic-01/state/batch-001.processed").exists()


def test_a_project_that_is_not_writable(project, mounts):
    project.trigger("scan", "--assume-stable")
    if not mounted(project.dir, "--bind", str(project.dir)):
        pytest.skip("needs the right to mount")
    mounts.append(project.dir)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(project.dir)], check=True)
    for done in (process(project), project.trigger("doctor", "--fix", check=False)):
        assert done.returncode == 4
        assert "read-only" in done.stderr
        assert str(project.dir) in done.stderr


def test_a_read_only_source_is_enough(project, mounts):
    if not mounted(project.raw, "--bind", str(project.raw)):
        pytest.skip("needs the right to mount")
    mounts.append(project.raw)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(project.raw)], check=True)
    project.trigger("scan", "--assume-stable")
    assert process(project).returncode == 0


STAGES = {
    "solve_coordinates": (("--acquisition", "normal"), "state/tilemap-normal.solved"),
    "stitch_enface": (("--mosaic", 1), "mosaic-01/state/mosaic-01.stitched"),
    "register_slice": (("--slice", 1), "state/slice-01.registered"),
}


@pytest.mark.parametrize(
    ("stage", "free_kb"),
    [
        ("solve_coordinates", 0),
        *[("stitch_enface", free) for free in (0, 40, 200, 600)],
        *[("register_slice", free) for free in (0, 40, 200, 400)],
    ],
)
def test_a_full_disk_after_the_tiles(finished_session, tmp_path, mounts, stage, free_kb):
    project = Project(tmp_path, finished_session.raw)
    if not mounted(project.dir, "-t", "tmpfs", "-o", "size=96m", "tmpfs"):
        pytest.skip("needs the right to mount a tmpfs")
    mounts.append(project.dir)
    large = shutil.ignore_patterns("complex", "*_dBI.nii", "*_R3D.nii", "*_O3D.nii", "*.html")
    shutil.copytree(finished_session.dir, project.dir, ignore=large, dirs_exist_ok=True)
    options, flag = STAGES[stage]
    path = project.dir / flag
    before = {output: (project.dir / output).read_bytes() for output in outputs_of(path)}
    for output in before:
        (project.dir / output).unlink()
    filler = project.dir / "filler"
    space = os.statvfs(project.dir)
    filler.write_bytes(bytes(space.f_bavail * space.f_frsize - free_kb * 1024))
    done = project.stage(stage, *options, "--force", check=False)
    assert done.returncode == 4
    assert "the disk is full" in done.stderr
    # Without room for the record of its start a stage does not begin, and withdraws nothing; the
    # others are not the first of their level, and have none.
    assert path.exists() == (free_kb == 0 and stage == "register_slice")
    assert list(project.dir.rglob(".tmp-*")) == []
    filler.unlink()
    assert project.stage(stage, *options, "--force").returncode == 0
    for output, content in before.items():
        if not output.endswith(".mat"):  # its header holds the time
            assert (project.dir / output).read_bytes() == content


def outputs_of(flag: Path) -> list[str]:
    return [output["path"] for output in json.loads(flag.read_text())["outputs"]]
