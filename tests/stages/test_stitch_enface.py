"""The stage on a small mosaic: what is in its files, and what its flag says of mask and shading."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from opticstream_smk.errors import CorruptInputError, QualityError
from opticstream_smk.io import nifti
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.mosaic import blend, make_mask
from opticstream_smk.stages import stitch_enface
from opticstream_smk.stages.stitch_enface import STAGE, compute, params
from opticstream_smk.stages.tilemap import Tilemap, read_tilemap, write_tilemap
from tests.mosaic.golden_presets import generator

SIDE, ROWS, COLUMNS = 100, 4, 4
MODALITIES = ("aip", "ori", "surf")


@pytest.fixture(scope="module")
def phantom():
    make = generator()
    spec = make.preset("standard", ROWS, COLUMNS, 9, tile=SIDE, background_fraction=0.4)
    return make.make_phantom(spec, modalities=MODALITIES)


@pytest.fixture
def stitch(make_config, tmp_path, phantom, monkeypatch):
    """Write the tiles, stitch them, and read what was made."""
    layout = ProjectLayout(tmp_path / "project")

    def stitch(*, tiles=None, missing=(), **mosaic):
        config = make_config(
            acquisition__grid_size_x_normal=COLUMNS,
            acquisition__grid_size_y=ROWS,
            acquisition__tile_size_x_normal=SIDE,
            acquisition__tile_size_y=SIDE,
            acquisition__tile_overlap_percent=20,
            registration__enabled=False,
            mosaic__modalities=list(MODALITIES),
            **{f"mosaic__{key}": value for key, value in mosaic.items()},
        )
        given = {**phantom.tiles, **(tiles or {})}
        for modality in MODALITIES:
            for image, tile in enumerate(given[modality], start=1):
                path = layout.processed_tile(1, image, modality)
                path.parent.mkdir(parents=True, exist_ok=True)
                if image not in missing:
                    nifti.write_image(path, tile, nifti.Geometry((0.01, 0.01, 0.0025)))
        count = len(phantom.true)
        tilemap = Tilemap(phantom.true, np.ones(count, bool), (SIDE, SIDE), np.ones(count))
        write_tilemap(config, layout.template("normal"), tilemap)
        monkeypatch.setattr(
            stitch_enface,
            "solved_tilemap",
            lambda *_: read_tilemap(config, layout, "normal", frozenset(missing)),
        )
        plan = SimpleNamespace(
            accept_missing=lambda _mosaic: frozenset(missing),
            images=lambda _mosaic: range(1, count + 1),
            closed_without=lambda _mosaic: frozenset(),
        )
        context = SimpleNamespace(
            config=config,
            layout=layout,
            mosaic=1,
            acquisition="normal",
            plan=plan,
            place=SimpleNamespace(slice=1),
        )
        outcome = compute(context)
        for path in outcome.outputs:
            assert path.is_file(), path
        return outcome, lambda name: nifti.read_image(layout.stitched(1, name))

    return stitch


@pytest.mark.parametrize("placement", ["rounded", "subpixel"])
def test_files_hold_the_blended_tiles(stitch, phantom, tmp_path, placement):
    outcome, read = stitch(placement=placement, fill_value=-1.0)
    for modality in MODALITIES:
        image, origin = blend(
            phantom.tiles[modality],
            np.round(phantom.true, 3),
            overlap_percent=20,
            circular=modality == "ori",
            placement=placement,
        )
        if modality == "aip":
            mask = make_mask(image, 60)
            assert ((read("mask") == 255) == mask).all()
        whole = read(f"{modality}_nomask")
        assert np.allclose(whole, np.nan_to_num(image, nan=-1.0), rtol=1e-5, atol=1e-3)
        assert (read(modality) == np.where(mask & np.isfinite(image), whole, -1)).all()
        tiff = tifffile.imread(tmp_path / f"project/mosaic-01/stitched/mosaic_001_{modality}.tiff")
        assert (tiff == read(modality)).all()
    assert outcome.warnings == ()
    assert outcome.numbers["mask_threshold_db"] == 60
    share = mask.sum() / np.isfinite(image).sum()
    assert outcome.numbers["tissue_share"] == pytest.approx(share, abs=1e-3)
    header = nibabel.load(tmp_path / "project/mosaic-01/stitched/mosaic_001_aip.nii")
    assert np.allclose(header.affine[:2, 3], 0.01 * np.array(origin[::-1]))
    with Image.open(tmp_path / "project/mosaic-01/stitched/mosaic_001_ori.jpg") as picture:
        assert picture.size == image.shape[::-1]
        assert picture.mode == "RGB"


def test_auto_threshold_is_on_record(stitch, phantom):
    outcome, read = stitch(mask_threshold_normal="auto", mask_keep="all_above")
    assert outcome.warnings == ()
    assert 35 < outcome.numbers["mask_threshold_db"] < 55
    _, (y, x) = blend(phantom.tiles["aip"], phantom.true, overlap_percent=20)
    found = read("mask") > 0
    tissue = phantom.truth["tissue"][y : y + found.shape[0], x : x + found.shape[1]]
    assert 2 * (found & tissue).sum() / (found.sum() + tissue.sum()) > 0.97


@pytest.mark.parametrize("level", [30.0, 80.0])
def test_auto_on_a_mosaic_of_one_kind_takes_the_usual_threshold_and_says_so(stitch, level):
    aip = np.random.default_rng(0).normal(level, 1, (ROWS * COLUMNS, SIDE, SIDE))
    outcome, read = stitch(tiles={"aip": aip}, mask_threshold_normal="auto")
    assert "mosaic.mask_threshold_normal: auto found no threshold, 60 dB" in outcome.warnings[0]
    assert outcome.numbers["mask_threshold_db"] == 60
    if level < 60:
        assert "the mask is empty" in outcome.warnings[1]
        assert outcome.numbers["tissue_share"] == 0
        assert (read("aip") == 0).all()
    else:
        assert len(outcome.warnings) == 1
        assert outcome.numbers["tissue_share"] > 0.99


def test_flat_field_brightens_the_rims_of_aip_alone(stitch, phantom):
    plain, read = stitch()
    before = {name: read(f"{name}_nomask").copy() for name in MODALITIES}
    outcome, read = stitch(flat_field=True)
    assert outcome.numbers["flat_field_pairs"] >= 8
    assert 5 < outcome.numbers["flat_field_db"] < 25  # 0.27 of 40 to 90
    assert outcome.extra["flat_field"] is True
    assert plain.extra["flat_field"] is False
    make = generator()
    _, (y, x) = blend(phantom.tiles["aip"], phantom.true, overlap_percent=20)
    shape = before["aip"].shape
    truth = make.reference_image(phantom.truth["aip"], (y, x), shape)
    tissue = phantom.truth["tissue"][y : y + shape[0], x : x + shape[1]]
    gain_db = make.psnr(read("aip_nomask"), truth, tissue) - make.psnr(before["aip"], truth, tissue)
    assert gain_db > 2
    for name in ("ori", "surf"):
        assert (read(f"{name}_nomask") == before[name]).all()


def test_flat_field_of_background_is_none_and_said(stitch):
    aip = np.random.default_rng(0).normal(30, 1, (ROWS * COLUMNS, SIDE, SIDE))
    outcome, _ = stitch(tiles={"aip": aip}, flat_field=True)
    assert "AIP and MIP are as they were recorded" in outcome.warnings[0]
    assert outcome.extra["flat_field"] is False


def test_missing_constant_and_nan_tiles(stitch, phantom):
    aip = phantom.tiles["aip"].copy()
    aip[5, 40:60, 40:60] = np.nan
    aip[6] = 70
    outcome, read = stitch(
        tiles={"aip": aip}, missing=(8,), mask_keep="all_above", mask_min_piece_mm2=0.0
    )
    assert "1 of 16 tiles are missing (images 8)" in outcome.warnings[0]
    image = read("aip_nomask")
    corner = np.rint(phantom.true - phantom.true.min(axis=0)).astype(int)
    middle = [tuple(slice(c + 40, c + 60) for c in corner[i]) for i in (5, 6, 7)]
    assert (image[middle[0]] == 0).all()
    assert np.allclose(image[middle[1]], 70, atol=1e-3)
    assert (image[middle[2]] == 0).all()
    assert not read("mask")[middle[2]].any()


def test_a_modality_without_values_is_refused_and_leaves_nothing(stitch, phantom, tmp_path):
    surf = np.full_like(phantom.tiles["surf"], np.nan)
    with pytest.raises(QualityError, match=r"only 0\.0 % of surf_nomask is finite"):
        stitch(tiles={"surf": surf})
    names = [path.name for path in (tmp_path / "project/mosaic-01/stitched").iterdir()]
    assert "mosaic_001_aip.nii" in names
    assert not [name for name in names if "surf" in name or name.startswith(".tmp")]


def test_a_tile_of_another_size_is_named(stitch, phantom):
    tiles = [*phantom.tiles["aip"][:-1], np.zeros((SIDE, SIDE - 1), np.float32)]
    with pytest.raises(CorruptInputError, match=r"image_0016_aip\.nii has shape \(99, 100\)"):
        stitch(tiles={"aip": tiles})


def test_no_piece_is_large_enough(stitch):
    outcome, _ = stitch(mask_keep="all_above", mask_min_piece_mm2=500)
    assert "mask_min_piece_mm2, 500 mm2" in outcome.warnings[0]


@pytest.mark.parametrize(
    "change",
    [
        {"flat_field": True}, {"placement": "subpixel"}, {"mask_threshold_normal": "auto"},
        {"mask_keep": "all_above"}, {"mask_min_piece_mm2": 1.0}, {"mask_fill_holes": False},
        {"mask_max_hole_mm2": 1.0},
    ],
)  # fmt: skip
def test_every_setting_counts_among_the_parameters(make_config, change):
    assert STAGE.params is params
    changed = make_config(**{f"mosaic__{key}": value for key, value in change.items()})
    assert params(make_config(), "normal") != params(changed, "normal")
