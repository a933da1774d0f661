import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opticstream_smk.errors import ConfigError, CorruptInputError, IncompleteInputError
from opticstream_smk.psoct import raw, read_spectral
from opticstream_smk.psoct.raw import unpack12

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
def test_samples_come_from_the_length_when_the_header_does_not_fit(
    tmp_path: Path, dim: tuple[int, ...]
) -> None:
    np.testing.assert_array_equal(read_spectral(tile(tmp_path, dim=dim), **SIZES), COUNTS)


def test_samples_are_2048_when_neither_header_nor_length_fit(tmp_path: Path) -> None:
    with pytest.raises(CorruptInputError, match="x 2048 samples"):
        read_spectral(tile(tmp_path, dim=(0,) * 8, extra=b"x"), **SIZES)


def packed(folder: Path, counts: np.ndarray, extra: bytes = b"") -> Path:
    first, second = counts.ravel()[0::2], counts.ravel()[1::2]
    triples = np.stack([first & 255, first >> 8 | (second & 15) << 4, second >> 4], axis=1)
    path = folder / "tile.raw"
    path.write_bytes(triples.astype(np.uint8).tobytes() + extra)
    return path


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), triples=st.integers(1, 40))
def test_unpacking_equals_the_literal_rule(seed: int, triples: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, 3 * triples, dtype=np.uint8)
    expected = []
    for b0, b1, b2 in data.reshape(-1, 3).tolist():
        expected += [b0 + 256 * (b1 % 16), b1 // 16 + 16 * b2]
    counts = np.empty(2 * triples, np.uint16)
    unpack12(data, counts)
    assert counts.tolist() == expected


@pytest.mark.parametrize("samples", [None, 64])
def test_12_bit_counts_come_in_file_order(tmp_path: Path, samples: int | None) -> None:
    counts = COUNTS & 4095
    spectra = read_spectral(packed(tmp_path, counts), samples=samples, bits=12, **SIZES)
    assert spectra.shape == SHAPE
    assert spectra.dtype == np.uint16
    np.testing.assert_array_equal(spectra, counts)
    longer = packed(tmp_path, counts, extra=b"12345")
    np.testing.assert_array_equal(read_spectral(longer, samples=64, bits=12, **SIZES), counts)


def test_12_bit_file_of_another_length(tmp_path: Path) -> None:
    path = packed(tmp_path, COUNTS & 4095)
    size = COUNTS.size * 3 // 2
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptInputError) as caught:
        read_spectral(path, samples=64, bits=12, **SIZES)
    for part in (str(path), f"{size - 1} bytes", f"expected {size}", "samples of 12 bits"):
        assert part in str(caught.value)
    with pytest.raises(CorruptInputError, match="x 2048 samples of 12 bits"):
        read_spectral(path, bits=12, **SIZES)


def test_12_bit_channel_of_odd_size(tmp_path: Path) -> None:
    path = packed(tmp_path, COUNTS & 4095)
    with pytest.raises(ConfigError, match="3 A-lines x 63 samples of 12 bits do not fill whole"):
        read_spectral(path, alines=3, blines=1, samples=63, bits=12)


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
        ({"bits": 10}, ["10 bits", "accepted: 16, 12"]),
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


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    # Between looking at the size and reading, the acquisition host may cut the file.
    path = tmp_path / "tile.nii"
    path.write_bytes(bytes(352 + 2 * 2 * 16 * 10))
    found = raw.find_spectral(path, alines=1, blines=2, samples=16 * 10 // 2)
    os.truncate(path, 352 + 200)
    with pytest.raises(CorruptInputError, match="cut short while it was read: B-lines 1 to 2 need"):
        found.read_blines(0, 2, np.empty((2, 2, 1, 80), np.uint16))
