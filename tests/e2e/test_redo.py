from tests.e2e.test_workflow import FROM_PROCESSED, FROM_SOLVED


def test_redo_withdraws_a_stage_and_all_downstream(finished):
    before = sorted(finished.dir.rglob("*.stitched"))
    options = ("--from", "process_tiles", "--mosaic", 1, "--batch", 2)
    listed = finished.trigger("redo", *options, "--dry-run").stdout
    assert listed.count("would withdraw") == 4  # processed, qc, stitched, registered
    assert sorted(finished.dir.rglob("*.stitched")) == before
    assert finished.planned() == set()
    finished.trigger("redo", *options)
    assert finished.planned() == FROM_PROCESSED


def test_only_redo_of_the_coordinates_withdraws_a_template(finished):
    finished.trigger("redo", "--from", "solve_coordinates", "--acquisition", "normal")
    assert finished.planned() == FROM_SOLVED


def test_redo_says_what_is_wrong(finished):
    wrong = finished.trigger("redo", "--from", "stich", check=False)
    assert wrong.returncode == 2
    assert "stitch_enface" in wrong.stderr
    nothing = finished.trigger("redo", "--from", "stitch_enface", "--mosaic", 9, check=False)
    assert nothing.returncode == 3
    assert "nothing to redo" in nothing.stderr
    assert finished.trigger("redo", "--from", "scan", "--batch", 1, check=False).returncode == 2
