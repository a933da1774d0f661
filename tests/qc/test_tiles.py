import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.io.pictures import orientation_to_rgb
from opticstream_smk.qc.contact_sheet import (
    SHEET_WIDTH,
    batch_contact_sheet,
    orientation_wheel,
)
from opticstream_smk.qc.sheet import compose
from opticstream_smk.qc.tile_numbers import NumberLimits, measure_tile
from opticstream_smk.qc.tiles import (
    BSCAN_SIZE,
    CLOSE_SIZE,
    DOUBTFUL_COLOUR,
    NOT_FINITE_COLOUR,
    SURFACE_COLOUR,
    WINDOW_COLOUR,
    TilePictures,
    tile_panels,
)
from tests.qc.phantom import tile

ALARM = (200, 0, 0)


def rows_of(pixels, colour):
    return np.flatnonzero((pixels == colour).all(axis=2).any(axis=1))


def columns_of(pixels, colour):
    return np.flatnonzero((pixels == colour).all(axis=2).any(axis=0))


def pictures(products=None, **options):
    return tile_panels("image 0001", tile() if products is None else products, {}, **options)


def test_lines_lie_just_outside_the_window():
    # 330 rows for 300 samples; tissue starts at index 119 (0-based), the window has 81 samples.
    along_x, along_y, _ = pictures().bscans
    for panel in (along_x, along_y):
        height = BSCAN_SIZE[1]
        edge, end = round(119 * height / 300), round((119 + 81) * height / 300)
        assert rows_of(panel.pixels, SURFACE_COLOUR).tolist() == [edge - 2, edge - 1]
        assert rows_of(panel.pixels, WINDOW_COLOUR).tolist() == [end, end + 1]
        assert rows_of(panel.pixels, DOUBTFUL_COLOUR).size == 0
        middle = panel.pixels[:, BSCAN_SIZE[0] // 2].mean(axis=1)
        # The first row of the tissue is bright already, and none above the line is.
        assert middle[edge : end - 1].min() > middle[: edge - 2].max()


def test_offset_moves_the_window_only():
    near, far = (pictures(offset_px=offset).bscans[0].pixels for offset in (0, 50))
    assert rows_of(near, SURFACE_COLOUR).tolist() == rows_of(far, SURFACE_COLOUR).tolist()
    moved = rows_of(far, WINDOW_COLOUR) - rows_of(near, WINDOW_COLOUR)
    assert moved.tolist() == [55, 55]


def test_closer_look_shows_the_depths_about_the_window():
    close = pictures().bscans[2]
    assert close.pixels.shape == (CLOSE_SIZE[1], CLOSE_SIZE[0], 3)
    # From 60 samples above the surface to 60 below the end of the window: 201 samples.
    assert close.caption == "along x, closer: depth 60 to 260"
    assert rows_of(close.pixels, SURFACE_COLOUR)[-1] + 1 == round(60 * CLOSE_SIZE[1] / 201)


def test_surface_that_is_not_credible_has_another_colour():
    products = tile()
    products["dBI"][:10] = 50
    pixels = pictures(products).bscans[0].pixels
    # A quarter of the A-lines, from the left.
    border = BSCAN_SIZE[0] // 4
    assert columns_of(pixels, DOUBTFUL_COLOUR).tolist() == list(range(border))
    assert columns_of(pixels, SURFACE_COLOUR).tolist() == list(range(border, BSCAN_SIZE[0]))
    assert columns_of(pixels, WINDOW_COLOUR).min() >= border
    products["surf"] += 40
    for panel in pictures(products).bscans[:2]:
        assert rows_of(panel.pixels, SURFACE_COLOUR).size == 0
        assert rows_of(panel.pixels, DOUBTFUL_COLOUR).size == 2


def test_bscans_are_the_middle_ones():
    products = tile(shape=(40, 30, 300))
    products["dBI"][:, 15, :] = np.nan
    along_x, along_y, _ = pictures(products).bscans
    assert (along_x.pixels[200] == NOT_FINITE_COLOUR).all(axis=1).all()
    # B-line 16 of 30, along y at 15/30 of the width.
    marked = columns_of(along_y.pixels, NOT_FINITE_COLOUR)
    assert marked[0] == pytest.approx(BSCAN_SIZE[0] / 2, abs=2)
    assert "B-line 16 of 30" in along_x.caption
    assert "A-line 21 of 40" in along_y.caption
    assert "surface 120, window to 200" in along_y.caption


def test_maps_are_y_x_in_order_and_only_those_there():
    products = tile()
    maps = pictures(products).maps
    assert [panel.caption.split()[0] for panel in maps] == [
        "aip", "mip", "surf", "ret", "ori", "biref",
    ]  # fmt: skip
    assert {panel.pixels.shape for panel in maps} == {(30, 40, 3)}
    orientation = products["ori"].T
    expected = orientation_to_rgb(orientation, np.isfinite(orientation))
    np.testing.assert_array_equal(maps[4].pixels, expected)
    del products["mip"], products["ori"]
    fewer = [panel.caption.split()[0] for panel in pictures(products).maps]
    assert fewer == ["aip", "surf", "ret", "biref"]


def test_values_that_are_not_finite_are_marked_in_maps():
    products = tile()
    products["ori"][3, 7] = np.nan
    products["aip"][:] = np.nan
    maps = pictures(products).maps
    assert maps[0].caption == "aip: nothing finite"
    assert (maps[0].pixels == NOT_FINITE_COLOUR).all()
    marked = (maps[4].pixels == NOT_FINITE_COLOUR).all(axis=2)
    assert [7, 3] in np.argwhere(marked).tolist()


def test_surface_map_marks_jumps():
    products = tile()
    products["surf"][10, 5] = 250
    surf = pictures(products).maps[2].pixels
    assert np.argwhere((surf == DOUBTFUL_COLOUR).all(axis=2)).tolist() == [[5, 10]]


@pytest.mark.parametrize("surface", [1, 300])
def test_surface_at_the_ends_is_drawn(surface):
    products = tile()
    products["surf"][:] = surface
    for panel in pictures(products).bscans:
        assert rows_of(panel.pixels, DOUBTFUL_COLOUR).size == 2


def test_window_beyond_the_volume_ends_with_it():
    last = rows_of(pictures(depth_px=5000).bscans[0].pixels, WINDOW_COLOUR)
    assert last.tolist() == [BSCAN_SIZE[1] - 2, BSCAN_SIZE[1] - 1]


def test_window_above_the_surface_is_drawn_there():
    close = pictures(offset_px=-100, depth_px=5).bscans[2]
    # The window ends with sample 25, the surface is at 120.
    assert close.caption == "along x, closer: depth 1 to 179"
    window, surface = (rows_of(close.pixels, colour) for colour in (WINDOW_COLOUR, SURFACE_COLOUR))
    assert window.max() < surface.min()


def test_tile_without_anything_finite_is_drawn():
    products = tile(shape=(5, 4, 12), surface=3)
    for array in products.values():
        array[:] = np.nan
    drawn = pictures(products)
    assert all((panel.pixels == NOT_FINITE_COLOUR).all() for panel in drawn.maps)
    numbers = measure_tile(products)
    assert numbers == {"surface_coverage": 0, "nan_share": 1}
    batch_contact_sheet([TilePictures("x", drawn.bscans, drawn.maps, numbers)], "batch 001")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"dBI": None}, "without dBI"),
        ({"dBI": np.zeros((3, 3))}, "expected (X, Y, Z)"),
        ({"ret": np.zeros((4, 5))}, "ret has shape (4, 5); expected (40, 30)"),
    ],
)
def test_products_that_do_not_belong_together_are_refused(change, part):
    products = {k: v for k, v in {**tile(), **change}.items() if v is not None}
    with pytest.raises(CorruptInputError) as caught:
        pictures(products)
    assert part in str(caught.value)


def test_panels_go_into_a_sheet_of_their_own():
    sheet = compose("one tile", pictures().panels)
    assert len(pictures().panels) == 9
    assert sheet.shape[2] == 3


def numbered(name, **numbers):
    base = pictures()
    return TilePictures(name, base.bscans, base.maps, {**measure_tile(tile()), **numbers})


@pytest.mark.parametrize("count", [1, 3, 25])
def test_sheet_grows_downwards_only(count):
    sheet = batch_contact_sheet([numbered(f"image {i:04d}") for i in range(count)], "batch 001")
    assert sheet.dtype == np.uint8
    height, width, channels = sheet.shape
    assert (width, channels) == (SHEET_WIDTH, 3)
    assert SHEET_WIDTH <= 2400
    # A row for every tile and a legend.
    assert 350 * count < height < 400 * count + 250


def test_bscans_are_on_the_sheet_unscaled():
    tile_pictures = numbered("image 0001")
    sheet = batch_contact_sheet([tile_pictures], "batch 001")
    wanted = tile_pictures.bscans[0].pixels
    line = rows_of(wanted, SURFACE_COLOUR)[0]
    run = (sheet == SURFACE_COLOUR).all(axis=2).sum(axis=1)
    row = int(np.argmax(run))
    left = int(np.flatnonzero((sheet[row] == SURFACE_COLOUR).all(axis=1))[0])
    width, height = BSCAN_SIZE
    top = row - int(line)
    np.testing.assert_array_equal(sheet[top : top + height, left : left + width], wanted)


def test_outliers_are_marked_by_colour_and_symbol():
    calm = batch_contact_sheet([numbered("a"), numbered("b")], "batch 001")
    alarmed = batch_contact_sheet([numbered("a"), numbered("b", snr_db=1.0)], "batch 001")
    assert calm.shape == alarmed.shape
    half = (calm.shape[0] - 196) // 2
    first, second = slice(196, 196 + half), slice(196 + half, None)
    np.testing.assert_array_equal(calm[first], alarmed[first])

    def red(rows, sheet):
        return (sheet[rows, :290] == ALARM).all(axis=2)

    assert not red(second, calm).any()
    marks = red(second, alarmed)
    # The bar at the left, over the whole row.
    assert marks[:, 0].sum() > 300
    # A triangle that points down: its rows get shorter. The text lies to the right of it.
    widths = marks[:, 120:150].sum(axis=1)
    shape = widths[widths > 0]
    assert shape[0] > 12
    assert (np.diff(shape) <= 0).all()


def test_limits_decide_what_is_an_outlier():
    tiles = [numbered("a", phase_noise_deg=30.0)]
    calm = batch_contact_sheet(tiles, "batch 001")
    strict = batch_contact_sheet(tiles, "batch 001", limits=NumberLimits(max_phase_noise_deg=20))
    assert (strict == ALARM).all(axis=2).sum() > (calm == ALARM).all(axis=2).sum()


def test_sheet_of_no_tile_is_refused():
    with pytest.raises(IncompleteInputError, match="batch 007: no tile"):
        batch_contact_sheet([], "batch 007")


def test_wheel_has_the_colours_of_the_maps():
    size = 101
    wheel = orientation_wheel(size)
    assert wheel.shape == (size, size, 3)
    for degrees in (-60, -45, 0, 30, 45, 90):
        wanted = orientation_to_rgb(np.array([[float(degrees)]]), np.ones((1, 1), bool))[0, 0]
        for turn in (0, 180):  # axial: opposite points are equal
            angle = np.deg2rad(degrees + turn)
            row, column = round(50 - 37 * np.sin(angle)), round(50 + 37 * np.cos(angle))
            # A whole pixel is some 1.5 degrees, hence up to 13 of 255 in one channel.
            difference = np.abs(wheel[row, column].astype(int) - wanted.astype(int))
            assert difference.max() <= 13
    assert (wheel[0, 0] == 255).all()
    assert (wheel[50, 50] == 255).all()


def test_wheel_is_exact_on_the_axes():
    wheel = orientation_wheel(101)
    for degrees, place in ((0.0, (50, 90)), (90.0, (10, 50)), (45.0, (25, 75)), (-45.0, (75, 75))):
        wanted = orientation_to_rgb(np.array([[degrees]]), np.ones((1, 1), bool))[0, 0]
        np.testing.assert_array_equal(wheel[place], wanted)
