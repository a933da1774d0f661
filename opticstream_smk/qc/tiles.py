"""Pictures of one tile: its surface on intensity B-scans, and its en-face maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from opticstream_smk import naming
from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io.pictures import orientation_to_rgb, window_to_uint8
from opticstream_smk.qc.sheet import PANEL_PX, Panel, painted
from opticstream_smk.qc.tile_numbers import (
    as_map,
    credible_surface,
    smooth_surface,
    usable_surface,
)

# As wide as a panel of a sheet, so that no scaling thins the lines drawn on it.
BSCAN_SIZE = (PANEL_PX, 330)
CLOSE_SIZE = (440, 330)
# Depth samples above the surface and below the window that the closer look shows.
_CLOSE_MARGIN_PX = 60

SURFACE_COLOUR = (0, 235, 255)
DOUBTFUL_COLOUR = (255, 70, 70)
WINDOW_COLOUR = (255, 200, 0)
NOT_FINITE_COLOUR = (255, 0, 255)

MAPS = ("aip", "mip", "surf", "ret", "ori", "biref")

_LINE_PX = 2
_DASH_PX = 8
# The brightest 0.3 % are reflections; below the median of a B-scan is noise.
_BSCAN_PERCENTILES = (20.0, 99.7)
_MAP_PERCENTILES = (1.0, 99.0)
# The few A-lines beside the tissue that agree by chance lie anywhere, and would set the scale.
_SURFACE_PERCENTILES = (5.0, 95.0)
_RANGE = {
    "aip": "{:.0f} to {:.0f} dB",
    "mip": "{:.0f} to {:.0f} dB",
    "ret": "{:.0f} to {:.0f} deg",
    "biref": "{:.0e} to {:.0e}",
    "surf": "{:.0f} to {:.0f}",
}


@dataclass(frozen=True)
class TilePictures:
    """What a contact sheet shows of one tile.

    Attributes
    ----------
    name
        Short name, such as ``image 0003``.
    bscans
        Intensity along x and along y, each ``BSCAN_SIZE``, and the first again, of
        ``CLOSE_SIZE``, with only the depths about the surface and the window.
    maps
        En-face maps that the tile has, in the order of ``MAPS``, one pixel per A-line.
    numbers
        From :func:`~opticstream_smk.qc.tile_numbers.measure_tile`.
    """

    name: str
    bscans: tuple[Panel, ...]
    maps: tuple[Panel, ...]
    numbers: Mapping[str, float]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All pictures, for :func:`~opticstream_smk.qc.sheet.compose`."""
        return self.bscans + self.maps


def tile_panels(
    name: str,
    products: Mapping[str, NDArray[Any]],
    numbers: Mapping[str, float],
    *,
    offset_px: int = 0,
    depth_px: int = 80,
) -> TilePictures:
    """Draw one tile.

    Parameters
    ----------
    name
        Short name of the tile.
    products : mapping of arrays
        By modality: ``dBI`` (X, Y, Z) and ``surf`` (X, Y), 1-based, are needed; of the other
        en-face maps, those that are there are drawn.
    numbers
        Shown beside the pictures.
    offset_px, depth_px
        The en-face window: from ``surf + offset_px`` on, ``depth_px + 1`` samples.

    Returns
    -------
    TilePictures
        B-scans show the whole depth, stretched to one size; a third picture looks closer at the
        first of them, where one sample of error can be seen. The surface is drawn on the sample
        above it, the end of the window on the one after its last, so that neither hides what
        it bounds. Values that are not finite are magenta.

    Raises
    ------
    CorruptInputError
        A needed product is missing, or a shape does not belong to the tile.

    Notes
    -----
    Of dBI, the B-line and the A-lines through the middle are read. Files have A-lines first, so
    the second one touches all pages of the file, though it keeps only its own samples.
    """
    _require_shapes(products)
    dbi, surf = products["dBI"], as_map(products["surf"])
    alines, blines, depth = dbi.shape
    smooth = smooth_surface(surf)
    surface = usable_surface(surf, depth)
    x, y = alines // 2, blines // 2
    cuts = (
        (f"along x, B-line {y + 1} of {blines}", dbi[:, y, :], surface[:, y], smooth[:, y]),
        (f"along y, A-line {x + 1} of {alines}", dbi[x, :, :], surface[x], smooth[x]),
    )
    panels, bscans = [], []
    for where, values, top, near in cuts:
        lines = np.ascontiguousarray(values)
        first = np.clip(top - 1 + offset_px, 0, depth - 1)
        end = np.minimum(first + depth_px + 1, depth)
        bscan = _BScan(lines, top - 1, end, credible_surface(lines, top, near))
        caption = f"{where}: surface {bscan.middle(top):.0f}, window to {bscan.middle(end):.0f}"
        panels.append(Panel(caption, bscan.draw((0, depth), BSCAN_SIZE)))
        bscans.append(bscan)
    upper, lower = bscans[0].depths()
    caption = f"along x, closer: depth {upper + 1} to {lower}"
    panels.append(Panel(caption, bscans[0].draw((upper, lower), CLOSE_SIZE)))
    maps = tuple(
        _map_panel(modality, as_map(products[modality]), smooth)
        for modality in MAPS
        if modality in products
    )
    return TilePictures(name, tuple(panels), maps, numbers)


def _require_shapes(products: Mapping[str, NDArray[Any]]) -> None:
    missing = [name for name in ("dBI", "surf") if name not in products]
    if missing:
        raise CorruptInputError(
            f"tile without {', '.join(missing)}; expected dBI and surf. Process the tile again"
        )
    shape = products["dBI"].shape
    if len(shape) != 3 or 0 in shape:
        raise CorruptInputError(f"dBI has shape {shape}; expected (X, Y, Z). Process it again")
    for name in MAPS:
        if name in products and as_map(products[name]).shape != shape[:2]:
            raise CorruptInputError(
                f"{name} has shape {products[name].shape}; expected {shape[:2]}, one value per "
                "A-line of dBI. Take both from one tile"
            )


@dataclass(frozen=True, eq=False)
class _BScan:
    """A-lines (A, Z) of dBI with 0-based surface, end of the window (exclusive) and belief."""

    lines: NDArray[Any]
    surface: NDArray[np.intp]
    end: NDArray[np.intp]
    credible: NDArray[np.bool_]

    def middle(self, values: NDArray[np.intp]) -> float:
        """Median over the A-lines whose surface is credible, or over all when none is."""
        return float(np.median(values[self.credible] if self.credible.any() else values))

    def depths(self) -> tuple[int, int]:
        """First (0-based) and end of the depths of the closer look."""
        # A negative offset may end the window above the surface.
        upper, lower = sorted((int(self.middle(self.surface)), int(self.middle(self.end))))
        return max(upper - _CLOSE_MARGIN_PX, 0), min(lower + _CLOSE_MARGIN_PX, self.lines.shape[1])

    def draw(self, depths: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Picture (height, width, 3) of some depths, with its lines."""
        width, height = size
        upper, lower = depths
        scale = height / (lower - upper)
        picture = intensity_picture(self.lines[:, upper:lower], size)
        column = np.arange(width)
        shown = column * self.lines.shape[0] // width
        rows = np.arange(height)[:, None]
        surface = np.rint((self.surface[shown] - upper) * scale)
        # A surface at the first sample still has its line; one outside the picture has none.
        surface = np.where(surface >= 0, np.maximum(surface, _LINE_PX), surface)
        end = np.rint((self.end[shown] - upper) * scale)
        end = np.where(end <= height, np.minimum(end, height - _LINE_PX), end)
        believed = self.credible[shown]
        dash = column % (2 * _DASH_PX) < _DASH_PX
        below = (rows >= end) & (rows < end + _LINE_PX) & believed & dash
        above = (rows >= surface - _LINE_PX) & (rows < surface)
        picture = painted(picture, below, WINDOW_COLOUR)
        picture = painted(picture, above & believed, SURFACE_COLOUR)
        picture = painted(picture, above & ~believed, DOUBTFUL_COLOUR)
        return with_depths(picture, upper, lower)


def intensity_picture(lines: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Picture (height, width, 3) of dBI (A, Z), stretched to a size."""
    finite = np.isfinite(lines)
    values = np.where(finite, lines, lines[finite].min() if finite.any() else 0.0)
    # Means of dB, not every third sample: speckle shrinks, the edge of the tissue does not.
    scaled = Image.fromarray(np.ascontiguousarray(values.T, np.float32)).resize(
        size, Image.Resampling.BOX
    )
    hole = Image.fromarray(np.where(finite.T, 0, 255).astype(np.uint8)).resize(
        size, Image.Resampling.BOX
    )
    missing = np.asarray(hole) > 0
    grey = window_to_uint8(np.asarray(scaled), ~missing, _BSCAN_PERCENTILES)
    return painted(grey, missing, NOT_FINITE_COLOUR)


def with_depths(picture: NDArray[np.uint8], upper: int, lower: int) -> NDArray[np.uint8]:
    """Depth index written at the left edge, at a few round values."""
    steps = (10, 20, 50, 100, 200, 500, 1000, 2000)
    step = next((size for size in steps if (lower - upper) / size <= 6), lower)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13)
    for index in range((upper // step + 1) * step, lower, step):
        row = (index - upper) * picture.shape[0] // (lower - upper)
        draw.line((0, row, 5, row), fill="white", width=1)
        draw.text(
            (8, row),
            str(index),
            fill="white",
            font=font,
            anchor="lm",
            stroke_width=1,
            stroke_fill="black",
        )
    marked: NDArray[np.uint8] = np.asarray(image)
    return marked


def _map_panel(modality: str, values_xy: NDArray[Any], smooth_xy: NDArray[np.bool_]) -> Panel:
    # Pictures are (y, x).
    values, smooth = values_xy.T, smooth_xy.T
    finite = np.isfinite(values)
    if modality in naming.AXIAL_MODALITIES:
        caption, picture = modality, orientation_to_rgb(values, finite)
    else:
        # Where the surface jumps there is no tissue, and the maps are noise that would hide it.
        tissue = finite & smooth if (finite & smooth).any() else finite
        percentiles = _SURFACE_PERCENTILES if modality == "surf" else _MAP_PERCENTILES
        picture = window_to_uint8(values, finite, percentiles, reference=tissue)
        caption = f"{modality}: nothing finite"
        if finite.any():
            limits = np.percentile(values[tissue], percentiles)
            caption = f"{modality} {_RANGE[modality].format(*limits)}"
    if modality == "surf":
        picture = painted(picture, ~smooth, DOUBTFUL_COLOUR)
    return Panel(caption, painted(picture, ~finite, NOT_FINITE_COLOUR))
