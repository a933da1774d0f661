import yaml

from opticstream_smk.config import load_config
from tests.e2e.conftest import Project


def init(project, *options, check=True):
    return project.run("optic-trigger", "init", *options, check=check)


def test_what_init_proposes_is_right_for_the_demo(raw, tmp_path):
    project = Project(tmp_path / "unused", raw)
    output = tmp_path / "new.yaml"
    done = init(project, "--raw", raw, "--project", tmp_path / "results", "-o", output)
    assert "CHECK: the largest mosaic has 9 tiles" in done.stdout
    config = load_config(output)
    scan = config.acquisition
    assert (scan.grid_size_x_normal, scan.grid_size_x_tilted, scan.grid_size_y) == (3, 3, 3)
    assert (scan.tile_size_x_normal, scan.tile_size_y, scan.samples_per_aline) == (48, 48, 2048)
    assert scan.tile_saving_type == "spectral"
    assert scan.calibration_file == raw / "wave-pixel.mat"
    assert scan.dispersion_file == raw / "dispersion.bin"
    ready = project.run("optic-trigger", "scan", "--config", output, "--assume-stable")
    assert "12 batches newly ready" in ready.stdout


def test_init_never_overwrites(raw, tmp_path):
    project = Project(tmp_path / "unused", raw)
    output = tmp_path / "mine.yaml"
    output.write_text("mine")
    done = init(project, "--raw", raw, "--project", tmp_path, "-o", output, check=False)
    assert done.returncode == 2
    assert output.read_text() == "mine"


def test_init_says_when_there_is_nothing(raw, tmp_path):
    project = Project(tmp_path / "unused", raw)
    for folder in (tmp_path, tmp_path / "nowhere"):
        output = tmp_path / "x.yaml"
        done = init(project, "--raw", folder, "--project", tmp_path, "-o", output, check=False)
        assert done.returncode == 3
        assert str(folder) in done.stderr
        assert not output.exists()


def test_init_sees_maps_alone(tmp_path):
    overrides = {
        "acquisition__tile_saving_type": "processed",
        "acquisition__tile_size_x_tilted": 40,
        "acquisition__tile_size_y": 52,
    }
    project = Project(tmp_path, tmp_path / "raw", overrides)
    project.trigger("simulate psoct", "--out", project.raw)
    output = tmp_path / "new.yaml"
    done = init(project, "--raw", project.raw, "--project", tmp_path / "results", "-o", output)
    assert "CHECK: there are maps only" in done.stdout
    config = load_config(output)
    scan = config.acquisition
    assert scan.tile_saving_type == "processed"
    assert scan.calibration_file is None
    assert (scan.tile_size_x_normal, scan.tile_size_x_tilted, scan.tile_size_y) == (48, 40, 52)
    assert config.processing.modalities == ("aip", "mip", "ret", "ori", "biref")
    ready = project.run("optic-trigger", "scan", "--config", output, "--assume-stable")
    assert "6 batches newly ready" in ready.stdout


def test_init_sees_other_kinds(tmp_path):
    for kind, suffix in (("spectral_12bit", ".raw"), ("complex", ".nii")):
        folder = tmp_path / kind
        folder.mkdir()
        word = "processed" if kind == "complex" else "spectral_0001"
        path = folder / f"mosaic_001_image_0001_{word}{suffix}"
        if kind == "complex":
            import nibabel
            import numpy as np

            nibabel.save(nibabel.Nifti1Image(np.zeros((40, 8, 104), np.float32), np.eye(4)), path)
        else:
            path.write_bytes(bytes(1000))
        project = Project(tmp_path / "unused", folder)
        output = tmp_path / f"{kind}.yaml"
        init(project, "--raw", folder, "--project", tmp_path / "p", "-o", output)
        scan = yaml.safe_load(output.read_text())["acquisition"]
        assert scan["tile_saving_type"] == kind
        if kind == "complex":
            assert (scan["tile_size_x_normal"], scan["samples_per_aline"]) == (10, 256)
