"""The focus plane on intensity: neighbouring tiles in cross section, before and after the shift."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.io import nifti
from opticstream_smk.io.pictures import window_to_uint8, write_jpeg
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.qc.sheet import PANEL_PX, Panel, compose, painted
from opticstream_smk.qc.tiles import SURFACE_COLOUR, WINDOW_COLOUR, intensity_picture, with_depths
from opticstream_smk.stages.fit_focus import signal_threshold
from opticstream_smk.stages.tile_depth import is_surface_last
from opticstream_smk.stages.tilemap import TileFiles, Tilemap, read_tilemap
from opticstream_smk.state.flags import read_flag

_PLANE_COLOUR = (80, 230, 80)
_SIZE = (PANEL_PX, 330)
_LINE_PX, _DASH_PX = 2, 8
# Depth samples above and below the surfaces that are shown.
_MARGIN_PX = 40
# Tiles that are shifted by less of their size along an axis are no neighbours along it.
_LEAST_SHIFT = 0.1


@dataclass(frozen=True, eq=False)
class _Section:
    """What one tile shows in a cross section of the canvas.

    Attributes
    ----------
    columns
        (n,) place along the section, px from its beginning.
    lines
        (n, Z) dBI, from the top of the tile down.
    surface
        (n,) 0-based depth of the surface.
    plane
        (n,) focus plane.
    """

    columns: NDArray[np.int64]
    lines: NDArray[np.float32]
    surface: NDArray[np.float64]
    plane: NDArray[np.float64]


def write_focus_picture(config: Config, acquisition: str) -> None:
    """Write ``report/focus-normal.jpg``.

    Raises
    ------
    IncompleteInputError
        The plane is not fitted, or no two neighbours of the template mosaic are there.
    """
    layout = project_layout(config)
    plan = Plan(config, layout)
    fitted, mosaic = read_flag(layout.focus_flag(acquisition)), plan.template_mosaic(acquisition)
    if fitted is None or mosaic is None:
        raise IncompleteInputError(
            f"the focus plane of the {acquisition} mosaics is not fitted; run `optic-stage "
            f"fit_focus --acquisition {acquisition}` first"
        )
    missing = frozenset(fitted.tiles.missing)
    tilemap = read_tilemap(config, layout, acquisition, missing)
    plane = nifti.read_image(layout.focus_plane(acquisition), shape_yx=tilemap.tile_shape)
    sections = _Sections(plan, mosaic, tilemap, np.asarray(plane, np.float64))
    panels = []
    for axis, name in ((1, "x"), (0, "y")):
        pair = _neighbours(tilemap, axis, signal_threshold(config, acquisition))
        if pair is None:
            continue
        parts = [sections.of(tile, axis, pair) for tile in pair]
        images = f"images {pair[0] + 1} and {pair[1] + 1}"
        panels.append(Panel(f"along {name}, {images}, as found", _picture(parts, shifted=False)))
        panels.append(Panel(f"along {name}, shifted by the plane", _picture(parts, shifted=True)))
    everywhere = np.ones(plane.shape, np.bool_)
    span = f"0 to {float(plane.max()):.1f} px"
    panels.append(Panel(f"focus plane, {span}", window_to_uint8(plane, everywhere, (0.0, 100.0))))
    numbers = fitted.numbers
    title = (
        f"{config.project.name}: focus plane, {acquisition}, slice {plan.slice(mosaic):02d}; "
        f"surfaces differ by {numbers['before_px_rms']:.2f} px before, "
        f"{numbers['residual_px_rms']:.2f} after"
    )
    write_jpeg(layout.focus_picture(acquisition), compose(title, panels, columns=2))


def _neighbours(tilemap: Tilemap, axis: int, threshold: float) -> tuple[int, int] | None:
    """The two neighbours along an axis with the most signal, the first of them first."""
    positions, shape = tilemap.positions_px, np.array(tilemap.tile_shape)
    best, found = -np.inf, None
    there = [i for i in range(len(positions)) if i + 1 not in tilemap.missing]
    for first in there:
        for second in there:
            shift = (positions[second] - positions[first]) / shape
            beside = abs(shift[1 - axis]) < 0.5 and _LEAST_SHIFT <= shift[axis] < 1
            signal = min(tilemap.avg_signal[first], tilemap.avg_signal[second])
            if beside and signal >= threshold and signal > best:
                best, found = signal, (first, second)
    return found


class _Sections:
    """Cross sections of the tiles of a mosaic."""

    def __init__(
        self, plan: Plan, mosaic: int, tilemap: Tilemap, plane: NDArray[np.float64]
    ) -> None:
        self._plan, self._mosaic, self._tilemap, self._plane = plan, mosaic, tilemap, plane
        self._surface_last = is_surface_last(plan, mosaic)
        self._surfaces = TileFiles(
            plan.layout, mosaic, "surf", tilemap.tile_shape, len(tilemap.positions_px)
        )

    def of(self, tile: int, axis: int, pair: tuple[int, int]) -> _Section:
        """A tile along an axis, where both tiles of a pair overlap across it."""
        corners = np.rint(self._tilemap.positions_px[list(pair)]).astype(int)
        size, across = self._tilemap.tile_shape, 1 - axis
        first = int(corners[:, across].max())
        last = int(corners[:, across].min()) + size[across]
        corner = corners[pair.index(tile)]
        place = (first + last) // 2 - int(corner[across])
        # Files are (X, Y, Z).
        depth = self._plan.config.acquisition.depth_samples
        volume = nifti.read_array(
            self._plan.layout.processed_tile(self._mosaic, tile + 1, "dBI"),
            shape=(size[1], size[0], depth),
        )
        cut = volume[:, place] if axis == 1 else volume[place]
        lines = np.array(cut[:, ::-1] if self._surface_last else cut, np.float32)
        surface = np.take(self._surfaces[tile], place, axis=across).astype(np.float64)
        if self._surface_last:
            surface = depth + 1 - surface
        start = int(corner[axis] - corners[:, axis].min())
        plane = np.take(self._plane, place, axis=across)
        return _Section(np.arange(start, start + size[axis]), lines, surface - 1, plane)


def _picture(parts: list[_Section], *, shifted: bool) -> NDArray[np.uint8]:
    """Two tiles beside each other, cut in the middle of their overlap, with their lines."""
    first, second = parts
    width = int(second.columns[-1]) + 1
    seam = (int(second.columns[0]) + int(first.columns[-1]) + 1) // 2
    flat = np.concatenate([part.surface - part.plane for part in parts])
    level = float(np.nanmedian(flat))
    span = max(float(part.plane.max()) for part in parts)
    depth = first.lines.shape[1]
    upper = int(np.clip(level - _MARGIN_PX, 0, depth - 2))
    lower = int(np.clip(level + span + _MARGIN_PX, upper + 2, depth))
    canvas = np.full((width, lower - upper), np.nan, np.float32)
    for part, chosen in ((first, first.columns < seam), (second, second.columns >= seam)):
        shift = np.rint(part.plane[chosen]).astype(int) if shifted else np.zeros(1, int)
        wanted = np.arange(upper, lower) + shift[:, None] + np.zeros((chosen.sum(), 1), int)
        values = np.take_along_axis(part.lines[chosen], np.minimum(wanted, depth - 1), axis=1)
        canvas[part.columns[chosen]] = np.where(wanted < depth, values, np.nan)
    picture = intensity_picture(canvas, _SIZE)
    for part, colour in ((first, SURFACE_COLOUR), (second, WINDOW_COLOUR)):
        taken = part.plane if shifted else np.zeros_like(part.plane)
        dashed = level + part.plane - taken
        drawn = _line(part, dashed - upper, canvas.shape, dashes=True)
        picture = painted(picture, drawn, _PLANE_COLOUR)
        drawn = _line(part, part.surface - taken - upper, canvas.shape)
        picture = painted(picture, drawn, colour)
    return with_depths(picture, upper, lower)


def _line(
    part: _Section, depths: NDArray[np.float64], shape: tuple[int, ...], *, dashes: bool = False
) -> NDArray[np.bool_]:
    """Where the depths of a tile lie in the picture of a canvas (width, Z)."""
    width, height = _SIZE
    column = np.arange(width)
    place = column * shape[0] // width - int(part.columns[0])
    inside = (place >= 0) & (place < len(part.columns))
    row = depths[np.clip(place, 0, len(part.columns) - 1)] * height / shape[1]
    inside &= np.isfinite(row)
    if dashes:
        inside &= column % (2 * _DASH_PX) < _DASH_PX
    row = np.rint(np.where(inside, row, -10 * height)).astype(int)
    rows = np.arange(height)[:, None]
    line: NDArray[np.bool_] = (rows >= row - _LINE_PX) & (rows < row) & inside
    return line
