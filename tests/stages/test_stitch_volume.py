"""Volumes as a stage: right values at the right place, every fault with its name."""

import errno
import json
import os

import nibabel
import numpy as np
import pytest

from opticstream_smk.doctor import examine
from opticstream_smk.errors import (
    ConfigError,
    CorruptInputError,
    IncompleteInputError,
    ServiceError,
)
from opticstream_smk.io.disk import size_on_disk
from opticstream_smk.stages import find_stage
from opticstream_smk.stages.tile_depth import TileVolume
from tests.stages.volume_project import DEPTH, SCAN, SIZE_X, SIZE_Y, VOLUME, VolumeProject


@pytest.fixture
def config(make_config):
    return make_config(**SCAN, **VOLUME)


@pytest.fixture
def flat(make_config):
    """Without a focus plane, for what has nothing to do with it."""
    return make_config(**SCAN, **VOLUME, volume__focus=False)


@pytest.mark.parametrize("surface_last", [False, True])
def test_a_volume_follows_plane_mask_and_positions(config, surface_last):
    project = VolumeProject(config, surface_last=surface_last)
    project.fit()
    flag = project.stitch()
    expected = project.expected(plane=project.plane())
    np.testing.assert_allclose(project.read(), expected, rtol=1e-5, atol=1e-4)
    assert flag.numbers["shape_zyx"] == list(expected.shape)
    assert flag.numbers["wanted_voxels"] == project.mask.sum() * len(expected)
    assert flag.numbers["out_of_range_voxels"] == 0
    assert flag.extra["focus_sha256"]
    assert "warnings" not in flag.extra
    volume = project.layout.volume(1, "dBI")
    assert flag.outputs[0].path == "mosaic-01/stitched/mosaic_001_dBI.ome.zarr"
    assert flag.outputs[0].size == size_on_disk(volume) > 0


def test_it_lies_where_the_stitched_images_lie(flat):
    project = VolumeProject(flat)
    project.stitch()
    ome = project.metadata()
    dataset = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    affine = nibabel.load(project.layout.stitched(1, "mask")).affine
    assert dataset[0]["scale"] == [2.5, 10.0, 10.0]
    np.testing.assert_allclose(
        dataset[1]["translation"], [0, 1000 * affine[1, 3], 1000 * affine[0, 3]]
    )
    assert {axis["unit"] for axis in ome["multiscales"][0]["axes"]} == {"micrometer"}
    assert ome["omero"]["channels"][0]["label"] == "intensity, dB"


def test_orientation_is_averaged_as_axes(flat):
    project = VolumeProject(flat)
    project.stitch("O3D")
    difference = (project.read("O3D") - project.expected("O3D") + 90) % 180 - 90
    # Where two tiles are at right angles the mean axis is anything: nobody knows it better.
    assert np.percentile(np.abs(difference), 99.9) < 1e-2
    window = project.metadata("O3D")["omero"]["channels"][0]["window"]
    assert window == {"start": -90.0, "end": 90.0, "min": -90.0, "max": 90.0}


def test_a_missing_tile_leaves_its_place_empty(flat):
    project = VolumeProject(flat, missing=[2])
    flag = project.stitch()
    np.testing.assert_allclose(project.read(), project.expected(), rtol=1e-5, atol=1e-4)
    assert flag.tiles.missing == (2,)


def test_what_is_deeper_than_the_tiles_is_filled_counted_and_told(make_config):
    config = make_config(**SCAN, **VOLUME, volume__focus=False, volume__mask=False)
    deep = config.model_copy(
        update={"volume": config.volume.model_copy(update={"depth_px": DEPTH + 6})}
    )
    project = VolumeProject(deep)
    flag = project.stitch()
    values = project.read()
    assert not values[DEPTH - 3 :].any()
    assert flag.numbers["out_of_range_voxels"] * (DEPTH + 6) == flag.numbers["wanted_voxels"] * 9
    (warning,) = flag.extra["warnings"]
    assert f"volume.depth_px: {DEPTH - 3}" in warning


def test_an_empty_mask_is_told(flat):
    project = VolumeProject(flat)
    project.mask[:] = False
    project._write()
    assert "no pixel" in project.stitch().extra["warnings"][0]
    assert not project.read().any()


def test_ngff_04_is_a_switch(make_config):
    values = {**VOLUME, "volume__zarr_version": 2, "volume__shard": None, "volume__focus": False}
    project = VolumeProject(make_config(**SCAN, **values))
    project.stitch()
    volume = project.layout.volume(1, "dBI")
    attributes = json.loads((volume / ".zattrs").read_text())
    assert attributes["multiscales"][0]["version"] == "0.4"
    np.testing.assert_allclose(project.read(), project.expected(), rtol=1e-5, atol=1e-4)


# -------------------------------------------------------------------------------- bad input
def test_a_tile_of_another_shape_is_named(flat):
    project = VolumeProject(flat)
    project.write_tile(3, "dBI", np.zeros((DEPTH - 1, SIZE_Y, SIZE_X), np.float32))
    error, record = project.failed(project.stitch)
    assert isinstance(error, CorruptInputError)
    assert "mosaic_001_image_0003_dBI.nii" in str(error)
    assert record.extra["flag"] == "mosaic-01.volume_dBI"
    assert project.flag("stitched") is not None
    # The others do not depend on it, and leave its failure on record.
    project.stitch("O3D")
    assert project.flag("failed").extra["flag"] == "mosaic-01.volume_dBI"
    project.write_tile(3, "dBI", project.volumes["dBI"][2])
    project.stitch()
    assert project.flag("failed") is None


def test_a_lost_or_truncated_tile_is_named(flat):
    project = VolumeProject(flat)
    path = project.layout.processed_tile(1, 2, "dBI")
    os.truncate(path, 5000)
    error, _ = project.failed(project.stitch)
    assert isinstance(error, CorruptInputError)
    assert path.name in str(error)
    path.unlink()
    error, _ = project.failed(project.stitch)
    assert isinstance(error, IncompleteInputError)
    assert path.name in str(error)


def test_coordinates_that_changed_since_stitching_are_refused(flat):
    project = VolumeProject(flat)
    project.set_template(project.positions + 3, np.full(6, 65.0))
    error, _ = project.failed(project.stitch)
    assert "redo --from stitch_enface --mosaic 1" in str(error)


def test_batches_must_agree_on_the_order_of_depth(flat):
    project = VolumeProject(flat)
    path = project.layout.batch_flag(1, 2, "processed")
    flag = json.loads(path.read_text())
    flag["extra"]["z_order"] = "raw"
    path.write_text(json.dumps(flag))
    error, _ = project.failed(project.stitch)
    assert "batches [2]" in str(error)


def test_what_is_not_stitched_or_fitted_has_no_volume(config):
    project = VolumeProject(config)
    error, _ = project.failed(project.stitch)
    assert "fit_focus --acquisition normal" in str(error)
    project.fit()
    project.layout.mosaic_flag(1, "stitched").unlink()
    error, _ = project.failed(project.stitch)
    assert "stitch_enface --mosaic 1" in str(error)


def test_volumes_that_are_off_are_refused(make_config):
    some = make_config(**SCAN, **VOLUME, volume__modalities=["dBI"])
    with pytest.raises(ConfigError, match=r"volume\.modalities has dBI, not O3D"):
        VolumeProject(some).stitch("O3D")
    off = make_config(**SCAN, **{**VOLUME, "volume__enabled": False})
    assert off.volume_modalities == ()
    with pytest.raises(ConfigError, match=r"volume\.enabled is false"):
        VolumeProject(off).stitch()
    none = make_config(**SCAN, **VOLUME, processing__save_volume_outputs=False)
    assert none.volume_modalities == ()
    assert not none.fits_focus
    with pytest.raises(ConfigError, match="save_volume_outputs"):
        VolumeProject(none).finish()


# ------------------------------------------------------------------------- killed and damaged
def test_a_run_that_died_goes_on_where_it_was(flat, monkeypatch):
    project = VolumeProject(flat)
    reads, read_rows = [], TileVolume.read_rows

    def dying(self, *where):
        reads.append(where)
        if len(reads) > 40:
            raise KeyboardInterrupt
        read_rows(self, *where)

    monkeypatch.setattr(TileVolume, "read_rows", dying)
    with pytest.raises(KeyboardInterrupt):
        project.stitch()
    monkeypatch.setattr(TileVolume, "read_rows", read_rows)
    volume = project.layout.volume(1, "dBI")
    assert not volume.exists()
    findings = examine(flat, fix=True)
    assert any("not complete" in finding.problem for finding in findings)
    flag = project.stitch()
    assert 0 < flag.numbers["resumed_parts"] < flag.numbers["parts"]
    np.testing.assert_allclose(project.read(), project.expected(), rtol=1e-5, atol=1e-4)
    assert [path.name for path in volume.parent.glob(".*")] == []


def test_a_full_disk_is_a_matter_of_the_service(flat, monkeypatch):
    project = VolumeProject(flat)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        error, record = project.failed(project.stitch)
    assert isinstance(error, ServiceError)
    assert "the disk is full" in str(error)
    assert record.extra["kind"] == "service"
    assert not project.layout.volume(1, "dBI").exists()
    project.stitch()


def test_all_are_there_only_when_each_is_as_it_was_written(make_config):
    values = {**VOLUME, "volume__focus": False, "volume__modalities": ["dBI", "O3D"]}
    project = VolumeProject(make_config(**SCAN, **values))
    project.stitch("dBI")
    error, _ = project.failed(project.finish)
    assert "--modality O3D" in str(error)
    project.stitch("O3D")
    flag = project.finish()
    assert flag.numbers["volumes"] == 2
    assert len(flag.outputs) == 2
    project.layout.mosaic_flag(1, "volume_stitched").unlink()
    (project.layout.volume(1, "O3D") / "zarr.json").unlink()
    error, _ = project.failed(project.finish)
    assert isinstance(error, CorruptInputError)
    assert "mosaic_001_O3D.ome.zarr has no bytes" in str(error)


@pytest.mark.parametrize("damage", ["marker", "shard", "folder"])
def test_doctor_finds_a_damaged_volume_and_has_it_made_again(make_config, damage):
    values = {**VOLUME, "volume__focus": False, "volume__modalities": ["dBI"]}
    config = make_config(**SCAN, **values)
    project = VolumeProject(config)
    project.stitch()
    project.finish()
    before, volume = project.read(), project.layout.volume(1, "dBI")
    if damage == "marker":
        (volume / "zarr.json").unlink()
    elif damage == "shard":
        shard = max(volume.rglob("c/*/*/*"), key=lambda path: path.stat().st_size)
        os.truncate(shard, 100)
    else:
        volume.rename(volume.with_name("elsewhere"))
    found = [f for f in examine(config, fix=True) if "volume_dBI" in f.where]
    assert [finding.verdict for finding in found] == ["withdrawn"]
    assert project.flag("volume_dBI") is None
    assert project.flag("volume_stitched") is None
    assert project.flag("stitched") is not None
    project.stitch()
    np.testing.assert_array_equal(project.read(), before)


def test_doctor_lists_a_volume_that_no_flag_speaks_for(flat):
    project = VolumeProject(flat)
    project.stitch()
    project.layout.mosaic_flag(1, "volume_dBI").unlink()
    stitched = project.layout.volume(1, "dBI").parent
    (finding,) = [f for f in examine(flat) if f.where == str(stitched)]
    assert "belong to no flag" in finding.problem


def test_another_offset_is_drift_and_no_fault(flat, make_config):
    project = VolumeProject(flat)
    project.stitch()
    other = make_config(**SCAN, **{**VOLUME, "volume__offset_px": 5, "volume__focus": False})
    (finding,) = [f for f in examine(other) if "volume_dBI" in f.where]
    assert finding.verdict == "note"
    assert "redo --from stitch_volume" in finding.remedy


def test_stages_of_volumes_are_known_by_modality():
    assert find_stage("stitch_volume", modality="R3D").flag == "volume_R3D"
    assert find_stage("stitch_volume").flag == "volume_stitched"
