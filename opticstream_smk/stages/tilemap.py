"""The coordinate template of an acquisition, as stages write and read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.io import nifti
from opticstream_smk.layout import ProjectLayout


@dataclass(frozen=True, eq=False)
class Tilemap:
    """Where the tiles of a mosaic lie.

    Attributes
    ----------
    positions_px
        (N, 2) y, x of each tile's first pixel, in order of acquisition.
    is_anchored
        (N,) whether a tile was linked by image content, or placed by the lattice only.
    tile_shape
        (y, x) px of a tile.
    avg_signal
        (N,) mean intensity of each tile when the template was made, dB.
    sha256
        Hash of the template file; empty for one that is not written yet.
    """

    positions_px: NDArray[np.float64]
    is_anchored: NDArray[np.bool_]
    tile_shape: tuple[int, int]
    avg_signal: NDArray[np.float64]
    sha256: str = ""

    @property
    def _corners(self) -> NDArray[np.int64]:
        """(N, 2) y, x of each tile's first pixel on the canvas."""
        placed = np.rint(self.positions_px).astype(np.int64)
        corners: NDArray[np.int64] = placed - placed.min(axis=0)
        return corners

    @property
    def origin_px(self) -> tuple[int, int]:
        """Place (y, x) of canvas pixel 0 in the frame of the positions."""
        y, x = np.rint(self.positions_px).astype(int).min(axis=0)
        return int(y), int(x)

    def coverage(self) -> NDArray[np.bool_]:
        """(y, x) canvas, True where any tile lies."""
        rows, columns = self.tile_shape
        height, width = self._corners.max(axis=0) + self.tile_shape
        covered = np.zeros((height, width), np.bool_)
        for y, x in self._corners:
            covered[y : y + rows, x : x + columns] = True
        return covered

    def tile_borders(self) -> NDArray[np.bool_]:
        """(y, x) canvas, True on the outermost pixels of each tile."""
        rows, columns = self.tile_shape
        borders = np.zeros_like(self.coverage())
        for y, x in self._corners:
            borders[[y, y + rows - 1], x : x + columns] = True
            borders[y : y + rows, [x, x + columns - 1]] = True
        return borders


class TileFiles(Sequence[NDArray[np.float32]]):
    """The en-face maps of a mosaic as (y, x) images, each read when it is asked for."""

    def __init__(
        self,
        layout: ProjectLayout,
        mosaic: int,
        modality: str,
        tile_shape: tuple[int, int],
        count: int,
    ) -> None:
        self._layout = layout
        self._mosaic = mosaic
        self._modality = modality
        self._tile_shape = tile_shape
        self._count = count

    def path(self, index: int) -> Path:
        """File of the tile at a 0-based index."""
        return self._layout.processed_tile(self._mosaic, index + 1, self._modality)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.float32]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        image = nifti.read_image(self.path(index), shape_yx=self._tile_shape)
        return np.asarray(image, np.float32)


def cells(config: Config, acquisition: str) -> NDArray[np.int64]:
    """(N, 2) row and column of each tile, in order of acquisition."""
    from opticstream_smk.mosaic import snake_order

    scan = config.acquisition
    return np.asarray(
        snake_order(
            scan.grid_size_y,
            scan.columns(acquisition),
            grid_type=scan.grid_type,
            order=scan.grid_order,
        ),
        np.int64,
    )
