"""A sheet of captioned panels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PANEL_PX = 520
_MARGIN = 16
_CAPTION = 30
_INK = (20, 20, 20)


@dataclass(frozen=True)
class Panel:
    """One picture: (y, x) grey or (y, x, 3) RGB uint8, and what it shows."""

    caption: str
    pixels: NDArray[np.uint8]


def compose(title: str, panels: Sequence[Panel], *, columns: int = 3) -> NDArray[np.uint8]:
    """Arrange panels in rows under a title.

    Returns
    -------
    (y, x, 3) uint8
        White ground; each panel is scaled to fit a square of ``PANEL_PX``, sides kept in
        proportion.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    pictures = [_fitted(panel.pixels) for panel in panels]
    tallest = [
        max(picture.height for picture in pictures[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    width = _MARGIN + columns * (PANEL_PX + _MARGIN)
    header = 2 * _MARGIN + 28
    height = header + sum(tallest) + rows * (_CAPTION + _MARGIN)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=ImageFont.load_default(26))
    caption_font = ImageFont.load_default(17)
    top = header
    for row in range(rows):
        for column in range(columns):
            index = row * columns + column
            if index >= len(panels):
                break
            left = _MARGIN + column * (PANEL_PX + _MARGIN)
            draw.text((left, top + 4), panels[index].caption, fill=_INK, font=caption_font)
            sheet.paste(pictures[index], (left, top + _CAPTION))
        top += tallest[row] + _CAPTION + _MARGIN
    result: NDArray[np.uint8] = np.asarray(sheet)
    return result


def _fitted(pixels: NDArray[Any]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    scale = PANEL_PX / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Enlarged pixels stay visible as pixels; reduced ones are averaged.
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    return picture.resize(size, how)


def outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a region that touch its outside."""
    inside = np.pad(region, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    edge: NDArray[np.bool_] = region & ~core
    return edge


def painted(
    pixels: NDArray[np.uint8], where: NDArray[np.bool_], colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """A grey or RGB picture with some pixels in one colour."""
    rgb = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels.copy()
    rgb[where] = colour
    return rgb
