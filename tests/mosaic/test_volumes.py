import json
import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.io import nifti
from opticstream_smk.io.ome_zarr import ZarrOptions
from opticstream_smk.mosaic import blend, canvas_shape, fit_focus_plane, stitch_volume
from opticstream_smk.mosaic.volume_blocks import BlockMaker
from tests.mosaic.volume_phantom import (
    OVERLAP,
    POSITIONS,
    TILE,
    VOXEL_UM,
    axial,
    expected,
    halved,
    make_plane,
    make_tiles,
    read,
    stitch,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "mosaic"
CANVAS = canvas_shape(POSITIONS, TILE[1:])[0]


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch):
    """Hundreds of small files: what is brought to disk when is for other tests."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)


@pytest.mark.parametrize("plane", [None, make_plane()], ids=["flat", "focus"])
def test_every_depth_is_blended_as_an_image_is(tmp_path, plane):
    tiles = make_tiles()
    report = stitch(tiles, tmp_path / "a.ome.zarr", focus_plane=plane)
    assert np.array_equal(read(tmp_path / "a.ome.zarr"), expected(tiles, plane=plane))
    assert report.shape == (37, *CANVAS)
    assert report.origin_px == (0, -2)


def test_orientation_is_blended_as_vectors(tmp_path):
    tiles, plane = make_tiles(circular=True), make_plane()
    stitch(tiles, tmp_path / "a.ome.zarr", focus_plane=plane, circular=True)
    found = read(tmp_path / "a.ome.zarr")
    wanted = expected(tiles, plane=plane, circular=True)
    # Opposite directions cancel where rounding decides; elsewhere float32 agrees.
    difference = np.abs(axial(found - wanted))
    assert np.quantile(difference, 0.9999) < 1e-3
    assert (np.abs(found) <= 90).all()
    assert (found == wanted)[wanted == 0].all()


def test_mean_over_depth_is_the_stitched_mean(tmp_path):
    tiles = make_tiles()
    stitch(tiles, tmp_path / "a.ome.zarr", offset_px=0, depth_px=TILE[0])
    means, _ = blend(
        [tile.mean(axis=0) for tile in tiles], POSITIONS, overlap_percent=OVERLAP, fill=0
    )
    assert np.allclose(read(tmp_path / "a.ome.zarr").mean(axis=0), means, atol=1e-4)


def test_mask_and_missing_tiles(tmp_path):
    tiles = make_tiles()
    tiles[2] = None
    mask = np.zeros(CANVAS, np.uint8)
    mask[5:70, 10:65] = 255
    report = stitch(tiles, tmp_path / "a.ome.zarr", mask=mask)
    wanted = expected(tiles, mask=mask)
    assert np.array_equal(read(tmp_path / "a.ome.zarr"), wanted)
    covered = np.isfinite(expected(tiles, depth=1, fill=np.nan)[0]) & (mask > 0)
    assert report.wanted_voxels == 37 * covered.sum()
    assert report.out_of_range_voxels == report.not_finite_voxels == 0


@pytest.mark.parametrize(("offset", "depth"), [(-9, 37), (20, 37), (3, 90), (200, 12)])
def test_depths_that_no_tile_has_are_filled_and_counted(tmp_path, offset, depth):
    tiles, plane = make_tiles(), make_plane()
    options = ZarrOptions(chunk=(8,), shard=(32,), fill_value=-5.0)
    report = stitch(
        tiles,
        tmp_path / "a.ome.zarr",
        focus_plane=plane,
        offset_px=offset,
        depth_px=depth,
        options=options,
    )
    nan = expected(tiles, plane=plane, offset=offset, depth=depth, fill=np.nan)
    found = read(tmp_path / "a.ome.zarr")
    assert np.array_equal(found, np.where(np.isnan(nan), np.float32(-5), nan))
    covered = np.isfinite(expected(tiles, depth=1, fill=np.nan)[0])
    assert report.out_of_range_voxels == np.isnan(nan)[:, covered].sum() > 0
    assert report.not_finite_voxels == 0
    assert report.wanted_voxels == depth * covered.sum()


def test_voxels_that_are_not_finite_have_no_weight_and_are_counted(tmp_path):
    tiles = make_tiles()
    tiles[0][10:14, 3:9, 2:6] = np.nan
    tiles[0][20, 30, :] = -np.inf  # log of nothing; in the overlap with tile 2
    report = stitch(tiles, tmp_path / "a.ome.zarr")
    found = read(tmp_path / "a.ome.zarr")
    assert np.array_equal(found, expected(tiles))
    assert np.isfinite(found).all()
    assert report.not_finite_voxels == 4 * 6 * 4
    assert report.out_of_range_voxels == 0


def test_nan_as_fill_value(tmp_path):
    tiles = make_tiles()
    tiles[3] = None
    options = ZarrOptions(chunk=(8,), shard=(32,), fill_value=math.nan)
    stitch(tiles, tmp_path / "a.ome.zarr", options=options)
    wanted = expected(tiles, fill=np.nan)
    assert np.isnan(wanted).any()
    assert np.array_equal(read(tmp_path / "a.ome.zarr"), wanted, equal_nan=True)
    for level in (1, 2):
        below = read(tmp_path / "a.ome.zarr", level - 1)
        filled = np.where(np.isnan(below), -1e9, below)
        half = halved(filled, fill=-1e9)
        half[half == -1e9] = np.nan
        found = read(tmp_path / "a.ome.zarr", level)
        assert np.allclose(found, half, rtol=1e-5, equal_nan=True)


# Footprints of 32 px have whole shards down to level 2; levels 3 and 4 are made from level 2. One
# of 24 px has none at any level; one of 128 px holds all.
@pytest.mark.parametrize("shard", [(16,), (32,), (24,), (64, 24, 128), (128,), None])
@pytest.mark.parametrize("circular", [False, True])
def test_each_level_is_the_mean_of_the_one_above(tmp_path, shard, circular):
    tiles = make_tiles(circular=circular)
    tiles[5] = None
    options = ZarrOptions(chunk=(8,), shard=shard)
    report = stitch(tiles, tmp_path / "a.ome.zarr", circular=circular, options=options)
    levels = [read(tmp_path / "a.ome.zarr", level) for level in range(report.levels)]
    assert [level.shape for level in levels][:3] == [(37, 88, 73), (18, 44, 36), (9, 22, 18)]
    assert max(levels[-1].shape) <= 8 < max(levels[-2].shape)
    for above, below in pairwise(levels):
        wanted = halved(above, circular=circular)
        difference = below - wanted
        if circular:
            assert np.quantile(np.abs(axial(difference)), 0.999) < 1e-2
            assert ((below == 0) == (wanted == 0)).mean() > 0.999
        else:
            assert np.abs(difference).max() < 1e-4


@pytest.mark.parametrize("depth", [1, 3, 5, 9])
def test_a_volume_of_few_planes(tmp_path, depth):
    tiles = make_tiles()
    report = stitch(tiles, tmp_path / "a.ome.zarr", depth_px=depth)
    levels = [read(tmp_path / "a.ome.zarr", level) for level in range(report.levels)]
    assert levels[-1].shape[0] == 1
    for above, below in pairwise(levels):
        assert np.allclose(below, halved(above), atol=1e-4)
    datasets = metadata(tmp_path / "a.ome.zarr")["multiscales"][0]["datasets"]
    factors = [d["coordinateTransformations"][0]["scale"][0] / VOXEL_UM[0] for d in datasets]
    assert factors == [min(2**i, 2 ** (depth.bit_length() - 1)) for i in range(len(factors))]


def metadata(folder):
    return json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]


def test_a_place_in_micrometers_has_one_value_at_all_levels(tmp_path):
    # A ramp along each axis: the mean of a coarse voxel is the value at its centre.
    positions = np.array([(y, x) for y in (7, 37) for x in (-5, 29)])
    z, y, x = np.mgrid[: TILE[0], : TILE[1], : TILE[2]].astype(np.float32)
    tiles = [z * 3 + (y + top - 7) * 1.5 - (x + left + 5) * 2 + 500 for top, left in positions]
    origin = (100.0, -2000.0, 350.0)
    out = tmp_path / "a.ome.zarr"
    stitch_volume(
        tiles,
        positions,
        out,
        overlap_percent=10,
        voxel_um=VOXEL_UM,
        origin_um=origin,
        offset_px=3,
        depth_px=32,
        options=ZarrOptions(chunk=(4,), shard=(16,), levels=3),
    )
    datasets = metadata(out)["multiscales"][0]["datasets"]
    assert len(datasets) == 4
    for level, dataset in enumerate(datasets):
        scale, translation = dataset["coordinateTransformations"]
        found = read(out, level)
        place = np.stack(np.indices(found.shape), axis=-1) * scale["scale"]
        voxel = (place + translation["translation"] - origin) / VOXEL_UM
        wanted = (voxel[..., 0] + 3) * 3 + voxel[..., 1] * 1.5 - voxel[..., 2] * 2 + 500
        assert np.allclose(found, wanted, atol=2e-2)


def test_metadata_has_full_units_and_a_window(tmp_path):
    out = tmp_path / "mosaic_001_dBI.ome.zarr"
    report = stitch(make_tiles(), out, label="dBI", origin_um=(1.0, 2.0, 3.0))
    image = metadata(out)
    assert image["version"] == "0.5"
    (multiscale,) = image["multiscales"]
    assert multiscale["name"] == "mosaic_001_dBI"
    assert [(a["name"], a["type"], a["unit"]) for a in multiscale["axes"]] == [
        (name, "space", "micrometer") for name in "zyx"
    ]
    second = multiscale["datasets"][1]["coordinateTransformations"]
    assert second[0] == {"type": "scale", "scale": [5.0, 20.0, 24.0]}
    assert second[1] == {"type": "translation", "translation": [2.25, 7.0, 9.0]}
    (channel,) = image["omero"]["channels"]
    assert channel["label"] == "dBI"
    window = channel["window"]
    values = expected(make_tiles())
    assert (window["start"], window["end"]) == report.window
    # Some 220,000 voxels: the percentiles are those of full resolution.
    assert report.window == pytest.approx(np.percentile(values[values != 0], [1, 99.8]), abs=1e-3)
    assert window["min"] <= window["start"] < window["end"] <= window["max"]
    again = tmp_path / "b.ome.zarr"
    stitch(make_tiles(), again, window=(20, 80), limits=(-90, 90))
    window = metadata(again)["omero"]["channels"][0]["window"]
    assert window == {"start": 20, "end": 80, "min": -90, "max": 90}


def test_a_volume_without_a_value_is_complete_and_empty(tmp_path):
    out = tmp_path / "a.ome.zarr"
    report = stitch(make_tiles(), out, mask=np.zeros(CANVAS, bool))
    assert report.wanted_voxels == 0
    assert report.window == (0, 1)
    assert not read(out).any()
    assert not list(out.glob("0/c/*/*/*"))


def test_chunks_without_a_value_are_not_stored(tmp_path):
    mask = np.zeros(CANVAS, bool)
    mask[:8, :8] = True
    report = stitch(make_tiles(), tmp_path / "a.ome.zarr", mask=mask)
    stored = sorted(p.relative_to(tmp_path / "a.ome.zarr/0/c") for p in report_files(tmp_path))
    assert stored == [Path("0/0/0"), Path("1/0/0")]
    assert report.read_bytes < 0.5 * report.tile_bytes


def report_files(folder):
    return [p for p in (folder / "a.ome.zarr/0/c").rglob("*") if p.is_file()]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(tmp_path, threads):
    tiles, plane = make_tiles(), make_plane()
    report = stitch(tiles, tmp_path / "a.ome.zarr", focus_plane=plane, threads=threads)
    assert report.workers == threads
    stitch(tiles, tmp_path / "b.ome.zarr", focus_plane=plane)
    for level in range(report.levels):
        first, second = (read(tmp_path / f"{name}.ome.zarr", level) for name in "ab")
        assert np.array_equal(first, second)


def test_memory_does_not_depend_on_the_size_of_the_mosaic():
    from opticstream_smk.mosaic.volume_footprints import _coarse_shapes
    from opticstream_smk.mosaic.volume_store import pyramid_layout
    from opticstream_smk.mosaic.volumes import _scene

    class Reader:
        shape, identity = (700, 350, 350), ""

    def need(rows, columns):
        positions = [(280 * y, 280 * x) for y in range(rows) for x in range(columns)]
        scene, _ = _scene(
            [Reader()] * len(positions),
            positions,
            overlap_percent=20,
            focus_plane=20 * np.linspace(0, 1, 350)[:, None] * np.ones(350),
            offset_px=30,
            depth_px=500,
            circular=True,
            mask=None,
        )
        pyramid = pyramid_layout(scene.shape, ZarrOptions())
        coarse = sum(4 * math.prod(shape) for shape in _coarse_shapes(pyramid))
        footprint = pyramid.footprints()[0]
        block = pyramid.levels[0].chunk
        rows_of_strip = (footprint.rows[0], footprint.rows[0] + block[1])
        return coarse, BlockMaker.memory_bytes(scene, block, rows_of_strip, footprint.columns)

    assert need(5, 5) == need(20, 30)
    coarse, each = need(5, 5)
    assert coarse + 4 * each < 700e6


def test_threads_are_fewer_where_memory_is_short(tmp_path):
    report = stitch(make_tiles(), tmp_path / "a.ome.zarr", threads=64, memory_mb=3)
    assert 1 <= report.workers < 64
    with pytest.raises(ConfigError, match=r"chunks of \[64, 64, 64\].*at most 3 MB"):
        stitch(make_tiles(), tmp_path / "b.ome.zarr", options=ZarrOptions(), memory_mb=3)


def test_tiles_are_read_about_once(tmp_path):
    report = stitch(make_tiles(), tmp_path / "a.ome.zarr", options=ZarrOptions(chunk=(16,)))
    assert report.read_bytes <= 2 * report.tile_bytes


def test_files_of_tiles(tmp_path):
    tiles, plane = make_tiles(), make_plane()
    readers = []
    for i, tile in enumerate(tiles):
        path = tmp_path / f"{i}.nii"
        nifti.write_array(path, np.asfortranarray(tile.T), nifti.Geometry((0.01, 0.01, 0.0025)))
        readers.append(nifti.StackReader(path, TILE[::-1]))
    stitch(readers, tmp_path / "a.ome.zarr", focus_plane=plane)
    assert np.array_equal(read(tmp_path / "a.ome.zarr"), expected(tiles, plane=plane))


def test_golden_volume_is_flat_with_its_focus_plane(tmp_path):
    with np.load(GOLDEN / "volume.input.npz") as given, np.load(GOLDEN / "volume.truth.npz") as t:
        tiles = list(given["dbi"].astype(np.float32) / np.float32(given["scale"]))
        positions, plane, tissue, surf = t["true"], t["plane"], t["tissue"], t["surf"]
    # Outside the tissue there is no surface.
    (height, width), (top, left) = canvas_shape(positions, plane.shape)
    inside = tissue[top : top + height, left : left + width]
    sample = surf[top : top + height, left : left + width].astype(float)
    surfaces = np.array([np.argmax(np.diff(smooth(tile), axis=0), axis=0) for tile in tiles])
    fitted = fit_focus_plane(surfaces, positions, crop_x_px=2)
    truth = plane - plane.min()
    assert np.sqrt(np.mean((fitted - truth - np.mean(fitted - truth)) ** 2)) < 0.6

    def spread(name, focus):
        out = tmp_path / name
        stitch_volume(
            tiles,
            positions,
            out,
            overlap_percent=20,
            voxel_um=VOXEL_UM,
            focus_plane=focus,
            offset_px=0,
            depth_px=80,
            options=ZarrOptions(chunk=(32,)),
        )
        found = np.argmax(np.diff(smooth(read(out)), axis=0), axis=0)
        return np.subtract(*np.percentile((found - sample)[inside], [90, 10]))

    # What is left is half a sample of rounding and the search for the surface.
    assert spread("flat.ome.zarr", fitted) < 4 < 10 < spread("bent.ome.zarr", None)


def smooth(volume):
    from scipy import ndimage as ndi

    return ndi.uniform_filter(volume, (5, 3, 3))


class TestWhatDoesNotFit:
    def test_tile_of_another_shape(self, tmp_path):
        tiles = make_tiles()
        tiles[4] = tiles[4][:-1]
        with pytest.raises(CorruptInputError, match=r"tile 4 has shape \(43, 36, 40\)"):
            stitch(tiles, tmp_path / "a.ome.zarr")

    def test_no_tile(self, tmp_path):
        with pytest.raises(IncompleteInputError, match="all 6 tiles"):
            stitch([None] * 6, tmp_path / "a.ome.zarr")

    def test_number_of_positions(self, tmp_path):
        with pytest.raises(ValueError, match="5 tiles for 6 positions"):
            stitch_volume(
                make_tiles(count=5),
                POSITIONS,
                tmp_path / "a.ome.zarr",
                overlap_percent=20,
                voxel_um=VOXEL_UM,
            )

    def test_focus_plane_of_another_tile(self, tmp_path):
        with pytest.raises(ValueError, match="focus plane of shape"):
            stitch(make_tiles(), tmp_path / "a.ome.zarr", focus_plane=make_plane().T)

    def test_focus_plane_with_nan(self, tmp_path):
        plane = make_plane()
        plane[3, 4] = np.nan
        with pytest.raises(CorruptInputError, match="focus plane has 1 values"):
            stitch(make_tiles(), tmp_path / "a.ome.zarr", focus_plane=plane)

    def test_mask_of_another_mosaic(self, tmp_path):
        with pytest.raises(CorruptInputError, match="mask of shape"):
            stitch(make_tiles(), tmp_path / "a.ome.zarr", mask=np.ones((9, 9)))

    @pytest.mark.parametrize("wrong", [{"depth_px": 0}])
    def test_depth(self, tmp_path, wrong):
        with pytest.raises(ValueError, match="depth of 0"):
            stitch(make_tiles(), tmp_path / "a.ome.zarr", **wrong)

    def test_nothing_is_left_where_nothing_can_be_made(self, tmp_path):
        with pytest.raises(CorruptInputError):
            stitch(make_tiles(), tmp_path / "a.ome.zarr", mask=np.ones((9, 9)))
        assert not list(tmp_path.iterdir())
