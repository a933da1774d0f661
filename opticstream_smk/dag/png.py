"""Paint a drawing as a PNG."""

import io
import math
from itertools import pairwise

from PIL import Image, ImageDraw

from opticstream_smk.dag.drawing import CORNER_PX, Box, Drawing, Line, Rect, Text, arrow_head, font
from opticstream_smk.dag.style import BACKGROUND, EDGE, STYLES, Points

# Sharp on screens with two pixels per px, and in print.
SCALE = 2
# Pillow draws lines without smoothing: shapes are painted larger and averaged down, unless the
# picture is so large that the memory matters more (three bytes per pixel).
SMOOTHING = 2
SMOOTHED_PIXELS_MAX = 80_000_000
EDGE_PX, ICON_LINE_PX = 1.3, 2.0


def draw_png(drawing: Drawing) -> bytes:
    """The PNG file, `SCALE` pixels per px of the drawing."""
    area = drawing.width * drawing.height * (SCALE * SMOOTHING) ** 2
    smoothing = SMOOTHING if area <= SMOOTHED_PIXELS_MAX else 1
    brush = _Brush(drawing, SCALE * smoothing)
    for panel in drawing.panels:
        brush.panel(panel.rect, panel.fill, panel.border)
    for line in drawing.lines:
        brush.line(line)
    for box in drawing.boxes:
        brush.box(box)
    image = brush.image.reduce(smoothing) if smoothing > 1 else brush.image
    pen = ImageDraw.Draw(image)
    for text in (*drawing.texts, *(text for box in drawing.boxes for text in box.texts)):
        _write(pen, text)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _write(pen: ImageDraw.ImageDraw, text: Text) -> None:
    place = (text.x * SCALE, text.y * SCALE)
    pen.text(place, text.text, text.colour, font(text.size_px * SCALE), anchor="ls")


class _Brush:
    """Paints shapes that are given in px on an image that is ``scale`` times as large."""

    def __init__(self, drawing: Drawing, scale: int) -> None:
        size = (drawing.width * scale, drawing.height * scale)
        self.scale = scale
        self.image = Image.new("RGB", size, BACKGROUND)
        self.pen = ImageDraw.Draw(self.image)

    def panel(self, rect: Rect, fill: str, border: str) -> None:
        self._area(rect, CORNER_PX, fill)
        self._stroke(_outline(rect, CORNER_PX), border, 1.0)

    def line(self, line: Line) -> None:
        points = line.points
        for dash in _dashes(points, (4.0, 3.0)) if line.is_loose else [points]:
            self._stroke(dash, EDGE, EDGE_PX)
        if line.has_arrow:
            self.pen.polygon(self._scaled(arrow_head(points[-2], points[-1])), fill=EDGE)

    def box(self, box: Box) -> None:
        style = STYLES[box.state]
        self._area(box.rect, CORNER_PX, style.fill)
        outline = _outline(box.rect, CORNER_PX)
        for dash in _dashes(outline, style.dashes) if style.dashes else [outline]:
            self._stroke(dash, style.border, style.border_px)
        if style.is_double:
            inner = _outline(box.inner_border, CORNER_PX / 2)
            self._stroke(inner, style.border, style.border_px)
        for points, is_filled in box.icon_strokes(style):
            if is_filled:
                self.pen.polygon(self._scaled(points), fill=style.border)
            else:
                self._stroke(points, style.border, ICON_LINE_PX)

    def _area(self, rect: Rect, corner: float, fill: str) -> None:
        self.pen.polygon(self._scaled(_outline(rect, corner)), fill=fill)

    def _stroke(self, points: Points, colour: str, width: float) -> None:
        pixels = max(1, round(width * self.scale))
        self.pen.line(self._scaled(points), fill=colour, width=pixels, joint="curve")

    def _scaled(self, points: Points) -> list[tuple[float, float]]:
        return [(x * self.scale, y * self.scale) for x, y in points]


def _outline(rect: Rect, corner: float) -> Points:
    """The border of a rectangle with round corners, clockwise and closed."""
    pieces = 6
    points = []
    centres = (
        (rect.right - corner, rect.y + corner),
        (rect.right - corner, rect.bottom - corner),
        (rect.x + corner, rect.bottom - corner),
        (rect.x + corner, rect.y + corner),
    )
    for quarter, (x, y) in enumerate(centres):
        for i in range(pieces + 1):
            angle = math.pi / 2 * (quarter - 1 + i / pieces)
            points.append((x + corner * math.cos(angle), y + corner * math.sin(angle)))
    return (*points, points[0])


def _dashes(points: Points, pattern: tuple[float, ...]) -> list[Points]:
    """Cut a line into dashes; ``pattern`` is the length of a dash and of a gap."""
    dash, gap = pattern
    pieces: list[Points] = []
    current: list[tuple[float, float]] = [points[0]]
    is_on, left = True, dash
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        position = 0.0
        while length - position > left:
            position += left
            t = position / length
            corner = (x0 + (x1 - x0) * t, y0 + (y1 - y0) * t)
            if is_on:
                pieces.append((*current, corner))
            is_on = not is_on
            left = dash if is_on else gap
            current = [corner]
        left -= length - position
        if is_on:
            current.append((x1, y1))
    if is_on and len(current) > 1:
        pieces.append(tuple(current))
    return pieces
