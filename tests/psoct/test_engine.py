"""Tiles that go through in blocks: the same numbers as in one piece, whatever the blocks."""

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError, ServiceError
from opticstream_smk.io import nifti
from opticstream_smk.psoct import (
    TileSettings,
    process_jones,
    process_spectral,
    spectral_to_jones,
    stack_jones,
    unstack_jones,
)
from opticstream_smk.psoct import engine as engines
from opticstream_smk.psoct.engine import ComplexEngine, TileEngine
from opticstream_smk.psoct.raw import RawBlines, find_spectral

from . import phantom

ALINES, BLINES, SAMPLES, DEPTH = 37, 23, 256, 104
SHAPE = (BLINES, 2, ALINES, SAMPLES)
CALIBRATION = phantom.calibration(SAMPLES)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 B-lines, written 8 at a time: 23 are no multiple of either."""
    monkeypatch.setattr(engines, "_GIVEN_ROWS", 4)
    monkeypatch.setattr(engines, "_RUN_BYTES", 4 * ALINES * 6)


def counts(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 4096, SHAPE, dtype=np.uint16)


class Given:
    """B-lines of an array, copied as from a file."""

    def __init__(self, values: np.ndarray, axis: int = 0) -> None:
        self.values, self.axis = values, axis

    def buffer(self, rows: int) -> np.ndarray:
        shape = list(self.values.shape)
        shape[self.axis] = rows
        return np.full(shape, 7, self.values.dtype)

    def read(self, start: int, stop: int, buffer: np.ndarray) -> np.ndarray:
        some = (slice(None),) * self.axis
        buffer[(*some, slice(0, stop - start))] = self.values[(*some, slice(start, stop))]
        return buffer


class Collected:
    """What an engine writes, put together."""

    def __init__(self, *shape: int, count: int = 3) -> None:
        self.volumes = [np.full(shape, np.nan, np.float32) for _ in range(count)]
        self.spans: list[tuple[int, int]] = []

    def write(self, start: int, stop: int, blocks: Any) -> None:
        self.spans.append((start, stop))
        blocks = blocks if isinstance(blocks, tuple) else (blocks,)
        for volume, block in zip(self.volumes, blocks, strict=True):
            volume[:, start:stop] = block[:, : stop - start]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        TileSettings(depth_px=30),
        TileSettings(depth_px=20, toolbox_quirks=True, surface_spec="gradientThreshold"),
        TileSettings(depth_px=20, surface_spec=40, ori_method="mean", biref_method="fft"),
        TileSettings(depth_px=20, biref_method="unwrap_new", modalities=("biref", "mus")),
    ],
)
def test_blocks_and_threads_change_no_number(settings: TileSettings, threads: int) -> None:
    spectra = counts()
    expected = process_spectral(spectra, CALIBRATION, settings)
    engine = TileEngine.of_spectra(CALIBRATION, SHAPE, settings, threads=threads)
    for seed in (1, 0):  # the second tile finds the memory of the first
        found = Collected(DEPTH, BLINES, ALINES)
        maps = engine.run(Given(counts(seed)), found.write)
    for volume, whole in zip(found.volumes, expected.volumes.by_depth, strict=True):
        np.testing.assert_array_equal(volume, whole)
    np.testing.assert_array_equal(maps.surface, expected.surface)
    assert list(maps.enface) == list(expected.enface)
    for name, image in expected.enface.items():
        np.testing.assert_array_equal(maps.enface[name], image)
    whole_tile = settings.enface_options().needs_neighbours
    assert len(found.spans) == (1 if whole_tile else {1: 3, 2: 3, 3: 4}[threads])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("z_order", ["raw", "flipped"])
def test_complex_tiles_in_blocks(z_order: Any) -> None:
    stack = stack_jones(*spectral_to_jones(counts(), CALIBRATION))
    found = Collected(DEPTH, BLINES, 4 * ALINES, count=1)
    ComplexEngine(CALIBRATION, SHAPE, threads=2).run(Given(counts()), found.write)
    np.testing.assert_array_equal(found.volumes[0].T, stack)

    settings = TileSettings(depth_px=30, complex_z_order=z_order)
    stack.ravel()[::1009] = np.nan
    expected = process_jones(*unstack_jones(stack), settings)
    volumes = Collected(DEPTH, BLINES, ALINES)
    engine = TileEngine.of_stacks(stack.shape, settings)
    maps = engine.run(Given(stack.T, axis=1), volumes.write)
    np.testing.assert_array_equal(volumes.volumes[2], expected.volumes.by_depth[2])
    for name, image in expected.enface.items():
        np.testing.assert_array_equal(maps.enface[name], image)


@pytest.mark.usefixtures("small_blocks")
def test_each_bline_is_looked_at_once() -> None:
    seen: list[tuple[int, float]] = []
    engine = TileEngine.of_spectra(CALIBRATION, SHAPE, TileSettings(depth_px=30), threads=2)
    found = Collected(DEPTH, BLINES, ALINES)
    engine.run(
        Given(counts()), found.write, lambda t, v, row: seen.append((t, float(v[0][:, row].sum())))
    )
    assert sorted(total for _, total in seen) == pytest.approx(
        sorted(found.volumes[0].sum(axis=(0, 2)).tolist()), rel=1e-6
    )
    assert {thread for thread, _ in seen} <= {0, 1}


@pytest.mark.usefixtures("small_blocks")
def test_the_next_tile_is_computed_while_one_is_written() -> None:
    engine = TileEngine.of_spectra(CALIBRATION, SHAPE, TileSettings(depth_px=30), threads=2)
    is_second_computed = threading.Event()
    tiles = [Collected(DEPTH, BLINES, ALINES) for _ in range(2)]

    def write_late(start: int, stop: int, blocks: Any) -> None:
        if stop == BLINES:
            assert is_second_computed.wait(30)
        tiles[0].write(start, stop, blocks)

    def look(_thread: int, _volumes: Any, row: int) -> None:
        if row == 7:  # the end of a block
            is_second_computed.set()

    first = engine.start(Given(counts(0)), write_late)
    second = engine.start(Given(counts(1)), tiles[1].write, look)
    for seed, (wait, found) in enumerate(zip((first, second), tiles, strict=True)):
        maps = wait()
        expected = process_spectral(counts(seed), CALIBRATION, TileSettings(depth_px=30))
        np.testing.assert_array_equal(found.volumes[0], expected.volumes.by_depth[0])
        np.testing.assert_array_equal(maps.enface["aip"], expected.enface["aip"])


@pytest.mark.usefixtures("small_blocks")
def test_a_tile_that_cannot_be_written_spares_the_next() -> None:
    engine = ComplexEngine(CALIBRATION, SHAPE)

    def fail_at_the_end(_start: int, stop: int, _stack: Any) -> None:
        if stop == BLINES:
            raise ServiceError("disk full")

    found = Collected(DEPTH, BLINES, 4 * ALINES, count=1)
    first = engine.start(Given(counts()), fail_at_the_end)
    second = engine.start(Given(counts(1)), found.write)
    with pytest.raises(ServiceError, match="disk full"):
        first()
    second()
    stack = stack_jones(*spectral_to_jones(counts(1), CALIBRATION))
    np.testing.assert_array_equal(found.volumes[0].T, stack)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("where", ["read", "write", "look"])
def test_an_error_ends_the_tile_and_spares_the_engine(where: str) -> None:
    engine = TileEngine.of_spectra(CALIBRATION, SHAPE, TileSettings(depth_px=30))
    source, found = Given(counts()), Collected(DEPTH, BLINES, ALINES)

    def fail(*_: Any) -> Any:
        raise CorruptInputError("no more")

    broken = Given(counts())
    broken.read = fail  # type: ignore[method-assign]
    with pytest.raises(CorruptInputError, match="no more"):
        engine.run(
            broken if where == "read" else source,
            fail if where == "write" else found.write,
            fail if where == "look" else lambda *_: None,
        )
    engine.run(source, found.write)
    expected = process_spectral(counts(), CALIBRATION, TileSettings(depth_px=30))
    np.testing.assert_array_equal(found.volumes[0], expected.volumes.by_depth[0])


def test_a_second_tile_takes_no_more_memory() -> None:
    engine = TileEngine.of_spectra(CALIBRATION, SHAPE, TileSettings(depth_px=30))
    engine.run(Given(counts()), lambda *_: None)
    source = Given(counts(1))
    tracemalloc.start()
    engine.run(source, lambda *_: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * 3 * 4 * ALINES * BLINES * DEPTH  # maps and small things


@pytest.mark.parametrize("bits", [16, 12])
@pytest.mark.parametrize("illumination", [(0, 1), (1, 3)])
def test_blines_of_a_raw_file(tmp_path: Path, bits: int, illumination: tuple[int, int]) -> None:
    first, step = illumination
    wide = np.random.default_rng(0).integers(0, 4096, (5, 2, 6 * step, 64), dtype=np.uint16)
    path = tmp_path / "tile.raw"
    if bits == 16:
        path.write_bytes(bytes(352) + wide.tobytes())
    else:
        one, two = wide.reshape(-1, 2).T
        triples = np.stack([one & 255, one >> 8 | (two & 15) << 4, two >> 4], axis=1)
        path.write_bytes(triples.astype(np.uint8).tobytes())
    tile = find_spectral(path, alines=6 * step, blines=5, samples=64, bits=bits)
    source = RawBlines(tile, first, step)
    buffer = source.buffer(2)
    for start, stop in ((0, 2), (2, 4), (4, 5)):
        found = source.read(start, stop, buffer)
        np.testing.assert_array_equal(found, wide[start:stop, :, first::step])


def stack_file(folder: Path, dtype: Any = np.float32, name: str = "tile.nii") -> tuple[Path, Any]:
    stack = np.random.default_rng(0).normal(size=(8, 5, 7)).astype(dtype)
    path = folder / name
    nifti.write_array(path, stack, nifti.Geometry((1, 1, 1)))
    return path, stack.astype(np.float32)


@pytest.mark.parametrize("name", ["tile.nii", "tile.nii.gz"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_blines_of_a_complex_file(tmp_path: Path, name: str, dtype: Any) -> None:
    path, stack = stack_file(tmp_path, dtype, name)
    reader = nifti.StackReader(path, stack.shape)
    buffer = reader.buffer(2)
    for start, stop in ((0, 2), (2, 4), (4, 5)):
        found = reader.read(start, stop, buffer)[:, : stop - start]
        np.testing.assert_array_equal(found.T, stack[:, start:stop])


def test_a_complex_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path, stack = stack_file(tmp_path)
    reader = nifti.StackReader(path, stack.shape)
    with path.open("rb+") as file:
        file.truncate(600)
    with pytest.raises(CorruptInputError, match="cut short while it was read"):
        reader.read(0, 5, reader.buffer(5))


@pytest.mark.parametrize("shape", [(4, 5, 6), (40000, 2, 3)])
def test_a_volume_written_by_blines_is_the_file_that_nibabel_writes(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32, order="F")
    geometry = nifti.Geometry((0.01, 0.02, 0.0025), (1, 2, 3))
    nifti.write_array(tmp_path / "whole.nii", volume, geometry, description="what it is")
    writer = nifti.VolumeWriter(tmp_path / "b.nii", shape, geometry, description="what it is")
    by_depth = volume.T
    for start, stop in ((0, 1), (1, shape[1])):
        writer.write(start, stop, np.ascontiguousarray(by_depth[:, start:stop]))
    writer.close()
    assert (tmp_path / "b.nii").read_bytes() == (tmp_path / "whole.nii").read_bytes()


def test_files_that_are_not_kept_leave_nothing(tmp_path: Path) -> None:
    from opticstream_smk.stages.tile_files import TileFiles

    paths = {name: tmp_path / f"{name}.nii" for name in ("dBI", "R3D")}
    block = np.ones((3, 2, 4), np.float32)
    geometry = nifti.Geometry((1, 1, 1))

    def fail() -> None:
        with TileFiles(paths, (4, 2, 3), geometry) as files:
            files.write("dBI", 0, 2, block)
            raise CorruptInputError("replaced while it was read")

    with pytest.raises(CorruptInputError):
        fail()
    assert not list(tmp_path.iterdir())

    with TileFiles(paths, (4, 2, 3), geometry) as files:
        for name in paths:
            files.write(name, 0, 2, block)
        kept = files.keep()
    assert {path.name for path in tmp_path.iterdir()} == {".tmp-dBI.nii", ".tmp-R3D.nii"}
    kept.close()
    assert {path.name for path in tmp_path.iterdir()} == {"dBI.nii", "R3D.nii"}
    assert nifti.read_array(paths["R3D"], shape=(4, 2, 3)).min() == 1

    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot write"):
        TileFiles({"dBI": tmp_path / "file/x.nii"}, (4, 2, 3), geometry).__enter__()
