"""Everything that can go wrong with MATLAB: an error that says what to do, and the good tiles kept.

A small program stands for MATLAB; it is started as MATLAB is.
"""

import os
import signal
import subprocess
import time

import psutil
import pytest

from opticstream_smk.config import load_config
from opticstream_smk.preflight.matlab import check_matlab
from tests.e2e.conftest import BIN
from tests.matlab.conftest import MAPS

LICENCE = """
print("License checkout failed.")
print("License Manager Error -15")
print("MATLAB is unable to connect to the license server.", file=sys.stderr)
sys.exit(1)
"""


def assert_failed(project, error, *parts, code, kind, images=(1, 2, 3), kept=()):
    assert (error.exit_code, error.kind) == (code, kind), error
    record = project.flag("failed")
    assert record["extra"]["kind"] == kind
    assert record["extra"]["error"] == str(error)
    for part in parts:
        assert part in str(error)
    assert tuple(record["tiles"]["missing"]) == images
    assert not (project.dir / "mosaic-01/state/batch-001.processed").exists()
    assert project.kept() == list(kept)
    assert project.left_over() == []
    for image in (1, 2, 3):
        assert project.product(image, "aip").exists() == (image in kept)


def test_good_products_of_a_fake_pass(make_project, fake):
    """The fake is good enough to tell a failure from."""
    project = make_project(command=fake("for image in images: leave(image)"))
    assert project.attempt() is None
    assert project.kept() == [1, 2, 3]
    assert project.array(1, "aip").shape == (12, 8)  # saved as (X, Y, 1) there


@pytest.mark.parametrize(
    ("body", "parts", "code", "kind"),
    [
        (
            LICENCE,
            ["MATLAB got no licence", "License Manager Error -15", "tried again"],
            4,
            "service",
        ),
        (
            "print('Out of memory. Type \"help memory\" for your options.'); sys.exit(1)",
            ["ran out of memory", "processing.matlab.num_workers"],
            4,
            "resource",
        ),
        (
            "import signal; os.kill(os.getpid(), signal.SIGKILL)",
            ["ended by SIGKILL", "num_workers"],
            4,
            "resource",
        ),
        (
            "import signal; os.kill(os.getpid(), signal.SIGSEGV)",
            ["ended by SIGSEGV"],
            4,
            "resource",
        ),
        (
            "print('Error using fwrite: No space left on device'); sys.exit(1)",
            ["the disk is full"],
            4,
            "service",
        ),
        (
            "print(\"Unrecognized function or variable 'psoct'.\"); sys.exit(1)",
            ["MATLAB lacks a function", "processing.matlab.toolbox_dir", "'psoct'"],
            2,
            "config",
        ),
        (
            "for n in range(40): print('line', n)\nsys.exit(7)",
            ["exit code 7, expected 0", "line 39", "line 34"],
            3,
            "data",
        ),
        ("sys.exit(7)", ["exit code 7", "(nothing)"], 3, "data"),
    ],
)
def test_matlab_fails_as_a_whole(make_project, fake, body, parts, code, kind):
    project = make_project(command=fake(body))
    error = project.attempt()
    assert_failed(project, error, *parts, "mosaic 001 batch 001", code=code, kind=kind)
    assert "line 33" not in str(error)


def test_matlab_does_not_come_to_an_end(make_project, fake):
    body = "print('waits', flush=True)\ntime.sleep(600)"
    project = make_project(command=fake(body), matlab={"tile_timeout_s": 0.5})
    parts = ("ended after 1.5 s", "processing.matlab.tile_timeout_s", "waits")
    assert_failed(project, project.attempt(), *parts, code=4, kind="service")


@pytest.mark.parametrize(
    "ending", [LICENCE, "sys.exit(3)", "os.kill(os.getpid(), 9)", "print('Out of memory.')"]
)
def test_tiles_that_it_finished_are_kept_whatever_happens_then(make_project, fake, ending):
    # Out of order, as a pool does it; the half-written one is not kept.
    body = f"leave(3)\nleave(1, 'dBI', 'aip')\n{ending}"
    project = make_project(command=fake(body))
    assert project.attempt().exit_code in (3, 4)
    assert project.kept() == [3]
    record = project.flag("failed")
    assert record["tiles"]["missing"] == [1, 2]
    assert (
        "Without products: images 1,2; the other 1 of this start are done and kept"
        in (record["extra"]["error"])
    )
    assert not project.product(1, "aip").exists()
    # The next start gets the others only.
    project.config.write_text(project.config.read_text().replace("fake_matlab", "second"))
    fake("assert images == [1, 2], images\nfor image in images: leave(image)", "second.py")
    assert project.attempt() is None
    assert project.kept() == [1, 2, 3]
    assert not (project.dir / "mosaic-01/state/batch-001.failed").exists()


def test_a_crash_after_the_work_loses_nothing(make_project, fake, caplog):
    body = "for image in images: leave(image)\nos.kill(os.getpid(), 11)"
    project = make_project(command=fake(body))
    assert project.attempt() is None
    assert "every tile is complete, although MATLAB was ended by SIGSEGV" in caplog.text
    assert project.kept() == [1, 2, 3]


def test_no_products_and_not_a_word(make_project, fake):
    project = make_project(command=fake("leave(1)\nleave(3)\nleave(2, 'dBI', 'R3D', 'O3D')"))
    assert_failed(
        project,
        project.attempt(),
        "image 0002 of mosaic 001: MATLAB left no surf, aip, mip, ret, ori, biref",
        "It said nothing about this tile",
        code=3,
        kind="data",
        images=(2,),
        kept=(1, 3),
    )


BROKEN = {
    "truncated": ("path.write_bytes(path.read_bytes()[:5000])", "MATLAB left products that cannot"),
    "not NIfTI": ("path.write_text('x' * 5000)", "MATLAB left products that cannot be read"),
    "another shape": (
        "nibabel.save(nibabel.Nifti1Image(np.ones((8, 12, 1000), 'f4'), np.eye(4)), path)",
        "dBI: shape (8, 12, 1000), expected (12, 8, 1000)",
    ),
    "another type": (
        "a = nibabel.load(path).get_fdata()\n"
        "nibabel.save(nibabel.Nifti1Image(a, np.eye(4), dtype='f8'), path)",
        "dBI: dtype float64, expected float32",
    ),
    "NaN": (
        "a = nibabel.load(path).get_fdata().astype('f4'); a[:6] = np.nan\n"
        "nibabel.save(nibabel.Nifti1Image(a, np.eye(4)), path)",
        "dBI: finite share 0.5",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_products_that_cannot_be_right(make_project, fake, how):
    damage, message = BROKEN[how]
    body = (
        "import pathlib, nibabel, numpy as np\n"
        "for image in images: leave(image)\n"
        "path = pathlib.Path(folder, 'mosaic_001_image_0002_dBI.nii')\n" + damage
    )
    project = make_project(command=fake(body))
    assert_failed(
        project,
        project.attempt(),
        "image 0002",
        message,
        code=3,
        kind="data",
        images=(2,),
        kept=(1, 3),
    )


def test_what_an_earlier_start_left_is_not_taken_for_new(make_project, fake):
    project = make_project(command=fake("leave(1)\nleave(2)"))
    processed = project.dir / "mosaic-01/processed"
    left = processed / ".matlab-batch-001-dead"
    other = processed / ".matlab-batch-002-alive"
    for folder in (left, other):
        folder.mkdir(parents=True)
        (folder / "mosaic_001_image_0003_dBI.nii").write_text("old")
    # Also under its final name: it has no receipt.
    project.product(3, "aip").write_text("old")
    assert project.attempt().exit_code == 3
    assert project.flag("failed")["tiles"]["missing"] == [3]
    assert not left.exists()
    assert other.exists()
    found = project.trigger("doctor", "--fix", check=False).stdout
    assert "was left by a stage that died while MATLAB or Fiji worked" in found
    assert not other.exists()


def test_raw_files_that_change_meanwhile_are_noticed(make_project, fake):
    body = (
        "import re\n"
        "for image in images: leave(image)\n"
        "(path,) = re.findall(\"'([^']*image_0002_spectral[^']*)'\", text)\n"
        "os.utime(path)"
    )
    project = make_project(command=fake(body))
    assert_failed(
        project,
        project.attempt(),
        "was written again after its batch became ready",
        code=3,
        kind="data",
        images=(2,),
        kept=(1, 3),
    )


def test_a_raw_file_that_has_gone_stops_no_other(make_project, fake):
    project = make_project(
        command=fake("assert images == [1, 3], images\nfor image in images: leave(image)")
    )
    (project.raw / "mosaic_001_image_0002_spectral_0002.nii").unlink()
    assert_failed(
        project,
        project.attempt(),
        "cannot be seen any more",
        code=3,
        kind="data",
        images=(2,),
        kept=(1, 3),
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "no-such-matlab -batch {command}",
            "`no-such-matlab` of processing.matlab.command is not there",
        ),
        (["/opt/MATLAB R2030/bin/matlab", "-batch", "{command}"], "`/opt/MATLAB R2030/bin/matlab`"),
    ],
)
def test_matlab_is_missing(make_project, command, message):
    project = make_project(command=command)
    assert_failed(
        project, project.attempt(), message, "give its full path", code=2, kind="config", images=()
    )


def test_a_program_that_cannot_be_run(make_project, tmp_path):
    program = tmp_path / "matlab"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    project = make_project(command=[str(program), "{command}"])
    assert_failed(
        project, project.attempt(), f"`{program}` cannot be started", code=2, kind="config"
    )


def damaged_toolbox(project, how):
    toolbox = project.root.parent / "toolbox"
    function = toolbox / "+psoct/+file/spectral2processed_batch_indexed.m"
    if how == "no folder":
        toolbox.rename(toolbox.with_name("elsewhere"))
    elif how == "no package":
        (toolbox / "+psoct").rename(toolbox / "psoct")
    elif how == "no function":
        function.unlink()
    elif how == "another calibration":
        (toolbox / "wave-pixel.mat").rename(toolbox / "right.mat")
        from scipy.io import loadmat, savemat

        content = loadmat(toolbox / "right.mat")
        savemat(
            toolbox / "wave-pixel.mat",
            {"mu": content["mu"] + 0.1, "wave_prime": content["wave_prime"]},
        )
    return toolbox


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no folder", "is not a folder; expected that of psoct-toolbox"),
        ("no package", "has no folder +psoct in it"),
        ("no function", "has no function psoct.file.spectral2processed_batch_indexed"),
        ("another calibration", "which is not acquisition.calibration_file"),
    ],
)
def test_the_toolbox_cannot_be_used(make_project, fake, how, message):
    project = make_project(command=fake("for image in images: leave(image)"))
    toolbox = damaged_toolbox(project, how)
    assert_failed(
        project, project.attempt(), message, str(toolbox), code=2, kind="config", images=()
    )
    (check,) = [c for c in check_matlab(load_config(project.config)) if c.verdict == "FAILED"]
    assert check.exit_code == 2
    assert message in check.found


def test_a_toolbox_without_a_calibration_to_compare(make_project, fake, caplog):
    project = make_project(command=fake("for image in images: leave(image)"))
    (project.root.parent / "toolbox/wave-pixel.mat").unlink()
    assert project.attempt() is None
    assert "no wave-pixel.mat in" in caplog.text


def test_a_dispersion_of_another_length(make_project, fake, tmp_path):
    path = tmp_path / "dispersion.bin"
    path.write_bytes(bytes(8 * 1024))
    project = make_project(command=fake(""), acquisition__dispersion_file=str(path))
    assert_failed(
        project,
        project.attempt(),
        f"{path} has 8192 bytes; psoct-toolbox reads 16384",
        code=2,
        kind="config",
        images=(),
    )


def test_a_toolbox_folder_that_no_path_can_hold(make_project, fake):
    project = make_project("a:b", command=fake(""))
    assert_failed(
        project, project.attempt(), "has a ':' in its name", code=2, kind="config", images=()
    )


def test_preflight_looks_without_starting_anything(make_project, fake):
    project = make_project(command=fake("raise SystemExit('was started')"))
    done = project.trigger("preflight", check=False)
    assert "was started" not in done.stdout
    assert "matlab-batch: " in done.stdout
    assert "not started" in done.stdout
    assert "psoct-toolbox: " in done.stdout
    assert "toolbox_quirks false" in done.stdout
    check = project.trigger("config check").stdout
    assert "note: processing.toolbox_quirks false" in check


def test_preflight_misses_matlab(make_project):
    project = make_project(command="no-such-matlab {command}")
    (check,) = [c for c in check_matlab(load_config(project.config)) if c.verdict == "FAILED"]
    assert check.exit_code == 2
    assert "`no-such-matlab` of processing.matlab.command is not there" in check.found
    native = make_project("native", engine=None)
    assert check_matlab(load_config(native.config)) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_matlab_ends_with_its_stage(make_project, fake, tmp_path, number):
    pid_file = tmp_path / "pid"
    body = (
        "leave(1)\n"
        "assert os.getcwd() == folder\n"  # where crash dumps go
        f"open({str(tmp_path / 'new')!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(pid_file)!r})\n"
        "time.sleep(600)"
    )
    project = make_project(command=fake(body))
    stage = subprocess.Popen(
        [
            BIN / "optic-stage",
            "process_tiles",
            "--config",
            project.config,
            "--mosaic",
            "1",
            "--batch",
            "1",
        ],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not pid_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    matlab = psutil.Process(int(pid_file.read_text()))
    os.kill(stage.pid, number)
    stage.wait(20)
    matlab.wait(20)
    # Nothing has a final name; the next attempt removes what it left, and does everything.
    assert not project.product(1, "aip").exists()
    project.config.write_text(project.config.read_text().replace("fake_matlab", "second"))
    fake("for image in images: leave(image)", "second.py")
    project.process()
    assert project.kept() == [1, 2, 3]
    assert project.left_over() == []


def test_the_failure_names_the_log_that_snakemake_gave_it(make_project, fake):
    project = make_project(command=fake("print('the reason')\nsys.exit(5)"))
    done = project.snakemake("--", "mosaic-01/state/batch-001.processed", check=False)
    assert done.returncode != 0
    log = project.dir / "logs/process_tiles/mosaic-01_batch-001.log"
    assert f"All of it is in {log}" in project.flag("failed")["extra"]["error"]
    assert log.read_text().count("INFO matlab: the reason") == 1


def test_every_map_that_is_asked_for_is_expected(make_project, fake):
    """And none that is not: orientation is always computed there."""
    project = make_project(
        command=fake("for image in images: leave(image, 'dBI', 'R3D', 'O3D', 'surf', 'aip')"),
        processing__modalities=["aip"],
        mosaic__modalities=["aip"],
        registration__enabled=False,
    )
    assert project.attempt() is None
    assert project.product(1, "aip").exists()
    assert not any(project.product(1, name).exists() for name in MAPS if name != "aip")
