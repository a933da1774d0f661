import pytest
from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.errors import NamingError
from opticstream_smk.naming import lsm, slice_stem

ids = st.integers(1, 99999)


@pytest.mark.parametrize(
    ("name", "run", "strip", "channel"),
    [
        ("Run1", 1, 1, 1),
        ("Run1_1", 1, 2, 1),
        ("Run1_4", 1, 5, 1),
        ("Run1_C2", 1, 1, 2),
        ("Run1_C2_3", 1, 4, 2),
        ("run10", 10, 1, 1),
        ("RUN10_C2_5", 10, 6, 2),
        ("/some/path/Run2_3", 2, 4, 1),
        ("/some/path/Run2_3/", 2, 4, 1),
        ("Scan2_C2_1", 2, 2, 2),
        ("run3_c2", 3, 1, 2),
    ],
)
def test_folder_names(name, run, strip, channel):
    assert lsm.parse_lsm_folder(name) == lsm.LsmFolder(run=run, strip=strip, channel=channel)


@pytest.mark.parametrize(
    "name",
    ["Foo", "Run", "Run_1", "Run1_C3", "Run1__2", "Run1_C2_extra", "", "Run1\n", "Run١", "1Run"],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="Folder name does not match LSM run pattern"):
        lsm.parse_lsm_folder(name)


@given(st.integers(0, 99999), ids, st.sampled_from([1, 2]), st.sampled_from(["Run", "scan", "C"]))
def test_folder_names_round_trip(run, strip, channel, prefix):
    name = lsm.lsm_folder_name(run, strip, channel, prefix)
    assert lsm.parse_lsm_folder(name) == (run, strip, channel)


@pytest.mark.parametrize("wrong", [(-1, 1, 1, "Run"), (1, 0, 1, "Run"), (1, 1, 3, "Run")])
def test_no_folder_has_such_ids(wrong):
    with pytest.raises(NamingError):
        lsm.lsm_folder_name(*wrong)
    with pytest.raises(NamingError, match="prefix 'Run_1'"):
        lsm.lsm_folder_name(1, 1, 1, "Run_1")


@pytest.mark.parametrize(
    ("index", "channel", "per_slice", "expected"),
    [
        (1, 1, 5, (1, 1, 1)),
        (5, 1, 5, (1, 5, 1)),
        (6, 2, 5, (2, 1, 2)),
        (7, 2, 5, (2, 2, 2)),
        (10, 1, 5, (2, 5, 1)),
    ],
)
def test_strip_index(index, channel, per_slice, expected):
    slice_, strip, channel_ = expected
    place = lsm.parse_lsm_strip_index(index, channel, per_slice)
    assert place == lsm.LsmStrip(slice=slice_, channel=channel_, strip=strip)


def test_strips_and_slices_are_counted_from_one():
    with pytest.raises(NamingError, match="strip 0"):
        lsm.parse_lsm_strip_index(0, 1, 5)
    with pytest.raises(NamingError, match="strips_per_slice 0"):
        lsm.parse_lsm_strip_index(1, 1, 0)


@given(ids, st.integers(1, 200))
def test_every_index_has_its_own_place(index, per_slice):
    slice_, _, strip = lsm.parse_lsm_strip_index(index, 1, per_slice)
    assert 1 <= strip <= per_slice
    assert (slice_ - 1) * per_slice + strip == index


@pytest.mark.parametrize(
    ("name", "per_slice", "expected"),
    [
        ("Run1", 5, (1, 1, 1)),
        ("Run1_3", 5, (1, 4, 1)),
        ("Run1_C2_4", 5, (1, 5, 2)),
        ("Run1_5", 5, (2, 1, 1)),
        ("Run3_11", 5, (5, 2, 1)),
        ("Run1_5", 1, (1, 6, 1)),
    ],
)
def test_strips_of_folders(name, per_slice, expected):
    slice_, strip, channel = expected
    place = lsm.lsm_strip_of_folder(name, strips_per_slice=per_slice)
    assert place == lsm.LsmStrip(slice=slice_, channel=channel, strip=strip)


def test_the_offset_is_added_to_the_slice():
    assert lsm.lsm_strip_of_folder("Run3_1", slice_offset=4) == (7, 1, 2)
    assert lsm.lsm_strip_of_folder("Run0", slice_offset=1) == (1, 1, 1)
    with pytest.raises(NamingError, match="Run3 is slice 3; slice_offset -3 makes that slice 0"):
        lsm.lsm_strip_of_folder("Run3", slice_offset=-3)


@given(st.sampled_from(["strip", "channel"]), ids, st.sampled_from(["ready", "mip_stitched"]))
def test_flags_round_trip(level, id_, state):
    name = lsm.LsmFlagName(level, id_, state)
    assert lsm.parse_lsm_flag(str(name)) == name


@given(ids)
def test_folders_of_a_project_round_trip(id_):
    assert lsm.parse_slice_folder(slice_stem(id_)) == id_
    assert lsm.parse_channel_folder(lsm.channel_stem(id_)) == id_


def test_names_of_the_design():
    assert str(lsm.LsmFlagName("strip", 1, "ready")) == "strip-0001.ready"
    assert str(lsm.LsmFlagName("channel", 1, "mip_stitched")) == "channel-01.mip_stitched"
    assert (slice_stem(1), lsm.channel_stem(2)) == ("slice-01", "channel-02")


def test_other_paddings_and_other_names():
    assert lsm.parse_lsm_flag("strip-1.ready") == lsm.LsmFlagName("strip", 1, "ready")
    assert lsm.parse_lsm_flag("strip-0001.ready.tmp") is None
    assert lsm.parse_lsm_flag("batch-001.ready") is None
    assert lsm.parse_slice_folder("slice-003") == 3
    assert lsm.parse_slice_folder("channel-01") is None
    with pytest.raises(NamingError, match="channel 0"):
        lsm.channel_stem(0)
    with pytest.raises(NamingError, match="strip 0"):
        lsm.strip_stem(0)
