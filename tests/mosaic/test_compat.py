"""Mosaics of tile infos: bit for bit as linc-convert where asked for, else as `blend`.

`tests/data/golden/linc` holds inputs, and hashes and pictures of what linc-convert made of them.
"""

import errno
import hashlib
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import yaml
import zarr

from opticstream_smk.errors import (
    ConfigError,
    CorruptInputError,
    IncompleteInputError,
    ServiceError,
)
from opticstream_smk.io import nifti
from opticstream_smk.mosaic import blend
from opticstream_smk.mosaic.compat import ramp_width
from opticstream_smk.mosaic.tile_info_mosaic import MosaicOptions, stitch_tile_info

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "linc"
CASES = [
    pytest.param(case["name"], run, id=f"{case['name']}-{index}")
    for case in json.loads((GOLDEN / "manifest.json").read_text())
    for index, run in enumerate(case["runs"])
]


def linc_options(config):
    """Options from those of linc-convert."""
    overlap = config["tile_overlap"]
    return MosaicOptions(
        compat="linc",
        tile_overlap=None if overlap == "auto" else overlap,
        circular=config.get("circular_mean", False),
        mask=Path(config["mask"]) if "mask" in config else None,
        focus_plane=Path(config["focus_plane"]) if "focus_plane" in config else None,
        offset_px=config.get("crop_focus_plane_offset", 30),
        depth_px=config.get("crop_focus_plane_depth", 500),
        normalize=config.get("normalize_focus_plane", False),
        chunk=tuple(config.get("chunk", (16,))),
        shard=tuple(config["shard"]) if "shard" in config else None,
    )


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize(("name", "run"), [case for case in CASES if "error" not in case.values[1]])
def test_as_linc_convert_bit_for_bit(name, run, tmp_path):
    wanted = [kind for kind in ("nifti", "tiff", "jpeg", "zarr") if kind in run]
    endings = {"nifti": "nii", "tiff": "tiff", "jpeg": "jpg", "zarr": "ome.zarr"}
    files = {kind: tmp_path / f"out.{ending}" for kind, ending in endings.items()}
    stitch_tile_info(
        GOLDEN / name / "tile_info.yaml",
        [files[kind] for kind in wanted],
        linc_options(run["config"]),
    )
    assert wanted
    if "nifti" in run:
        image = nibabel.load(files["nifti"])
        assert list(image.shape) == run["nifti"]["shape"]
        assert sha256(np.asarray(image.dataobj)) == run["nifti"]["sha256"]
        assert (image.affine == np.eye(4)).all()
        assert np.allclose(image.header.get_zooms(), 0.01)
        assert image.header.get_xyzt_units() == ("mm", "sec")
    if "tiff" in run:
        assert sha256(tifffile.imread(files["tiff"])) == run["tiff"]["sha256"]
    if "jpeg" in run:
        from PIL import Image

        with Image.open(files["jpeg"]) as ours, Image.open(GOLDEN / name / run["jpeg"]) as theirs:
            # Files differ from one build of the JPEG library to another.
            assert (np.abs(np.asarray(ours, int) - np.asarray(theirs, int)) <= 1).all()
    if "zarr" in run:
        group = zarr.open_group(files["zarr"], mode="r")
        assert dict(group.attrs) == run["zarr"]["attrs"]
        assert sorted(group.array_keys()) == sorted(run["zarr"]["levels"])
        for level, expected in run["zarr"]["levels"].items():
            assert list(group[level].shape) == expected["shape"]
            assert list(group[level].chunks) == expected["chunks"]
            assert sha256(group[level][...]) == expected["sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files[k].name for k in wanted)


@pytest.mark.parametrize(("name", "run"), [case for case in CASES if "error" in case.values[1]])
def test_what_linc_convert_breaks_on_is_a_clear_error(name, run, tmp_path):
    output = tmp_path / ("out.nii" if "nifti" in run["want"] else "out.ome.zarr")
    with pytest.raises((ConfigError, CorruptInputError), match=r"expected|lower the offset"):
        stitch_tile_info(GOLDEN / name / "tile_info.yaml", [output], linc_options(run["config"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("circular", [False, True])
def test_without_compat_it_is_blended(tmp_path, circular):
    folder = GOLDEN / ("circular2d" if circular else "float_coords")
    output = tmp_path / "out.nii"
    shape = stitch_tile_info(
        folder / "tile_info.yaml", [output], MosaicOptions(circular=circular, fill=-5.0)
    )
    entries = yaml.safe_load((folder / "tile_info.yaml").read_text())["tiles"]
    tiles = [nifti.read_image(folder / "tiles" / entry["filepath"]) for entry in entries]
    image, origin = blend(
        tiles, [(e["y"], e["x"]) for e in entries], overlap_percent=20, circular=circular, fill=-5.0
    )
    assert shape == image.shape[::-1]
    assert (nifti.read_image(output) == image).all()
    affine = nibabel.load(output).affine
    assert np.allclose(affine[:2, 3], 0.01 * np.array(origin[::-1]))


def write_info(folder, **changes):
    tiles = [{"x": 0, "y": 0, "filepath": "a.nii", "tile_number": 1},
             {"x": 8, "y": 0, "filepath": "b.nii", "tile_number": 2}]  # fmt: skip
    info = {"metadata": {"base_dir": ".", **changes}, "tiles": tiles}
    (folder / "info.yaml").write_text(yaml.safe_dump(info))
    return folder / "info.yaml"


def write_tiles(folder, second=(10, 6)):
    for name, shape in (("a.nii", (10, 6)), ("b.nii", second)):
        nifti.write_array(folder / name, np.ones(shape, np.float32), nifti.Geometry((1, 1, 1)))


def test_a_missing_tile_is_named(tmp_path):
    info = write_info(tmp_path)
    write_tiles(tmp_path)
    (tmp_path / "b.nii").unlink()
    with pytest.raises(IncompleteInputError, match=r"1 of 2 tiles are not there: .*b\.nii"):
        stitch_tile_info(info, [tmp_path / "out.nii"])
    options = MosaicOptions(allow_missing=True)
    assert stitch_tile_info(info, [tmp_path / "out.nii"], options) == (10, 6)
    (tmp_path / "a.nii").unlink()
    with pytest.raises(IncompleteInputError, match="none of its 2 tiles"):
        stitch_tile_info(info, [tmp_path / "out.nii"], MosaicOptions(compat="linc"))


def test_a_tile_of_another_size_is_named(tmp_path):
    info = write_info(tmp_path)
    write_tiles(tmp_path, second=(10, 5))
    with pytest.raises(CorruptInputError, match=r"b\.nii has shape \(10, 5\)"):
        stitch_tile_info(info, [tmp_path / "out.nii"])


@pytest.mark.parametrize("compat", [None, "linc"])
def test_a_mask_of_another_mosaic_is_refused(tmp_path, compat):
    info = write_info(tmp_path, mask="mask.nii")
    write_tiles(tmp_path)
    nifti.write_array(tmp_path / "mask.nii", np.ones((3, 3), np.uint8), nifti.Geometry((1, 1, 1)))
    with pytest.raises(CorruptInputError, match="other tile positions"):
        stitch_tile_info(info, [tmp_path / "out.nii"], MosaicOptions(compat=compat))


def test_output_that_does_not_fit_the_tiles(tmp_path):
    info = write_info(tmp_path)
    write_tiles(tmp_path)
    with pytest.raises(ConfigError, match="the tiles are images"):
        stitch_tile_info(info, [tmp_path / "out.zarr"])


@pytest.mark.parametrize("overlap", [1.0, 0.0, -3, 41])
def test_ramps_out_of_range(overlap):
    with pytest.raises(ConfigError, match="tile_overlap"):
        ramp_width(40, overlap)


@pytest.mark.parametrize("clip", [-1, 2.5, "wide"])
def test_a_clip_that_is_no_number_of_pixels(tmp_path, clip):
    with pytest.raises(CorruptInputError, match=r"metadata\.clip_x is"):
        stitch_tile_info(write_info(tmp_path, clip_x=clip), [tmp_path / "out.nii"])


def test_a_full_disk_leaves_no_half_volume(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("opticstream_smk.mosaic.compat_files.halve", full)
    with pytest.raises(ServiceError, match=r"out\.zarr.*the disk is full"):
        stitch_tile_info(
            GOLDEN / "plain3d" / "tile_info.yaml",
            [tmp_path / "out.zarr"],
            MosaicOptions(compat="linc", chunk=(16,)),
        )
    assert list(tmp_path.iterdir()) == []
