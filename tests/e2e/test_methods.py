"""Every method of the configuration reaches the engine."""

import nibabel
import numpy as np
import pytest
import scipy.io

from tests.e2e.conftest import Project


def processed(raw, folder, overrides):
    project = Project(folder, raw, {"processing__complex": "discard", **overrides})
    project.trigger("scan", "--assume-stable")
    project.stage("process_tiles", "--mosaic", 1, "--batch", 1)
    stem = project.dir / "mosaic-01/processed/mosaic_001_image_0002"
    return lambda name: nibabel.load(f"{stem}_{name}.nii").get_fdata()


@pytest.mark.parametrize("method", ["fft", "unwrap_old", "unwrap_new", "unwrap_exp"])
def test_birefringence(raw, tmp_path, finished_session, method):
    tile = processed(raw, tmp_path, {"processing__biref_method": method})
    legacy = nibabel.load(
        finished_session.dir / "mosaic-01/processed/mosaic_001_image_0002_biref.nii"
    ).get_fdata()
    # The fft method fits one sample less than legacy, and nothing else below 100 samples.
    assert np.allclose(tile("biref"), legacy, atol=1e-4) == (method == "fft")
    assert not np.array_equal(tile("biref"), legacy)
    assert np.isfinite(tile("biref")).all()


def test_plain_mean_of_orientation(raw, tmp_path, finished_session):
    tile = processed(raw, tmp_path, {"processing__ori_method": "mean"})
    circular = nibabel.load(
        finished_session.dir / "mosaic-01/processed/mosaic_001_image_0002_ori.nii"
    ).get_fdata()
    assert not np.array_equal(tile("ori"), circular)


def test_surfaces(raw, tmp_path):
    constant = processed(raw, tmp_path / "constant", {"processing__surface": "310"})
    assert (constant("surf") == 310).all()
    threshold = processed(
        raw, tmp_path / "threshold",
        {"processing__surface": "gradientThreshold", "processing__surface_args": [20, 55, 5, 5]},
    )  # fmt: skip
    assert 295 < np.median(threshold("surf")) < 315
    path = tmp_path / "file" / "surface.nii"
    path.parent.mkdir()
    given = np.full((48, 48), 305, np.float32)
    nibabel.save(nibabel.Nifti1Image(given, np.eye(4)), path)
    # Relative to the configuration, like every path in it.
    file = processed(raw, tmp_path / "file", {"processing__surface": "surface.nii"})
    np.testing.assert_array_equal(file("surf"), given)


def test_phase_calibration(raw, tmp_path):
    phase = np.linspace(0, 700, 2048) + 5 * np.sin(np.linspace(0, 3, 2048))
    scipy.io.savemat(tmp_path / "dphase.mat", {"dphase": phase})
    scipy.io.savemat(tmp_path / "lin.mat", {"linPhase": np.linspace(0.0, phase[-1], 2048)})
    files = {"dphase_file": "dphase.mat", "linphase_file": "lin.mat"}
    tile = processed(
        raw, tmp_path,
        {"acquisition__phase_calibration": files, "acquisition__calibration_file": None,
         "acquisition__dispersion_file": None},
    )  # fmt: skip
    assert np.isfinite(tile("aip")).all()


def test_an_unknown_method_is_named(raw, tmp_path):
    project = Project(tmp_path, raw, {"processing__surface": "steepest"})
    project.trigger("scan", "--assume-stable")
    done = project.stage("process_tiles", "--mosaic", 1, "--batch", 1, check=False)
    assert done.returncode in (2, 3)
    assert "steepest" in done.stderr
