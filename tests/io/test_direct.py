"""Files written past the page cache: the same bytes, whatever the file system does."""

import errno
import fcntl
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opticstream_smk.errors import ServiceError
from opticstream_smk.io import direct, nifti
from opticstream_smk.stages.tile_files import TileFiles

# 68,000 bytes at each depth: no multiple of a page.
SHAPE = (100, 170, 5)
GEOMETRY = nifti.Geometry((0.01, 0.01, 0.0025))
VOLUME = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32, order="F")


def write(folder: Path, ends: tuple[int, ...] = (100, 170)) -> bytes:
    """Write the volume up to one B-line after the other; returns the file."""
    paths = {"dBI": folder / "dBI.nii"}
    with TileFiles(paths, SHAPE, GEOMETRY) as files:
        for start, stop in zip((0, *ends), ends, strict=False):
            # Blocks are longer than what is written of the last.
            block = np.full((SHAPE[2], stop - start + 3, SHAPE[0]), np.nan, np.float32)
            block[:, : stop - start] = VOLUME.T[:, start:stop]
            files.write("dBI", start, stop, block)
    return paths["dBI"].read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file as nibabel writes it."""
    path = tmp_path_factory.mktemp("whole") / "whole.nii"
    nifti.write_array(path, VOLUME, GEOMETRY)
    return path.read_bytes()


class Pages:
    """Pages that are written past the page cache."""

    def __init__(self) -> None:
        self.places: list[int] = []
        # Asked at each write for how much of it is written; may raise.
        self.limit: Callable[[], int | None] = lambda: None
        self._write = os.pwrite

    def pwrite(self, file: int, content: Any, place: int) -> int:
        if not fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            return self._write(file, content, place)
        assert place % direct.PAGE == len(content) % direct.PAGE == 0
        self.places += range(place, place + len(content), direct.PAGE)
        return self._write(file, content[: self.limit()], place)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pages:
    """What is written past the page cache."""
    probe = tmp_path / "probe"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("the file system of temporary files has no O_DIRECT")
    finally:
        probe.unlink(missing_ok=True)
    found = Pages()
    monkeypatch.setattr(os, "pwrite", found.pwrite)
    return found


@pytest.mark.parametrize(
    "ends",
    [(170,), (100, 170), (85, 169, 170), (1, 2, 12, 13, 170), tuple(range(5, 171, 5))],
)
def test_blocks_of_any_size_give_the_same_file(
    tmp_path: Path, expected: bytes, ends: tuple[int, ...]
) -> None:
    assert write(tmp_path, ends) == expected


def test_every_whole_page_goes_past_the_page_cache_once(
    tmp_path: Path, expected: bytes, pages: Pages
) -> None:
    write(tmp_path)
    whole = len(expected) // direct.PAGE * direct.PAGE
    assert sorted(pages.places) == list(range(0, whole, direct.PAGE))


def test_small_files_do_not(tmp_path: Path, pages: Pages) -> None:
    with TileFiles({"dBI": tmp_path / "dBI.nii"}, (4, 2, 3), GEOMETRY) as files:
        files.write("dBI", 0, 2, np.ones((3, 2, 4), np.float32))
    assert not pages.places


@pytest.mark.parametrize("refused", ["_reserve", "_open_direct"])
def test_a_file_system_that_cannot(
    tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: Any) -> None:
        raise direct.DirectRefusedError

    monkeypatch.setattr(direct, refused, refuse)
    assert write(tmp_path) == expected


def test_a_file_system_that_refuses_when_it_is_written_to(
    tmp_path: Path, expected: bytes, pages: Pages
) -> None:
    def refuse() -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    pages.limit = refuse
    assert write(tmp_path) == expected


def test_what_is_written_in_part_is_written_on(
    tmp_path: Path, expected: bytes, pages: Pages
) -> None:
    pages.limit = lambda: direct.PAGE
    assert write(tmp_path) == expected


def test_a_disk_that_becomes_full_leaves_nothing(tmp_path: Path, pages: Pages) -> None:
    def fill() -> None:
        if len(pages.places) > 50:
            raise OSError(errno.ENOSPC, "No space left on device")

    pages.limit = fill
    with pytest.raises(ServiceError, match=r"dBI\.nii: .*disk is full"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("pages")
def test_a_volume_that_may_not_be_so_large_is_refused_at_once(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    files = TileFiles({"dBI": tmp_path / "dBI.nii"}, SHAPE, GEOMETRY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ServiceError, match=r"dBI\.nii: File too large"):
            files.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
