"""A batch in a real interpreter: GNU Octave runs our package through the path that MATLAB takes.

Its products are compared with those of the native engine, to the tolerances of the specification.
"""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import nibabel
import numpy as np
import psutil
import pytest

from tests.matlab.conftest import HERE, MAPS, OCTAVE, PRODUCTS

pytestmark = pytest.mark.usefixtures("octave")

# Largest difference from the native engine, which transforms in single precision: dB and degrees.
LARGEST = {
    **{"dBI": 1.3e-4, "R3D": 8.4e-4, "O3D": 5.7e-3},
    **{"aip": 1e-4, "mip": 1e-4, "ret": 1e-4, "ori": 1e-3},
}


def assert_same_products(made, native, images=(1, 2, 3), names=PRODUCTS):
    for image in images:
        same = made.array(image, "surf") == native.array(image, "surf")
        assert np.mean(~same) <= 1e-3
        for name in names:
            ours, theirs = native.array(image, name), made.array(image, name)
            assert theirs.shape == ours.shape
            assert theirs.dtype == ours.dtype
            headers = [nibabel.load(p.product(image, name)).header for p in (made, native)]
            assert headers[0].binaryblock == headers[1].binaryblock
            # Where the surfaces differ, so do the windows below them.
            difference = np.abs(theirs.astype(float) - ours)[same]
            if name in ("ori", "O3D"):
                # Nearly all agree as they are: only the wrap may fall on either side.
                assert np.mean(difference > 0.01) <= 1e-3
                difference = np.minimum(difference, 180 - difference)
            if name == "biref":
                assert difference.max() <= 1e-6 * np.abs(ours).max()
            elif name != "surf":
                assert difference.max() <= LARGEST[name], name


@pytest.fixture
def native(make_project):
    """The same raw tiles, processed natively with the defects of the toolbox."""

    def make(**overrides):
        project = make_project("native", engine=None, processing__toolbox_quirks=True, **overrides)
        if overrides.get("processing__complex") == "keep":
            project.process(name="convert_complex")
        project.process()
        return project

    return make


def counting(tmp_path):
    """A command that runs Octave and counts its starts."""
    path = tmp_path / "counting.py"
    path.write_text(
        "import os, sys\n"
        f"open({str(tmp_path / 'starts')!r}, 'a').write('start\\n')\n"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, str(path), *OCTAVE], tmp_path / "starts"


def starts(path):
    return path.read_text().count("start") if path.exists() else 0


def test_spectra_to_products_in_one_start(make_project, native, tmp_path):
    command, counter = counting(tmp_path)
    project = make_project('Größe & l\'été "1" $x', command=command)
    done = project.process()
    assert starts(counter) == 1
    assert_same_products(project, native())
    flag = project.flag("processed")
    assert flag["extra"]["engine"] == "matlab-batch"
    assert flag["extra"]["z_order"] == "flipped"
    assert len(flag["extra"]["toolbox_sha256"]) == 64
    assert flag["tiles"]["done"] == [1, 2, 3]
    assert set(flag["numbers"]) == {f"{name}_mean" for name in ("surf", *MAPS) if name != "ori"}
    assert len(flag["outputs"]) == 3 * len(PRODUCTS)
    assert project.left_over() == []
    # All that it said is in the log, once.
    for image in (1, 2, 3):
        assert done.stderr.count(f"matlab: mosaic_001_image_{image:04d} done") == 1
    assert not (project.dir / "mosaic-01/complex").exists()
    # A tile that receipts do not prove is all that the next start gets; without any there is none.
    processed = project.dir / "mosaic-01/state/batch-001.processed"
    processed.unlink()
    project.product(2, "ret").unlink()
    again = project.process()
    assert starts(counter) == 2
    assert "', 1, [2], struct(" in again.stderr
    assert "image 0001 kept" in again.stderr
    processed.unlink()
    again = project.process()
    assert starts(counter) == 2
    assert "image 0002 kept" in again.stderr


def test_complex_tiles_are_made_natively_and_kept(make_project, native):
    """The batch functions never write complex tiles."""
    keep = {"processing__complex": "keep", "processing__toolbox_quirks": True}
    # Nor does it matter then how long spectra are.
    project = make_project(**keep)
    project.process(name="convert_complex")
    done = project.process()
    assert "complex2processed_batch_indexed" in done.stderr
    assert (project.dir / "mosaic-01/complex/mosaic_001_image_0001_complex.nii").exists()
    assert_same_products(project, native(processing__complex="keep"))


def test_three_illuminations_of_short_spectra(make_project):
    """What the toolbox cannot read it gets as complex tiles, those of each mosaic by themselves."""
    settings = {
        "acquisition__mosaics_per_slice": 3,
        "acquisition__filename_preset": "macaque",
        "acquisition__samples_per_aline": 1152,
        "processing__complex": "keep",
        "processing__toolbox_quirks": True,
        "scan": False,
    }
    projects = [make_project(**settings), make_project("native", engine=None, **settings)]
    for project in projects:
        shutil.rmtree(project.raw)
        project.trigger("simulate psoct", "--out", project.raw)
        project.trigger("scan", "--assume-stable")
        for stage in ("convert_complex", "process_tiles"):
            project.stage(stage, "--mosaic", 2, "--batch", 1)
    for name in PRODUCTS:
        path = f"mosaic-02/processed/mosaic_002_image_0001_{name}.nii"
        made, native = (nibabel.load(project.dir / path).get_fdata() for project in projects)
        difference = np.abs(made - native)
        if name in ("ori", "O3D"):
            difference = np.minimum(difference, 180 - difference)
        assert difference.max() <= LARGEST.get(name, 1e-6)


def test_other_methods_and_no_volumes(make_project, native):
    settings = {
        "processing__surface": "gradientThreshold",
        "processing__surface_args": [15, 40, 7, 7],
        "processing__ori_method": "mean",
        "processing__biref_method": "fft",
        "processing__modalities": ["aip", "mip", "biref"],
        "processing__flip_phase": True,
        "processing__phase_offset_deg": 30.0,
        "processing__offset_px": 3,
        "processing__depth_px": 60,
        "processing__save_volume_outputs": False,
        "mosaic__modalities": ["aip", "mip", "biref"],
        "registration__enabled": False,
    }
    project = make_project(**settings)
    project.process()
    assert_same_products(project, native(**settings), names=("surf", "aip", "mip", "biref"))
    written = sorted(path.name for path in project.product(1, "aip").parent.glob("*0001_*"))
    assert written == [
        f"mosaic_001_image_0001_{name}.nii" for name in ("aip", "biref", "mip", "surf")
    ]
    assert project.left_over() == []


def test_packed_spectra_and_a_given_surface(acquired, make_project, native, tmp_path):
    surface = tmp_path / "surface.nii"
    random = np.random.default_rng(1)
    given = random.integers(290, 320, (12, 8, 1)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(given, np.eye(4)), surface)
    settings = {
        "acquisition__tile_saving_type": "spectral_12bit",
        "processing__surface": str(surface),
        "processing__flip_z": False,
        "scan": False,
    }
    projects = [make_project(**settings)]
    projects.append(
        make_project("native", engine=None, processing__toolbox_quirks=True, **settings)
    )
    for project in projects:
        for path in project.raw.glob("*_spectral_*.nii"):
            counts = np.fromfile(path, "<u2", offset=352)
            first, second = counts[0::2], counts[1::2]
            packed = np.stack([first & 255, (first >> 8) | ((second & 15) << 4), second >> 4], 1)
            path.with_suffix(".raw").write_bytes(packed.astype(np.uint8).tobytes())
            path.unlink()
        project.trigger("scan", "--assume-stable")
        project.process()
    made, reference = projects
    # The toolbox passes a given surface on as single, ours as double.
    np.testing.assert_array_equal(made.array(1, "surf"), given[:, :, 0])
    assert made.array(1, "surf").dtype == np.float32
    for name in ("dBI", "aip", "ret", "biref"):
        np.testing.assert_allclose(
            made.array(2, name), reference.array(2, name), rtol=0, atol=LARGEST.get(name, 1e-6)
        )


@pytest.fixture
def truncated(make_project):
    """A project whose second raw tile ends early, which ``.ready`` does not know to be wrong."""

    def make(**overrides):
        project = make_project(**overrides)
        path = project.raw / "mosaic_001_image_0002_spectral_0002.nii"
        os.truncate(path, 200_000)
        ready = project.dir / "mosaic-01/state/batch-001.ready"
        flag = json.loads(ready.read_text())
        (entry,) = [item for item in flag["inputs"] if item["image"] == 2]
        entry |= {"size": 200_000, "mtime_ns": path.stat().st_mtime_ns}
        ready.write_text(json.dumps(flag))
        return project

    return make


def test_a_tile_that_fails_only_warns_there_and_is_named_here(truncated, native):
    project = truncated()
    done = project.process(check=False)
    assert done.returncode == 3
    record = project.flag("failed")
    assert record["tiles"]["missing"] == [2]
    assert record["extra"]["kind"] == "data"
    error = record["extra"]["error"]
    assert "1 of 3 tiles failed, 2 are done and kept" in error
    assert "image 0002 of mosaic 001: MATLAB left no dBI, R3D, O3D, surf, aip" in error
    # What the toolbox said of it is part of the message.
    assert "mosaic_001_image_0002 failed" in error
    assert "ends after 99824 of 393216 counts" in error
    assert not (project.dir / "mosaic-01/state/batch-001.processed").exists()
    assert project.kept() == [1, 3]
    assert not project.product(2, "dBI").exists()
    assert project.left_over() == []
    assert_same_products(project, native(), images=(1, 3))


def test_complex_tiles_of_the_host_one_of_which_cannot_be_used(make_project, tmp_path):
    """The header says another shape: the size is right, so only the toolbox finds out."""
    source = make_project("source", engine=None, processing__complex="keep")
    source.process(name="convert_complex")
    source.process()
    project = make_project(acquisition__tile_saving_type="complex", scan=False)
    for path in project.raw.glob("mosaic_*"):
        path.unlink()
    for image in (1, 2, 3):
        made = source.dir / f"mosaic-01/complex/mosaic_001_image_{image:04d}_complex.nii"
        content = bytearray(made.read_bytes())
        if image == 2:
            content[40:48] = struct.pack("<4h", 3, 6, 64, 1000)
        (project.raw / f"mosaic_001_image_{image:04d}_processed.nii").write_bytes(content)
    project.trigger("scan", "--assume-stable")
    done = project.process(check=False)
    assert done.returncode == 3
    assert "image 0002" in done.stderr
    assert "not a multiple of 4" in project.flag("failed")["extra"]["error"]
    assert project.kept() == [1, 3]
    np.testing.assert_allclose(project.array(1, "aip"), source.array(1, "aip"), atol=1e-4)


def test_through_snakemake_with_the_log_of_the_job(make_project):
    project = make_project()
    done = project.snakemake("--", "mosaic-01/state/batch-001.processed")
    assert done.returncode == 0
    log = (project.dir / "logs/process_tiles/mosaic-01_batch-001.log").read_text()
    assert log.count("matlab: mosaic_001_image_0002 done") == 1
    assert log.index("image_0001 done") < log.index("process_tiles mosaic 001 batch 001 done")
    assert project.trigger("doctor").stdout.startswith("0 findings")


def test_a_change_of_engine_is_listed_and_not_redone(make_project):
    project = make_project()
    project.process()
    before = project.product(1, "dBI").stat().st_mtime_ns
    text = project.config.read_text()
    project.config.write_text(text.replace("engine: matlab-batch", "engine: native"))
    found = project.trigger("doctor", check=False).stdout
    assert "made with other parameters of process_tiles than the configuration has now" in found
    project.config.write_text(text)
    toolbox = project.root.parent / "toolbox"
    (toolbox / "+psoct/+surface/gradient.m").write_text("% changed")
    assert "made with other parameters" in project.trigger("doctor", check=False).stdout
    assert project.product(1, "dBI").stat().st_mtime_ns == before


def test_a_function_that_the_toolbox_lacks(make_project):
    project = make_project()
    toolbox = project.root.parent / "toolbox"
    (toolbox / "+psoct/+complex/complex2volumes.m").unlink()
    done = project.process(check=False)
    assert done.returncode == 2
    error = project.flag("failed")["extra"]["error"]
    assert "MATLAB lacks a function. Set processing.matlab.toolbox_dir" in error
    assert "complex2volumes" in error
    assert project.flag("failed")["extra"]["kind"] == "config"


@pytest.fixture
def engine(monkeypatch, tmp_path):
    """MATLAB's engine for Python as stages find it, answered by Octave."""
    counter = tmp_path / "starts"
    paths = [str(HERE / "engine"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("OPTIC_TEST_STARTS", str(counter))
    return counter


def test_the_engine_for_python(make_project, native, engine):
    project = make_project("it's here", engine="matlab-engine", command="unused {command}")
    done = project.process()
    assert starts(engine) == 1
    assert_same_products(project, native())
    assert project.flag("processed")["extra"]["engine"] == "matlab-engine"
    assert done.stderr.count("matlab: mosaic_001_image_0003 done") == 1


def test_a_tile_that_fails_in_the_engine(truncated, engine):
    project = truncated(engine="matlab-engine", command="unused {command}")
    done = project.process(check=False)
    assert done.returncode == 3
    assert project.kept() == [1, 3]
    assert "ends after 99824 of 393216 counts" in project.flag("failed")["extra"]["error"]


def test_an_error_in_the_engine_is_told_once(make_project, engine):
    project = make_project(engine="matlab-engine", command="unused {command}")
    function = "toolbox/+psoct/+file/spectral2processed_batch_indexed.m"
    (project.root.parent / function).write_text(
        "function spectral2processed_batch_indexed(varargin)\n error('the reason');\nend\n"
    )
    done = project.process(check=False)
    assert done.returncode == 3
    assert done.stderr.count("matlab: error: the reason") == 1
    error = project.flag("failed")["extra"]["error"]
    assert "MATLAB ended with exit code 1, expected 0" in error
    assert "the reason" in error


def test_the_engine_without_a_licence(make_project, engine, monkeypatch):
    monkeypatch.setenv("OPTIC_TEST_NO_LICENCE", "1")
    project = make_project(engine="matlab-engine", command="unused {command}")
    done = project.process(check=False)
    assert done.returncode == 4
    assert project.flag("failed")["extra"]["kind"] == "service"
    assert "License checkout failed" in project.flag("failed")["extra"]["error"]


def test_no_engine_is_installed(make_project):
    project = make_project(engine="matlab-engine", command="unused {command}")
    done = project.process(check=False)
    assert done.returncode == 2
    assert "cannot import matlab.engine" in done.stderr
    assert "pip install" in done.stderr
    assert "processing.engine: matlab-batch" in done.stderr


def test_an_engine_that_cannot_be_imported(make_project, tmp_path, monkeypatch):
    """As when it is of another release than the MATLAB that is installed."""
    package = tmp_path / "broken/matlab/engine/__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("raise EnvironmentError('The installation of MATLAB is corrupted')")
    old = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}{os.pathsep}{old}")
    project = make_project(engine="matlab-engine", command="unused {command}")
    done = project.process(check=False)
    assert done.returncode == 2
    assert (
        "matlab.engine cannot be imported: The installation of MATLAB is corrupted" in done.stderr
    )


def test_matlab_of_the_engine_is_ended_by_name(engine, tmp_path):
    """It may have left the group of processes that is ended with the stage."""
    code = f"f = fopen('{tmp_path}/pid', 'w'); fprintf(f, '%d', getpid()); fclose(f); pause(600)"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "opticstream_smk.matlab.engine_process", code],
        cwd=tmp_path,  # where Octave leaves its variables
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    matlab = psutil.Process(int((tmp_path / "pid").read_text()))
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    matlab.wait(20)
