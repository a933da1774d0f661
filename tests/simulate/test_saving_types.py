"""Every saving type, written and read back."""

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.psoct import process_spectral, read_spectral, spectral_to_jones, stack_jones
from opticstream_smk.simulate import AcquisitionSettings, SimulatedAcquisition, simulate_psoct
from opticstream_smk.simulate.files import host_tiles
from opticstream_smk.simulate.formats import pack12
from opticstream_smk.simulate.host import calibration
from opticstream_smk.simulate.settings import SavingType
from opticstream_smk.simulate.tile import render_tile

from .conftest import file_bytes

OTHERS = ("wave-pixel.mat", "dispersion.bin", "truth.npz", "simulation.json")
STEM = "mosaic_001_image_0001"


@pytest.fixture(scope="module")
def few(small: AcquisitionSettings) -> AcquisitionSettings:
    """One column of two normal tiles, one of a single tilted one."""
    return dataclasses.replace(small, grid_columns=1, grid_columns_tilted=1, grid_rows_tilted=1)


@pytest.fixture(scope="module")
def saved(few: AcquisitionSettings, tmp_path_factory: pytest.TempPathFactory):
    """Acquisitions by saving type, each written once; tests must not change them."""
    known: dict[str, SimulatedAcquisition] = {}

    def save(saving_type: SavingType) -> SimulatedAcquisition:
        if saving_type not in known:
            settings = dataclasses.replace(few, saving_type=saving_type)
            known[saving_type] = simulate_psoct(settings, tmp_path_factory.mktemp(saving_type))
        return known[saving_type]

    return save


def unpack12(packed: np.ndarray) -> np.ndarray:
    """As the toolbox reads packed counts."""
    b0, b1, b2 = packed.reshape(-1, 3).astype(np.uint16).T
    return np.stack([b0 + 256 * (b1 % 16), b1 // 16 + 16 * b2], axis=1).ravel()


def spectra_of(path: Path) -> np.ndarray:
    alines = 20 if "mosaic_001" in path.name else 16
    return read_spectral(path, alines=alines, blines=18, samples=512)


def stored(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.mark.parametrize(
    ("saving_type", "first_files"),
    [
        ("spectral", [f"{STEM}_spectral_0001.nii"]),
        ("spectral_12bit", [f"{STEM}_spectral_0001.raw"]),
        ("complex", [f"{STEM}_processed.nii"]),
        ("complex_with_spectral", [f"{STEM}_spectral_0001.nii", f"{STEM}_processed.nii"]),
        (
            "processed_with_spectral",
            [f"{STEM}_spectral_0001.nii"]
            + [f"{STEM}_{kind}.nii" for kind in ("aip", "mip", "ret", "ori", "surf", "dBI")],
        ),
        (
            "processed",
            [f"{STEM}_{kind}.nii" for kind in ("aip", "mip", "ret", "ori", "biref", "surf")],
        ),
    ],
)
def test_files(saved, few: AcquisitionSettings, saving_type: SavingType, first_files: list[str]):
    acquisition = saved(saving_type)
    settings = dataclasses.replace(few, saving_type=saving_type)
    tiles = host_tiles(settings)
    assert [(tile.mosaics, tile.image) for tile in tiles] == [((1,), 1), ((1,), 2), ((2,), 1)]
    assert [file.name for file in tiles[0].files] == first_files
    expected = {file.name: file.size for tile in tiles for file in tile.files}
    found = {
        path.name: path.stat().st_size
        for path in acquisition.out_dir.iterdir()
        if path.name not in OTHERS
    }
    assert found == expected
    assert [path.name for path in acquisition.tiles] == [tile.files[0].name for tile in tiles]
    assert len(acquisition.tiles) + len(acquisition.products) == len(expected)


def test_12_bit_holds_the_counts_of_16_bit(saved):
    tiles = zip(saved("spectral_12bit").tiles, saved("spectral").tiles, strict=True)
    for packed, plain in tiles:
        counts = unpack12(np.fromfile(packed, np.uint8))
        np.testing.assert_array_equal(counts, spectra_of(plain).ravel())


def test_complex_is_the_processing_of_the_spectra(saved, few: AcquisitionSettings):
    for path, plain in zip(saved("complex").tiles, saved("spectral").tiles, strict=True):
        expected = stack_jones(*spectral_to_jones(spectra_of(plain), calibration(few)))
        found = stored(path)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    image = nibabel.load(saved("complex").tiles[0])
    assert image.shape == (4 * 20, 18, 512 // 2 - 24)
    assert image.header.get_zooms() == pytest.approx((0.01, 0.01, 0.0025))
    assert image.header.get_xyzt_units()[0] == "mm"


def test_complex_may_be_flipped_in_depth(saved, few: AcquisitionSettings, tmp_path: Path):
    settings = dataclasses.replace(few, saving_type="complex", complex_z_order="flipped")
    flipped = simulate_psoct(settings, tmp_path)
    for path, plain in zip(flipped.tiles, saved("complex").tiles, strict=True):
        np.testing.assert_array_equal(stored(path), stored(plain)[:, :, ::-1])


def test_complex_beside_spectra_are_the_files_of_either_alone(saved):
    both = file_bytes(saved("complex_with_spectral").out_dir)
    for alone in ("spectral", "complex"):
        for path in saved(alone).tiles:
            assert both[path.name] == path.read_bytes()


def test_processed_maps_are_those_of_the_engine(saved, few: AcquisitionSettings):
    acquisition = saved("processed_with_spectral")
    for path in acquisition.tiles:
        products = process_spectral(spectra_of(path), calibration(few))
        stem = path.name.split("_spectral")[0]
        expected = {**products.enface, "surf": products.surface, "dBI": products.volumes.dbi}
        for kind in ("aip", "mip", "ret", "ori", "surf", "dBI"):
            image = nibabel.load(acquisition.out_dir / f"{stem}_{kind}.nii")
            found = np.asarray(image.dataobj)
            assert found.dtype == (np.float64 if kind == "surf" else np.float32)
            thickness_mm = 0.0025 if kind == "dBI" else 0.5
            assert image.header.get_zooms() == pytest.approx((0.01, 0.01, thickness_mm))
            np.testing.assert_array_equal(found.squeeze(), expected[kind])
        assert (stored(acquisition.out_dir / f"{stem}_surf.nii") >= 1).all()


@pytest.mark.parametrize("saving_type", ["spectral_12bit", "processed", "processed_with_spectral"])
def test_same_settings_same_files(
    saved, few: AcquisitionSettings, saving_type: SavingType, tmp_path: Path
):
    settings = dataclasses.replace(few, saving_type=saving_type)
    again = simulate_psoct(settings, tmp_path, workers=2)
    assert file_bytes(again.out_dir) == file_bytes(saved(saving_type).out_dir)


def test_only_missing_files_of_a_tile_come_back(few: AcquisitionSettings, tmp_path: Path):
    settings = dataclasses.replace(few, saving_type="processed_with_spectral")
    whole = file_bytes(simulate_psoct(settings, tmp_path).out_dir)
    missing = {f"{STEM}_ret.nii", "mosaic_001_image_0002_spectral_0002.nii"}
    for name in missing:
        (tmp_path / name).unlink()
    assert {path.name for path in simulate_psoct(settings, tmp_path).written} == missing
    assert file_bytes(tmp_path) == whole


def test_tilted_tiles_have_their_own_rows_and_width(few: AcquisitionSettings, tmp_path: Path):
    acquisition = simulate_psoct(dataclasses.replace(few, grid_rows_tilted=3), tmp_path)
    tilted = [path for path in acquisition.tiles if "mosaic_002" in path.name]
    assert len(acquisition.tiles) == 2 + 3
    assert [nibabel.load(path).shape for path in tilted] == [(512, 2 * 16, 18)] * 3
    counts = [spectra_of(path) for path in tilted]
    assert (counts[0] != counts[2]).mean() > 0.9


@pytest.mark.parametrize("saving_type", ["spectral", "spectral_12bit"])
def test_three_illuminations(few: AcquisitionSettings, saving_type: SavingType, tmp_path: Path):
    settings = dataclasses.replace(
        few, mosaics_per_slice=3, n_slices=2, grid_rows=1, saving_type=saving_type
    )
    acquisition = simulate_psoct(settings, tmp_path)
    suffix = ".nii" if saving_type == "spectral" else ".raw"
    # Numbers run on through the slices; a slice has one tile here.
    assert [path.name for path in acquisition.tiles] == [
        f"spectral_000{number}{suffix}" for number in (1, 2)
    ]
    assert [tile.mosaics for tile in host_tiles(settings)] == [(1, 2, 3), (4, 5, 6)]
    for path, tile in zip(acquisition.tiles, host_tiles(settings), strict=True):
        if saving_type == "spectral":
            assert nibabel.load(path).shape == (512, 2 * 60, 18)
            counts = read_spectral(path, alines=60, blines=18, samples=512)
        else:
            counts = unpack12(np.fromfile(path, np.uint8)).reshape(18, 2, 60, 512)
        for position, mosaic in enumerate(tile.mosaics):
            alone = np.stack(list(render_tile(settings, mosaic, tile.image)))
            np.testing.assert_array_equal(counts[:, :, position::3], alone)
    truth = np.load(acquisition.truth)
    assert truth["positions_px"].shape == (6, 1, 2)


def test_numbers_of_interleaved_files_run_through_the_slices(few: AcquisitionSettings):
    settings = dataclasses.replace(few, mosaics_per_slice=3, n_slices=3, grid_columns=5)
    tiles = host_tiles(settings)
    assert len(tiles) == 3 * 5 * 2
    assert tiles[13].files[0].name == "spectral_0014.nii"
    assert (tiles[13].mosaics, tiles[13].image) == ((4, 5, 6), 4)


def test_pack12_order_of_bits():
    packed = pack12(np.array([[0x321, 0x654], [0xFFF, 0x000]], np.uint16))
    assert packed.tolist() == [0x21, 0x43, 0x65, 0xFF, 0x0F, 0x00]


@pytest.mark.parametrize("counts", [[4096, 0], [1, 2, 3]])
def test_what_does_not_fit_12_bits_is_refused(counts: list[int]):
    with pytest.raises(CorruptInputError, match="Write them with 16 bits"):
        pack12(np.array(counts, np.uint16))
