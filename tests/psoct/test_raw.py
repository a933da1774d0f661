import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.psoct import read_spectral

SHAPE = (3, 2, 4, 64)
COUNTS = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE) * np.uint16(17)
SIZES = {"alines": 4, "blines": 3}


def tile(
    folder: Path, *, dim: tuple[int, ...] = (3, 64, 8, 3, 1, 1, 1, 1), extra: bytes = b""
) -> Path:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, *dim)
    path = folder / "tile.nii"
    path.write_bytes(bytes(header) + COUNTS.astype("<u2").tobytes() + extra)
    return path


def test_counts_come_in_file_order(tmp_path: Path) -> None:
    spectra = read_spectral(tile(tmp_path), samples=64, **SIZES)
    assert spectra.shape == SHAPE
    assert spectra.dtype == np.uint16
    np.testing.assert_array_equal(spectra, COUNTS)
    assert not spectra.flags.writeable


def test_samples_come_from_a_header_that_fits(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_spectral(str(tile(tmp_path)), **SIZES), COUNTS)


@pytest.mark.parametrize("dim", [(3, 64, 9, 3, 1, 1, 1, 1), (2, 64, 8, 3, 1, 1, 1, 1), (0,) * 8])
def test_samples_are_2048_when_the_header_does_not_fit(
    tmp_path: Path, dim: tuple[int, ...]
) -> None:
    with pytest.raises(CorruptInputError, match="x 2048 samples"):
        read_spectral(tile(tmp_path, dim=dim), **SIZES)


def test_bytes_beyond_the_tile_are_ignored(tmp_path: Path) -> None:
    path = tile(tmp_path, extra=b"trailer")
    np.testing.assert_array_equal(read_spectral(path, samples=64, **SIZES), COUNTS)


@pytest.mark.parametrize("left", [0, 100, 352, 352 + COUNTS.nbytes - 1])
def test_truncated_file_names_both_sizes(tmp_path: Path, left: int) -> None:
    path = tile(tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CorruptInputError) as caught:
        read_spectral(path, samples=64, **SIZES)
    for part in (str(path), f"{left} bytes", f"expected {352 + COUNTS.nbytes}", "4 A-lines"):
        assert part in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(IncompleteInputError, match=r"no\.nii not found"):
        read_spectral(tmp_path / "no.nii", **SIZES)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(CorruptInputError, match="cannot be read"):
        read_spectral(tmp_path, **SIZES)


def test_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "tile.nii.gz"
    path.write_bytes(gzip.compress(tile(tmp_path).read_bytes()))
    with pytest.raises(CorruptInputError, match=r"tile\.nii\.gz is gzip-compressed.*gunzip"):
        read_spectral(path, **SIZES)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"bits": 12}, ["12 bits", "accepted: 16"]),
        ({"alines": 0}, ["alines is 0"]),
        ({"blines": -1}, ["blines is -1"]),
        ({"samples": 0}, ["samples is 0"]),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, change: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_spectral(tile(tmp_path), **{**SIZES, **change})
    for part in parts:
        assert part in str(caught.value)
