import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk import naming
from opticstream_smk.errors import NamingError

ids = st.integers(1, 99999)


@pytest.mark.parametrize(
    ("per_slice", "offset", "mosaic", "place", "moved"),
    [
        (2, 4, 1, (1, 1), (5, 9)),
        (2, 4, 2, (1, 2), (5, 10)),
        (2, 4, 3, (2, 1), (6, 11)),
        (2, 4, 4, (2, 2), (6, 12)),
        (2, 4, 5, (3, 1), (7, 13)),
        (2, 4, 7, (4, 1), (8, 15)),
        (3, 4, 1, (1, 1), (5, 13)),
        (3, 4, 2, (1, 2), (5, 14)),
        (3, 4, 3, (1, 3), (5, 15)),
        (3, 4, 4, (2, 1), (6, 16)),
        (3, 4, 6, (2, 3), (6, 18)),
        (3, 4, 7, (3, 1), (7, 19)),
    ],
)
def test_mosaic_arithmetic(per_slice, offset, mosaic, place, moved):
    assert naming.slice_of_mosaic(mosaic, per_slice) == place
    shifted = naming.offset_mosaic(mosaic, offset, per_slice)
    assert (naming.slice_of_mosaic(shifted, per_slice)[0], shifted) == moved


@given(ids, st.sampled_from([2, 3]))
def test_mosaic_and_slice_are_inverse(mosaic, per_slice):
    slice_, position = naming.slice_of_mosaic(mosaic, per_slice)
    assert naming.mosaic_of_slice(slice_, position, per_slice) == mosaic
    assert mosaic in naming.mosaics_of_slice(slice_, per_slice)


def test_mosaic_arithmetic_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="mosaic 0"):
        naming.slice_of_mosaic(0)
    with pytest.raises(ValueError, match="slice_offset -3"):
        naming.offset_mosaic(1, -3)
    with pytest.raises(ValueError, match="position 3"):
        naming.mosaic_of_slice(1, 3)
    with pytest.raises(ValueError, match="mosaics_per_slice 4"):
        naming.acquisition_labels(4)


def test_acquisition_labels():
    assert [naming.acquisition_of_mosaic(m) for m in (1, 2, 3)] == ["normal", "tilted", "normal"]
    assert naming.acquisition_of_mosaic(6, 3) == "tiltNeg"


def test_stems_of_products():
    assert naming.tile_stem(1, 3) == "mosaic_001_image_0003"
    assert naming.tile_product_name(1, 3, "dBI") == "mosaic_001_image_0003_dBI.nii"
    assert naming.parse_tile_product("mosaic_001_image_0003_dBI.nii.gz") is None


@given(ids, ids, st.sampled_from(["complex", *naming.VOLUME_MODALITIES, "aip", "surf"]))
def test_tile_products_round_trip(mosaic, image, modality):
    name = naming.tile_product_name(mosaic, image, modality)
    assert naming.parse_tile_product(name) == (mosaic, image, modality)


@given(
    st.one_of(
        st.tuples(st.sampled_from(["batch", "mosaic", "slice"]), ids),
        st.tuples(st.just("tilemap"), st.sampled_from(["normal", "tilted", "tiltPos"])),
    ),
    st.sampled_from(["ready", "processed", "volume_dBI", "solved"]),
)
def test_flags_round_trip(level_and_id, state):
    name = naming.FlagName(*level_and_id, state)
    assert naming.parse_flag(str(name)) == name


def test_flags_of_other_padding_are_understood():
    assert naming.parse_flag("batch-1.processed") == naming.FlagName("batch", 1, "processed")
    assert naming.parse_mosaic_folder("mosaic-003") == 3
    assert naming.parse_flag("batch-001.processed.tmp") is None


@given(ids, st.integers(1, 50))
def test_every_image_is_in_its_batch(image, rows):
    assert image in naming.images_of_batch(naming.batch_of_image(image, rows), rows)


def test_mosaic_ranges():
    assert naming.parse_mosaic_ranges("1:4, 7:9") == ((1, 4), (7, 9))
    for wrong in ("5:1", "3", "a:b", "0:4", ""):
        with pytest.raises(NamingError, match="mosaic range"):
            naming.parse_mosaic_ranges(wrong)
