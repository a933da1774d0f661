"""From a graph to shapes with places: batches on top, then rows of boxes, joined by curves.

Slices stand side by side, each with its mosaics side by side. Rows are common to the picture (see
`opticstream_smk.dag.order.assign_rows`), so that a curve only ever runs in the space between two
rows; one that has to pass a row gets a place of its own in it, like a box of no height.
"""

from collections import Counter
from dataclasses import replace
from functools import cached_property

from opticstream_smk.dag.content import (
    ICON_ROOM,
    LINE_HEIGHT,
    TEXT_PX,
    Content,
    Item,
    MosaicKey,
    Net,
)
from opticstream_smk.dag.drawing import (
    Box,
    Drawing,
    Line,
    Panel,
    Rect,
    Text,
    curve,
    line_of_text,
    text_width,
)
from opticstream_smk.dag.graph import Graph, Node
from opticstream_smk.dag.matrix import Matrix, moved
from opticstream_smk.dag.order import Part, Zone
from opticstream_smk.dag.place import spread
from opticstream_smk.dag.style import (
    INK,
    MOSAIC_BORDER,
    MOSAIC_FILL,
    MUTED_INK,
    SLICE_BORDER,
    SLICE_FILL,
    STATES,
)

MARGIN = 20.0
PADDING = 14.0
BETWEEN = 16.0
HEADER = 32.0
TITLE_PX, HEADER_PX, SMALL_PX = 20, 15, 12
ICON_PX = 11.0

# An S across a wide gap needs height, or its arrow would arrive almost level.
CHANNEL_MIN, CHANNEL_MAX, CHANNEL_SLOPE = 30.0, 72.0, 0.09
# The last piece of an arrow is straight, so that its head points down.
HEAD_ROOM = 9.0

TITLE_Y, LEGEND_Y, HINT_Y, TOP = 34.0, 62.0, 104.0, 122.0
HINT = "An arrow leads from a step to one that waits for it. Arrows implied by others are left out."
EMPTY = "Nothing is planned: no batch has arrived, or no stage is enabled."


def arrange(graph: Graph, title: str) -> Drawing:
    """Lay out a graph.

    Parameters
    ----------
    graph
        May be empty.
    title
        One line above the picture.

    Raises
    ------
    ValueError
        Jobs wait for each other.
    """
    # Line breaks in a title cannot be measured; the picture has one line for it.
    return _Layout(graph.ordered(), " ".join(title.split())).drawing()


class _Layout:
    """The steps of `arrange`, each computed once from those before it."""

    def __init__(self, graph: Graph, title: str) -> None:
        self.graph = graph
        self.title = title
        self.content = Content(graph)
        self.legend = _legend(graph)
        self.top_lines = [
            line_of_text(MARGIN, TITLE_Y, title, TITLE_PX, INK),
            line_of_text(MARGIN, HINT_Y, HINT, SMALL_PX, MUTED_INK),
        ]
        if not graph.nodes:
            self.top_lines.append(line_of_text(MARGIN, TOP + MARGIN, EMPTY, HEADER_PX, INK))

    def drawing(self) -> Drawing:
        """All shapes."""
        matrices = self.placed_matrices.values()
        boxes = [box for matrix in matrices for box in matrix.boxes] + self.row_boxes
        places = {box.node.id: box.rect for box in boxes if box.node}
        lines = [line for matrix in matrices for line in matrix.lines]
        for net in self.content.nets:
            lines += self._net_lines(net, places)
        for start, end in self.content.loose_edges:
            points = (places[start].middle, places[end].middle)
            lines.append(Line(points, has_arrow=True, is_loose=True))
        titled = [replace(box, tooltip=self._tooltip(box.node)) for box in boxes if box.node]
        texts = [text for matrix in matrices for text in matrix.texts]
        return Drawing(
            width=round(self.picture_width),
            height=round(self.bottom + MARGIN),
            title=self.title,
            panels=tuple(self._panels()),
            lines=tuple(lines),
            boxes=(*self.legend, *titled),
            texts=(*self.top_lines, *self._headers(), *texts),
        )

    # Across

    def _row_width(self, zone: Zone) -> float:
        rows = [row for key, row in self.content.items.items() if key[0] == zone]
        return max((_total(row) for row in rows), default=0.0)

    @cached_property
    def panel_widths(self) -> dict[MosaicKey, float]:
        """Width of each mosaic, its padding included."""
        widths = {}
        for key in self.content.mosaics:
            matrix = self.content.matrices.get(key)
            header = sum(text_width(*words) for words in self._panel_words(key)) + BETWEEN
            inner = max(
                matrix.width if matrix else 0.0, header, self._row_width(Zone(Part.MOSAIC, *key))
            )
            widths[key] = inner + 2 * PADDING
        return widths

    def _panels_width(self, slice_number: int | None) -> float:
        own = [width for key, width in self.panel_widths.items() if key[0] == slice_number]
        return sum(own) + BETWEEN * (len(own) - 1)

    @cached_property
    def slice_spans(self) -> dict[int | None, tuple[float, float]]:
        """Left and right end of each slice, its padding included."""
        widths = {}
        for number in self.content.slices:
            header = sum(text_width(*words) for words in self._slice_words(number)) + BETWEEN
            rows = self._row_width(Zone(Part.SLICE, number))
            widths[number] = max(self._panels_width(number), rows, header) + 2 * PADDING
        total = sum(widths.values()) + BETWEEN * (len(widths) - 1)
        x = max(MARGIN, (self.picture_width_for(total) - total) / 2)
        spans = {}
        for number, width in widths.items():
            spans[number] = (x, x + width)
            x += width + BETWEEN
        return spans

    def picture_width_for(self, slices_width: float) -> float:
        """Width of a picture with slices of this width in all, its margins included."""
        texts = max(text.x + text.width for text in self.top_lines) - MARGIN
        legend = self.legend[-1].rect.right - MARGIN
        project = self._row_width(Zone(Part.PROJECT))
        return max(slices_width, texts, legend, project) + 2 * MARGIN

    @cached_property
    def picture_width(self) -> float:
        """Width of this picture."""
        ends = [end for span in self.slice_spans.values() for end in span]
        return self.picture_width_for(max(ends) - min(ends) if ends else 0.0)

    @cached_property
    def panel_spans(self) -> dict[MosaicKey, tuple[float, float]]:
        """Left and right end of each mosaic."""
        spans = {}
        for number, (left, right) in self.slice_spans.items():
            x = (left + right - self._panels_width(number)) / 2
            for key, width in self.panel_widths.items():
                if key[0] == number:
                    spans[key] = (x, x + width)
                    x += width + BETWEEN
        return spans

    @cached_property
    def placed_matrices(self) -> dict[MosaicKey, Matrix]:
        """The batches of each mosaic at their place, in the middle of their panel."""
        placed = {}
        for key, matrix in self.content.matrices.items():
            left, right = self.panel_spans[key]
            x = (left + right - matrix.width) / 2
            placed[key] = moved(matrix, x, self.matrix_top)
        return placed

    def _span(self, zone: Zone) -> tuple[float, float]:
        if zone.part is Part.PROJECT:
            return MARGIN, self.picture_width - MARGIN
        if zone.part is Part.SLICE:
            left, right = self.slice_spans[zone.slice]
        else:
            left, right = self.panel_spans[zone.slice, zone.mosaic]
        return left + PADDING, right - PADDING

    @cached_property
    def centres(self) -> dict[tuple[str, int], float]:
        """The x of each net's source and lanes, and of each box, by name and row."""
        centres: dict[tuple[str, int], float] = {}
        for net in self.content.nets:
            if net.outlet:
                key, number = net.outlet
                centres[net.source, 0] = self.placed_matrices[key].outlets[number].point[0]
        feeding: dict[str, list[Net]] = {}
        for net in self.content.nets:
            for target in net.targets:
                feeding.setdefault(target, []).append(net)
        zones = sorted(self.content.items, key=lambda key: (key[1], key[0].order))
        for zone, row in zones:
            low, high = self._span(zone)
            wanted = []
            for item in self.content.items[zone, row]:
                nets = [item.net] if item.net else feeding.get(item.name, [])
                above = [centres[net.source, row - 1] for net in nets]
                wanted.append((sum(above) / len(above) if above else (low + high) / 2, item))
            wanted.sort(key=lambda pair: (pair[0], pair[1].name))
            placed = spread(
                [want for want, _ in wanted], [item.width for _, item in wanted], BETWEEN, low, high
            )
            for centre, (_, item) in zip(placed, wanted, strict=True):
                name = item.net.source if item.net else item.name
                centres[name, row] = centre
        return centres

    # Down

    @cached_property
    def matrix_top(self) -> float:
        """The y of the upper side of all batches."""
        return TOP + 2 * HEADER

    @cached_property
    def row_spans(self) -> list[tuple[float, float]]:
        """Upper and lower end of each row; row 0 are the batches."""
        heights = [matrix.height for matrix in self.content.matrices.values()]
        spans = [(self.matrix_top, self.matrix_top + max(heights, default=0.0))]
        last = self.content.last_row
        for row in range(1, last[Part.PROJECT] + 1):
            nodes = [
                item.node
                for key, items in self.content.items.items()
                for item in items
                if key[1] == row and item.node
            ]
            y = spans[-1][1] + self._channel(row)
            # The frames of the mosaics and of the slices end between two rows.
            y += PADDING * ((row - 1 == last[Part.MOSAIC]) + (row - 1 == last[Part.SLICE]))
            height = max((self.content.box_size(node)[1] for node in nodes), default=0.0)
            spans.append((y, y + height))
        return spans

    def _channel(self, row: int) -> float:
        """Height of the space above a row."""
        if row == 1 and not self.content.matrices:
            return 0.0
        widest = max(
            (
                abs(x - self.centres[net.source, row - 1])
                for net in self.content.nets
                for x in self._ends(net, row)
            ),
            default=0.0,
        )
        return min(max(CHANNEL_MIN, CHANNEL_MIN + CHANNEL_SLOPE * widest), CHANNEL_MAX)

    def _ends(self, net: Net, row: int) -> list[float]:
        """Where a net arrives in a row."""
        if not net.row < row <= net.last_row:
            return []
        xs = [self.centres[t, row] for t in net.targets if self.content.row_of[t] == row]
        return [*xs, self.centres[net.source, row]] if row < net.last_row else xs

    @cached_property
    def panels_bottom(self) -> float:
        """Lower side of all mosaics."""
        return self.row_spans[self.content.last_row[Part.MOSAIC]][1] + PADDING

    @cached_property
    def slices_bottom(self) -> float:
        """Lower side of all slices."""
        row = self.content.last_row[Part.SLICE]
        return max(self.panels_bottom, self.row_spans[row][1]) + PADDING

    @cached_property
    def bottom(self) -> float:
        """Lower side of all."""
        if not self.graph.nodes:
            return TOP + 2 * MARGIN
        return max(self.row_spans[-1][1], self.slices_bottom if self.slice_spans else 0.0)

    # Shapes

    @cached_property
    def row_boxes(self) -> list[Box]:
        """All boxes below the batches."""
        boxes = []
        for (_, row), items in self.content.items.items():
            for item in items:
                if item.node:
                    boxes.append(self._box(item.node, self.centres[item.name, row], row))
        return boxes

    def _box(self, node: Node, centre: float, row: int) -> Box:
        width, height = self.content.box_size(node)
        rect = Rect(centre - width / 2, self.row_spans[row][0], width, height)
        lines = self.content.box_lines(node)
        first = rect.middle[1] - LINE_HEIGHT * (len(lines) - 1) / 2
        texts = tuple(
            line_of_text(
                rect.x + ICON_ROOM, first + LINE_HEIGHT * i, line, TEXT_PX, MUTED_INK if i else INK
            )
            for i, line in enumerate(lines)
        )
        icon = (rect.x + ICON_ROOM / 2 + 1, rect.middle[1])
        return Box(rect, node.state, texts, icon, ICON_PX, node)

    def _net_lines(self, net: Net, places: dict[str, Rect]) -> list[Line]:
        x = self.centres[net.source, net.row]
        if net.outlet:
            key, number = net.outlet
            start = self.placed_matrices[key].outlets[number].point
        else:
            start = (x, places[net.source].bottom)
        lines = []
        for row in range(net.row + 1, net.last_row + 1):
            above, top = (x, self.row_spans[row - 1][1]), self.row_spans[row][0]
            for target in net.targets:
                if self.content.row_of[target] == row:
                    end = (self.centres[target, row], top - HEAD_ROOM)
                    points = (start, *curve(above, end), (end[0], top))
                    lines.append(Line(points, has_arrow=True))
            if row < net.last_row:
                lane = self.centres[net.source, row]
                lines.append(Line((start, *curve(above, (lane, top)))))
                x, start = lane, (lane, top)
        return lines

    def _panels(self) -> list[Panel]:
        panels = []
        for left, right in self.slice_spans.values():
            rect = Rect(left, TOP, right - left, self.slices_bottom - TOP)
            panels.append(Panel(rect, SLICE_FILL, SLICE_BORDER))
        for left, right in self.panel_spans.values():
            rect = Rect(left, TOP + HEADER, right - left, self.panels_bottom - TOP - HEADER)
            panels.append(Panel(rect, MOSAIC_FILL, MOSAIC_BORDER))
        return panels

    def _headers(self) -> list[Text]:
        headers = []
        for number, span in self.slice_spans.items():
            headers += _header(self._slice_words(number), span, TOP + HEADER / 2)
        for key, span in self.panel_spans.items():
            headers += _header(self._panel_words(key), span, TOP + 1.5 * HEADER)
        return headers

    def _slice_words(self, number: int | None) -> tuple[tuple[str, int], tuple[str, int]]:
        nodes = [node for node in self.graph.nodes if self.content.zones[node.id].slice == number]
        done = sum(node.state == "done" for node in nodes)
        name = "steps without a slice" if number is None else f"slice {number}"
        return (name, HEADER_PX), (f"{done} of {len(nodes)} steps done", SMALL_PX)

    def _panel_words(self, key: MosaicKey) -> tuple[tuple[str, int], tuple[str, int]]:
        _, mosaic = key
        word = self.graph.batch_word
        jobs = self.content.batches.get(key, [])
        total = {node.batch for node in jobs}
        done = total - {node.batch for node in jobs if node.state != "done"}
        plural = "batches" if word == "batch" else f"{word}s"
        name = f"all {self.graph.mosaic_word}s" if mosaic is None else ""
        name = name or f"{self.graph.mosaic_word} {mosaic}"
        counted = f"{len(done)} of {len(total)} {plural} done" if total else ""
        return (name, HEADER_PX), (counted, SMALL_PX)

    def _tooltip(self, node: Node) -> str:
        places = [
            f"{word} {number}"
            for word, number in (
                ("slice", node.slice),
                (self.graph.mosaic_word, node.mosaic),
                (self.graph.batch_word, node.batch),
            )
            if number is not None
        ]
        head = ", ".join([node.label.replace("\n", " "), *places])
        return "\n".join([f"{head}: {node.state}", *node.outputs])


def _total(items: list[Item]) -> float:
    return sum(item.width for item in items) + BETWEEN * (len(items) - 1)


def _header(
    words: tuple[tuple[str, int], tuple[str, int]], span: tuple[float, float], centre_y: float
) -> list[Text]:
    (name, name_px), (count, count_px) = words
    left, right = span[0] + PADDING, span[1] - PADDING
    texts = [line_of_text(left, centre_y, name, name_px, INK)]
    if count:
        x = right - text_width(count, count_px)
        texts.append(line_of_text(x, centre_y, count, count_px, MUTED_INK))
    return texts


def _legend(graph: Graph) -> tuple[Box, ...]:
    """A box per state, with the number of jobs in it; at the top, as a summary."""
    counts = Counter(node.state for node in graph.nodes)
    boxes = []
    x = MARGIN
    height = LINE_HEIGHT + 2 * 4
    for state in STATES:
        words = f"{state}: {counts[state]}"
        width = ICON_ROOM + text_width(words, TEXT_PX) + 10
        rect = Rect(x, LEGEND_Y, width, height)
        text = line_of_text(x + ICON_ROOM, rect.middle[1], words, TEXT_PX, INK)
        icon = (x + ICON_ROOM / 2 + 1, rect.middle[1])
        boxes.append(Box(rect, state, (text,), icon, ICON_PX))
        x = rect.right + BETWEEN / 2
    return tuple(boxes)
