"""Paint a drawing as SVG."""

import re
from xml.sax.saxutils import escape, quoteattr

from opticstream_smk.dag.drawing import CORNER_PX, Box, Drawing, Line, Rect, Text, arrow_head
from opticstream_smk.dag.style import BACKGROUND, EDGE, STATES, STYLES, Points

# XML 1.0 has no way to write these, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def draw_svg(drawing: Drawing) -> str:
    """The SVG document; the same drawing always gives the same text."""
    size = f'width="{drawing.width}" height="{drawing.height}"'
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {drawing.width} {drawing.height}" role="img" '
        'font-family="Aileron, Helvetica, Arial, sans-serif">',
        f"<title>{_content(drawing.title)}</title>",
        f"<style>{_css()}</style>",
        f'<rect {size} fill="{BACKGROUND}"/>',
    ]
    for panel in drawing.panels:
        colours = f'fill="{panel.fill}" stroke="{panel.border}"'
        parts.append(f'<rect {_place(panel.rect)} rx="{CORNER_PX:g}" {colours}/>')
    parts += [_line(line) for line in drawing.lines]
    parts += [_box(box) for box in drawing.boxes]
    parts += [_text(text) for text in drawing.texts]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _css() -> str:
    rules = [
        f".edge{{fill:none;stroke:{EDGE};stroke-width:1.3;stroke-linejoin:round}}",
        ".loose{stroke-dasharray:4 3}",
        f".head{{fill:{EDGE}}}",
    ]
    for state in STATES:
        style = STYLES[state]
        dashes = " ".join(f"{length:g}" for length in style.dashes) or "none"
        rules += [
            f".{state} rect{{fill:{style.fill};stroke:{style.border};"
            f"stroke-width:{style.border_px:g};stroke-dasharray:{dashes}}}",
            f".{state} .icon{{fill:none;stroke:{style.border};stroke-width:2;"
            "stroke-linecap:round;stroke-linejoin:round}",
            f".{state} .solid{{fill:{style.border};stroke:none}}",
        ]
    return "".join(rules)


def _line(line: Line) -> str:
    kind = "edge loose" if line.is_loose else "edge"
    drawn = f'<path class="{kind}" d="{_path(line.points)}"/>'
    if line.has_arrow:
        head = arrow_head(line.points[-2], line.points[-1])
        drawn += f'<path class="head" d="{_path(head)}Z"/>'
    return drawn


def _box(box: Box) -> str:
    style = STYLES[box.state]
    kind = "node" if box.node else "legend"
    identity = f" data-id={quoteattr(_clean(box.node.id))}" if box.node else ""
    parts = [f'<g class="{kind} {box.state}"{identity}>']
    if box.tooltip:
        parts.append(f"<title>{_content(box.tooltip)}</title>")
    parts.append(f'<rect {_place(box.rect)} rx="{CORNER_PX:g}"/>')
    if style.is_double:
        parts.append(f'<rect {_place(box.inner_border)} rx="{CORNER_PX / 2:g}"/>')
    for points, is_filled in box.icon_strokes(style):
        look = "solid" if is_filled else "icon"
        parts.append(f'<path class="{look}" d="{_path(points)}"/>')
    parts += [_text(text) for text in box.texts]
    return "".join([*parts, "</g>"])


def _text(text: Text) -> str:
    # The measured length is given, so that a reader with another font still stays in the box.
    fit = f'textLength="{_number(text.width)}" lengthAdjust="spacingAndGlyphs"'
    return (
        f'<text x="{_number(text.x)}" y="{_number(text.y)}" font-size="{text.size_px}" '
        f'fill="{text.colour}" {fit}>{_content(text.text)}</text>'
    )


def _place(rect: Rect) -> str:
    return (
        f'x="{_number(rect.x)}" y="{_number(rect.y)}" '
        f'width="{_number(rect.width)}" height="{_number(rect.height)}"'
    )


def _path(points: Points) -> str:
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)


def _content(text: str) -> str:
    return escape(_clean(text))
