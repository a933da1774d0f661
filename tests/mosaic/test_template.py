import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.mosaic import (
    TileEntry,
    parse_tile_info,
    read_tile_info,
    render_template,
    write_template,
)
from opticstream_smk.mosaic.template import TileInfo

TILES = (
    TileEntry("{{ mosaic_id_str }}_image_0001_{{ modality }}.nii", 1, 0.0, 1120.257, 63.4, True),
    TileEntry("{{ mosaic_id_str }}_image_0002_{{ modality }}.nii", 2, 1e-5, 1e17 / 3, -0.0, False),
)


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "tilemap-normal.j2"
    write_template(path, TILES, tile_overlap=0.2)
    return path


def render(path, **kwargs):
    values = {"base_dir": "/data/mosaic-03", "mosaic_id_str": "mosaic_003", "modality": "ret"}
    return render_template(path, **{**values, **kwargs})


def written_and_read(tile):
    """A tile through a template and back, without a fixture (for hypothesis)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.j2"
        write_template(path, [tile])
        return parse_tile_info(render(path), source="it").tiles[0]


def test_round_trip_is_exact(template):
    info = parse_tile_info(
        render(template, mask="m.nii", scan_resolution=(0.01, 1e-5, 0.0025)), source="it"
    )
    assert info == TileInfo(
        base_dir="/data/mosaic-03",
        tiles=(
            replace(TILES[0], filepath="mosaic_003_image_0001_ret.nii"),
            replace(TILES[1], filepath="mosaic_003_image_0002_ret.nii"),
        ),
        mask="m.nii",
        scan_resolution=(0.01, 1e-5, 0.0025),
        tile_overlap=0.2,
        file_key=None,
    )


def test_optional_entries_are_left_out(tmp_path):
    path = tmp_path / "t.j2"
    write_template(path, TILES)
    metadata = yaml.safe_load(render(path))["metadata"]
    assert metadata == {"base_dir": "/data/mosaic-03"}


def test_file_key(tmp_path):
    path = tmp_path / "t.j2"
    write_template(path, TILES, file_key="a{{b")
    assert parse_tile_info(render(path), source="it").file_key == "a{{b"


def test_rendered_file_can_be_read(template, tmp_path):
    path = tmp_path / "mosaic_003_ret.yaml"
    path.write_text(render(template), encoding="utf-8")
    assert read_tile_info(path) == parse_tile_info(render(template), source="it")


def test_only_the_finished_template_is_left(template):
    assert [p.name for p in template.parent.iterdir()] == ["tilemap-normal.j2"]


def test_the_template_is_legible(template):
    text = template.read_text(encoding="utf-8")
    assert 'filepath: "{{ mosaic_id_str }}_image_0001_{{ modality }}.nii"' in text
    assert "y: 1120.257" in text
    assert "is_anchored: false" in text


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_any_position_comes_back(values):
    x, y = values
    tile = written_and_read(replace(TILES[0], x=x, y=y))
    assert (tile.x, tile.y) == (x, y)


AWKWARD = [
    '/data/with space/it\'s "quoted"',
    "/data/日本語/ü😀",
    "C:\\data\\new\\table",
    "/data/{{ modality }}/{% if %}/{# x #}",
    "/data/: - # & * ! | > % @ `",
    "/tab\there/line\nbreak/\x85\u2028\ufeff/\x7f",
    "1e5",
    "null",
    "/undecodable-\udcff",
    " ends with blank ",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_any_path_survives(tmp_path, text):
    path = tmp_path / "t.j2"
    write_template(path, [replace(TILES[0], filepath=text.replace("{{ modality }}", "{{x}}"))])
    info = parse_tile_info(render(path, base_dir=text, mask=text), source="it")
    assert info.base_dir == text
    assert info.mask == text
    assert info.tiles[0].filepath == text.replace("{{ modality }}", "{{x}}")


@given(st.text(min_size=1, max_size=30))
def test_any_text_is_quoted_safely(text):
    literal = text.replace("{{", "{ {")
    assert written_and_read(replace(TILES[0], filepath=literal)).filepath == literal


def edited(template, old, new):
    text = template.read_text(encoding="utf-8")
    assert old in text
    template.write_text(text.replace(old, new, 1), encoding="utf-8")
    return template


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("tile_number: 2", "tile_number: 1", r"tiles\[1\]\.tile_number is 1, as is that of"),
        ("tile_number: 2", "tile_number: two", r"tiles\[1\]\.tile_number is 'two'"),
        ("tile_number: 2", "tile_number: true", r"tiles\[1\]\.tile_number is True"),
        ("    y: 1120.257\n", "", r"tiles\[0\] \(tile 1\)\.y is missing"),
        ("y: 1120.257", "y: .nan", r"\(tile 1\)\.y is nan, expected a finite number"),
        ("y: 1120.257", "y: 1120,257", r"\(tile 1\)\.y is '1120,257'"),
        ("y: 1120.257", "y: -.inf", r"\(tile 1\)\.y is -inf"),
        ("avg_signal: 63.4", "avg_signal: high", r"avg_signal is 'high'"),
        ("is_anchored: true", "is_anchored: 1", r"is_anchored is 1, expected true or false"),
        ("    y: 1120.257", "   y: 1120.257", "not YAML"),
        ('  base_dir: "{{ base_dir }}"\n', "", r"metadata\.base_dir is missing|metadata is"),
        ("tiles:", "tile:", "tiles is missing"),
        ("metadata:", "meta:", "metadata is missing"),
        ("tile_overlap: 0.2", "tile_overlap: 20", r"metadata\.tile_overlap is 20"),
        ("{{ modality }}", "{{ modaliti }}", "modaliti"),
        ("{{ modality }}", "{{ modality", r"line \d+: not a Jinja2 template"),
    ],
)
def test_a_broken_edit_is_named(template, old, new, named):
    with pytest.raises(CorruptInputError, match=named) as caught:
        render(edited(template, old, new))
    assert str(template) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "the file is None"),
        ("- 1", r"the file is \[1\]"),
        ("metadata: {base_dir: a}\ntiles: []", r"tiles is \[\]"),
        ("metadata: {base_dir: a}\ntiles: [3]", r"tiles\[0\] is 3"),
        ("metadata: {base_dir: [a]}\ntiles: []", r"base_dir is \['a'\]"),
        (
            "metadata: {base_dir: a, scan_resolution: 3}\n"
            "tiles: [{filepath: a, tile_number: 1, x: 0, y: 0, avg_signal: 1}]",
            "scan_resolution is 3",
        ),
        (
            "metadata: {base_dir: a, scan_resolution: [0, 1]}\n"
            "tiles: [{filepath: a, tile_number: 1, x: 0, y: 0, avg_signal: 1}]",
            "above 0",
        ),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, text, named):
    path = tmp_path / "t.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorruptInputError, match=named) as caught:
        read_tile_info(path)
    assert str(path) in str(caught.value)


def test_files_of_the_earlier_system_are_read():
    text = (
        "metadata: {base_dir: /d, clip_x: 0, unit: px}\n"
        "tiles: [{filepath: a.nii, tile_number: 1, x: 0, y: 280, avg_signal: 61}]"
    )
    tile = parse_tile_info(text, source="it").tiles[0]
    assert tile == TileEntry("a.nii", 1, 0.0, 280.0, 61.0, True)


def test_missing_template(tmp_path):
    with pytest.raises(IncompleteInputError, match=r"none\.j2"):
        render(tmp_path / "none.j2")


def test_not_text(tmp_path):
    path = tmp_path / "t.j2"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptInputError, match="UTF-8"):
        render(path)


def test_templates_cannot_run_code(template):
    edited(template, "{{ modality }}", "{{ modality.__class__.__mro__ }}")
    with pytest.raises(CorruptInputError, match="unsafe"):
        render(template)


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ((), "at least one"),
        ((TILES[0], TILES[0]), "tile_number"),
        ((replace(TILES[0], x=np.nan),), "finite"),
    ],
)
def test_nothing_wrong_is_written(tmp_path, tiles, message):
    with pytest.raises(ValueError, match=message):
        write_template(tmp_path / "t.j2", tiles)
    assert not list(tmp_path.iterdir())


def test_numpy_numbers_are_numbers():
    tile = TileEntry(
        "a.nii", np.int64(3), np.float64(1.5), np.float32(2.5), np.float32(60), np.bool_(False)
    )
    assert written_and_read(tile) == TileEntry("a.nii", 3, 1.5, 2.5, 60.0, False)
