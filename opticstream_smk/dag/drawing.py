"""What a layout is made of: shapes with places, in px, x to the right and y down.

Both painters draw these and decide nothing.
"""

import math
from dataclasses import dataclass
from functools import cache

from PIL import ImageFont

from opticstream_smk.dag.graph import Node, State
from opticstream_smk.dag.style import Point, Points, StateStyle

CORNER_PX = 5.0
DOUBLE_BORDER_PX = 3.0
# The height of capitals of common sans-serif fonts is 0.7 of the size; half of it centres a line.
BASELINE_SHIFT = 0.35


@dataclass(frozen=True)
class Rect:
    """A rectangle; ``x, y`` is its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its lower side."""
        return self.y + self.height

    @property
    def middle(self) -> Point:
        """Its centre."""
        return self.x + self.width / 2, self.y + self.height / 2

    def inset(self, by: float) -> "Rect":
        """The rectangle whose sides lie ``by`` further inside."""
        return Rect(self.x + by, self.y + by, self.width - 2 * by, self.height - 2 * by)


@dataclass(frozen=True)
class Text:
    """One line; ``x`` is its left end, ``y`` its baseline, ``width`` what its font measures."""

    x: float
    y: float
    width: float
    text: str
    size_px: int
    colour: str


@dataclass(frozen=True)
class Box:
    """One job, or one entry of the legend (then without a node)."""

    rect: Rect
    state: State
    texts: tuple[Text, ...]
    icon: Point
    icon_px: float
    node: Node | None = None
    tooltip: str = ""

    @property
    def inner_border(self) -> Rect:
        """Where the second border of a state with two runs."""
        return self.rect.inset(DOUBLE_BORDER_PX)

    def icon_strokes(self, style: StateStyle) -> list[tuple[Points, bool]]:
        """The lines of the icon at their place, and whether they enclose a filled shape."""
        x0, y0 = self.icon
        half = self.icon_px / 2
        return [
            (tuple((x0 + half * x, y0 + half * y) for x, y in stroke.points), stroke.filled)
            for stroke in style.icon
        ]


@dataclass(frozen=True)
class Panel:
    """The background of a slice or a mosaic."""

    rect: Rect
    fill: str
    border: str


@dataclass(frozen=True)
class Line:
    """A part of a connection, as a polyline; ``is_loose`` marks one that may cross boxes."""

    points: Points
    has_arrow: bool = False
    is_loose: bool = False


@dataclass(frozen=True)
class Drawing:
    """A finished layout."""

    width: int
    height: int
    title: str
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...]
    boxes: tuple[Box, ...]
    texts: tuple[Text, ...]


@cache
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """The font that is measured and, in PNG, drawn: the one inside Pillow, the same everywhere."""
    loaded = ImageFont.load_default(size_px)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; install it from its wheel")
    return loaded


def text_width(text: str, size_px: int) -> float:
    """Width of one line in px."""
    return math.ceil(font(size_px).getlength(text))


def line_of_text(x: float, centre_y: float, text: str, size_px: int, colour: str) -> Text:
    """Place a line with its left end at ``x``, its capitals centred on ``centre_y``."""
    baseline = centre_y + BASELINE_SHIFT * size_px
    return Text(x, baseline, text_width(text, size_px), text, size_px, colour)


def curve(start: Point, end: Point) -> Points:
    """An S from ``start`` down to ``end``, vertical at both ends and never outside their heights.

    A cubic Bezier with its control points half way down, as 16 straight pieces.
    """
    (x0, y0), (x1, y1) = start, end
    if x0 == x1:
        return (start, end)
    pieces = 16
    points = []
    for i in range(pieces + 1):
        t = i / pieces
        across = 3 * t**2 - 2 * t**3
        down = 1.5 * t * (1 - t) + t**3
        points.append((x0 + (x1 - x0) * across, y0 + (y1 - y0) * down))
    return tuple(points)


def arrow_head(tip_from: Point, tip: Point) -> Points:
    """The triangle at the end of a line that arrives at ``tip`` from ``tip_from``."""
    length, half_width = 6.0, 3.2
    dx, dy = tip[0] - tip_from[0], tip[1] - tip_from[1]
    norm = math.hypot(dx, dy) or 1.0
    dx, dy = dx / norm, dy / norm
    base = (tip[0] - length * dx, tip[1] - length * dy)
    return (
        tip,
        (base[0] - half_width * dy, base[1] + half_width * dx),
        (base[0] + half_width * dy, base[1] - half_width * dx),
    )
