from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from opticstream_smk.errors import CorruptInputError, IncompleteInputError
from opticstream_smk.psoct import Calibration, Dispersion, load_dispersion, spectral_to_jones

from . import phantom

PHASE = np.linspace(-3, 3, 64) ** 3
FACTORS = np.exp(-1j * PHASE)


def text(folder: Path, content: str, name: str = "disp.txt") -> Path:
    path = folder / name
    path.write_text(content)
    return path


def complex_lines(values: np.ndarray, form: str = "{:.17g}{:+.17g}i") -> str:
    return "\n".join(form.format(value.real, value.imag) for value in values)


def test_float64_and_text_and_mat_phases_are_equal(tmp_path: Path) -> None:
    (tmp_path / "disp.dat").write_bytes(PHASE.astype("<f8").tobytes())
    savemat(tmp_path / "row.mat", {"phi": PHASE[None]})
    savemat(tmp_path / "column.mat", {"phi": PHASE[:, None]})
    words = [f"{value:.17g}" for value in PHASE]
    paths = [
        tmp_path / "disp.dat",
        tmp_path / "row.mat",
        tmp_path / "column.mat",
        text(tmp_path, "\n".join(words) + "\n\n", "lines.txt"),
        text(tmp_path, " ".join(words), "words.TXT"),
        text(tmp_path, ",".join(words[:40]) + ",\n" + ";".join(words[40:]), "wrapped.csv"),
    ]
    for path in paths:
        np.testing.assert_array_equal(load_dispersion(path).values, PHASE)
        np.testing.assert_allclose(
            load_dispersion(path).correction(64), np.stack([FACTORS, FACTORS]), rtol=0, atol=1e-15
        )


@pytest.mark.parametrize(
    "form", ["{:.17g}{:+.17g}i", "{:.17g}{:+.17g}j", "{:.17g} {:+.17g}i", "({:.17g}{:+.17g}j)"]
)
def test_complex_coefficients_are_used_as_given(tmp_path: Path, form: str) -> None:
    # Not of length 1: they may weight the spectrum too.
    factors = FACTORS * np.hanning(64)
    found = load_dispersion(text(tmp_path, complex_lines(factors, form))).correction(64)
    np.testing.assert_array_equal(found, np.stack([factors, factors]))
    savemat(tmp_path / "disp.mat", {"c": factors})
    found = load_dispersion(tmp_path / "disp.mat").correction(64)
    np.testing.assert_array_equal(found, np.stack([factors, factors]))


def test_matlabs_blanks_around_the_sign(tmp_path: Path) -> None:
    found = load_dispersion(text(tmp_path, "0.5 + 0.25i\n-1e-3 - 2.5e-1i\n3\n")).values
    np.testing.assert_array_equal(found, [0.5 + 0.25j, -1e-3 - 0.25j, 3])


def test_two_columns_are_the_channels(tmp_path: Path) -> None:
    both = np.stack([PHASE, -2 * PHASE], axis=1)
    path = text(tmp_path, "\n".join(f"{a:.17g} {b:.17g}" for a, b in both))
    savemat(tmp_path / "both.mat", {"phi": both})
    for found in (load_dispersion(path), load_dispersion(tmp_path / "both.mat")):
        np.testing.assert_array_equal(found.values, both)
        np.testing.assert_allclose(found.correction(64), np.exp(-1j * both.T), atol=1e-15)
    lines = [f"{a:.17g}-1i {b:.17g}+2i" for a, b in both]
    found = load_dispersion(text(tmp_path, "\n".join(lines)))
    np.testing.assert_array_equal(found.values, both + np.array([-1j, 2j]))


def test_each_channel_gets_its_own(tmp_path: Path) -> None:
    spectra = np.random.default_rng(0).integers(0, 4000, (2, 2, 5, 64), dtype=np.uint16)
    base = phantom.calibration(64, dispersion=False)
    one, two = (
        spectral_to_jones(spectra, Calibration(base.mu, base.wave_prime_nm, phase))
        for phase in (PHASE, -2 * PHASE)
    )
    for values in (
        np.stack([PHASE, -2 * PHASE], axis=1),
        np.exp(-1j * np.stack([PHASE, -2 * PHASE], axis=1)),
    ):
        found = spectral_to_jones(spectra, Calibration(base.mu, base.wave_prime_nm, values))
        np.testing.assert_allclose(found[0], one[0], rtol=1e-5, atol=1)
        np.testing.assert_allclose(found[1], two[1], rtol=1e-5, atol=1)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("d.txt", "", ["is empty"]),
        ("d.txt", "phase\n0.5\n", ["line 1 ('phase')", "headings"]),
        ("d.csv", "0.5\n0.7;x\n", ["line 2", "0.7;x"]),
        ("d.txt", "0.5\nnan\n", ["not finite", "nan at (1,)"]),
        ("d.txt", "0.8 0.6\n1 0\n0 -1\n", ["real and imaginary", "0.98+0.12i"]),
        ("d.bin", "0.5\n0.6\n0.7", ["11 bytes", ".txt"]),
        ("d.mat", "0.5", ["cannot be read as a MATLAB file"]),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: str, parts: list[str]) -> None:
    path = text(tmp_path, content, name)
    with pytest.raises(CorruptInputError) as caught:
        load_dispersion(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_mat_with_several_variables_or_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "d.mat"
    savemat(path, {"a": PHASE, "b": PHASE})
    with pytest.raises(CorruptInputError, match=r"d\.mat has the variables a, b; expected exactly"):
        load_dispersion(path)
    savemat(path, {"a": np.zeros((4, 3))})
    with pytest.raises(CorruptInputError, match=r"d\.mat has shape \(4, 3\)"):
        load_dispersion(path)


@pytest.mark.parametrize("name", ["no.txt", "no.mat", "no.bin"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(IncompleteInputError, match=f"{name} not found"):
        load_dispersion(tmp_path / name)


def test_number_of_values_must_be_that_of_the_spectra() -> None:
    with pytest.raises(CorruptInputError, match="has 64 values; expected 60") as caught:
        Dispersion(PHASE).correction(60)
    assert "two columns" not in str(caught.value)
    # A file with one half per channel would otherwise pass for one of another camera.
    with pytest.raises(CorruptInputError, match=r"has 64 values; expected 32.*two columns"):
        Dispersion(PHASE).correction(32)
    with pytest.raises(CorruptInputError, match="has 64 values; expected 32"):
        Dispersion(np.stack([FACTORS, FACTORS], axis=1)).correction(32)
