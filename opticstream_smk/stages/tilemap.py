"""Coordinate templates, of an acquisition or of one mosaic, as stages write and read them."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import CorruptInputError, IncompleteInputError, QualityError
from opticstream_smk.io import nifti
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import Plan
from opticstream_smk.state.flags import Flag, TileCount, read_flag


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
        (N,) mean intensity of each tile when the template was made, dB; 0 for a missing one.
    path
        The template; None for one that is not written yet.
    sha256
        Hash of the template; empty for one that is not written yet.
    missing
        Images that the mosaic at hand lacks, for which the canvas has room, and `dropped`.
    dropped
        Images that were taken out of the template by hand, for which it has none: they lie with one
        of the others.
    """

    positions_px: NDArray[np.float64]
    is_anchored: NDArray[np.bool_]
    tile_shape: tuple[int, int]
    avg_signal: NDArray[np.float64]
    path: Path | None = None
    sha256: str = ""
    missing: frozenset[int] = frozenset()
    dropped: frozenset[int] = frozenset()

    @property
    def listed_px(self) -> NDArray[np.float64]:
        """(N, 2) y, x as in the template; NaN for images that were taken out."""
        images = np.arange(1, len(self.positions_px) + 1)
        is_out = np.isin(images, list(self.dropped))
        return np.where(is_out[:, None], np.nan, self.positions_px)

    @property
    def origin_px(self) -> tuple[int, int]:
        """Place (y, x) of canvas pixel 0 in the frame of the positions."""
        from opticstream_smk.mosaic import canvas_shape

        return canvas_shape(self.positions_px, self.tile_shape)[1]

    @property
    def canvas_px(self) -> tuple[int, int]:
        """Size (y, x) of the image that holds every tile of the grid."""
        from opticstream_smk.mosaic import canvas_shape

        return canvas_shape(self.positions_px, self.tile_shape)[0]

    def _corners(self, *, missing: bool = False) -> NDArray[np.int64]:
        """(N, 2) y, x of the first pixel on the canvas of each tile that is there, or is not."""
        from opticstream_smk.mosaic import tile_corners

        images = np.arange(1, len(self.positions_px) + 1)
        corners: NDArray[np.int64] = tile_corners(self.positions_px) - np.array(self.origin_px)
        chosen: NDArray[np.int64] = corners[np.isin(images, list(self.missing)) == missing]
        return chosen

    def _area(self, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
        rows, columns = self.tile_shape
        area = np.zeros(self.canvas_px, np.bool_)
        for y, x in corners:
            area[y : y + rows, x : x + columns] = True
        return area

    def coverage(self) -> NDArray[np.bool_]:
        """(y, x) canvas, True where any tile lies that is not missing."""
        return self._area(self._corners())

    def gaps(self) -> NDArray[np.bool_]:
        """(y, x) canvas, True where only missing tiles lie."""
        return self._area(self._corners(missing=True)) & ~self.coverage()

    def tile_borders(self) -> NDArray[np.bool_]:
        """(y, x) canvas, True on the outermost pixels of each tile."""
        rows, columns = self.tile_shape
        borders = np.zeros(self.canvas_px, np.bool_)
        for y, x in self._corners():
            borders[[y, y + rows - 1], x : x + columns] = True
            borders[y : y + rows, [x, x + columns - 1]] = True
        return borders


class TileFiles(Sequence[NDArray[np.float32]]):
    """The en-face maps of a mosaic as (y, x) images, each read when it is asked for.

    A missing tile is NaN everywhere: it lies where the lattice has it and has no weight. Where
    `needs_values`, one that is there and is NaN everywhere is an error.
    """

    def __init__(
        self,
        layout: ProjectLayout,
        mosaic: int,
        modality: str,
        tile_shape: tuple[int, int],
        count: int,
        missing: Collection[int] = (),
        *,
        needs_values: bool = False,
    ) -> None:
        self._layout = layout
        self._needs_values = needs_values
        self._mosaic = mosaic
        self._modality = modality
        self.tile_shape = tile_shape
        self._count = count
        self._missing = frozenset(missing)

    @property
    def paths(self) -> list[Path]:
        """Files of the tiles that are there."""
        return [self.path(i) for i in range(self._count) if i + 1 not in self._missing]

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
        if index + 1 in self._missing:
            return np.full(self.tile_shape, np.nan, np.float32)
        path = self.path(index)
        image = np.asarray(nifti.read_image(path, shape_yx=self.tile_shape), np.float32)
        if self._needs_values and not np.isfinite(image).any():
            raise QualityError(
                f"{path} has no finite value; it had when its tile was processed. Restore it, or "
                "remove it and run `optic-trigger doctor --fix`, which has it made again."
            )
        return image


def tile_count(images: Iterable[int], missing: Collection[int]) -> TileCount:
    """Tiles of a mosaic as its flags record them."""
    done = tuple(image for image in images if image not in missing)
    return TileCount(done=done, missing=tuple(sorted(missing)))


def write_tilemap(config: Config, path: Path, tilemap: Tilemap) -> None:
    """Write a template: that of an acquisition, or of one mosaic."""
    from opticstream_smk.mosaic import TileEntry, write_template

    tiles = [
        TileEntry(
            filepath=f"{{{{ mosaic_id_str }}}}_image_{image:04d}_{{{{ modality }}}}.nii",
            tile_number=image,
            x=round(float(x), 3),
            y=round(float(y), 3),
            avg_signal=round(float(signal), 3),
            is_anchored=bool(anchored),
        )
        for image, ((y, x), signal, anchored) in enumerate(
            zip(tilemap.positions_px, tilemap.avg_signal, tilemap.is_anchored, strict=True),
            start=1,
        )
        if image not in tilemap.dropped
    ]
    overlap = config.acquisition.tile_overlap_percent / 100
    write_template(path, tiles, tile_overlap=overlap, dropped=sorted(tilemap.dropped))


def read_tilemap(
    config: Config,
    layout: ProjectLayout,
    acquisition: str,
    missing: Collection[int] = (),
    *,
    own_of: int | None = None,
) -> Tilemap:
    """Read the template of an acquisition, or of one mosaic of it.

    Parameters
    ----------
    missing
        Images that the mosaic lacks which is looked at.
    own_of
        Mosaic whose own template is read.

    Raises
    ------
    IncompleteInputError
        There is none.
    CorruptInputError
        Edited into something that is no template, or made for another grid.
    """
    from opticstream_smk.mosaic import parse_tile_info, render_template

    path = layout.template(acquisition) if own_of is None else layout.mosaic_template(own_of)
    text = render_template(
        path, base_dir=layout.root, mosaic_id_str=naming.mosaic_stem(1), modality="aip"
    )
    info = parse_tile_info(text, source=str(path))
    expected = range(1, len(cells(config, acquisition)) + 1)
    tile_of = {tile.tile_number: tile for tile in info.tiles}
    if {*tile_of, *info.dropped} != set(expected):
        raise CorruptInputError(
            f"{path} lists {len(tile_of)} tiles and {len(info.dropped)} that were dropped, the "
            f"grid of a {acquisition} mosaic has {len(expected)}; it was made for another grid, or "
            "tiles were taken out by hand (`optic-trigger edit-tiles` notes them). Correct it, or "
            "delete it and run `optic-trigger doctor --fix`, then snakemake: the coordinates are "
            "solved again."
        )
    # A dropped tile lies with another one, so that the canvas has no room for it.
    tiles = [tile_of.get(image, info.tiles[0]) for image in expected]
    positions = np.array([(tile.y, tile.x) for tile in tiles])
    is_listed = np.array([image in tile_of for image in expected])
    _refuse_other_steps(config, acquisition, path, positions, is_listed)
    scan = config.acquisition
    return Tilemap(
        positions_px=positions,
        is_anchored=np.array([tile.is_anchored for tile in tiles]),
        tile_shape=(scan.tile_size_y, scan.alines(acquisition)),
        avg_signal=np.array([tile.avg_signal for tile in tiles]),
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        missing=frozenset((*missing, *info.dropped)),
        dropped=frozenset(info.dropped),
    )


def _refuse_other_steps(
    config: Config,
    acquisition: str,
    path: Path,
    positions_px: NDArray[np.float64],
    is_listed: NDArray[np.bool_],
) -> None:
    """A template whose neighbours lie elsewhere is for another grid, although it has as many tiles.

    Raises
    ------
    CorruptInputError
        Half of the neighbours along rows or columns are off by more than 10 % of a tile; stages
        keep their step to a few percent, and a tile that was moved by hand is one of many.
    """
    from opticstream_smk.mosaic import nominal_positions

    scan = config.acquisition
    grid = cells(config, acquisition)
    shape = (scan.tile_size_y, scan.alines(acquisition))
    off_px = positions_px - nominal_positions(grid, shape, scan.tile_overlap_percent)
    tile_at = {tuple(cell): tile for tile, cell in enumerate(grid.tolist()) if is_listed[tile]}
    for name, (down, right) in (("rows", (1, 0)), ("columns", (0, 1))):
        pairs = np.array(
            [
                (tile, tile_at[row + down, column + right])
                for (row, column), tile in tile_at.items()
                if (row + down, column + right) in tile_at
            ]
        )
        if not len(pairs):
            continue
        error = np.median(np.abs(off_px[pairs[:, 1]] - off_px[pairs[:, 0]]), axis=0)
        if (error > 0.1 * np.array(shape)).any():
            raise CorruptInputError(
                f"{path}: neighbouring {name} of tiles are {error[0]:.0f} px (y) and "
                f"{error[1]:.0f} px (x) from where they should be in a grid of "
                f"{scan.columns(acquisition)} x {scan.rows(acquisition)} tiles of {shape[1]} x "
                f"{shape[0]} px that overlap by {scan.tile_overlap_percent:g} %, {scan.grid_type}, "
                f"{scan.grid_order}; it was made for another grid. Correct acquisition, or delete "
                "the template and run `optic-trigger doctor --fix`, then snakemake: the "
                "coordinates are solved again."
            )


def solved_tilemap(plan: Plan, mosaic: int, missing: Collection[int]) -> Tilemap:
    """Where the tiles of a mosaic lie, as its ``.coordinates`` says.

    Raises
    ------
    IncompleteInputError
        There are no coordinates, or no template.
    CorruptInputError
        Template or flag cannot be used.
    """
    path = plan.layout.mosaic_flag(mosaic, "coordinates")
    flag = read_flag(path)
    if flag is None:
        raise IncompleteInputError(
            f"{path} is not there; run `optic-stage solve_coordinates --mosaic {mosaic}`, or have "
            "snakemake do it"
        )
    return _tilemap_of(plan, mosaic, flag, missing)


def stitched_tilemap(plan: Plan, mosaic: int) -> Tilemap:
    """Where the tiles lie that a stitched mosaic was made from.

    Raises
    ------
    IncompleteInputError
        There is no template.
    CorruptInputError
        Template or flag cannot be used.
    """
    stitched = read_flag(plan.layout.mosaic_flag(mosaic, "stitched"))
    return _tilemap_of(plan, mosaic, stitched, stitched.tiles.missing if stitched else ())


def _tilemap_of(plan: Plan, mosaic: int, flag: Flag | None, missing: Collection[int]) -> Tilemap:
    """The template that a flag names; the acquisition's where it names none."""
    own = plan.layout.relative(plan.layout.mosaic_template(mosaic))
    is_own = flag is not None and flag.extra.get("template") == own
    return read_tilemap(
        plan.config,
        plan.layout,
        plan.acquisition(mosaic),
        missing,
        own_of=mosaic if is_own else None,
    )


def cells(config: Config, acquisition: str) -> NDArray[np.int64]:
    """(N, 2) row and column of each tile, in order of acquisition."""
    from opticstream_smk.mosaic import snake_order

    scan = config.acquisition
    return np.asarray(
        snake_order(
            scan.rows(acquisition),
            scan.columns(acquisition),
            grid_type=scan.grid_type,
            order=scan.grid_order,
        ),
        np.int64,
    )
