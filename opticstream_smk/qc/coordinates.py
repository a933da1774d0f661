"""How well the tiles of a mosaic fit where they lie: every overlap, and the worst of them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.io.pictures import window_to_uint8, write_jpeg
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.qc.sheet import PANEL_PX, Panel, compose
from opticstream_smk.stages.edge_table import Edge, read_edges
from opticstream_smk.stages.tilemap import TileFiles, Tilemap, cells, stitched_tilemap
from opticstream_smk.state.flags import read_flag

_GROUND = (255, 255, 255)
_TILE, _LOOSE_TILE, _MISSING_TILE = (205, 210, 215), (150, 155, 160), (60, 60, 60)
_UNKNOWN, _REJECTED = (232, 234, 236), (200, 0, 200)
_GOOD, _FAIR, _BAD = (60, 180, 90), (250, 205, 60), (220, 40, 30)
# Overlaps whose offset is so far off are as red as any.
_WORST_PX = 2.0
# The reverse for the correlation.
_WORST_NCC, _BEST_NCC = 0.0, 0.8
_SHOWN_OVERLAPS = 3
# Cells of the maps: a tile and the gap to the next, px.
_CELL, _GAP = 5, 3


def write_coordinates_picture(config: Config, mosaic: int) -> None:
    """Write ``report/mosaic-01_coordinates.jpg``.

    What an earlier version stitched has no table of the overlaps: it has the checkerboard alone.

    Raises
    ------
    IncompleteInputError, CorruptInputError
        The template, the table or a tile's map cannot be read.
    """
    layout = project_layout(config)
    plan = Plan(config, layout)
    acquisition = plan.acquisition(mosaic)
    tilemap = stitched_tilemap(plan, mosaic)
    count = len(tilemap.positions_px)
    files = TileFiles(layout, mosaic, "aip", tilemap.tile_shape, count, tilemap.missing)
    grid = cells(config, acquisition)
    edges = read_edges(layout.mosaic_edges(mosaic))
    residual = [edge.residual_px(tilemap.positions_px) for edge in edges]
    window = config.mosaic.jpeg_window_percentiles
    panels = [
        Panel(
            "AIP, tiles in turn green and magenta; grey: they agree",
            _checkerboard(files, grid, tilemap, window),
        )
    ]
    if edges:
        panels += [
            Panel(
                f"offsets of the overlaps against the stitching, 0 to {_WORST_PX:g} px",
                _edge_map(edges, grid, tilemap, _residual_colours(residual)),
            ),
            Panel(
                f"correlation of the overlaps, {_BEST_NCC:g} to {_WORST_NCC:g}",
                _edge_map(edges, grid, tilemap, _ncc_colour),
            ),
        ]
    worst = sorted(
        (index for index, value in enumerate(residual) if np.isfinite(value)),
        key=lambda index: -residual[index],
    )
    for index in worst[:_SHOWN_OVERLAPS]:
        edge = edges[index]
        used = "" if edge.is_used else ", not used"
        panels.append(
            Panel(
                f"images {edge.image_a} and {edge.image_b}: {residual[index]:.2f} px off, "
                f"correlation {edge.ncc:.2f}{used}",
                _overlap(files, tilemap, edge, window),
            )
        )
    flag = read_flag(layout.mosaic_flag(mosaic, "coordinates"))
    told = str(flag.extra.get("positions", "")) if flag is not None else "overlaps not measured"
    title = f"{config.project.name}: mosaic {mosaic:03d}, {acquisition}; positions {told}"
    write_jpeg(layout.coordinates_picture(mosaic), compose(title, panels))


# -------------------------------------------------------------------------------- checkerboard
def _checkerboard(
    files: TileFiles, grid: NDArray[np.int64], tilemap: Tilemap, window: tuple[float, float]
) -> NDArray[np.uint8]:
    """The canvas, reduced: tiles of even cells in green, of odd ones in red and blue."""
    step = max(1, -(-max(tilemap.canvas_px) // (2 * PANEL_PX)))
    corners = np.rint((tilemap.positions_px - np.array(tilemap.origin_px)) / step).astype(int)
    size = [-(-side // step) + 1 for side in tilemap.canvas_px]
    layers = np.full((2, *size), np.nan, np.float32)
    for index in range(len(files)):
        if index + 1 in tilemap.missing:
            continue
        tile = files[index][::step, ::step]
        y, x = corners[index]
        layer = layers[int(grid[index].sum()) % 2]
        part = layer[y : y + tile.shape[0], x : x + tile.shape[1]]
        part[...] = tile[: part.shape[0], : part.shape[1]]
    green, magenta = _same_window(layers, window)
    # One colour where only tiles of one kind lie would hide what is there.
    green = np.where(np.isfinite(layers[0]), green, magenta)
    magenta = np.where(np.isfinite(layers[1]), magenta, green)
    return np.stack([magenta, green, magenta], axis=-1)


def _overlap(
    files: TileFiles, tilemap: Tilemap, edge: Edge, window: tuple[float, float]
) -> NDArray[np.uint8]:
    """Where two tiles overlap as stitched: image a in green, b in red and blue."""
    a, b = edge.image_a - 1, edge.image_b - 1
    corners = np.rint(tilemap.positions_px).astype(int)
    low = np.maximum(corners[a], corners[b])
    high = np.minimum(corners[a], corners[b]) + np.array(tilemap.tile_shape)
    parts = []
    for index in (a, b):
        (top, left), (bottom, right) = low - corners[index], high - corners[index]
        parts.append(files[index][top:bottom, left:right])
    green, magenta = _same_window(np.stack(parts), window)
    return np.stack([magenta, green, magenta], axis=-1)


def _same_window(
    layers: NDArray[np.float32], window: tuple[float, float]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both (y, x) layers with the same black and white, so that equal tissue is equally bright."""
    flat = layers.reshape(-1, layers.shape[-1])
    pixels = window_to_uint8(flat, np.isfinite(flat), window).reshape(layers.shape)
    return pixels[0], pixels[1]


# ---------------------------------------------------------------------------------------- maps
def _edge_map(
    edges: Sequence[Edge],
    grid: NDArray[np.int64],
    tilemap: Tilemap,
    colour_of: Callable[[int, Edge], tuple[int, int, int]],
) -> NDArray[np.uint8]:
    """The grid with a square for each tile and between neighbours the colour of their overlap."""
    pitch = _CELL + _GAP
    rows, columns = (grid.max(axis=0) + 1) * pitch - _GAP
    picture = np.full((rows, columns, 3), _GROUND, np.uint8)
    anchored = {image for edge in edges if edge.is_used for image in (edge.image_a, edge.image_b)}
    for image, (row, column) in enumerate(grid, start=1):
        y, x = row * pitch, column * pitch
        colour = _TILE if image in anchored else _LOOSE_TILE
        colour = _MISSING_TILE if image in tilemap.missing else colour
        picture[y : y + _CELL, x : x + _CELL] = colour
    for index, edge in enumerate(edges):
        first, second = grid[edge.image_a - 1], grid[edge.image_b - 1]
        (y, x), (dy, dx) = np.minimum(first, second) * pitch, np.abs(second - first)
        y, x = y + dy * _CELL, x + dx * _CELL
        height, width = (_GAP, _CELL) if dy else (_CELL, _GAP)
        picture[y : y + height, x : x + width] = colour_of(index, edge)
    return picture


def _residual_colours(residual: Sequence[float]) -> Callable[[int, Edge], tuple[int, int, int]]:
    def colour(index: int, edge: Edge) -> tuple[int, int, int]:
        if not edge.is_measured:
            return _UNKNOWN
        return _scale(residual[index] / _WORST_PX) if edge.is_used else _REJECTED

    return colour


def _ncc_colour(_index: int, edge: Edge) -> tuple[int, int, int]:
    if not edge.is_measured:
        return _UNKNOWN
    return _scale((_BEST_NCC - edge.ncc) / (_BEST_NCC - _WORST_NCC))


def _scale(badness: float) -> tuple[int, int, int]:
    """Green at 0, yellow in the middle, red from 1 on."""
    along = 2 * float(np.clip(badness, 0, 1))
    first, second = (_GOOD, _FAIR) if along <= 1 else (_FAIR, _BAD)
    share = along if along <= 1 else along - 1
    red, green, blue = (
        round(low + share * (high - low)) for low, high in zip(first, second, strict=True)
    )
    return red, green, blue
