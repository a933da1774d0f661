"""The parts of a volume, one after the other, each by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import product
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from opticstream_smk.errors import ConfigError
from opticstream_smk.mosaic import volume_kernels as kernels
from opticstream_smk.mosaic.volume_blocks import BlockMaker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opticstream_smk.io.ome_zarr import LevelLayout, Shape
    from opticstream_smk.mosaic.volume_blocks import Scene, Span
    from opticstream_smk.mosaic.volume_store import Footprint, PyramidLayout, VolumeStore

_T = TypeVar("_T")
# What encoding a chunk takes for a moment, in chunks.
_ENCODING_CHUNKS = 2


def block_makers(
    scene: Scene, pyramid: PyramidLayout, threads: int, memory_bytes: int
) -> list[BlockMaker]:
    """As many block makers as there are threads and memory for.

    Raises
    ------
    ConfigError
        There is not memory enough for one.
    """
    chunk = pyramid.levels[0].chunk
    coarse = sum(4 * int(np.prod(shape)) for shape in _coarse_shapes(pyramid))
    each = max(
        BlockMaker.memory_bytes(scene, chunk, rows, footprint.columns)
        for footprint in pyramid.footprints()
        for rows in _spans(*footprint.rows, chunk[1])
    )
    each += 4 * int(np.prod(chunk)) * (_ENCODING_CHUNKS + 1)
    count = min(threads, (memory_bytes - coarse) // each)
    if count < 1:
        raise ConfigError(
            f"chunks of {list(chunk)} in parts of {list(pyramid.footprint)} px and "
            f"{scene.shape[0]} planes take {(coarse + each) / 1e6:.0f} MB: expected at most "
            f"{memory_bytes / 1e6:.0f} MB. Choose smaller shards, then smaller chunks."
        )
    return [BlockMaker(scene, chunk) for _ in range(count)]


def write_footprints(
    scene: Scene, pyramid: PyramidLayout, store: VolumeStore, makers: list[BlockMaker]
) -> dict[str, int]:
    """Write every level that has whole shards in a footprint; what receipts prove is left.

    Returns
    -------
    dict
        wanted, out_of_range, not_finite: voxels; footprints, resumed.
    """
    numbers = dict.fromkeys(("wanted", "out_of_range", "not_finite", "footprints", "resumed"), 0)
    coarse = [np.empty(shape, np.float32) for shape in _coarse_shapes(pyramid)]
    queue: SimpleQueue[BlockMaker] = SimpleQueue()
    for maker in makers:
        queue.put(maker)
    # While one footprint is brought to disk, the next is made.
    with ThreadPoolExecutor(len(makers)) as pool, ThreadPoolExecutor(1) as finisher:
        pending: list[Future[None]] = []
        for footprint in pyramid.footprints():
            found = store.proved(footprint)
            numbers["resumed"] += found is not None
            if found is None:
                found = _write(scene, pyramid, store, footprint, pool, queue, coarse)
                _wait_for(pending)
                pending = [finisher.submit(store.prove, footprint, store.take(), found)]
            for name, value in found.items():
                numbers[name] += value
            numbers["footprints"] += 1
        _wait_for(pending)
    return numbers


def write_remaining_levels(scene: Scene, pyramid: PyramidLayout, store: VolumeStore) -> None:
    """Write the levels that are too coarse for the footprints, each from the one above."""
    for level in range(pyramid.whole_levels + 1, len(pyramid.levels)):
        layout, above = pyramid.levels[level], store.open_level(level - 1)
        for index in _chunk_indices(layout):
            region = [
                slice(2 * i * c, min(2 * (i + 1) * c, length))
                for i, c, length in zip(index, layout.chunk, above.shape, strict=True)
            ]
            values = store.no_value_as_nan(np.asarray(above[tuple(region)], np.float32))
            source = np.full([2 * c for c in layout.chunk], np.nan, np.float32)
            source[tuple(slice(0, n) for n in values.shape)] = values
            chunk = np.empty(layout.chunk, np.float32)
            _halve(scene, source, chunk)
            z, y, x = (i * c for i, c in zip(index, layout.chunk, strict=True))
            _drop_beyond(chunk, (z, y, x), layout)
            _store_chunk(store, level, index, chunk)
        store.writers[level].take().finish()


def _write(
    scene: Scene,
    pyramid: PyramidLayout,
    store: VolumeStore,
    footprint: Footprint,
    pool: ThreadPoolExecutor,
    makers: SimpleQueue[BlockMaker],
    coarse: list[NDArray[np.float32]],
) -> dict[str, int]:
    """Write a footprint at every level that has whole shards there."""
    chunk = pyramid.levels[0].chunk
    depth = scene.shape[0]
    for buffer in coarse:
        buffer.fill(np.nan)

    def slab(rows: Span, planes: Span) -> dict[str, int]:
        maker = makers.get()
        try:
            return _write_slab(scene, pyramid, store, footprint, rows, planes, maker, coarse)
        finally:
            makers.put(maker)

    parts = product(_spans(*footprint.rows, chunk[1]), _spans(0, depth, chunk[0]))
    found = _run(pool, (partial(slab, rows, planes) for rows, planes in parts))
    for level, buffer in enumerate(coarse, start=1):
        layout = pyramid.levels[level]
        first = 0, footprint.rows[0] >> level, footprint.columns[0] >> level
        _drop_beyond(buffer, first, layout)
        _run(
            pool,
            (
                partial(_write_coarse, store, level, layout, buffer, first, planes)
                for planes in _spans(0, layout.shape[0], chunk[0])
            ),
        )
        if level < len(coarse):
            _run(pool, _halvings(scene, buffer, coarse[level]))
    numbers = {name: sum(part[name] for part in found) for name in found[0]}
    numbers["not_finite"] = numbers.pop("empty") - numbers["out_of_range"]
    return numbers


def _write_slab(
    scene: Scene,
    pyramid: PyramidLayout,
    store: VolumeStore,
    footprint: Footprint,
    rows: Span,
    planes: Span,
    maker: BlockMaker,
    coarse: list[NDArray[np.float32]],
) -> dict[str, int]:
    """Write one row of chunks at full resolution, and halve it into the next level."""
    chunk = pyramid.levels[0].chunk
    numbers = {"wanted": 0, "out_of_range": 0, "empty": 0}
    left, right = footprint.columns
    wanted = np.zeros((chunk[1], -(-(right - left) // chunk[2]) * chunk[2]), np.bool_)
    wanted[: rows[1] - rows[0], : right - left] = scene.wanted(rows, footprint.columns)
    if not wanted.any():
        return numbers
    numbers["wanted"] = int(wanted.sum()) * (planes[1] - planes[0])
    if planes[0] == 0:
        numbers["out_of_range"] = scene.out_of_range(rows, footprint.columns)
    maker.load(planes, rows, footprint.columns)
    # Halving runs through many voxels at a time only where these lie side by side.
    half = np.empty([size // 2 for size in chunk], np.float32)
    for column in range(left, right, chunk[2]):
        start = column - left
        here = np.ascontiguousarray(wanted[:, start : start + chunk[2]])
        if not here.any():
            continue
        block, empty = maker.make(column, here)
        numbers["empty"] += empty
        if coarse:
            corner = planes[0], rows[0] - footprint.rows[0], start
            target = tuple(
                slice(c // 2, c // 2 + size // 2) for c, size in zip(corner, chunk, strict=True)
            )
            _halve(scene, block, half)
            coarse[0][target] = half
        index = planes[0] // chunk[0], rows[0] // chunk[1], column // chunk[2]
        _store_chunk(store, 0, index, block)
    return numbers


def _write_coarse(
    store: VolumeStore,
    level: int,
    layout: LevelLayout,
    buffer: NDArray[np.float32],
    first: Shape,
    planes: Span,
) -> None:
    """Write the chunks of some planes of a level; `first` is the voxel at 0 of the buffer."""
    _, cy, cx = layout.chunk
    _, row, column = first
    height = min(buffer.shape[1], layout.shape[1] - row)
    width = min(buffer.shape[2], layout.shape[2] - column)
    for y, x in product(range(0, height, cy), range(0, width, cx)):
        part = buffer[slice(*planes), y : min(y + cy, height), x : min(x + cx, width)]
        chunk = np.full(layout.chunk, np.nan, np.float32)
        chunk[tuple(slice(0, n) for n in part.shape)] = part
        index = planes[0] // layout.chunk[0], (row + y) // cy, (column + x) // cx
        _store_chunk(store, level, index, chunk)


def _store_chunk(store: VolumeStore, level: int, index: Shape, chunk: NDArray[np.float32]) -> None:
    """Write a chunk unless it has no values; NaN is replaced in place."""
    if kernels.fill_gaps(chunk, np.float32(store.options.fill_value)):
        store.writers[level].write(index, chunk)


def _halve(scene: Scene, block: NDArray[np.float32], half: NDArray[np.float32]) -> None:
    (kernels.halve_axial if scene.circular else kernels.halve)(block, half)


def _halvings(
    scene: Scene, buffer: NDArray[np.float32], half: NDArray[np.float32]
) -> Iterable[Callable[[], None]]:
    """Halving a level into the next, some planes at a time."""
    depth, height, width = (length // 2 for length in buffer.shape)
    for start, stop in _spans(0, depth, 16):
        target = half[start:stop, :height, :width]
        yield partial(_halve, scene, buffer[2 * start : 2 * stop], target)


def _coarse_shapes(pyramid: PyramidLayout) -> list[Shape]:
    """Shapes of the part of each coarser level that lies in a footprint, in even numbers.

    What is beyond the volume stays NaN, so that an axis of one plane is halved like any other.
    """
    chunk = pyramid.levels[0].chunk
    depth = -(-pyramid.levels[0].shape[0] // chunk[0]) * chunk[0]
    shapes: list[Shape] = []
    for level in range(1, pyramid.whole_levels + 1):
        z, y, x = (-(-length // 2 ** (level + 1)) * 2 for length in (depth, *pyramid.footprint))
        shapes.append((z, y, x))
    return shapes


def _drop_beyond(block: NDArray[np.float32], first: Shape, layout: LevelLayout) -> None:
    """Make what lies behind the last voxel of an array have no value; `first` is the block's."""
    z, y, x = (length - i for i, length in zip(first, layout.shape, strict=True))
    block[z:] = np.nan
    block[:, y:] = np.nan
    block[:, :, x:] = np.nan


def _chunk_indices(layout: LevelLayout) -> Iterable[Shape]:
    counts = [
        range(-(-length // size)) for length, size in zip(layout.shape, layout.chunk, strict=True)
    ]
    return ((z, y, x) for z, y, x in product(*counts))


def _spans(start: int, stop: int, step: int) -> list[Span]:
    return [(i, min(i + step, stop)) for i in range(start, stop, step)]


def _run(pool: ThreadPoolExecutor, tasks: Iterable[Callable[[], _T]]) -> list[_T]:
    """Run tasks; the first that fails stops those that have not begun."""
    futures = [pool.submit(task) for task in tasks]
    done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
    for future in waiting:
        future.cancel()
    wait(waiting)
    _wait_for(done)
    return [future.result() for future in futures]


def _wait_for(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.result()
