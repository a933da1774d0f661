"""What the template's flag says about tiles that do not fit."""

from types import SimpleNamespace

import numpy as np
import pytest

from opticstream_smk.io import nifti
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.stages.solve_coordinates import compute
from opticstream_smk.stages.tilemap import read_tilemap
from tests.mosaic.phantom import make_phantom

SIDE = 96


@pytest.fixture
def solve(make_config, tmp_path):
    config = make_config(
        acquisition__grid_size_x_normal=4,
        acquisition__grid_size_y=4,
        acquisition__tile_size_x_normal=SIDE,
        acquisition__tile_size_y=SIDE,
        acquisition__tile_overlap_percent=25,
    )
    layout = ProjectLayout(tmp_path / "project")
    plan = SimpleNamespace(
        template_mosaics=lambda _acquisition: (1,),
        accept_missing=lambda _mosaic: [],
        images=lambda _mosaic: range(1, 17),
        slice=lambda _mosaic: 1,
    )

    def solve(tiles):
        for image, tile in enumerate(tiles, start=1):
            path = layout.processed_tile(1, image, "aip")
            path.parent.mkdir(parents=True, exist_ok=True)
            nifti.write_image(path, tile, nifti.Geometry((0.01, 0.01, 0.0025)))
        context = SimpleNamespace(config=config, layout=layout, acquisition="normal", plan=plan)
        outcome = compute(context)
        return outcome, read_tilemap(config, layout, "normal")

    return solve


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(4, 4, (SIDE, SIDE), 25, seed=5, jitter_px=1.0)


def test_a_good_mosaic_has_no_warning(solve, phantom):
    outcome, tilemap = solve(phantom.tiles)
    assert outcome.warnings == ()
    assert outcome.extra["verdict"] == "ok"
    assert outcome.extra["stranger_images"] == []
    assert outcome.numbers["islands"] == 1
    assert outcome.numbers["pairs_rejected"] == 0
    assert outcome.numbers["ncc_median"] > 0.5
    assert tilemap.is_anchored.all()


def test_swapped_files_are_named_with_what_to_do(solve, phantom):
    tiles = phantom.tiles.copy()
    tiles[[5, 10]] = tiles[[10, 5]]
    outcome, tilemap = solve(tiles)
    assert outcome.extra["verdict"] == "warn"
    assert outcome.extra["stranger_images"] == [6, 11]
    text = " ".join(outcome.warnings)
    assert "images 6,11 show tissue that matches none of their neighbours" in text
    assert "redo --from solve_coordinates --acquisition normal" in text
    assert np.flatnonzero(~tilemap.is_anchored).tolist() == [5, 10]


def test_islands_are_named(solve, phantom):
    tiles = phantom.tiles.copy()
    tiles[phantom.cells[:, 1] == 2] = 40
    outcome, _ = solve(tiles)
    column = phantom.cells[:, 1]
    first, second = outcome.extra["islands"]
    assert first == (np.flatnonzero(column < 2) + 1).tolist()
    assert second == (np.flatnonzero(column == 3) + 1).tolist()
    assert "no content links images 13,14,15,16 to the rest" in " ".join(outcome.warnings)
    assert outcome.numbers["islands"] == 2
    assert outcome.extra["stranger_images"] == []
