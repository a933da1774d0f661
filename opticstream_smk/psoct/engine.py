"""Tiles of one size, one after the other, in memory that is used again.

Fresh memory is dear: on a virtual machine, the first touch of the volumes of a tile costs half as
much as computing them. So B-lines go through in blocks, from the file to the files, and a tile
takes a few hundred MB whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.blocks import BlockWork
from opticstream_smk.psoct.calibration import (
    AUTOCORRELATION_BINS,
    SpectralCalibration,
    depth_samples,
)
from opticstream_smk.psoct.enface import project_lines
from opticstream_smk.psoct.settings import TileSettings
from opticstream_smk.psoct.spectral import SpectralTransform, halves_nyquist
from opticstream_smk.psoct.surface import clamped_surface, median3x3
from opticstream_smk.psoct.volumes import VoxelOptions

Array: TypeAlias = NDArray[Any]
SpectraShape: TypeAlias = tuple[int, int, int, int]
# Three volumes (Z, n, X) float32.
VolumeBlock: TypeAlias = tuple[NDArray[np.float32], ...]

# B-lines read at a time, at least; 23 MB of a tile of 350 A-lines.
_GIVEN_ROWS = 8
# Bytes of a volume that are adjacent in its file: a depth of a block. Shorter ones take the disk
# longer, longer ones more memory.
_RUN_BYTES = 120_000


class BlineSource(Protocol):
    """Where B-lines come from."""

    def buffer(self, rows: int) -> Array:
        """Memory for so many B-lines."""
        ...

    def read(self, start: int, stop: int, buffer: Array) -> Array:
        """B-lines `start` to `stop`, in `buffer` or elsewhere.

        Spectra are (n, 2, X, N) uint16, complex tiles (Z, n, 4X) float32.
        """
        ...


@dataclass(frozen=True, eq=False)
class TileMaps:
    """Surface (X, Y) float64, 1-based, and en-face maps (X, Y) float32 by modality."""

    surface: NDArray[np.float64]
    enface: dict[str, NDArray[np.float32]]


class ComplexEngine:
    """Spectra to complex tiles, float32 [Re J1; Im J1; Re J2; Im J2] along X.

    Parameters
    ----------
    calibration : Calibration or PhaseCalibration
        Wavelength calibration, and dispersion with N values.
    shape : (Y, 2, X, N)
        Size of the tiles.
    toolbox_quirks : bool
        See `spectral_to_jones`.
    threads : int
        Threads that compute; one more reads and one more writes.
    """

    def __init__(
        self,
        calibration: SpectralCalibration,
        shape: SpectraShape,
        *,
        toolbox_quirks: bool = False,
        threads: int = 1,
    ) -> None:
        blines, _, alines, samples = shape
        self._given_rows, made_rows = _rows(blines, 4 * alines, threads)
        block = (depth_samples(samples), made_rows, 4 * alines)
        self._given: list[Array] = []
        self._transforms = _transforms(calibration, shape, toolbox_quirks, threads)
        self._work = BlockWork[Array, Array](
            blines=blines,
            given_rows=self._given_rows,
            made_rows=made_rows,
            made=[np.empty(block, np.float32) for _ in range(2)],
            threads=threads,
        )

    def run(self, source: BlineSource, write: Callable[[int, int, Array], None]) -> None:
        """Process a tile.

        Parameters
        ----------
        source
            Spectra (n, 2, X, N) uint16 of some B-lines.
        write
            ``write(start, stop, stack)`` gets (Z, n, 4X) float32 of some B-lines, in their order,
            valid until it returns.
        """
        self.start(source, write)()

    def start(
        self, source: BlineSource, write: Callable[[int, int, Array], None]
    ) -> Callable[[], None]:
        """Compute a tile as `run` does; what is returned waits until it is written.

        The next may be started before, by the same thread.
        """
        self._given = self._given or [source.buffer(self._given_rows) for _ in range(2)]

        def compute(thread: int, spectra: Array, row: int, made: Array, at: int, _y: int) -> None:
            _stack(self._transforms[thread], spectra, row, made, at)

        return self._work.start(self._given, source.read, compute, write)


class TileEngine:
    """Spectra or complex tiles to volumes, surface and en-face maps, in single precision.

    Parameters
    ----------
    settings : TileSettings
        How to process.
    shape : (X, Y, Z)
        Size of the volumes.
    makers : sequence
        What makes a B-line of volumes from what is read, one for each thread that computes.
    whole : bool
        Keep the volumes of the whole tile in one block.
    """

    def __init__(
        self,
        settings: TileSettings,
        shape: tuple[int, int, int],
        makers: Sequence[Callable[..., None]],
        *,
        whole: bool = False,
    ) -> None:
        self._shape = alines, blines, depth = shape
        self._options = settings.enface_options()
        self._makers = makers
        self._given_rows, made_rows = _rows(blines, alines, len(makers))
        # What smooths along B-lines needs the whole tile.
        if whole or self._options.needs_neighbours:
            made_rows = blines
        self._work = BlockWork[Array, VolumeBlock](
            blines=blines,
            given_rows=self._given_rows,
            made_rows=made_rows,
            made=[
                _volumes(depth, made_rows, alines) for _ in range(2 if made_rows < blines else 1)
            ],
            threads=len(makers),
        )
        self._given: list[Array] = []
        self._surface = settings.surface()
        self._searchers = [self._surface.searcher(alines, depth) for _ in makers]
        # The last B-line of a block waits for its neighbour in the next.
        self._waiting = _volumes(depth, 1, alines)

    @classmethod
    def of_spectra(
        cls,
        calibration: SpectralCalibration,
        shape: SpectraShape,
        settings: TileSettings,
        *,
        threads: int = 1,
        whole: bool = False,
    ) -> TileEngine:
        """Engine for spectra (Y, 2, X, N)."""
        blines, _, alines, samples = shape
        options = settings.voxel_options("raw")
        makers = [
            partial(_volumes_of_spectra, transform, options)
            for transform in _transforms(calibration, shape, settings.toolbox_quirks, threads)
        ]
        return cls(settings, (alines, blines, depth_samples(samples)), makers, whole=whole)

    @classmethod
    def of_stacks(
        cls, shape: tuple[int, int, int], settings: TileSettings, *, threads: int = 1
    ) -> TileEngine:
        """Engine for complex tiles (4X, Y, Z)."""
        options = settings.voxel_options(settings.complex_z_order)
        makers = [partial(_volumes_of_stack, options)] * threads
        return cls(settings, (shape[0] // 4, *shape[1:]), makers)

    def run(
        self,
        source: BlineSource,
        write: Callable[[int, int, VolumeBlock], None],
        look: Callable[[int, VolumeBlock, int], None] = lambda *_: None,
    ) -> TileMaps:
        """Process a tile.

        Parameters
        ----------
        source
            Spectra (n, 2, X, N) uint16 or complex tile (Z, n, 4X) float32 of some B-lines.
        write
            ``write(start, stop, volumes)`` gets dBI, R3D, O3D, each (Z, n, X) float32, of some
            B-lines, in their order, valid until it returns.
        look
            ``look(thread, volumes, row)`` sees each B-line while it is in the cache.
        """
        return self.start(source, write, look)()

    def start(
        self,
        source: BlineSource,
        write: Callable[[int, int, VolumeBlock], None],
        look: Callable[[int, VolumeBlock, int], None] = lambda *_: None,
    ) -> Callable[[], TileMaps]:
        """Compute a tile as `run` does; what is returned waits until it is written.

        The next may be started before, by the same thread.
        """
        alines, blines, depth = self._shape
        given = self._surface.given
        found = given((alines, blines)) if given else np.empty((alines, blines))
        surface = np.empty((alines, blines))
        enface = {n: np.empty((alines, blines), np.float32) for n in self._options.modalities}

        def compute(
            thread: int, block: Array, row: int, made: VolumeBlock, at: int, y: int
        ) -> None:
            self._makers[thread](block, row, made, at)
            if not given:
                found[:, y] = self._searchers[thread](made[0], at)
            look(thread, made, at)

        def project(volumes: VolumeBlock, first: int, start: int, stop: int) -> None:
            if start == stop:
                return
            left, right = max(start - 1, 0), min(stop + 1, blines)
            near = found[:, left:right] if given else median3x3(found[:, left:right])
            lines = near[:, start - left : stop - left]
            surface[:, start:stop] = clamped_surface(lines, depth)
            some = project_lines(volumes, start - first, surface[:, start:stop], self._options)
            for name, values in some.items():
                enface[name][:, start:stop] = values

        def finish(start: int, stop: int, made: VolumeBlock) -> None:
            if start:
                project(self._waiting, start - 1, start - 1, start)
            if stop == blines:
                project(made, start, start, stop)
                return
            project(made, start, start, stop - 1)
            for kept, volume in zip(self._waiting, made, strict=True):
                kept[:, 0] = volume[:, stop - 1 - start]

        def store(start: int, stop: int, made: VolumeBlock) -> None:
            finish(start, stop, made)
            write(start, stop, made)

        self._given = self._given or [source.buffer(self._given_rows) for _ in range(2)]
        stored = self._work.start(self._given, source.read, compute, store)

        def maps() -> TileMaps:
            stored()
            return TileMaps(surface, enface)

        return maps


def _volumes(depth: int, blines: int, alines: int) -> VolumeBlock:
    return tuple(np.empty((depth, blines, alines), np.float32) for _ in range(3))


def _rows(blines: int, width: int, threads: int) -> tuple[int, int]:
    """B-lines read, and written, at a time, for rows of `width` float32."""
    given = min(blines, -(-_GIVEN_ROWS // threads) * threads)
    made = given * max(1, -(-_RUN_BYTES // (4 * width * given)))
    return given, min(made, blines)


def _transforms(
    calibration: SpectralCalibration, shape: SpectraShape, toolbox_quirks: bool, threads: int
) -> list[SpectralTransform]:
    _, _, alines, samples = shape
    sampling = calibration.sampling(samples)
    halve = halves_nyquist(sampling, toolbox_quirks=toolbox_quirks)
    return [SpectralTransform(sampling, alines=alines, halve_nyquist=halve) for _ in range(threads)]


def _stack(transform: SpectralTransform, spectra: Array, row: int, made: Array, at: int) -> None:
    from opticstream_smk.psoct.voxel_kernels import stack_of_bins

    stack_of_bins(*transform(spectra[row]), AUTOCORRELATION_BINS, made, at)


def _volumes_of_spectra(
    transform: SpectralTransform,
    options: VoxelOptions,
    spectra: Array,
    row: int,
    made: VolumeBlock,
    at: int,
) -> None:
    from opticstream_smk.psoct.voxel_kernels import volumes_of_bins

    bins = transform(spectra[row])
    volumes_of_bins(*bins, AUTOCORRELATION_BINS, *made, at, *options.of_kernels)


def _volumes_of_stack(
    options: VoxelOptions, stack: Array, row: int, made: VolumeBlock, at: int
) -> None:
    from opticstream_smk.psoct.voxel_kernels import volumes_of_stack

    volumes_of_stack(stack, row, *made, at, *options.of_kernels)
