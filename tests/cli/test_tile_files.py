"""edit-tiles, find-region and tile-configuration, on templates and tile infos."""

import json

import numpy as np
import pytest
import yaml

from opticstream_smk.io import nifti
from opticstream_smk.mosaic import (
    TileEntry,
    nominal_positions,
    read_tile_info,
    render_template,
    snake_order,
    write_template,
)
from opticstream_smk.mosaic.tile_configuration import read_tile_configuration
from tests.conftest import small_values

ROWS, COLUMNS, SHAPE, OVERLAP = 4, 5, (100, 60), 20  # y, x
CELLS = snake_order(ROWS, COLUMNS)
NUMBER_OF = {tuple(cell): number for number, cell in enumerate(CELLS.tolist(), start=1)}


def entries(*, seed=3):
    rng = np.random.default_rng(seed)
    # A stage that shears by more than half a step over the mosaic.
    positions = nominal_positions(CELLS, SHAPE, OVERLAP) + CELLS @ [[0, 9.0], [-12.0, 0]]
    positions += rng.normal(0, 2, positions.shape)
    positions -= positions.min(axis=0)
    return [
        TileEntry(
            f"{{{{ mosaic_id_str }}}}_image_{number:04d}_{{{{ modality }}}}.nii",
            number,
            round(float(x), 3),
            round(float(y), 3),
            60.0,
            is_anchored=number != 7,
        )
        for number, (y, x) in enumerate(positions, start=1)
    ]


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "tilemap-normal.j2"
    write_template(path, entries(), tile_overlap=0.2)
    return path


def render(path):
    return yaml.safe_load(
        render_template(path, base_dir="/d", mosaic_id_str="mosaic_003", modality="ret")
    )


def test_a_template_without_a_row_and_a_column(run_command, template, tmp_path):
    out = tmp_path / "edited.j2"
    done = run_command(
        "edit-tiles", template, "-o", out, "--drop-rows", 1, "--drop-columns", "5",
        "--drop-tiles", NUMBER_OF[2, 1],
    )  # fmt: skip
    assert done.code == 0, done.err
    gone = {n for (row, column), n in NUMBER_OF.items() if row == 0 or column == 4}
    gone.add(NUMBER_OF[2, 1])
    before, after = render(template), render(out)
    assert after["metadata"]["dropped"] == sorted(gone)
    assert after["tiles"] == [t for t in before["tiles"] if t["tile_number"] not in gone]
    assert after["tiles"][0]["filepath"].startswith("mosaic_003_image_")
    assert f"{20 - len(gone)} tiles; dropped {len(gone)}" in done.out
    # Nothing but lines were taken out, and one put in.
    kept = out.read_text().splitlines()
    added = [line for line in kept if line not in template.read_text().splitlines()]
    assert added == [f"  dropped: {sorted(gone)}"]


def test_dropping_again_adds_to_the_list(run_command, template):
    for number in (3, 12):
        done = run_command(
            "edit-tiles", template, "-o", template, "--overwrite", "--drop-tiles", number
        )
        assert done.code == 0, done.err
    assert render(template)["metadata"]["dropped"] == [3, 12]
    assert len(render(template)["tiles"]) == 18
    assert template.read_text().count("dropped:") == 1


def test_rows_are_found_by_position_not_by_order(run_command, template, tmp_path):
    """OpticStream's editor takes the file for row-major."""
    text = template.read_text()
    head, tiles = text.split("tiles:\n")
    blocks = ["  - filepath" + block for block in tiles.split("  - filepath")[1:]]
    shuffled = tmp_path / "shuffled.j2"
    order = np.random.default_rng(5).permutation(len(blocks))
    shuffled.write_text(head + "tiles:\n" + "".join(blocks[i] for i in order))
    out = tmp_path / "out.j2"
    assert run_command("edit-tiles", shuffled, "-o", out, "--drop-rows", "2-3").code == 0
    left = {tile["tile_number"] for tile in render(out)["tiles"]}
    assert left == {n for (row, _), n in NUMBER_OF.items() if row in (0, 3)}


def test_comments_and_unknown_keys_stay(run_command, tmp_path):
    path = tmp_path / "info.yaml"
    path.write_text(
        "# made by hand\nmetadata:\n  base_dir: /d # a disk\n  clip_x: 18\ntiles:\n"
        "- {x: 0, y: 0, filepath: a.nii, tile_number: 1, avg_signal: 1}\n"
        "# the next is agar\n"
        "- x: 50.5\n  y: 1.0\n  filepath: b.nii\n  tile_number: 2\n  avg_signal: 2\n  gain: 3\n"
        "- {x: 100, y: 0, filepath: c.nii, tile_number: 3, avg_signal: 1}\n"
    )
    out = tmp_path / "out.yaml"
    done = run_command("edit-tiles", path, "-o", out, "--drop-tiles", "3")
    assert done.code == 0, done.err
    assert out.read_text() == path.read_text().replace(
        "  base_dir", "  dropped: [3]\n  base_dir"
    ).replace("- {x: 100, y: 0, filepath: c.nii, tile_number: 3, avg_signal: 1}\n", "")
    assert read_tile_info(out).dropped == (3,)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["-o", "OUT"], 2, "nothing to drop"),
        (["--drop-tiles", "1"], 2, "give -o OUT"),
        (["-o", "TEMPLATE", "--drop-tiles", "1"], 2, "is there; give another -o"),
        (["-o", "OUT", "--drop-tiles", "21,22"], 2, "has no tile 21, 22"),
        (["-o", "OUT", "--drop-rows", "5"], 2, "--drop-rows 5: "),
        (["-o", "OUT", "--drop-rows", "1-4"], 2, "no tile would be left"),
        (["-o", "OUT", "--drop-rows", "0"], 2, "expected numbers from 1 on"),
        (["-o", "OUT", "--drop-rows", "a"], 2, "expected numbers such as 1,3-4"),
        (["-o", "/proc/none/out.j2", "--drop-tiles", "1"], 4, "cannot write /proc/none/out.j2"),
    ],
)
def test_edits_that_are_refused(run_command, template, tmp_path, words, code, expected):
    before = template.read_text()
    names = {"OUT": tmp_path / "out.j2", "TEMPLATE": template}
    done = run_command("edit-tiles", template, *(names.get(word, word) for word in words))
    assert (done.code, done.out) == (code, "")
    assert expected in done.err
    assert template.read_text() == before
    assert not (tmp_path / "out.j2").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        ("{% if", "not a Jinja2 template"),
        ("tiles: []\nmetadata: {base_dir: d}\n", "expected a list of at least one tile"),
        (
            "metadata: {base_dir: d}\ntiles: [{x: 0, y: 0, filepath: a, tile_number: 1, "
            "avg_signal: 1}, {x: 50, y: 0, filepath: a, tile_number: 2, avg_signal: 1}]\n",
            "cannot be edited by lines",
        ),
        (
            "metadata:\n  base_dir: d\n  dropped: [2]\ntiles:\n"
            "- {x: 0, y: 0, filepath: a, tile_number: 2, avg_signal: 1}\n",
            "metadata.dropped has tile 2, which is listed",
        ),
    ],
)
def test_files_that_cannot_be_edited(run_command, tmp_path, content, expected):
    path = tmp_path / "some.j2"
    if content is not None:
        path.write_text(content)
    done = run_command("edit-tiles", path, "-o", tmp_path / "out.j2", "--drop-tiles", "1")
    assert done.code == 3
    assert f"{path}" in done.err
    assert expected in done.err


def test_the_grid_is_shown(run_command, template):
    done = run_command("edit-tiles", template, "--list")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["row", "1", "2", "3", "4", "5"]
    assert lines[1].split() == ["1", *(str(NUMBER_OF[0, c]) for c in range(5))]
    assert "7?" in done.out.split()
    found = json.loads(run_command("edit-tiles", template, "--list", "--format", "json").out)
    assert {t["tile_number"]: (t["row"] - 1, t["column"] - 1) for t in found["tiles"]} == {
        number: cell for cell, number in NUMBER_OF.items()
    }


def test_two_tiles_in_one_place(run_command, tmp_path):
    tiles = entries()
    tiles[4] = TileEntry("x.nii", 5, tiles[9].x + 3, tiles[9].y, 60.0)
    path = tmp_path / "t.j2"
    write_template(path, tiles)
    done = run_command("edit-tiles", path, "--list")
    assert done.code == 3
    assert "tiles 5, 10 lie in one cell of the grid" in done.err


@pytest.fixture
def project(tmp_path):
    """Configuration of the grid of `template`."""
    path = tmp_path / "project.yaml"
    values = small_values(
        acquisition__grid_size_x_normal=COLUMNS,
        acquisition__grid_size_y=ROWS,
        acquisition__tile_size_x_normal=SHAPE[1],
        acquisition__tile_size_y=SHAPE[0],
        acquisition__tile_overlap_percent=OVERLAP,
        acquisition__scan_resolution_3d_mm=[0.02, 0.01, 0.0025],
    )
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_region_and_the_tiles_under_it(run_command, template, project):
    """Every pixel of the region is that of the tile which is named."""
    words = ("find-region", template, 70, 95, "--size", 30, 20, "--config", project)
    done = run_command(*words, "--format", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    corners = {tile.tile_number: (round(tile.y), round(tile.x)) for tile in entries()}
    covered = np.zeros((20, 30), bool)
    for tile in found["tiles"]:
        whole, own = tile["in_mosaic"], tile["in_tile"]
        y, x = corners[tile["tile_number"]]
        assert (whole["x"] - own["x"], whole["y"] - own["y"]) == (x, y)
        assert own["y"] + own["height"] <= SHAPE[0]
        assert own["x"] + own["width"] <= SHAPE[1]
        top, left = whole["y"] - 95, whole["x"] - 70
        covered[top : top + own["height"], left : left + own["width"]] = True
        assert whole["x_mm"] == pytest.approx(whole["x"] * 0.02)
    expected = {
        number
        for number, (y, x) in corners.items()
        if y < 115 and y + SHAPE[0] > 95 and x < 100 and x + SHAPE[1] > 70
    }
    assert {tile["tile_number"] for tile in found["tiles"]} == expected
    assert covered.all()
    text = run_command(*words).out
    first = found["tiles"][0]
    assert f"tile {first['tile_number']} (row {first['row']}, column {first['column']}): x " in text


def test_a_region_in_mm_is_that_in_px(run_command, template, project):
    in_px = run_command("find-region", template, 70, 95, "--size", 30, 20, "--config", project)
    in_mm = run_command(
        "find-region", template, 1.4, 0.95, "--size", 0.6, 0.2, "--unit", "mm", "--config", project
    )
    assert in_px.code == in_mm.code == 0
    assert in_px.out == in_mm.out


def test_where_tiles_lie(run_command, template):
    done = run_command(
        "find-region", template, "--tiles", "7,2", "--tile-size", 60, 100, "--format", "json"
    )
    found = json.loads(done.out)["tiles"]
    assert [tile["tile_number"] for tile in found] == [7, 2]
    for tile in found:
        entry = entries()[tile["tile_number"] - 1]
        assert tile["in_mosaic"] == {
            "x": round(entry.x), "y": round(entry.y), "width": 60, "height": 100,
        }  # fmt: skip
    assert [tile["is_anchored"] for tile in found] == [False, True]
    text = run_command("find-region", template, "--tiles", "7", "--tile-size", 60, 100).out
    assert "x 0 to 59, y 0 to 99 of the tile; placed by the stage model" in text


def test_the_size_of_a_tile_from_its_file(run_command, template, tmp_path):
    info = tmp_path / "info.yaml"
    info.write_text(
        render_template(
            template, base_dir=tmp_path, mosaic_id_str="mosaic_001", modality="aip",
            scan_resolution=(0.02, 0.01),
        )
    )  # fmt: skip
    nifti.write_image(
        tmp_path / "mosaic_001_image_0001_aip.nii",
        np.zeros(SHAPE, np.float32),
        nifti.Geometry((0.02, 0.01, 0.5)),
    )
    done = run_command("find-region", info, 0, 0, "--format", "json")
    assert done.code == 0, done.err
    canvas = json.loads(done.out)["canvas"]
    assert canvas["width"] == max(round(t.x) for t in entries()) + 60
    assert canvas["width_mm"] == pytest.approx(canvas["width"] * 0.02)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "give either X Y, or --tiles"),
        ([1], "1 numbers for X Y"),
        ([1, 2, "--tiles", "1"], "give either X Y, or --tiles"),
        ([1e6, 0, "--tile-size", 60, 100], "expected one within the mosaic"),
        ([-5, 0, "--tile-size", 60, 100], "expected one within the mosaic"),
        ([1, 1], "the size of a tile is not known"),
        ([1, 1, "--tile-size", 0, 1], "expected 1 or more"),
        ([1, 1, "--tile-size", 60, 100, "--unit", "mm"], "needs the size of a pixel"),
        ([1, 1, "--tile-size", 60, 100, "--size", 0, 1], "W and H above 0"),
        (["nan", 1, "--tile-size", 60, 100], "expected finite numbers"),
        (["--tiles", "44", "--tile-size", 60, 100], "has no tile 44"),
    ],
)
def test_regions_that_are_refused(run_command, template, words, expected):
    done = run_command("find-region", template, *words)
    assert done.code == 2
    assert expected in done.err


@pytest.mark.parametrize(
    "kind", ["row-by-row", "column-by-column", "snake-by-rows", "snake-by-columns"]
)
@pytest.mark.parametrize("order", ["right-down", "left-down", "right-up", "left-up"])
def test_a_grid_for_fiji(run_command, tmp_path, kind, order):
    out = tmp_path / "TileConfiguration.txt"
    done = run_command(
        "tile-configuration", "--columns", 3, "--rows", 2, "--tile-size", 60, 100,
        "--overlap-percent", 20, "--grid-type", kind, "--order", order, "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    places = read_tile_configuration(out)
    assert [place.name for place in places] == [f"{n:04d}" for n in range(1, 7)]
    # Written out by hand: which column and row the k-th tile of a run is in.
    columns, rows = ([0, 1, 2] if "right" in order else [2, 1, 0]), [0, 1]
    if "up" in order:
        rows = [1, 0]
    if "row" in kind:
        cells = [(c, r) for i, r in enumerate(rows)
                 for c in (columns[::-1] if "snake" in kind and i % 2 else columns)]  # fmt: skip
    else:
        cells = [(c, r) for i, c in enumerate(columns)
                 for r in (rows[::-1] if "snake" in kind and i % 2 else rows)]  # fmt: skip
    assert [(p.x, p.y) for p in places] == [(48.0 * c, 80.0 * r) for c, r in cells]


def test_the_grid_of_a_project_for_fiji(run_command, project, tmp_path):
    out = tmp_path / "TileConfiguration.txt"
    done = run_command(
        "tile-configuration", "--config", project, "--acquisition", "tilted", "--mosaic", 4,
        "-o", out, "--format", "json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["tiles"] == 2 * 4
    places = read_tile_configuration(out)
    assert places[0].name == "mosaic_004_image_0001_aip.nii"
    assert (places[0].x, places[0].y) == (0, 3 * 80.0)
    assert places[4].x == 10 * 0.8  # tilted tiles are narrower


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--columns", 3], "--rows is missing"),
        (["--config", "PROJECT", "--columns", 3], "--columns and --config"),
        (["--config", "PROJECT", "--acquisition", "x"], "expected one of normal, tilted"),
        (["--config", "PROJECT", "--mosaic", 2], "--mosaic 2 is no normal mosaic"),
        (["GRID", "--order", "sideways"], "grid order 'sideways'"),
        (["GRID", "--overlap-percent", 100], "tile overlap of 100"),
        (["GRID", "--name-format", "{n}"], "expected {tile_number}"),
        (["GRID", "--columns", 0], "expected at least 1 x 1"),
        (["GRID", "--tile-size", 0, 9], "expected 1 px or more"),
    ],
)
def test_grids_that_are_refused(run_command, project, tmp_path, words, expected):
    grid = ["--columns", 3, "--rows", 2, "--tile-size", 60, 100, "--overlap-percent", 20]
    flat = [w for word in words for w in (grid if word == "GRID" else [word])]
    flat = [project if word == "PROJECT" else word for word in flat]
    out = tmp_path / "out.txt"
    done = run_command("tile-configuration", *flat, "-o", out)
    assert done.code == 2
    assert expected in done.err
    assert not out.exists()


def test_a_name_for_all_tiles_is_refused(run_command, tmp_path):
    done = run_command(
        "tile-configuration", "--columns", 3, "--rows", 2, "--tile-size", 60, 100,
        "--overlap-percent", 20, "--name-format", "a.tif", "-o", tmp_path / "o.txt",
    )  # fmt: skip
    assert done.code == 3
    assert "'a.tif' stands for several tiles" in done.err


def test_nothing_is_written_over(run_command, project, tmp_path):
    out = tmp_path / "out.txt"
    out.write_text("mine")
    done = run_command("tile-configuration", "--config", project, "-o", out)
    assert done.code == 2
    assert out.read_text() == "mine"
    done = run_command("tile-configuration", "--config", project, "-o", out, "--overwrite")
    assert done.code == 0
    assert len(read_tile_configuration(out)) == 20
