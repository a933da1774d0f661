"""One sheet that shows all tiles of a batch."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from opticstream_smk.errors import IncompleteInputError
from opticstream_smk.io.pictures import orientation_to_rgb
from opticstream_smk.qc.sheet import Panel
from opticstream_smk.qc.tile_numbers import NUMBERS, NumberLimits
from opticstream_smk.qc.tiles import (
    BSCAN_SIZE,
    CLOSE_SIZE,
    DOUBTFUL_COLOUR,
    MAPS,
    NOT_FINITE_COLOUR,
    SURFACE_COLOUR,
    WINDOW_COLOUR,
    TilePictures,
)

Colour = tuple[int, int, int]

_MARGIN = 16
_CAPTION = 22
_NUMBERS_WIDTH = 282
_MAP_PX = 160
_MAP_COLUMNS = 3
_MAP_ROWS = -(-len(MAPS) // _MAP_COLUMNS)
_MAPS_WIDTH = _MAP_COLUMNS * (_MAP_PX + _MARGIN) - _MARGIN
_ROW_HEIGHT = max(_CAPTION + BSCAN_SIZE[1], _MAP_ROWS * (_CAPTION + _MAP_PX)) + _MARGIN
_WHEEL_PX = 96
_HEADER = 196
SHEET_WIDTH = 6 * _MARGIN + _NUMBERS_WIDTH + 2 * BSCAN_SIZE[0] + CLOSE_SIZE[0] + _MAPS_WIDTH

_INK: Colour = (20, 20, 20)
_FAINT: Colour = (120, 120, 120)
_RULE: Colour = (200, 200, 200)
_ALARM: Colour = (200, 0, 0)
_ALARM_GROUND: Colour = (255, 236, 232)
_BSCAN_GROUND: Colour = (60, 60, 60)

# Label, factor to what is shown, format.
_SHOWN = {
    "snr_db": ("SNR", 1.0, "{:.1f} dB"),
    "surface_coverage": ("surface", 100.0, "{:.0f} %"),
    "saturation_share": ("saturated", 100.0, "{:.3g} %"),
    "nan_share": ("not finite", 100.0, "{:.3g} %"),
    "phase_noise_deg": ("phase noise", 1.0, "{:.0f} deg"),
}


def batch_contact_sheet(
    tiles: Sequence[TilePictures], title: str, *, limits: NumberLimits | None = None
) -> NDArray[np.uint8]:
    """Arrange the tiles of a batch below each other, with a legend on top.

    Parameters
    ----------
    tiles
        From :func:`~opticstream_smk.qc.tiles.tile_panels`, in the order of the rows.
    title
        First line of the sheet.
    limits
        Numbers beyond are red, with a triangle that points up (too high) or down (too low) and
        the limit; their row has a red bar and ground. The defaults of ``NumberLimits`` if None.

    Returns
    -------
    (y, x, 3) uint8
        ``SHEET_WIDTH`` wide (under 2400 px); some 380 px high per tile.

    Raises
    ------
    IncompleteInputError
        There is no tile.
    """
    if not tiles:
        raise IncompleteInputError(
            f"{title}: no tile to show; expected at least one. Process the batch first"
        )
    limits = NumberLimits() if limits is None else limits
    sheet = Image.new("RGB", (SHEET_WIDTH, _HEADER + len(tiles) * (_ROW_HEIGHT + 1)), "white")
    outliers = [limits.outliers(tile.numbers) for tile in tiles]
    _draw_header(sheet, title, sum(bool(found) for found in outliers), len(tiles))
    for row, (tile, found) in enumerate(zip(tiles, outliers, strict=True)):
        _draw_tile(sheet, _HEADER + row * (_ROW_HEIGHT + 1), tile, found, limits)
    pixels: NDArray[np.uint8] = np.asarray(sheet)
    return pixels


def orientation_wheel(size_px: int) -> NDArray[np.uint8]:
    """Ring in the colours of ``orientation_to_rgb``.

    The colour at an angle is that of the optic axis that lies along it: 0 degrees to the right,
    90 up, as angles are counted on paper. Opposite points have one colour, because the angle is
    axial: the hue goes once round in 180 degrees.

    Returns
    -------
    (size_px, size_px, 3) uint8
        On white ground.
    """
    centre = (size_px - 1) / 2
    row, column = np.indices((size_px, size_px)) - centre
    radius = np.hypot(row, column) / max(centre, 0.5)
    ring = (radius <= 1) & (radius >= 0.45)
    degrees = 90 - (90 - np.rad2deg(np.arctan2(-row, column))) % 180
    wheel = orientation_to_rgb(degrees, ring)
    return np.where(ring[..., None], wheel, np.uint8(255))


def _draw_header(sheet: Image.Image, title: str, outlying: int, tiles: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 12), title, fill=_INK, font=_font(28))
    verdict = (
        f"{outlying} of {tiles} tiles with a number beyond its limit"
        if outlying
        else f"all numbers of {tiles} tiles within their limits"
    )
    left = SHEET_WIDTH - _MARGIN - draw.textlength(verdict, font=_font(22))
    draw.text((left, 16), verdict, fill=_ALARM if outlying else _INK, font=_font(22))
    if outlying:
        _draw_triangle(draw, left - 26, 18, 20, up=True)
    _draw_line_legend(draw, _MARGIN + _NUMBERS_WIDTH + _MARGIN)
    _draw_number_legend(draw, _MARGIN)
    _draw_wheel(sheet, SHEET_WIDTH - _MARGIN - _MAPS_WIDTH)


def _draw_number_legend(draw: ImageDraw.ImageDraw, left: int) -> None:
    lines = ("numbers of the tile;", "beyond its limit: red, with", "     too high      too low")
    for index, line in enumerate(lines):
        draw.text((left, 64 + 26 * index), line, fill=_INK, font=_font(17))
    _draw_triangle(draw, left, 119, 14, up=True)
    _draw_triangle(draw, left + 92, 119, 14, up=False)


def _draw_line_legend(draw: ImageDraw.ImageDraw, left: int) -> None:
    draw.text(
        (left, 64),
        "intensity (dBI) through the middle of the tile, depth downwards, its index at the left; "
        "lines lie just outside what they bound",
        fill=_INK,
        font=_font(17),
    )
    entries = (
        (SURFACE_COLOUR, False, "surface, credible: bright below, dark above, smooth"),
        (DOUBTFUL_COLOUR, False, "surface, not credible: no rise of intensity, or it jumps"),
        (WINDOW_COLOUR, True, "end of the en-face window (where the surface is credible)"),
        (NOT_FINITE_COLOUR, False, "value that is not finite (NaN)"),
    )
    for index, (colour, dashed, text) in enumerate(entries):
        x, y = left + (index % 2) * (BSCAN_SIZE[0] + _MARGIN), 96 + 32 * (index // 2)
        # On the grey of a B-scan, because cyan and yellow vanish on white.
        draw.rectangle((x, y, x + 52, y + 21), fill=_BSCAN_GROUND)
        for start in range(4, 50, 16) if dashed else (4,):
            draw.rectangle(
                (x + start, y + 9, x + start + (8 if dashed else 44), y + 11), fill=colour
            )
        draw.text((x + 62, y), text, fill=_INK, font=_font(17))


def _draw_wheel(sheet: Image.Image, left: int) -> None:
    draw = ImageDraw.Draw(sheet)
    x, y = left + 34, 72
    sheet.paste(Image.fromarray(orientation_wheel(_WHEEL_PX)), (x, y))
    middle = _WHEEL_PX // 2
    for place, anchor, text in (
        ((x + _WHEEL_PX + 5, y + middle), "lm", "0"),
        ((x - 5, y + middle), "rm", "0"),
        ((x + middle, y - 3), "mb", "90"),
        ((x + middle, y + _WHEEL_PX + 3), "mt", "90"),
        ((x + _WHEEL_PX - 10, y + 8), "lb", "45"),
        ((x + 10, y + 8), "rb", "-45"),
    ):
        draw.text(place, text, fill=_INK, font=_font(15), anchor=anchor)
    lines = (
        "ori: colour = optic axis, degrees;",
        "hue goes once round in 180",
        "surf: depth index of the surface,",
        "red where it jumps (no tissue)",
        "captions: values of black and white",
    )
    for index, line in enumerate(lines):
        draw.text((x + _WHEEL_PX + 40, 64 + 22 * index), line, fill=_INK, font=_font(16))


def _draw_tile(
    sheet: Image.Image,
    top: int,
    tile: TilePictures,
    outliers: Mapping[str, str],
    limits: NumberLimits,
) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.line((0, top, SHEET_WIDTH, top), fill=_RULE)
    if outliers:
        right = _MARGIN + _NUMBERS_WIDTH
        draw.rectangle((0, top + 1, right, top + _ROW_HEIGHT), fill=_ALARM_GROUND)
        draw.rectangle((0, top + 1, 7, top + _ROW_HEIGHT), fill=_ALARM)
    draw.text((_MARGIN, top + 12), tile.name, fill=_INK, font=_font(24))
    for index, name in enumerate(NUMBERS):
        _draw_number(draw, top + 58 + 52 * index, name, tile.numbers, outliers, limits)
    left = 2 * _MARGIN + _NUMBERS_WIDTH
    for panel in tile.bscans:
        height, width = panel.pixels.shape[:2]
        _paste(sheet, (left, top), panel, (width, height))
        left += width + _MARGIN
    for index, panel in enumerate(tile.maps):
        row, column = divmod(index, _MAP_COLUMNS)
        place = (left + column * (_MAP_PX + _MARGIN), top + row * (_CAPTION + _MAP_PX))
        _paste(sheet, place, panel, (_MAP_PX, _MAP_PX))


def _draw_number(
    draw: ImageDraw.ImageDraw,
    top: int,
    name: str,
    numbers: Mapping[str, float],
    outliers: Mapping[str, str],
    limits: NumberLimits,
) -> None:
    label, factor, form = _SHOWN[name]
    draw.text((_MARGIN, top), label, fill=_INK, font=_font(19))
    left = _MARGIN + 136
    if name not in numbers:
        draw.text((left, top), "not measured", fill=_FAINT, font=_font(17))
        return
    text, side = form.format(numbers[name] * factor), outliers.get(name)
    draw.text((left, top), text, fill=_ALARM if side else _INK, font=_font(21 if side else 19))
    if side:
        low, high = limits.bounds(name)
        bound = f"at least {form.format(low * factor)}"
        if side == "high":
            bound = f"at most {form.format(high * factor)}"
        draw.text((left, top + 25), bound, fill=_ALARM, font=_font(15))
        _draw_triangle(draw, left - 24, top + 4, 16, up=side == "high")


def _draw_triangle(
    draw: ImageDraw.ImageDraw, left: float, top: float, size: int, *, up: bool
) -> None:
    """A triangle, because Pillow's own font has none."""
    base, tip = (top + size, top) if up else (top, top + size)
    draw.polygon([(left, base), (left + size, base), (left + size / 2, tip)], fill=_ALARM)


def _paste(sheet: Image.Image, place: tuple[int, int], panel: Panel, size: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(sheet)
    caption = _shortened(draw, panel.caption, size[0])
    draw.text((place[0], place[1] + 4), caption, fill=_INK, font=_font(15))
    picture = Image.fromarray(np.ascontiguousarray(panel.pixels)).convert("RGB")
    scale = min(size[0] / picture.width, size[1] / picture.height)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Enlarged pixels stay visible as pixels; reduced ones are averaged.
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    sheet.paste(picture.resize(fitted, how), (place[0], place[1] + _CAPTION))


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    while len(text) > 1 and draw.textlength(text, font=_font(15)) > width:
        text = text[:-1]
    return text


@lru_cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
