"""The batches of one mosaic: a column per batch, a row per rule, wrapped when there are many.

What leaves the batches is gathered in a line below them, so that 22 arrows become one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil

from opticstream_smk.dag.drawing import Box, Line, Rect, Text, line_of_text, text_width
from opticstream_smk.dag.graph import Node
from opticstream_smk.dag.order import neighbours, topological_order
from opticstream_smk.dag.style import INK, MUTED_INK, Point

COLUMNS = 11
# Up to this many batches the boxes say "batch 1", beyond they say "1".
WORDED_COLUMNS = 6

TEXT_PX = 12
CELL_HEIGHT = 22.0
ROW_GAP = 15.0
BAND_GAP = 20.0
LABEL_GAP = 10.0
COLUMN_GAP = 8.0
LANE = 7.0
BUS_DROP = 12.0
OUTLET_STEP = 24.0
ICON_PX = 9.0
ICON_ROOM = 19.0
CELL_PADDING = 7.0


@dataclass(frozen=True)
class Outlet:
    """Where the gathered line of one row ends, and which jobs below wait for it."""

    point: Point
    targets: frozenset[str]


@dataclass(frozen=True)
class Matrix:
    """The batches of a mosaic, drawn with their upper left corner at (0, 0)."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    texts: tuple[Text, ...]
    lines: tuple[Line, ...]
    outlets: tuple[Outlet, ...]
    drawn: frozenset[tuple[str, str]]


Row = tuple[str, int]
# A row and what waits for it outside of the batches.
Group = tuple[Row, frozenset[str]]


@dataclass(frozen=True)
class _Cells:
    """Which job is in which row and column, and where they are connected."""

    rows: list[Row]
    columns: list[int]
    cells: dict[tuple[Row, int], Node]
    inner: frozenset[tuple[Row, Row, int]]
    groups: dict[Group, list[int]]

    def lanes(self) -> dict[Row, int]:
        """Rows whose lines have to pass other boxes, and their lane beside the column."""
        number = {row: i for i, row in enumerate(self.rows)}
        passing = {start for start, end, _ in self.inner if number[end] > number[start] + 1}
        passing |= {row for row, _ in self.groups if row != self.rows[-1]}
        return {row: i for i, row in enumerate(sorted(passing, key=number.__getitem__))}


def arrange_batches(
    nodes: Iterable[Node], edges: Iterable[tuple[str, str]], word: str = "batch"
) -> Matrix:
    """Lay out the batches of one mosaic.

    Parameters
    ----------
    nodes
        Jobs with a batch number, at least one.
    edges
        All arrows of the picture; those that start here are drawn, unless they lead to another
        batch or upwards. ``Matrix.drawn`` names them.
    word
        "batch" or "strip".
    """
    members = {node.id: node for node in nodes}
    leaving = sorted(edge for edge in edges if edge[0] in members)
    table, drawn = _tabulate(members, leaving)
    lanes = table.lanes()

    bands = ceil(len(table.columns) / COLUMNS)
    per_band = ceil(len(table.columns) / bands)
    prefix = f"{word} " if len(table.columns) <= WORDED_COLUMNS else ""
    names = {column: f"{prefix}{column}" for column in table.columns}
    label_width = max(text_width(_row_label(row), TEXT_PX) for row in table.rows) + LABEL_GAP
    cell_width = ICON_ROOM + max(text_width(n, TEXT_PX) for n in names.values()) + CELL_PADDING
    gap = COLUMN_GAP + LANE * len(lanes)
    row_step = CELL_HEIGHT + ROW_GAP
    rows_height = len(table.rows) * row_step - ROW_GAP
    bus_height = BUS_DROP + LANE * len(table.groups) if table.groups else 0.0
    band_step = rows_height + bus_height + BAND_GAP
    grid_right = label_width + per_band * (cell_width + gap) - COLUMN_GAP

    places: dict[tuple[Row, int], Rect] = {}
    boxes, texts, lines = [], [], []
    for i, column in enumerate(table.columns):
        band, place = divmod(i, per_band)
        for j, row in enumerate(table.rows):
            x = label_width + place * (cell_width + gap)
            places[row, column] = Rect(x, band * band_step + j * row_step, cell_width, CELL_HEIGHT)
    for band in range(bands):
        for j, row in enumerate(table.rows):
            centre = band * band_step + j * row_step + CELL_HEIGHT / 2
            texts.append(line_of_text(0.0, centre, _row_label(row), TEXT_PX, MUTED_INK))
    for key, node in table.cells.items():
        boxes.append(_cell(places[key], node, names[key[1]]))
    for start, end, column in sorted(table.inner):
        lines.append(_inner_line(table, places, lanes, start, end, column))

    outlets = []
    for k, ((row, targets), columns) in enumerate(table.groups.items()):
        side = grid_right + LANE * (k + 1)
        levels = [band * band_step + rows_height + BUS_DROP + LANE * k for band in range(bands)]
        drops = []
        for column in columns:
            level = levels[table.columns.index(column) // per_band]
            drops.append(_drop(places[row, column], lanes.get(row), level))
        lines += [Line(drop) for drop in drops]
        wanted = (label_width + grid_right) / 2 + OUTLET_STEP * (k - (len(table.groups) - 1) / 2)
        gathered, outlet = _gather([drop[-1] for drop in drops], levels, side, wanted)
        lines += gathered
        outlets.append(Outlet(outlet, targets))

    is_wrapped = bands > 1
    return Matrix(
        width=grid_right + (LANE * len(table.groups) if is_wrapped else 0.0),
        height=bands * band_step - BAND_GAP,
        boxes=tuple(boxes),
        texts=tuple(texts),
        lines=tuple(lines),
        outlets=tuple(outlets),
        drawn=frozenset(drawn),
    )


def _row_label(row: Row) -> str:
    return row[0].replace("\n", " ")


def _tabulate(
    members: dict[str, Node], leaving: list[tuple[str, str]]
) -> tuple[_Cells, set[tuple[str, str]]]:
    inside = [edge for edge in leaving if edge[1] in members]
    before, after = neighbours(members, inside)
    depth: dict[str, int] = {}
    for node_id in topological_order(members, inside):
        depth[node_id] = 1 + max((depth[source] for source in before[node_id]), default=0)

    row_of: dict[str, Row] = {}
    row_order: dict[Row, tuple[int, bool, Row]] = {}
    cells: dict[tuple[Row, int], Node] = {}
    for node in sorted(members.values(), key=lambda n: n.id):
        column = node.batch or 0
        copies = 0
        while ((node.label, copies), column) in cells:
            copies += 1
        row = (node.label, copies)
        cells[row, column] = node
        row_of[node.id] = row
        # Of rows at the same depth, one that leads nowhere goes first: nothing has to pass it.
        known = row_order.get(row, (0, False, row))
        row_order[row] = (max(known[0], depth[node.id]), known[1] or bool(after[node.id]), row)
    rows = sorted(row_order, key=row_order.__getitem__)
    number = {row: i for i, row in enumerate(rows)}

    inner, drawn = set(), set()
    outside: dict[str, set[str]] = {}
    for start, end in leaving:
        if end not in members:
            outside.setdefault(start, set()).add(end)
            drawn.add((start, end))
        elif (
            members[start].batch == members[end].batch
            and number[row_of[start]] < number[row_of[end]]
        ):
            inner.add((row_of[start], row_of[end], members[start].batch or 0))
            drawn.add((start, end))
    groups: dict[Group, list[int]] = {}
    for node_id, targets in sorted(
        outside.items(), key=lambda item: (number[row_of[item[0]]], members[item[0]].batch or 0)
    ):
        group = (row_of[node_id], frozenset(targets))
        groups.setdefault(group, []).append(members[node_id].batch or 0)
    columns = sorted({column for _, column in cells})
    return _Cells(rows, columns, cells, frozenset(inner), groups), drawn


def _cell(rect: Rect, node: Node, name: str) -> Box:
    _, centre = rect.middle
    return Box(
        rect=rect,
        state=node.state,
        texts=(line_of_text(rect.x + ICON_ROOM, centre, name, TEXT_PX, INK),),
        icon=(rect.x + ICON_ROOM / 2 + 1, centre),
        icon_px=ICON_PX,
        node=node,
    )


def _lane_x(rect: Rect, lane: int) -> float:
    return rect.right + LANE * (lane + 1) - 1


def _inner_line(
    table: _Cells,
    places: dict[tuple[Row, int], Rect],
    lanes: dict[Row, int],
    start: Row,
    end: Row,
    column: int,
) -> Line:
    above, below = places[start, column], places[end, column]
    if table.rows.index(end) == table.rows.index(start) + 1:
        x, _ = above.middle
        return Line(((x, above.bottom), (x, below.y)), has_arrow=True)
    # Leaves low and arrives high, so that both fit on the side of one box.
    x = _lane_x(above, lanes[start])
    leave = above.y + 0.7 * above.height
    arrive = below.y + 0.3 * below.height
    return Line(
        ((above.right, leave), (x, leave), (x, arrive), (below.right, arrive)), has_arrow=True
    )


def _drop(rect: Rect, lane: int | None, level: float) -> tuple[Point, ...]:
    if lane is None:
        x, _ = rect.middle
        return ((x, rect.bottom), (x, level))
    x = _lane_x(rect, lane)
    leave = rect.y + 0.7 * rect.height
    return ((rect.right, leave), (x, leave), (x, level))


def _gather(
    ends: list[Point], levels: list[float], side: float, wanted: float
) -> tuple[list[Line], Point]:
    """Join the drops of all bands; returns the lines and the point where they go on."""
    lowest = levels[-1]
    used = sorted({y for _, y in ends} | {lowest})
    xs_at = {y: [x for x, end_y in ends if end_y == y] for y in used}
    is_wrapped = len(used) > 1
    reach = {y: [*xs, side] if is_wrapped else xs for y, xs in xs_at.items()}
    outlet_x = min(max(wanted, min(reach[lowest])), max(reach[lowest]))
    reach[lowest].append(outlet_x)
    lines = [Line(((min(xs), y), (max(xs), y))) for y, xs in reach.items() if min(xs) < max(xs)]
    if is_wrapped:
        lines.append(Line(((side, used[0]), (side, lowest))))
    return lines, (outlet_x, lowest)


def moved(matrix: Matrix, dx: float, dy: float) -> Matrix:
    """The same matrix elsewhere."""
    return replace(
        matrix,
        boxes=tuple(moved_box(box, dx, dy) for box in matrix.boxes),
        texts=tuple(moved_text(text, dx, dy) for text in matrix.texts),
        lines=tuple(
            replace(line, points=tuple((x + dx, y + dy) for x, y in line.points))
            for line in matrix.lines
        ),
        outlets=tuple(
            replace(outlet, point=(outlet.point[0] + dx, outlet.point[1] + dy))
            for outlet in matrix.outlets
        ),
    )


def moved_text(text: Text, dx: float, dy: float) -> Text:
    """The same text elsewhere."""
    return replace(text, x=text.x + dx, y=text.y + dy)


def moved_box(box: Box, dx: float, dy: float) -> Box:
    """The same box elsewhere."""
    rect = box.rect
    return replace(
        box,
        rect=Rect(rect.x + dx, rect.y + dy, rect.width, rect.height),
        texts=tuple(moved_text(text, dx, dy) for text in box.texts),
        icon=(box.icon[0] + dx, box.icon[1] + dy),
    )
