"""Fiji's TileConfiguration files: what is written is read, and what is wrong is named."""

import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError, IncompleteInputError, NamingError
from opticstream_smk.mosaic.tile_configuration import (
    given_positions,
    image_of_name,
    parse_tile_configuration,
    places_of_images,
    read_tile_configuration,
    tile_configuration_text,
)

# As Fiji writes it: Windows line ends, comments, exponents, the origin and an unlinked tile.
FIJI = """# Define the number of dimensions we are working on\r
dim = 2\r
\r
# Define the image coordinates\r
mosaic_001_image_0001_aip.nii; ; (-279.51233, 281.0)\r
mosaic_001_image_0002_aip.nii; ; (0.0, 0.0)\r
mosaic_001_image_0003_aip.nii; ; (0.0, 0.0)\r
mosaic_001_image_0004_aip.nii; ; (1.2345E-4, 560.75)\r
"""
HEAD = "dim = 2\n"


def test_what_is_written_is_read_to_the_last_digit(tmp_path):
    positions = np.random.default_rng(1).normal(0, 1e3, (7, 2))
    names = [f"a tile (no. {n}).tif" for n in range(1, 8)]
    path = tmp_path / "TileConfiguration.txt"
    path.write_text(tile_configuration_text(names, positions))
    places = read_tile_configuration(path)
    assert [place.name for place in places] == names
    assert [(place.y, place.x) for place in places] == [tuple(p) for p in positions.tolist()]
    lines = path.read_text().splitlines()
    assert lines[1:3] == ["dim = 2", ""]
    assert lines[0].startswith("#")
    assert lines[3].startswith("#")


def test_a_file_of_fiji():
    places = parse_tile_configuration(FIJI, source="f")
    assert [(p.x, p.y) for p in places] == [
        (-279.51233, 281.0),
        (0, 0),
        (0, 0),
        (1.2345e-4, 560.75),
    ]
    assert [p.line for p in places] == [5, 6, 7, 8]
    found = places_of_images(places, range(1, 6), source="f")
    positions = given_positions(found, range(1, 6))
    np.testing.assert_array_equal(positions[0], [281.0, -279.51233])
    assert np.isnan(positions[4]).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_1.tif; ; (0, 0)\n", "line 1: 'a_1.tif; ; (0, 0)', expected `dim = 2` first"),
        ("dim = 3\na_1.tif; ; (0, 0, 0)\n", "line 1: dim = 3, expected dim = 2"),
        (HEAD, "lists no tiles"),
        ("", "lists no tiles"),
        (
            HEAD + "a_1.tif; ; (0, 0)\na_2.tif; (0, 0)\n",
            "line 3: 'a_2.tif; (0, 0)', expected `name",
        ),
        (HEAD + "a_1.tif; ; (0, 0, 0)\n", "line 2"),
        (HEAD + "a_1.tif; ; (1,5, 2,5)\n", "line 2"),  # a comma for a decimal point
        (HEAD + "a_1.tif; ; (nan, 0)\n", "line 2"),
        (HEAD + "a_1.tif; ; (1e999, 0)\n", "line 2: 'a_1.tif; ; (1e999, 0)' is out of range"),
        (HEAD + "a_1.tif; ; (0, 0\n", "line 2"),  # cut short
        (HEAD + "; ; (0, 0)\n", "line 2"),
        (HEAD + "a_1.tif; 3; (0, 0)\n", "line 2"),
        (
            HEAD + "a_1.tif; ; (0, 0)\na_1.tif; ; (1, 0)\n",
            "line 3: a_1.tif is there again, first in",
        ),
        ("multiseries = true\n", "line 1"),
    ],
)
def test_a_wrong_line_is_named(text, expected):
    with pytest.raises(CorruptInputError) as caught:
        parse_tile_configuration(text, source="some/file.txt")
    assert "some/file.txt" in str(caught.value)
    assert expected in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(IncompleteInputError, match=r"no such tile configuration"):
        read_tile_configuration(tmp_path / "none.txt")
    with pytest.raises(CorruptInputError, match=r"cannot be read"):
        read_tile_configuration(tmp_path)
    path = tmp_path / "latin.txt"
    path.write_bytes(b"dim = 2\n\xe4_1.tif; ; (0, 0)\n")
    with pytest.raises(CorruptInputError, match=r"not UTF-8 text"):
        read_tile_configuration(path)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("mosaic_001_image_0012_aip.nii", 12),
        ("mosaic_001_image_0012_spectral_0099.nii.gz", 12),
        ("0003.tif", 3),
        ("tile_2_of_slice_b7.ome.tif", 7),
        ("folder_9/tile_4.tif", 4),
        ("C:\\scans 8\\tile_5.tif", 5),
        ("tile.tif", None),
    ],
)
def test_the_image_of_a_name(name, image):
    assert image_of_name(name) == image


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["t_1.tif", "t_9.tif"], "line 3: t_9.tif is image 9, expected images 1 to 4"),
        (["t_1.tif", "t.tif"], "line 3: t.tif has no number"),
        (["t_2.tif", "u_02.tif"], "line 3: u_02.tif is image 2, as is t_2.tif in line 2"),
    ],
)
def test_lines_that_are_no_tile_of_the_mosaic(names, expected):
    text = HEAD + "".join(f"{name}; ; (0, 0)\n" for name in names)
    places = parse_tile_configuration(text, source="f")
    with pytest.raises(CorruptInputError) as caught:
        places_of_images(places, range(1, 5), source="f")
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", ["a;b.tif", "a\nb.tif", "#a.tif", " a.tif", "", "dim = 3"])
def test_names_that_cannot_stand_in_the_file(name):
    with pytest.raises(NamingError, match=r"expected a file name"):
        tile_configuration_text([name], [(0, 0)])


def test_names_and_positions_that_do_not_fit():
    with pytest.raises(NamingError, match=r"'a.tif' stands for several tiles"):
        tile_configuration_text(["a.tif", "a.tif"], [(0, 0), (1, 1)])
    with pytest.raises(ValueError, match=r"expected finite numbers"):
        tile_configuration_text(["a.tif"], [(0, float("nan"))])
    with pytest.raises(ValueError, match=r"for 2 tiles"):
        tile_configuration_text(["a.tif", "b.tif"], [(0, 0)])
