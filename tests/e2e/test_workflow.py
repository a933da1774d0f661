"""The whole way on synthetic raw data, by the commands that people type."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.e2e.conftest import BIN, REPO, Project
from tests.requirements import require

MODALITIES = ("aip", "mip", "ret", "ori", "biref", "surf")


def batch(state, mosaic, number):
    rule = {"complex": "convert_complex", "processed": "process_tiles", "qc": "qc_tiles"}[state]
    return (rule, f"mosaic-{mosaic:02d}/state/batch-{number:03d}.{state}")


def stitched(mosaic):
    return ("stitch_enface", f"mosaic-{mosaic:02d}/state/mosaic-{mosaic:02d}.stitched")


def placed(mosaic):
    return (
        "solve_mosaic_coordinates",
        f"mosaic-{mosaic:02d}/state/mosaic-{mosaic:02d}.coordinates",
    )


def solved(acquisition):
    return ("solve_coordinates", f"state/tilemap-{acquisition}.solved")


def registered(slice_):
    return ("register_slice", f"state/slice-{slice_:02d}.registered")


def picture(level, number):
    rule = {"mosaic": "qc_mosaic", "slice": "qc_slice"}[level]
    return (rule, f"report/{level}-{number:02d}.jpg")


FROM_REGISTERED = {registered(1), picture("slice", 1)}
FROM_STITCHED = {stitched(1), picture("mosaic", 1), *FROM_REGISTERED}
FROM_PLACED = {placed(1), *FROM_STITCHED}
FROM_PROCESSED = {batch("processed", 1, 2), batch("qc", 1, 2), *FROM_PLACED}
FROM_COMPLEX = {batch("complex", 1, 2), *FROM_PROCESSED}
FROM_SOLVED = {
    solved("normal"), placed(1), placed(3), stitched(1), stitched(3),
    picture("mosaic", 1), picture("mosaic", 3),
    registered(1), registered(2), picture("slice", 1), picture("slice", 2),
}  # fmt: skip
PROCESSED = "mosaic-01/processed/mosaic_001_image_0005"

DELETIONS = {
    "mosaic-01/state/batch-002.complex": FROM_COMPLEX,
    "mosaic-01/complex/mosaic_001_image_0005_complex.nii": FROM_COMPLEX,
    "mosaic-01/complex/.receipts/mosaic_001_image_0005.json": FROM_COMPLEX,
    "mosaic-01/state/batch-002.processed": FROM_PROCESSED,
    **{f"{PROCESSED}_{name}.nii": FROM_PROCESSED
       for name in ("dBI", "R3D", "O3D", "surf", "aip", "mip", "ret", "ori", "biref")},
    "mosaic-01/processed/.receipts/mosaic_001_image_0005.json": FROM_PROCESSED,
    "state/tilemap-normal.solved": FROM_SOLVED,
    "tilemap-normal.j2": FROM_SOLVED,
    "mosaic-01/state/mosaic-01.coordinates": FROM_PLACED,
    "mosaic-01/stitched/mosaic_001_edges.tsv": FROM_PLACED,
    "mosaic-01/state/mosaic-01.stitched": FROM_STITCHED,
    "mosaic-01/stitched/mosaic_001_aip_nomask.tiff": FROM_STITCHED,
    "mosaic-01/stitched/mosaic_001_mask.nii": FROM_STITCHED,
    "mosaic-01/stitched/mosaic_001_ori.jpg": FROM_STITCHED,
    "state/slice-01.registered": FROM_REGISTERED,
    "registered/slice-01_data.mat": FROM_REGISTERED,
    "registered/slice-01_transform.json": FROM_REGISTERED,
    "registered/slice-01_3daxis.nii": FROM_REGISTERED,
    "mosaic-01/state/batch-002.qc": {batch("qc", 1, 2)},
    "report/mosaic-01_batch-002.jpg": {batch("qc", 1, 2)},
    "report/mosaic-01.jpg": {picture("mosaic", 1)},
    "report/slice-01.jpg": {picture("slice", 1)},
    "mosaic-01/state/batch-002.started": set(),
}  # fmt: skip


def test_every_product_of_the_design_is_there(finished_session):
    folder = finished_session.dir
    for mosaic in (1, 2, 3, 4):
        for modality in MODALITIES:
            for name in (modality, f"{modality}_nomask"):
                for suffix in (".nii", ".jpg", ".tiff"):
                    stem = f"mosaic-{mosaic:02d}/stitched/mosaic_{mosaic:03d}"
                    path = folder / f"{stem}_{name}{suffix}"
                    assert path.stat().st_size > 0
    for slice_ in (1, 2):
        for name in [
            "inplane.tiff",
            "inplane.jpg",
            "thruplane.tiff",
            "thruplane.jpg",
            "3daxis.nii",
            "3daxis.jpg",
            "3daxis_raw.nii",
            "biref.nii",
            "data.mat",
            "transform.json",
        ]:
            assert (folder / f"registered/slice-{slice_:02d}_{name}").stat().st_size > 0


def test_products_agree_with_the_truth_of_the_simulation(finished_session):
    done = finished_session.trigger("simulate compare", "--format", "json", check=False)
    rows = json.loads(done.stdout)
    assert {row["name"] for row in rows} >= {"surface", "orientation", "AIP", "in-plane axis"}
    missed = [row for row in rows if not row["passed"]]
    assert not missed
    assert done.returncode == 0


def test_nothing_touched_nothing_runs(finished_session):
    assert finished_session.planned() == set()
    doctor = finished_session.trigger("doctor")
    assert doctor.stdout.startswith("0 findings")


@pytest.mark.parametrize("deleted", DELETIONS)
def test_a_deletion_brings_back_its_stage_and_all_downstream(finished, deleted):
    (finished.dir / deleted).unlink()
    finished.trigger("doctor", "--fix")
    assert finished.planned() == DELETIONS[deleted]


def test_a_lost_ready_comes_back_with_scan_and_nothing_runs(finished):
    (finished.dir / "mosaic-01/state/batch-002.ready").unlink()
    doctor = finished.trigger("doctor", "--fix", check=False)
    assert doctor.returncode == 3
    assert "optic-trigger scan" in doctor.stdout
    assert finished.planned() == set()
    assert "1 batches newly ready" in finished.trigger("scan", "--assume-stable").stdout
    assert finished.planned() == set()
    assert finished.trigger("doctor").returncode == 0


def test_a_repair_computes_only_the_lost_tile(finished):
    lost = finished.dir / f"{PROCESSED}_aip.nii"
    before = nibabel.load(lost).get_fdata()
    lost.unlink()
    finished.trigger("doctor", "--fix")
    finished.snakemake()
    log = (finished.dir / "logs/process_tiles/mosaic-01_batch-002.log").read_text()
    # A tile is finished while the next is looked at.
    assert sorted(re.findall(r"image (\d+) (kept|done)", log)) == [
        ("0004", "kept"), ("0005", "done"), ("0006", "kept"),
    ]  # fmt: skip
    np.testing.assert_array_equal(nibabel.load(lost).get_fdata(), before)
    assert finished.planned() == set()


def test_a_stage_that_outlives_its_snakemake_is_not_run_again(finished):
    """Snakemake dates a job by its benchmark too, which is then still that of an earlier run."""
    finished.trigger("redo", "--from", "convert_complex", "--mosaic", 1, "--batch", 2)
    finished.stage("convert_complex", "--mosaic", 1, "--batch", 2)
    finished.stage("process_tiles", "--mosaic", 1, "--batch", 2)
    assert finished.planned() == FROM_PROCESSED - {batch("processed", 1, 2)}


def test_products_are_bit_identical_when_made_again(finished, finished_session):
    (finished.dir / "mosaic-01/state/mosaic-01.stitched").unlink()
    finished.snakemake()
    for folder in ("mosaic-01/stitched", "registered"):
        for path in sorted((finished_session.dir / folder).iterdir()):
            if path.name.endswith("_edges.tsv"):  # made with the coordinates
                continue
            again = finished.dir / folder / path.name
            assert not again.samefile(path) or path.name.startswith("slice-02")
            if path.suffix != ".mat":  # its header holds the time
                assert again.read_bytes() == path.read_bytes(), path.name


def test_geometry_and_headers(finished_session):
    image = nibabel.load(finished_session.dir / "mosaic-03/stitched/mosaic_003_aip.nii")
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["qform_code"] > 0
    assert image.header["sform_code"] > 0
    np.testing.assert_allclose(image.header.get_zooms()[:2], (0.01, 0.01), rtol=1e-6)
    np.testing.assert_allclose(image.affine[2, 3], 0.5)  # slice 2, 500 um thick
    assert image.ndim == 2
    axis = nibabel.load(finished_session.dir / "registered/slice-01_3daxis.nii")
    assert axis.shape[2] == 3
    assert b"(-X, Z, Y)" in axis.header["descrip"].item()


def test_masked_and_unmasked(finished_session):
    folder = finished_session.dir / "mosaic-01/stitched"
    mask = np.asarray(nibabel.load(folder / "mosaic_001_mask.nii").dataobj)
    assert set(np.unique(mask)) == {0, 255}
    for modality in MODALITIES:
        masked = nibabel.load(folder / f"mosaic_001_{modality}.nii").get_fdata()
        unmasked = nibabel.load(folder / f"mosaic_001_{modality}_nomask.nii").get_fdata()
        np.testing.assert_array_equal(masked[mask > 0], unmasked[mask > 0])
        assert not masked[mask == 0].any()
        assert np.isfinite(unmasked).all()


def test_discard_gives_the_same_maps_without_complex_tiles(raw, finished_session, tmp_path):
    project = Project(tmp_path / "discard", raw, {"processing__complex": "discard"})
    project.trigger("scan", "--assume-stable")
    project.snakemake("--", "mosaic-01/state/batch-001.processed")
    assert not (project.dir / "mosaic-01/complex").exists()
    assert not (project.dir / "mosaic-01/state/batch-001.complex").exists()
    assert not any(rule == "convert_complex" for rule, _ in project.planned())
    for name in ("dBI", "O3D", "surf", "ori", "biref"):
        relative = f"mosaic-01/processed/mosaic_001_image_0002_{name}.nii"
        np.testing.assert_array_equal(
            nibabel.load(project.dir / relative).get_fdata(),
            nibabel.load(finished_session.dir / relative).get_fdata(),
        )


@pytest.fixture
def own_raw(raw, tmp_path):
    """Raw tiles of slice 1 that a test may damage, with a project that discards complex tiles."""
    folder = tmp_path / "my raw (copy)"
    shutil.copytree(
        raw,
        folder,
        copy_function=os.link,
        ignore=shutil.ignore_patterns("mosaic_003*", "mosaic_004*"),
    )
    return Project(tmp_path / "it's a prüject", folder, {"processing__complex": "discard"})


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def test_a_tile_truncated_after_scan(own_raw, raw):
    project = own_raw
    project.trigger("scan", "--assume-stable")
    tile = project.raw / "mosaic_001_image_0005_spectral_0005.nii"
    truncate(tile)
    done = project.snakemake(check=False)
    assert done.returncode != 0
    assert str(tile) in done.stdout + done.stderr
    state = project.dir / "mosaic-01/state"
    assert not (state / "batch-002.processed").exists()
    failed = json.loads((state / "batch-002.failed").read_text())
    assert failed["tiles"]["missing"] == [5]
    kept = project.dir / "mosaic-01/processed"
    assert (kept / "mosaic_001_image_0004_aip.nii").exists()
    assert (kept / "mosaic_001_image_0006_aip.nii").exists()
    assert not (kept / "mosaic_001_image_0005_aip.nii").exists()
    assert (project.dir / "mosaic-02/state/mosaic-02.stitched").exists()
    status = project.trigger("status", check=False)
    assert status.returncode == 3
    assert str(tile) in status.stdout
    # Restored, scan takes the new file, and only this tile is computed.
    shutil.copy(raw / tile.name, tile)
    project.trigger("scan", "--assume-stable")
    project.snakemake()
    log = (project.dir / "logs/process_tiles/mosaic-01_batch-002.log").read_text()
    # A tile is finished while the next is looked at.
    assert sorted(re.findall(r"image (\d+) (kept|done)", log)) == [
        ("0004", "kept"), ("0005", "done"), ("0006", "kept"),
    ]  # fmt: skip
    assert (project.dir / "state/slice-01.registered").exists()
    assert not (state / "batch-002.failed").exists()


def test_a_tile_truncated_before_scan(own_raw):
    project = own_raw
    tile = project.raw / "mosaic_001_image_0005_spectral_0005.nii"
    truncate(tile)
    done = project.trigger("scan", "--assume-stable", check=False)
    assert done.returncode == 3
    assert str(tile) in done.stdout
    ready = {path.name for path in project.dir.rglob("*.ready")}
    assert len(list(project.dir.rglob("*.ready"))) == 5
    assert "batch-002.ready" in ready  # that of mosaic 2
    assert not (project.dir / "mosaic-01/state/batch-002.ready").exists()


def test_a_killed_stage_is_taken_up_where_it_was(own_raw):
    project = own_raw
    project.trigger("scan", "--assume-stable")
    receipt = project.dir / "mosaic-01/processed/.receipts/mosaic_001_image_0001.json"
    command = ["process_tiles", "--config", project.config, "--mosaic", "1", "--batch", "1"]
    process = subprocess.Popen([BIN / "optic-stage", *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not receipt.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (project.dir / "mosaic-01/state/batch-001.processed").exists()
    again = project.stage("process_tiles", "--mosaic", 1, "--batch", 1)
    assert "image 0001 kept" in again.stderr
    assert (project.dir / "mosaic-01/state/batch-001.processed").exists()


def test_two_runs_of_one_stage_do_the_work_once(own_raw):
    project = own_raw
    project.trigger("scan", "--assume-stable")
    command = [
        BIN / "optic-stage",
        "process_tiles",
        "--config",
        project.config,
        "--mosaic",
        "1",
        "--batch",
        "1",
    ]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    logs = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum(log.count(" done\n") for log in logs) == 3  # three tiles, once each
    assert sum("done by another process" in log for log in logs) == 1


def test_a_forced_stage_withdraws_downstream_first(finished):
    skipped = finished.stage("process_tiles", "--mosaic", 1, "--batch", 2)
    assert "--force does it again" in skipped.stderr
    assert finished.planned() == set()
    finished.stage("process_tiles", "--mosaic", 1, "--batch", 2, "--force")
    assert (finished.dir / "mosaic-01/state/batch-002.processed").exists()
    assert not (finished.dir / "mosaic-01/state/mosaic-01.stitched").exists()
    assert not (finished.dir / "state/slice-01.registered").exists()
    assert (finished.dir / "state/slice-02.registered").exists()
    assert (finished.dir / "state/tilemap-normal.solved").exists()


def test_later_mosaics_wait_for_the_template_slice(raw, tmp_path):
    overrides = {"acquisition__sources": [{"dir": str(raw), "mosaic_ranges": "3:4"}]}
    project = Project(tmp_path / "late", raw, {**overrides, "mosaic__template_slice": 1})
    project.trigger("scan", "--assume-stable")
    assert {rule for rule, _ in project.planned()} == {
        "convert_complex",
        "process_tiles",
        "qc_tiles",
    }
    assert "template slice 1" in project.trigger("status").stdout
    free = Project(tmp_path / "free", raw, overrides)
    free.trigger("scan", "--assume-stable")
    assert registered(2) in free.planned()


def test_parameters_that_drifted_are_listed_and_not_redone(finished_session, tmp_path):
    other = Project(tmp_path / "drift", finished_session.raw, {"processing__depth_px": 60})
    shutil.copytree(finished_session.dir, other.dir, copy_function=os.link)
    doctor = other.trigger("doctor", "--fix")
    assert doctor.stdout.count("other parameters of process_tiles") == 12
    assert other.planned() == set()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("grid_size_y", 9, "grid_size_y: 9 tiles per batch now, 3"),
        ("grid_size_x_normal", 2, "grid_size_x_normal: 2 batches now, 3"),
        ("tile_size_y", 40, "tile size: [15728992] bytes per tile now, [18874720]"),
    ],
)
def test_another_grid_is_refused_while_flags_are_present(
    finished_session, tmp_path, key, value, message
):
    other = Project(tmp_path / "grid", finished_session.raw, {f"acquisition__{key}": value})
    shutil.copytree(finished_session.dir, other.dir, copy_function=os.link)
    scan = other.trigger("scan", "--assume-stable", check=False)
    assert scan.returncode == 2
    assert message in scan.stderr
    assert "redo --from scan" in scan.stderr
    done = other.snakemake("-n", check=False)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    other.trigger("redo", "--from", "scan")
    assert other.trigger("scan", "--assume-stable", check=False).returncode in (0, 3)


def test_values_on_the_command_line_are_refused(finished_session):
    done = finished_session.snakemake("-n", "--config", "depth=3", check=False)
    assert done.returncode != 0
    assert "would not reach" in done.stdout + done.stderr


def test_no_configuration(tmp_path):
    env = {key: value for key, value in os.environ.items() if key != "OPTIC_CONFIG"}
    done = subprocess.run(
        [BIN / "snakemake", "-s", REPO / "Snakefile", "-n"],
        cwd=tmp_path, capture_output=True, text=True, env=env,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--configfile" in done.stdout + done.stderr
    assert "OPTIC_CONFIG" in done.stdout + done.stderr


def test_another_directory_is_refused(finished_session, tmp_path):
    done = finished_session.snakemake("-n", "--directory", tmp_path, check=False)
    assert done.returncode != 0
    assert "Leave --directory out" in done.stdout + done.stderr


def test_status_of_a_finished_project(finished_session):
    done = finished_session.trigger("status")
    assert "next: nothing to do" in done.stdout
    report = json.loads(finished_session.trigger("status", "--format", "json").stdout)
    assert [slice_["status"] for slice_ in report["slices"]] == ["done", "done"]


def test_dag_pictures(finished, tmp_path):
    (finished.dir / "state/slice-01.registered").unlink()
    for suffix in ("svg", "png", "mmd"):
        path = tmp_path / f"dag.{suffix}"
        finished.trigger("dag", "--slice", 1, "-o", path)
        assert path.stat().st_size > 1000
    text = (tmp_path / "dag.mmd").read_text()
    assert text.count("process_tiles") >= 6
    template = re.search(r'(\w+)\["[^"]*solve_coordinates[^"]*normal', text)[1]
    assert len(re.findall(rf"--> {template}\b", text)) == 3  # also when it is finished
    wrong = finished.trigger("dag", "-o", tmp_path / "dag.pdf", check=False)
    assert wrong.returncode == 2
    assert ".svg" in wrong.stderr


def test_the_report_opens_and_shows_the_pictures(finished_session, tmp_path):
    chromium = require("chromium")
    page = tmp_path / "report.html"
    finished_session.snakemake("--report", page)
    shown = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}",
         "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Mosaics" in shown.stdout
    assert "Slices" in shown.stdout


def test_octave_reads_the_mat_file(finished_session):
    octave = require("octave")
    path = finished_session.dir / "registered/slice-01_data.mat"
    done = subprocess.run(
        [octave, "--no-gui", "--quiet", "--eval",
         f"s = load('{path}'); disp(sort(fieldnames(s))'); disp(size(s.phi_n))"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    for name in [
        "Psi_ObsLSQ",
        "Theta_ObsLSQ",
        "biref_ObsLSQ",
        "dneff_n",
        "dneff_x",
        "phi_n",
        "phi_x",
        "psi",
    ]:
        assert name in done.stdout
