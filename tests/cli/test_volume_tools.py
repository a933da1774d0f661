"""find-surface and draw-planes, on volumes of tiles and of mosaics."""

import json

import numpy as np
import pytest
from PIL import Image

from opticstream_smk.io import nifti
from opticstream_smk.io.ome_zarr import ZarrOptions
from opticstream_smk.mosaic import stitch_volume

DEPTH, HEIGHT, WIDTH = 40, 48, 70
GEOMETRY = nifti.Geometry((0.02, 0.01, 0.0025), (1.0, 2.0, 0.5))
RED, CYAN = (255, 64, 64), (64, 224, 255)


@pytest.fixture(scope="module")
def surface():
    """(y, x), 1-based."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.round(10 + y / 6 + x / 10).astype(np.float32)


@pytest.fixture(scope="module")
def volume(surface):
    z = np.arange(1, DEPTH + 1)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 1, (DEPTH, HEIGHT, WIDTH))
    return (np.where(z < surface, 40, 70) + noise).astype(np.float32)


@pytest.fixture(params=["nii", "nii.gz", "zarr 3", "zarr 2"])
def path(request, volume, tmp_path):
    """The volume as a file of a tile, or as a stitched one of two tiles."""
    if request.param.startswith("nii"):
        path = tmp_path / f"tile_dBI.{request.param}"
        nifti.write_array(path, volume.transpose(2, 1, 0), GEOMETRY)
        return path
    path = tmp_path / "mosaic_001_dBI.ome.zarr"
    tiles = [volume[:, :, :40], volume[:, :, 30:]]
    files = []
    for number, tile in enumerate(tiles):
        files.append(tmp_path / f"{number}.nii")
        nifti.write_array(files[-1], tile.transpose(2, 1, 0), GEOMETRY)
    stitch_volume(
        [nifti.StackReader(file, nifti.read_array(file).shape) for file in files],
        [(0, 0), (0, 30)],
        path,
        overlap_percent=20,
        offset_px=0,
        depth_px=DEPTH,
        voxel_um=(2.5, 10.0, 20.0),
        options=ZarrOptions(zarr_version=int(request.param[-1]), chunk=(16,)),
    )
    return path


def test_the_surface_of_a_volume(run_command, path, surface, tmp_path):
    out = tmp_path / "surf.nii"
    done = run_command("find-surface", path, "-o", out, "--sigma-px", 0, "--format", "json")
    assert done.code == 0, done.err
    found = nifti.read_image(out)
    np.testing.assert_array_equal(found, surface)
    report = json.loads(done.out)
    assert report["share_with_surface"] == 1
    assert report["shape_zyx"] == [DEPTH, HEIGHT, WIDTH]
    assert nifti.read_geometry(out).voxel_mm == pytest.approx((0.02, 0.01, 0.0025))
    if "zarr" not in path.name:
        assert nifti.read_geometry(out).origin_mm[:2] == (1.0, 2.0)


def test_lines_lie_where_the_surface_is(run_command, path, surface, tmp_path):
    surf, plane, out = tmp_path / "surf.nii", tmp_path / "focus.nii", tmp_path / "planes.png"
    drawn = surface.copy()
    drawn[:, 5] = 0  # none there
    nifti.write_image(surf, drawn, GEOMETRY)
    nifti.write_image(plane, 7 + surface * 0, GEOMETRY)
    done = run_command(
        "draw-planes", path, "--surface", surf, "--plane", plane, "--offset", 3,
        "--at-y", 8, "--at-x", 5, "--at-x", 60, "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    picture = np.asarray(Image.open(out))
    assert picture.shape == (3 * DEPTH + 2 * 6, WIDTH, 3)
    first = picture[:DEPTH]
    for x in range(WIDTH):
        red = np.flatnonzero((first[:, x] == RED).all(axis=-1)).tolist()
        index = int(surface[8, x]) - 1
        assert red == ([] if x == 5 else [index - 1, index])
    assert (first[2:4] == CYAN).all()  # 0 above its minimum, 3 below that
    second = picture[DEPTH + 6 : 2 * DEPTH + 6]
    assert not (second == RED).all(axis=-1).any()
    third = picture[2 * DEPTH + 12 :, :HEIGHT]
    depth = [np.flatnonzero((third[:, y] == RED).all(axis=-1))[-1] + 1 for y in range(HEIGHT)]
    np.testing.assert_array_equal(depth, surface[:, 60])


def test_one_bright_voxel_does_not_black_the_picture(run_command, volume, surface, tmp_path):
    bright = volume.copy()
    bright[30, HEIGHT // 2, 3] = 1e6
    bright[:, :, 65:] = 0  # masked
    path, surf, out = tmp_path / "v.nii", tmp_path / "surf.nii", tmp_path / "p.png"
    nifti.write_array(path, bright.transpose(2, 1, 0), GEOMETRY)
    nifti.write_image(surf, surface, GEOMETRY)
    assert run_command("draw-planes", path, "--surface", surf, "-o", out).code == 0
    section = np.asarray(Image.open(out))[:DEPTH, :64].astype(int)
    assert section[-5:].mean() > 180  # tissue
    assert section[:3].mean() < 40


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["VOLUME", "-o", "OUT"], 2, "nothing to draw"),
        (["VOLUME", "-o", "p.svg", "--surface", "SURF"], 2, "expected a picture"),
        (["VOLUME", "-o", "SURF", "--surface", "SURF"], 2, "expected a picture"),
        (["VOLUME", "-o", "OUT", "--surface", "SURF", "--at-y", "48"], 2, "section at y = 48"),
        (["VOLUME", "-o", "OUT", "--surface", "SURF", "--at-x", "-1"], 2, "section at x = -1"),
        (["VOLUME", "-o", "OUT", "--surface", "SURF", "--window", "9", "9"], 2, "percentiles"),
        (["VOLUME", "-o", "OUT", "--surface", "SMALL"], 3, "a map of 3 x 2 px for a volume of 70"),
        (["VOLUME", "-o", "OUT", "--surface", "none.nii"], 3, "none.nii does not exist"),
        (["none.nii", "-o", "OUT", "--surface", "SURF"], 3, "none.nii: no such volume"),
        (["SURF", "-o", "OUT", "--surface", "SURF"], 3, "expected a volume (X, Y, Z)"),
        (["EMPTY", "-o", "OUT", "--surface", "SURF"], 3, "is no complete OME-Zarr"),
        (["OTHER", "-o", "OUT", "--surface", "SURF"], 3, "cannot be opened as OME-Zarr"),
    ],
)
def test_drawings_that_are_refused(run_command, volume, surface, tmp_path, words, code, expected):
    names = {
        "VOLUME": tmp_path / "v.nii", "SURF": tmp_path / "surf.nii", "SMALL": tmp_path / "s.nii",
        "OUT": tmp_path / "out.png", "EMPTY": tmp_path / "a.ome.zarr",
        "OTHER": tmp_path / "b.ome.zarr",
    }  # fmt: skip
    nifti.write_array(names["VOLUME"], volume.transpose(2, 1, 0), GEOMETRY)
    nifti.write_image(names["SURF"], surface, GEOMETRY)
    nifti.write_image(names["SMALL"], surface[:2, :3], GEOMETRY)
    names["EMPTY"].mkdir()
    names["OTHER"].mkdir()
    group = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'
    (names["OTHER"] / "zarr.json").write_text(group)
    done = run_command("draw-planes", *(names.get(word, word) for word in words))
    assert done.code == code, done.err
    assert expected in done.err
    assert not names["OUT"].exists()


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["-o", "OUT.gz"], 2, "ends in .nii"),
        (["-o", "OUT", "--top-px", "3"], 2, "belong together"),
        (["-o", "OUT", "--top-threshold", "3"], 2, "belong together"),
        (["-o", "OUT", "--sigma-px", "-1"], 2, "sigma of -1"),
        (["-o", "VOLUME"], 2, "is there; give another -o"),
        (["-o", "OUT", "--top-px", "3", "--top-threshold", "-1000"], 3, "nothing rises along z"),
    ],
)
def test_surfaces_that_are_refused(run_command, volume, tmp_path, words, code, expected):
    path, out = tmp_path / "v.nii", tmp_path / "OUT.nii"
    nifti.write_array(path, volume.transpose(2, 1, 0), GEOMETRY)
    names = {"OUT": out, "OUT.gz": tmp_path / "OUT.nii.gz", "VOLUME": path}
    done = run_command("find-surface", path, *(names.get(word, word) for word in words))
    assert done.code == code
    assert expected in done.err
    assert not out.exists()
