"""Tiles taken out of a template are missing in what is stitched next, and the template stays."""

import json

import numpy as np

from opticstream_smk.config import load_config
from opticstream_smk.io import nifti
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.stages.tilemap import read_tilemap


def image(project, name):
    return nifti.read_image(project.dir / f"mosaic-01/stitched/mosaic_001_{name}.nii")


def test_a_column_that_is_dropped(finished):
    config, layout = load_config(finished.config), ProjectLayout(finished.dir)
    before, whole = read_tilemap(config, layout, "normal"), np.array(image(finished, "aip_nomask"))
    template = layout.template("normal")
    rows, columns = config.acquisition.rows("normal"), config.acquisition.columns("normal")
    finished.run(
        "optic-trigger", "edit-tiles", template, "-o", template, "--overwrite",
        "--drop-columns", columns,
    )  # fmt: skip
    dropped = list(range((columns - 1) * rows + 1, columns * rows + 1))  # the last batch

    doctor = finished.trigger("doctor", "--fix")
    assert f"{template}: was edited since the coordinates were solved" in doctor.stdout
    assert "withdraw" not in doctor.stdout
    assert finished.planned() == set()

    finished.trigger("redo", "--from", "stitch_enface", "--mosaic", 1)
    finished.stage("stitch_enface", "--mosaic", 1)
    after = read_tilemap(config, layout, "normal")
    assert after.dropped == after.missing == set(dropped)
    found = image(finished, "aip_nomask")
    assert found.shape == after.canvas_px
    assert found.shape[1] < whole.shape[1]
    # What the dropped tiles had no part in is as it was; elsewhere the others have it alone.
    kept = [n - 1 for n in range(1, rows * columns + 1) if n not in dropped]
    edge = int(np.rint(before.positions_px[[n - 1 for n in dropped], 1].min()))
    top = before.origin_px[0] - int(np.rint(before.positions_px[kept, 0].min()))
    assert top == 0
    np.testing.assert_allclose(found[:, :edge], whole[: found.shape[0], :edge], rtol=1e-5)
    assert np.isfinite(found[after.coverage()]).all()
    flag = json.loads((finished.dir / "mosaic-01/state/mosaic-01.stitched").read_text())
    assert flag["tiles"]["missing"] == []  # none was missing when it was acquired

    # A mosaic measured anew is compared by the tiles that are left.
    finished.trigger("redo", "--from", "solve_coordinates", "--mosaic", 3)
    finished.stage("solve_coordinates", "--mosaic", 3)
    flag = json.loads((finished.dir / "mosaic-03/state/mosaic-03.coordinates").read_text())
    assert flag["extra"]["dropped_images"] == dropped
    assert flag["numbers"]["drift_px_rms"] < 1
    assert flag["extra"]["template"] == "tilemap-normal.j2"
