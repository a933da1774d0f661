import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk import naming
from opticstream_smk.errors import NamingError
from opticstream_smk.naming.sequence import (
    AcquisitionSequence,
    Place,
    interleaved_image,
    place_interleaved,
)

HUMAN = AcquisitionSequence((22 * 16, 22 * 16))
UNEQUAL = (3 * 2, 2 * 2)  # normal 3 x 2, tilted 2 x 2


@st.composite
def sequences(draw):
    tiles = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=3)))
    return AcquisitionSequence(
        tiles, draw(st.integers(1, 50)), draw(st.integers(1, len(tiles))), draw(st.booleans())
    )


def batches(sequence, files, grid_size_y=2):
    """Mosaic and batch of each file, as they come."""
    places = [place for image in range(1, files + 1) if (place := sequence.place(image))]
    found = [
        (
            naming.mosaic_of_slice(place.slice, place.position, sequence.mosaics_per_slice),
            naming.batch_of_image(place.image, grid_size_y),
        )
        for place in places
    ]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("image", "place"),
    [
        (1, (1, 1, 1)),
        (352, (1, 1, 352)),
        (353, (1, 2, 1)),
        (704, (1, 2, 352)),
        (705, (2, 1, 1)),
        (1409, (3, 1, 1)),
    ],
)
def test_mosaics_of_one_size(image, place):
    assert HUMAN.place(image) == place


@pytest.mark.parametrize(
    ("image", "place"),
    [
        (1, (5, 2, 1)),
        (4, (5, 2, 4)),
        (5, (6, 1, 1)),
        (10, (6, 1, 6)),
        (11, (6, 2, 1)),
        (15, (7, 1, 1)),
    ],
)
def test_a_start_within_a_slice(image, place):
    sequence = AcquisitionSequence(UNEQUAL, start_slice=5, start_position=2)
    assert sequence.place(image) == place


def test_the_mosaic_of_the_start():
    sequence = AcquisitionSequence(UNEQUAL, start_slice=5, start_position=2)
    slice_, position, _ = sequence.place(1)
    assert naming.mosaic_of_slice(slice_, position, sequence.mosaics_per_slice) == 10
    assert sequence.first_image(5, 1) is None
    assert sequence.first_image(4, 2) is None
    assert sequence.first_image(5, 2) == 1
    assert sequence.first_image(7, 1) == 15


def test_batches_of_a_sequence():
    expected = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]
    assert batches(AcquisitionSequence(UNEQUAL), 12) == expected
    later = AcquisitionSequence(UNEQUAL, start_slice=3, start_position=2)
    assert batches(later, 6) == [(6, 1), (6, 2), (7, 1)]


def test_a_fixed_mosaic_does_not_run_on():
    fixed = AcquisitionSequence(UNEQUAL, fixed_mosaic=True)
    assert batches(fixed, 10) == [(1, 1), (1, 2), (1, 3)]
    assert fixed.place(6) == (1, 1, 6)
    assert fixed.place(7) is None
    assert fixed.first_image(1, 1) == 1
    assert fixed.first_image(1, 2) is None


@pytest.mark.parametrize("start", [(0, 1), (1, 0), (1, 3)])
def test_a_start_outside_of_a_slice(start):
    with pytest.raises(ValueError, match=r"expected 1 to 2|counted from 1"):
        AcquisitionSequence(UNEQUAL, *start)


def test_what_cannot_be_placed():
    for image in (0, -3):
        with pytest.raises(NamingError, match="counted from 1"):
            HUMAN.place(image)
        with pytest.raises(NamingError, match="counted from 1"):
            place_interleaved(image, 4)
    with pytest.raises(NamingError, match="position 3"):
        HUMAN.first_image(1, 3)
    for tiles in ((), (352, 0)):
        with pytest.raises(NamingError, match="at least one tile"):
            AcquisitionSequence(tiles)
    with pytest.raises(NamingError, match="mosaics_per_slice 4"):
        AcquisitionSequence((1, 1, 1, 1))


@given(sequences(), st.integers(1, 5000))
def test_first_image_inverts_place(sequence, image):
    place = sequence.place(image)
    if place is None:
        assert sequence.fixed_mosaic
        assert image > sequence.tiles_per_mosaic[sequence.start_position - 1]
    else:
        assert 1 <= place.image <= sequence.tiles_per_mosaic[place.position - 1]
        assert sequence.first_image(place.slice, place.position) == image - place.image + 1


@given(sequences(), st.integers(1, 80), st.data())
def test_place_inverts_first_image(sequence, slice_, data):
    position = data.draw(st.integers(1, sequence.mosaics_per_slice))
    first = sequence.first_image(slice_, position)
    if first is None:
        assert (slice_, position) < sequence.place(1)[:2] or sequence.fixed_mosaic
    else:
        assert sequence.place(first) == Place(slice_, position, 1)


# ------------------------------------------------------------------ three illuminations in one
def test_a_raw_file_of_three_illuminations_yields_three_mosaics():
    # A grid of 2 x 2, ten files.
    places = [place_interleaved(image, tiles_per_slice=4) for image in range(1, 11)]
    assert [place.slice for place in places] == [1] * 4 + [2] * 4 + [3] * 2
    assert [place.image for place in places] == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
    assert {place.slice: place.mosaics for place in places} == {
        1: (1, 2, 3),
        2: (4, 5, 6),
        3: (7, 8, 9),
    }
    found = [
        (mosaic, naming.batch_of_image(place.image, 2))
        for place in places
        for mosaic in place.mosaics
    ]
    # The first mosaics of the slices have the batches of the reference; the others join in.
    first = [(mosaic, batch) for mosaic, batch in found if mosaic % 3 == 1]
    assert list(dict.fromkeys(first)) == [(1, 1), (1, 2), (4, 1), (4, 2), (7, 1)]
    assert len(set(found)) == 15


@given(st.integers(1, 10**6), st.integers(1, 2000))
def test_interleaved_image_inverts_place(image, tiles):
    place = place_interleaved(image, tiles)
    assert interleaved_image(place.slice, place.image, tiles) == image
    assert place.mosaics == tuple((place.slice - 1) * 3 + k for k in (1, 2, 3))
    assert {naming.slice_of_mosaic(mosaic, 3)[0] for mosaic in place.mosaics} == {place.slice}


@pytest.mark.parametrize(("slice_", "image", "tiles"), [(0, 1, 4), (1, 0, 4), (1, 5, 4), (1, 1, 0)])
def test_what_is_no_interleaved_tile(slice_, image, tiles):
    with pytest.raises(NamingError):
        interleaved_image(slice_, image, tiles)
