from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from opticstream_smk.errors import CorruptInputError, IncompleteInputError, OpticStreamError
from opticstream_smk.psoct import Calibration

from . import phantom

MU = phantom.calibration().mu
WAVE = phantom.calibration().wave_prime_nm


def saved(folder: Path, **variables: Any) -> Path:
    path = folder / "wave-pixel.mat"
    savemat(path, variables)
    return path


def test_files_give_what_was_saved(tmp_path: Path) -> None:
    phase = np.linspace(0, 1, 64)
    (tmp_path / "disp.bin").write_bytes(phase.astype("<f8").tobytes())
    mat = saved(tmp_path, mu=MU, wave_prime=WAVE[None], other=3)
    cal = Calibration.from_files(mat, tmp_path / "disp.bin")
    np.testing.assert_array_equal(cal.mu, MU)
    np.testing.assert_array_equal(cal.wave_prime_nm, WAVE)
    np.testing.assert_array_equal(cal.dispersion_rad, phase)
    assert Calibration.from_files(str(mat)).dispersion_rad is None


def test_values_cannot_be_changed_from_outside() -> None:
    mu = MU.copy()
    cal = Calibration(mu, WAVE)
    mu[0] = 0
    np.testing.assert_array_equal(cal.mu, MU)
    with pytest.raises(ValueError, match="read-only"):
        cal.mu[0] = 0


def test_grid_is_even_in_wavenumber_and_common_to_both_cameras() -> None:
    samples = 512
    sampling = phantom.calibration(samples).sampling(samples)
    waves = []
    for camera in range(2):
        place = sampling.lower[camera] + sampling.weight[camera] * (
            sampling.upper[camera] - sampling.lower[camera]
        )
        if camera == 1:
            place = samples - 1 - place
        line = np.polyfit(MU[:, camera], WAVE, 1)
        waves.append(np.polyval(line, place + 1))
    np.testing.assert_allclose(waves[0], waves[1], rtol=1e-12)
    assert (np.diff(waves[0]) > 0).all()
    steps = np.diff(1 / waves[0])
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-7)
    for pixels in (sampling.lower, sampling.upper):
        assert pixels.min() >= 0
        assert pixels.max() < samples


def test_without_dispersion_nothing_is_corrected() -> None:
    np.testing.assert_array_equal(Calibration(MU, WAVE).sampling(512).correction, 1)


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        ({"mu": MU}, ["no variable wave_prime", "mu"]),
        ({"wave_prime": WAVE}, ["no variable mu", "wave_prime"]),
        ({"mu": MU, "wave_prime": WAVE[:-1]}, ["11 values", "12 rows"]),
        ({"mu": MU[:, :1], "wave_prime": WAVE}, ["mu", "(12, 1)", "(P, 2)"]),
        ({"mu": MU[:1], "wave_prime": WAVE[:1]}, ["mu", "(1, 2)", "at least 2"]),
        ({"mu": MU, "wave_prime": WAVE * np.nan}, ["wave_prime", "12 values", "nan"]),
        ({"mu": MU[::-1], "wave_prime": WAVE}, ["mu", "does not rise", "camera 1"]),
        ({"mu": MU * 0, "wave_prime": WAVE}, ["mu", "does not rise", "camera 1"]),
        ({"mu": MU + 1j, "wave_prime": WAVE}, ["mu", "real numbers"]),
        ({"mu": "text", "wave_prime": WAVE}, ["mu", "real numbers"]),
    ],
)
def test_bad_calibration_file_says_what_and_where(
    tmp_path: Path, variables: dict[str, Any], parts: list[str]
) -> None:
    path = saved(tmp_path, **variables)
    with pytest.raises(CorruptInputError) as caught:
        Calibration.from_files(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def message(kind: type[OpticStreamError], *args: Any) -> str:
    with pytest.raises(kind) as caught:
        Calibration.from_files(*args)
    return str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    text = message(IncompleteInputError, tmp_path / "no.mat")
    assert str(tmp_path / "no.mat") in text
    assert "not found" in text
    mat = saved(tmp_path, mu=MU, wave_prime=WAVE)
    text = message(IncompleteInputError, mat, tmp_path / "no.bin")
    assert str(tmp_path / "no.bin") in text
    assert "leave it out" in text


@pytest.mark.parametrize("content", [b"", b"not a MATLAB file", b"MATLAB 5.0 MAT-file" + b" " * 40])
def test_unreadable_mat(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mat"
    path.write_bytes(content)
    text = message(CorruptInputError, path)
    assert str(path) in text
    assert "cannot be read as a MATLAB file" in text


def test_truncated_mat(tmp_path: Path) -> None:
    path = tmp_path / "cut.mat"
    savemat(path, {"mu": MU, "wave_prime": WAVE}, do_compression=True)
    path.write_bytes(path.read_bytes()[:-60])
    assert str(path) in message(CorruptInputError, path)


def test_new_mat_format_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "new.mat"
    # The version field of a 7.3 header; the rest of such a file is HDF5.
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    text = message(CorruptInputError, path)
    assert "7.3" in text
    assert "-v7" in text


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_dispersion_of_broken_length(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disp.bin"
    path.write_bytes(content)
    text = message(CorruptInputError, saved(tmp_path, mu=MU, wave_prime=WAVE), path)
    assert f"{path} has {len(content)} bytes" in text


def test_dispersion_that_is_a_folder_or_not_finite(tmp_path: Path) -> None:
    mat = saved(tmp_path, mu=MU, wave_prime=WAVE)
    assert "cannot be read" in message(CorruptInputError, mat, tmp_path)
    path = tmp_path / "disp.bin"
    path.write_bytes(np.array([0.0, np.inf]).tobytes())
    text = message(CorruptInputError, mat, path)
    assert str(path) in text
    assert "inf at (1,)" in text


def test_dispersion_of_another_camera(tmp_path: Path) -> None:
    path = tmp_path / "disp.bin"
    path.write_bytes(np.zeros(100).tobytes())
    cal = Calibration.from_files(saved(tmp_path, mu=MU, wave_prime=WAVE), path)
    with pytest.raises(CorruptInputError, match=r"disp\.bin has 100 values; expected 512"):
        cal.sampling(512)
    with pytest.raises(CorruptInputError, match=r"dispersion vector has shape \(2, 3\)"):
        Calibration(MU, WAVE, np.zeros((2, 3)))


def test_cameras_without_a_common_range() -> None:
    apart = MU + np.array([0, 10000])
    with pytest.raises(CorruptInputError, match="share no range of wavelengths over 512 pixels"):
        Calibration(apart, WAVE).sampling(512)
