import dataclasses
import shutil
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.psoct import Calibration, read_spectral
from opticstream_smk.simulate import AcquisitionSettings, SimulatedAcquisition, simulate_psoct
from opticstream_smk.simulate.files import host_tiles
from opticstream_smk.simulate.formats import spectral_header

from .conftest import file_bytes


@pytest.fixture
def copy(small_acquisition: SimulatedAcquisition, tmp_path: Path) -> Path:
    """The small acquisition in a folder that may be changed."""
    return shutil.copytree(small_acquisition.out_dir, tmp_path / "copy")


def test_files_of_the_instrument(
    small: AcquisitionSettings, small_acquisition: SimulatedAcquisition
):
    names = [path.name for path in small_acquisition.tiles]
    assert names[0] == "mosaic_001_image_0001_spectral_0001.nii"
    assert names[-1] == "mosaic_002_image_0006_spectral_0006.nii"
    assert len(names) == 4 + 6
    expected = {*names, "wave-pixel.mat", "dispersion.bin", "truth.npz", "simulation.json"}
    assert {path.name for path in small_acquisition.out_dir.iterdir()} == expected
    assert small_acquisition.tiles[0].stat().st_size == 352 + 20 * 18 * 2 * 512 * 2
    assert small_acquisition.tiles[-1].stat().st_size == 352 + 16 * 18 * 2 * 512 * 2
    assert small_acquisition.products == ()


def test_header_is_nifti(small_acquisition: SimulatedAcquisition):
    image = nibabel.load(small_acquisition.tiles[0])
    assert image.shape == (512, 40, 18)
    assert image.get_data_dtype() == np.uint16
    tilted = nibabel.load(small_acquisition.tiles[-1])
    assert tilted.shape == (512, 32, 18)
    spectra = read_spectral(small_acquisition.tiles[0], alines=20, blines=18, samples=512)
    stored = np.asarray(image.dataobj)
    np.testing.assert_array_equal(spectra[3, 1, 5], stored[:, 20 + 5, 3])
    assert spectra.min() > 0
    assert spectra.max() < 4095


def test_full_size_header():
    settings = AcquisitionSettings(alines=350, blines=350)
    header = nibabel.Nifti1Header(spectral_header(350, 350, 2048)[:348])
    assert header.get_data_shape() == (2048, 700, 350)
    assert host_tiles(settings)[0].files[0].size == 352 + 350 * 350 * 2 * 2048 * 2


def test_calibration_files_are_read_back(small_acquisition: SimulatedAcquisition):
    calibration = Calibration.from_files(
        small_acquisition.calibration, small_acquisition.dispersion
    )
    assert calibration.mu.shape == (calibration.wave_prime_nm.size, 2)
    assert calibration.dispersion_rad is not None
    assert calibration.dispersion_rad.size == 512


def test_same_settings_same_files_whatever_the_workers(
    small: AcquisitionSettings, small_acquisition: SimulatedAcquisition, tmp_path: Path
):
    calls: list[tuple[int, int]] = []
    again = simulate_psoct(
        small, tmp_path / "again", workers=2, progress=lambda *done: calls.append(done)
    )
    assert file_bytes(again.out_dir) == file_bytes(small_acquisition.out_dir)
    assert calls == [(done, 10) for done in range(1, 11)]


def test_seeds_differ(
    small: AcquisitionSettings, small_acquisition: SimulatedAcquisition, tmp_path: Path
):
    other = simulate_psoct(dataclasses.replace(small, seed=4), tmp_path)
    assert other.tiles[0].read_bytes() != small_acquisition.tiles[0].read_bytes()


def test_nothing_is_written_twice(small: AcquisitionSettings, copy: Path):
    before = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    result = simulate_psoct(small, copy)
    assert result.written == ()
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == before


def test_missing_and_short_files_come_back(
    small: AcquisitionSettings, small_acquisition: SimulatedAcquisition, copy: Path
):
    names = [path.name for path in small_acquisition.tiles]
    (copy / names[2]).unlink()
    (copy / names[7]).write_bytes(b"torn")
    (copy / "truth.npz").unlink()
    result = simulate_psoct(small, copy)
    assert {path.name for path in result.written} == {"truth.npz", names[2], names[7]}
    assert file_bytes(copy) == file_bytes(small_acquisition.out_dir)


def test_other_parameters_are_refused(small: AcquisitionSettings, copy: Path):
    before = file_bytes(copy)
    with pytest.raises(ConfigError, match=r"other values of gamma_deg, seed .*another folder"):
        simulate_psoct(dataclasses.replace(small, seed=9, gamma_deg=15.0), copy)
    assert file_bytes(copy) == before


def test_foreign_data_are_refused(small: AcquisitionSettings, tmp_path: Path):
    (tmp_path / "mosaic_001_image_0001_spectral_0001.nii").write_bytes(b"real")
    with pytest.raises(ConfigError, match="not empty"):
        simulate_psoct(small, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mosaic_001_image_0001_spectral_0001.nii"]


def test_unreadable_record_is_refused(small: AcquisitionSettings, tmp_path: Path):
    (tmp_path / "simulation.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a record"):
        simulate_psoct(small, tmp_path)


def test_slow_and_spaced_writes_give_the_same_files(
    small: AcquisitionSettings,
    small_acquisition: SimulatedAcquisition,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for path in small_acquisition.tiles[:2]:
        (copy / path.name).unlink()
    full = small_acquisition.tiles[0].stat().st_size
    seen: list[tuple[float, int]] = []

    def sleep(seconds: float) -> None:
        sizes = [(copy / path.name) for path in small_acquisition.tiles[:2]]
        seen.append((seconds, sum(p.stat().st_size for p in sizes if p.exists())))

    monkeypatch.setattr(time, "sleep", sleep)
    simulate_psoct(small, copy, interval_s=30.0, slow_writes=True)
    assert file_bytes(copy) == file_bytes(small_acquisition.out_dir)
    growth = [size for seconds, size in seen if seconds < 1]
    assert len(growth) == 16
    assert growth == sorted(growth)
    assert growth[0] < full / 4
    assert [entry for entry in seen if entry[0] == 30.0] == [(30.0, full)]
