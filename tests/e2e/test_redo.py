import json
import os

import nibabel
import numpy as np

from tests.e2e.test_workflow import FROM_PLACED, FROM_PROCESSED, FROM_SOLVED


def test_redo_withdraws_a_stage_and_all_downstream(finished):
    before = sorted(finished.dir.rglob("*.stitched"))
    options = ("--from", "process_tiles", "--mosaic", 1, "--batch", 2)
    listed = finished.trigger("redo", *options, "--dry-run").stdout
    assert listed.count("would withdraw") == 5  # processed, qc, coordinates, stitched, registered
    assert sorted(finished.dir.rglob("*.stitched")) == before
    assert finished.planned() == set()
    finished.trigger("redo", *options)
    assert finished.planned() == FROM_PROCESSED


def test_only_redo_of_the_coordinates_withdraws_a_template(finished):
    finished.trigger("redo", "--from", "solve_coordinates", "--acquisition", "normal")
    assert finished.planned() == FROM_SOLVED


def test_redo_of_the_coordinates_of_one_mosaic(finished):
    finished.trigger("redo", "--from", "solve_coordinates", "--mosaic", 1)
    assert finished.planned() == FROM_PLACED


def test_a_mosaic_that_drifts_gets_positions_of_its_own(finished):
    # As if the stage had slipped before image 5, which lies in the middle.
    path = finished.dir / "mosaic-03/processed/mosaic_003_image_0005_aip.nii"
    image = nibabel.load(path)
    slipped = np.roll(np.asarray(image.dataobj), (-5, 4), axis=(0, 1))
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(slipped, image.affine, image.header), path)
    finished.trigger("redo", "--from", "solve_coordinates", "--mosaic", 3)
    finished.snakemake()
    flag = json.loads((finished.dir / "mosaic-03/state/mosaic-03.stitched").read_text())
    assert flag["extra"]["template"] == "mosaic-03/tilemap.j2"
    found = json.loads((finished.dir / "mosaic-03/state/mosaic-03.coordinates").read_text())
    assert found["numbers"]["drift_image_worst"] == 5
    assert 5 < found["numbers"]["drift_px_worst"] < 8
    assert "mosaic 003: its tiles lie" in finished.trigger("status").stdout
    assert (finished.dir / "report/mosaic-03_coordinates.jpg").exists()
    assert (finished.dir / "state/slice-02.registered").exists()
    assert finished.planned() == set()
    assert finished.trigger("doctor").stdout.startswith("0 findings")
    # The others are as they were.
    others = json.loads((finished.dir / "mosaic-01/state/mosaic-01.stitched").read_text())
    assert others["extra"]["template"] == "tilemap-normal.j2"


def test_what_an_earlier_version_stitched_is_left_alone_until_it_is_redone(finished):
    """It knew no `.coordinates`, and `.stitched` did not say which template it was made with."""
    for mosaic in (1, 2, 3, 4):
        state = finished.dir / f"mosaic-{mosaic:02d}/state"
        (state / f"mosaic-{mosaic:02d}.coordinates").unlink()
        path = state / f"mosaic-{mosaic:02d}.stitched"
        flag = json.loads(path.read_text())
        del flag["extra"]["template"]
        times = path.stat()
        path.unlink()
        path.write_text(json.dumps(flag))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert finished.planned() == set()
    doctor = finished.trigger("doctor", "--fix")
    assert "withdraw" not in doctor.stdout
    assert finished.planned() == set()
    finished.trigger("redo", "--from", "solve_coordinates", "--mosaic", 1)
    assert finished.planned() == FROM_PLACED


def test_redo_says_what_is_wrong(finished):
    wrong = finished.trigger("redo", "--from", "stich", check=False)
    assert wrong.returncode == 2
    assert "stitch_enface" in wrong.stderr
    nothing = finished.trigger("redo", "--from", "stitch_enface", "--mosaic", 9, check=False)
    assert nothing.returncode == 3
    assert "nothing to redo" in nothing.stderr
    assert finished.trigger("redo", "--from", "scan", "--batch", 1, check=False).returncode == 2
