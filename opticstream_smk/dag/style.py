"""How a state looks, in every format.

Colours are tints of the Okabe-Ito palette, which people with any colour vision tell apart; each
state also has its own icon and its own border, so that a grey print can still be read.
"""

import math
from dataclasses import dataclass

from opticstream_smk.dag.graph import State

Point = tuple[float, float]
Points = tuple[Point, ...]

# In the order in which an operator reads them: how far it got, what goes on, what is wrong.
STATES: tuple[State, ...] = ("done", "running", "ready", "failed", "pending")

INK = "#1B1F23"
MUTED_INK = "#59636E"
EDGE = "#6B7783"
BACKGROUND = "#FFFFFF"
SLICE_FILL, SLICE_BORDER = "#F6F8FA", "#C9D1D9"
MOSAIC_FILL, MOSAIC_BORDER = "#FFFFFF", "#C9D1D9"


@dataclass(frozen=True)
class Stroke:
    """A part of an icon, in units of the icon's half width (x to the right, y down)."""

    points: Points
    filled: bool = False


@dataclass(frozen=True)
class StateStyle:
    """The look of one state.

    Attributes
    ----------
    fill, border
        Colours, ``#RRGGBB``.
    border_px
        Width of the border.
    dashes
        Lengths of dash and gap in px; empty for a solid border.
    is_double
        A second border runs inside the first.
    icon
        Drawn at the left of the box, in the colour of the border.
    symbol
        The icon as a character, for formats made of text.
    """

    fill: str
    border: str
    border_px: float
    dashes: tuple[float, ...]
    is_double: bool
    icon: tuple[Stroke, ...]
    symbol: str


def _circle(x: float, y: float, radius: float) -> Points:
    corners = 16
    return tuple(
        (
            x + radius * math.cos(2 * math.pi * i / corners),
            y + radius * math.sin(2 * math.pi * i / corners),
        )
        for i in range(corners + 1)
    )


_CHECK = (Stroke(((-0.9, 0.05), (-0.3, 0.7), (0.9, -0.7))),)
_TRIANGLE = (Stroke(((-0.7, -0.9), (0.9, 0.0), (-0.7, 0.9), (-0.7, -0.9)), filled=True),)
_RING = (Stroke(_circle(0.0, 0.0, 0.8)),)
_CROSS = (Stroke(((-0.8, -0.8), (0.8, 0.8))), Stroke(((-0.8, 0.8), (0.8, -0.8))))
_DOTS = tuple(Stroke(_circle(x, 0.0, 0.24), filled=True) for x in (-0.75, 0.0, 0.75))

STYLES: dict[State, StateStyle] = {
    "done": StateStyle("#9EDCC6", "#00674B", 1.4, (), False, _CHECK, "✓"),
    "running": StateStyle("#8CCBF2", "#00507D", 2.8, (), False, _TRIANGLE, "▶"),
    "ready": StateStyle("#FBEFA0", "#7A6100", 1.6, (6.0, 3.0), False, _RING, "○"),
    "failed": StateStyle("#F2A07B", "#8C2F00", 1.6, (), True, _CROSS, "✗"),
    "pending": StateStyle("#FFFFFF", "#68717A", 1.4, (1.6, 3.0), False, _DOTS, "…"),
}
