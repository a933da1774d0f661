"""The folder of a volume that is being written: layout, receipts, completion."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opticstream_smk.io.atomic import sync_folder, write_error, write_json
from opticstream_smk.io.ome_zarr import (
    ImageMetadata,
    LevelLayout,
    Shape,
    ZarrOptions,
    create_array,
    level_shapes,
    whole_chunks,
    write_group,
)
from opticstream_smk.io.zarr_chunks import ChunkWriter, Unfinished

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opticstream_smk.mosaic.volume_blocks import Span

Window = tuple[float, float]
_RECEIPTS = ".receipts"
# Without shards, what is made and proved at once.
_UNSHARDED_FOOTPRINT_PX = 1024
# Shards, in chunks, of the levels that are too coarse for one in each footprint.
_COARSE_SHARD_CHUNKS = 4
_WINDOW_PERCENTILES = (1.0, 99.8)
_WINDOW_VOXELS = 4_000_000


@dataclass(frozen=True)
class Footprint:
    """An area of the canvas that is written at once: its index, rows and columns."""

    index: tuple[int, int]
    rows: Span
    columns: Span


@dataclass(frozen=True)
class PyramidLayout:
    """How a volume is cut.

    Attributes
    ----------
    levels
        Arrays, from full to lowest resolution.
    footprint
        (y, x) px of a footprint at full resolution, whole chunks.
    whole_levels
        Lowest level that has whole shards in each footprint.
    """

    levels: list[LevelLayout]
    footprint: tuple[int, int]
    whole_levels: int

    def footprints(self) -> list[Footprint]:
        """All of them, along x first."""
        _, height, width = self.levels[0].shape
        rows, columns = self.footprint
        return [
            Footprint(
                (y // rows, x // columns),
                (y, min(y + rows, height)),
                (x, min(x + columns, width)),
            )
            for y in range(0, height, rows)
            for x in range(0, width, columns)
        ]


def pyramid_layout(shape: Shape, options: ZarrOptions) -> PyramidLayout:
    """Cut a volume of `shape` (z, y, x) into footprints, levels, shards and chunks."""
    chunk, shard = options.chunk_zyx, options.shard_zyx
    shapes = level_shapes(shape, options)
    largest = shard or whole_chunks((1, *[_UNSHARDED_FOOTPRINT_PX] * 2), chunk)
    footprint, whole = [0, 0], [0, 0]
    for axis in (1, 2):
        # Powers of two divide into whole chunks at many levels.
        needed = 1 << (-(-shape[axis] // chunk[axis]) - 1).bit_length()
        chunks = min(largest[axis] // chunk[axis], needed)
        footprint[axis - 1] = chunks * chunk[axis]
        covers = footprint[axis - 1] >= shape[axis]
        whole[axis - 1] = len(shapes) if covers else (chunks & -chunks).bit_length() - 1
    whole_levels = min(*whole, len(shapes) - 1)
    levels = []
    for level, of_level in enumerate(shapes):
        own: Shape | None = None
        if shard is not None:
            all_of_it = whole_chunks(of_level, chunk)
            area = [
                max(length >> level, size) if level <= whole_levels else _COARSE_SHARD_CHUNKS * size
                for length, size in zip(footprint, chunk[1:], strict=True)
            ]
            z, y, x = map(min, (shard[0], *area), all_of_it)
            own = (z, y, x)
        levels.append(LevelLayout(of_level, chunk, own))
    return PyramidLayout(levels, (footprint[0], footprint[1]), whole_levels)


class VolumeStore:
    """Writes a volume under a temporary name; on leaving, open files are closed.

    Attributes
    ----------
    writers
        One for each level.

    Raises
    ------
    ServiceError
        On entering, and whenever something is written: the disk refuses.
    """

    def __init__(
        self, out: Path, pyramid: PyramidLayout, options: ZarrOptions, *, fingerprint: str
    ) -> None:
        self._out = out
        self.folder = out.with_name(f".tmp-{out.name}")
        self._pyramid = pyramid
        self.options = options
        self._fingerprint = fingerprint
        self.writers: list[ChunkWriter] = []
        self._unfinished: list[Unfinished] = []

    def __enter__(self) -> VolumeStore:
        self._prepare_folder()
        self._syncer = ThreadPoolExecutor(1)
        self.writers = [
            ChunkWriter(self.folder / str(level), layout, self.options, self._syncer)
            for level, layout in enumerate(self._pyramid.levels)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for unfinished in [*self._unfinished, *(writer.take() for writer in self.writers)]:
            unfinished.abandon()
        self._syncer.shutdown()

    def _prepare_folder(self) -> None:
        """Keep what an earlier run with the same input left; remove what another one left."""
        known = self.folder / _RECEIPTS / "volume.json"
        if _read_json(known).get("sha256") == self._fingerprint:
            return
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            for level, layout in enumerate(self._pyramid.levels):
                create_array(self.folder / str(level), layout, self.options)
        except OSError as error:
            raise write_error(self.folder, error) from error
        write_json(known, {"sha256": self._fingerprint})

    # ------------------------------------------------------------------------------ receipts
    def proved(self, footprint: Footprint) -> Mapping[str, int] | None:
        """Numbers of a footprint that an earlier run completed; None for any other."""
        receipt = _read_json(self._receipt(footprint))
        if not receipt:
            return None
        for name, size in receipt["files"].items():
            if _size(self.folder / name) != size:
                return None
        return dict(receipt["numbers"])

    def take(self) -> list[Unfinished]:
        """What was written since the last time, to be finished by `prove`."""
        taken = [writer.take() for writer in self.writers]
        self._unfinished = taken
        return taken

    def prove(
        self, footprint: Footprint, unfinished: list[Unfinished], numbers: Mapping[str, int]
    ) -> None:
        """Bring the files of a footprint to disk, then write its receipt."""
        paths = [path for files in unfinished for path in files.finish()]
        files = {str(path.relative_to(self.folder)): path.stat().st_size for path in paths}
        write_json(self._receipt(footprint), {"files": files, "numbers": dict(numbers)})

    def _receipt(self, footprint: Footprint) -> Path:
        y, x = footprint.index
        return self.folder / _RECEIPTS / f"{y}-{x}.json"

    # ---------------------------------------------------------------------------- completion
    def open_level(self, level: int) -> Any:
        """The array of a level that is written, as zarr opens it."""
        import zarr

        return zarr.open_array(
            str(self.folder / str(level)), mode="r", zarr_format=self.options.zarr_version
        )

    def no_value_as_nan(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values as they were before gaps were filled."""
        fill = np.float32(self.options.fill_value)
        return np.where(values == fill, np.float32(np.nan), values)

    def find_window(self) -> tuple[Window, Window]:
        """Percentiles, and least and greatest of the values of a coarse level.

        Both are 0 and 1 where there is no value.
        """
        sizes = [math.prod(layout.shape) for layout in self._pyramid.levels]
        level = next((i for i, n in enumerate(sizes) if n <= _WINDOW_VOXELS), len(sizes) - 1)
        known: list[NDArray[np.float32]] = []
        array = self.open_level(level)
        for rows in _spans(array.shape[1], 4 * array.chunks[1]):
            part = self.no_value_as_nan(np.asarray(array[:, slice(*rows)], np.float32))
            # Where the coarsest level is large all the same, some of its values say enough.
            known.append(part[np.isfinite(part)][:: max(1, sizes[level] // _WINDOW_VOXELS)])
        values = np.concatenate(known)
        if not values.size:
            return (0.0, 1.0), (0.0, 1.0)
        shares = (0.0, *_WINDOW_PERCENTILES, 100.0)
        least, low, high, greatest = (float(v) for v in np.percentile(values, shares))
        if low == high:
            return (low, low + 1), (low, low + 1)
        return (low, high), (least, greatest)

    def complete(self, metadata: ImageMetadata) -> int:
        """Write the metadata of the group, give the folder its name; returns its bytes."""
        shapes = [layout.shape for layout in self._pyramid.levels]
        written = sum(p.stat().st_size for p in _files(self.folder) if p.parent.name != _RECEIPTS)
        write_group(self.folder, shapes, metadata, self.options)
        previous = self._out.with_name(f".old-{self._out.name}")
        try:
            shutil.rmtree(self.folder / _RECEIPTS)
            for folder in (self.folder, *(self.folder / str(i) for i in range(len(shapes)))):
                sync_folder(folder)
            if previous.exists():
                shutil.rmtree(previous)
            if self._out.exists():
                self._out.rename(previous)
            self.folder.rename(self._out)
            sync_folder(self._out.parent)
            if previous.exists():
                shutil.rmtree(previous)
        except OSError as error:
            raise write_error(self._out, error) from error
        return written


def _spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, step):
        yield start, min(start + step, length)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _read_json(path: Path) -> Mapping[str, Any]:
    """Content of a small file; empty when it is not there or was cut short."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
