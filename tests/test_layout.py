from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.places import (
    FLAGS,
    batch_place,
    flag_path,
    mosaic_place,
    parse_flag_path,
    slice_place,
    tilemap_place,
)

LAYOUT = ProjectLayout(Path("/data/my block"))
ids = st.integers(1, 9999)
places = st.one_of(
    st.builds(batch_place, ids, ids),
    st.builds(mosaic_place, ids),
    st.builds(slice_place, ids),
    st.builds(tilemap_place, st.sampled_from(["normal", "tilted"])),
)


@given(places)
def test_flag_paths_round_trip(place):
    for state in FLAGS[place.level]:
        assert parse_flag_path(flag_path(LAYOUT, place, state)) == (place, state)


def test_names_of_the_design():
    root = LAYOUT.root
    assert LAYOUT.complex_tile(1, 1) == root / "mosaic-01/complex/mosaic_001_image_0001_complex.nii"
    assert LAYOUT.stitched(1, "aip_nomask", ".tiff") == (
        root / "mosaic-01/stitched/mosaic_001_aip_nomask.tiff"
    )
    assert LAYOUT.batch_flag(1, 7, "ready") == root / "mosaic-01/state/batch-007.ready"
    assert LAYOUT.mosaic_flag(1, "stitched") == root / "mosaic-01/state/mosaic-01.stitched"
    assert LAYOUT.slice_flag(1, "registered") == root / "state/slice-01.registered"
    assert LAYOUT.tilemap_flag("normal") == root / "state/tilemap-normal.solved"
    assert LAYOUT.template("tilted") == root / "tilemap-tilted.j2"
    assert LAYOUT.registered_product(2, "3daxis.nii") == root / "registered/slice-02_3daxis.nii"
    assert LAYOUT.receipt(1, 2, "processed") == (
        root / "mosaic-01/processed/.receipts/mosaic_001_image_0002.json"
    )
    lock = LAYOUT.lock(LAYOUT.batch_flag(1, 7, "processed"))
    assert lock == root / "mosaic-01/state/.locks/batch-007.processed.lock"


def test_relative_paths():
    assert LAYOUT.relative(LAYOUT.template("normal")) == "tilemap-normal.j2"
    assert LAYOUT.relative(Path("/elsewhere/x.nii")) == "/elsewhere/x.nii"


def test_mosaics_of_a_project_that_is_not_there_yet(tmp_path):
    layout = ProjectLayout(tmp_path / "later")
    assert layout.mosaics() == []
    (tmp_path / "later" / "mosaic-02").mkdir(parents=True)
    (tmp_path / "later" / "mosaic-x").mkdir()
    assert layout.mosaics() == [2]
