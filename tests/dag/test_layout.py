from graphlib import CycleError
from itertools import combinations, pairwise
from random import Random

import pytest

from opticstream_smk.dag.drawing import Drawing, Rect, Text, font
from opticstream_smk.dag.graph import Graph, Node
from opticstream_smk.dag.layout import arrange
from opticstream_smk.dag.order import needed_edges
from opticstream_smk.dag.place import spread
from opticstream_smk.dag.png import SCALE

from .graphs import slices_graph

SHAPES = [
    (1, 1, 1, False),
    (1, 2, 3, False),
    (1, 3, 6, True),
    (1, 2, 7, True),
    (1, 2, 22, False),
    (1, 2, 23, True),
    (1, 1, 40, True),
    (2, 2, 4, True),
    (4, 3, 12, False),
]


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)), scope="module")
def drawn(request) -> tuple[Graph, Drawing]:
    slices, mosaics, batches, with_services = request.param
    graph = slices_graph(slices, mosaics, batches, with_services=with_services)
    return graph, arrange(graph, "brain 7")


def random_graph(seed: int) -> Graph:
    """Jobs of any level that wait for any earlier ones: shapes that nobody thought of."""
    random = Random(seed)
    nodes, edges = [], []
    for i in range(random.randint(1, 40)):
        level, place = random.choice(
            [
                ("batch", (random.randint(1, 2), random.randint(1, 3), random.randint(1, 14))),
                ("mosaic", (random.randint(1, 2), random.randint(1, 3), None)),
                ("slice", (random.randint(1, 2), None, None)),
                ("project", (None, None, None)),
            ]
        )
        name = f"j{i:02d}"
        nodes.append(Node(name, "rule", f"rule {random.randint(1, 4)}", level, *place, "ready"))
        sources = random.sample(range(i), min(i, random.randint(0, 3)))
        edges += [(f"j{source:02d}", name) for source in sources]
    return Graph(tuple(nodes), tuple(edges))


def overlap(one: Rect, other: Rect) -> bool:
    return (
        one.x < other.right
        and other.x < one.right
        and one.y < other.bottom
        and other.y < one.bottom
    )


def extent(text: Text, scale: int = 1) -> Rect:
    """What the ink covers, in px of the drawing."""
    left, top, right, bottom = font(text.size_px * scale).getbbox(text.text, anchor="ls")
    return Rect(
        text.x + left / scale, text.y + top / scale, (right - left) / scale, (bottom - top) / scale
    )


def contains(outer: Rect, inner: Rect) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.right <= outer.right
        and inner.bottom <= outer.bottom
    )


def hidden_points(drawing: Drawing) -> list[tuple[float, float]]:
    """Points of lines that lie inside a box."""
    found = []
    rects = [box.rect.inset(0.5) for box in drawing.boxes]
    for line in drawing.lines:
        if line.is_loose:
            continue
        for (x0, y0), (x1, y1) in pairwise(line.points):
            for step in range(9):
                x, y = x0 + (x1 - x0) * step / 8, y0 + (y1 - y0) * step / 8
                found += [(x, y) for r in rects if r.x < x < r.right and r.y < y < r.bottom]
    return found


def test_every_job_has_one_box(drawn):
    graph, drawing = drawn
    ids = sorted(box.node.id for box in drawing.boxes if box.node)
    assert ids == sorted(node.id for node in graph.nodes)


def test_boxes_do_not_overlap(drawn):
    _, drawing = drawn
    assert not [pair for pair in combinations([b.rect for b in drawing.boxes], 2) if overlap(*pair)]


def test_text_lies_inside_its_box(drawn):
    _, drawing = drawn
    for box in drawing.boxes:
        room = (box.inner_border if box.state == "failed" else box.rect).inset(1)
        for text in box.texts:
            assert contains(room, extent(text)), text
            assert contains(room, extent(text, SCALE)), text
            assert extent(text).x >= box.icon[0] + box.icon_px / 2


def test_all_lies_inside_the_picture_and_text_is_not_covered(drawn):
    _, drawing = drawn
    picture = Rect(0, 0, drawing.width, drawing.height)
    places = [box.rect for box in drawing.boxes] + [panel.rect for panel in drawing.panels]
    free = [extent(text) for text in drawing.texts]
    assert all(contains(picture, rect) for rect in places + free)
    assert not [pair for pair in combinations(free, 2) if overlap(*pair)]
    assert not [(t, b) for t in free for b in drawing.boxes if overlap(t, b.rect)]
    corners = [point for line in drawing.lines for point in line.points]
    assert all(0 < x < drawing.width and 0 < y < drawing.height for x, y in corners)


def test_lines_pass_beside_the_boxes(drawn):
    _, drawing = drawn
    assert not any(line.is_loose for line in drawing.lines)
    assert not hidden_points(drawing)


@pytest.mark.parametrize("seed", range(60))
def test_any_graph_is_drawn_without_overlap(seed):
    graph = random_graph(seed)
    drawing = arrange(graph, "any")
    assert sum(box.node is not None for box in drawing.boxes) == len(graph.nodes)
    assert not [pair for pair in combinations([b.rect for b in drawing.boxes], 2) if overlap(*pair)]
    assert not hidden_points(drawing)
    picture = Rect(0, 0, drawing.width, drawing.height)
    assert all(contains(picture, box.rect) for box in drawing.boxes)


def test_mosaics_stand_beside_each_other_and_their_slice_below():
    drawing = arrange(slices_graph(1, 2, 3), "one slice")
    rect = {box.node.id: box.rect for box in drawing.boxes if box.node}
    first = rect["mosaic-01/state/mosaic-01.stitched"]
    second = rect["mosaic-02/state/mosaic-02.stitched"]
    last = rect["state/slice-01.registered"]
    assert first.y == second.y
    assert first.right < second.x
    assert last.y > first.bottom
    assert first.x < last.middle[0] < second.right
    template = rect["state/tilemap-tilted.solved"]
    assert second.middle[0] == pytest.approx(template.middle[0], abs=2)
    assert template.bottom < second.y


def test_many_batches_wrap():
    drawing = arrange(slices_graph(1, 2, 22), "22 batches")
    rect = {box.node.id: box.rect for box in drawing.boxes if box.node}
    eleventh = rect["mosaic-01/state/batch-011.complex"]
    twelfth = rect["mosaic-01/state/batch-012.complex"]
    assert twelfth.x == rect["mosaic-01/state/batch-001.complex"].x
    assert eleventh.bottom < twelfth.y
    # Two mosaics of 22 batches fit a full-HD screen.
    assert drawing.width < 1920
    assert drawing.height < 1080


def test_job_that_waits_for_its_slice_is_drawn_with_the_slice():
    registered = Node("r", "register_slice", "register_slice", "slice", 1, None, None, "done")
    release = Node("m", "release_mosaic", "release_mosaic", "mosaic", 1, 4, None, "ready")
    boxes = arrange(Graph((release, registered), (("r", "m"),)), "late").boxes
    box = {box.node.id: box for box in boxes if box.node}
    assert box["m"].rect.y > box["r"].rect.bottom
    assert [text.text for text in box["m"].texts] == ["release_mosaic", "mosaic 4"]


def test_arrow_up_to_a_batch_is_drawn_all_the_same():
    stack = Node("s", "stack", "stack", "project", None, None, None, "done")
    batch = Node("b", "process", "process", "batch", 1, 1, 1, "pending")
    drawing = arrange(Graph((stack, batch), (("s", "b"),)), "upwards")
    assert [line.is_loose for line in drawing.lines if line.has_arrow] == [True]


def test_implied_arrows_are_left_out():
    nodes = tuple(
        Node(name, name, name, "mosaic", 1, 1, None, "pending") for name in ("a", "b", "c")
    )
    graph = Graph(nodes, (("a", "b"), ("b", "c"), ("a", "c")))
    assert needed_edges(graph) == (("a", "b"), ("b", "c"))


def test_legend_counts_states():
    graph = slices_graph(1, 2, 5)
    legend = {b.state: b.texts[0].text for b in arrange(graph, "t").boxes if b.node is None}
    failed = sum(node.state == "failed" for node in graph.nodes)
    assert failed > 0
    assert legend["failed"] == f"failed: {failed}"
    assert len(legend) == 5


def test_title_becomes_one_line_and_widens_the_picture():
    drawing = arrange(slices_graph(1, 1, 1), "brain\n7 " + "very " * 60 + "long")
    assert "\n" not in drawing.title
    assert drawing.width > extent(drawing.texts[0]).right


def test_empty_graph_says_so():
    drawing = arrange(Graph((), ()), "nothing yet")
    assert any("Nothing is planned" in text.text for text in drawing.texts)
    assert drawing.height > max(text.y for text in drawing.texts)


def test_light_sheet_words():
    strip = Node("s", "compress", "compress", "batch", 2, 1, 3, "done")
    drawing = arrange(Graph((strip,), (), "lsm"), "lsm")
    words = {text.text for text in drawing.texts}
    assert {"channel 1", "1 of 1 strips done"} <= words
    assert drawing.boxes[-1].texts[0].text == "strip 3"


def test_jobs_that_wait_for_each_other_are_refused():
    nodes = tuple(Node(n, n, n, "mosaic", 1, 1, None, "pending") for n in "ab")
    with pytest.raises(CycleError):
        arrange(Graph(nodes, (("a", "b"), ("b", "a"))), "cycle")


def test_graph_refuses_unknown_ends_and_repeated_ids():
    node = Node("a", "a", "a", "mosaic", 1, 1, None, "pending")
    with pytest.raises(ValueError, match="not in the graph: \\['b'\\]"):
        Graph((node,), (("a", "b"),))
    with pytest.raises(ValueError, match="same id"):
        Graph((node, node), ())


@pytest.mark.parametrize(
    ("wanted", "centres"),
    [
        ([50.0], [50.0]),
        ([0.0], [5.0]),
        ([100.0], [95.0]),
        ([50.0, 50.0], [44.0, 56.0]),
        ([20.0, 80.0], [20.0, 80.0]),
        ([98.0, 99.0], [83.0, 95.0]),
    ],
)
def test_spread(wanted, centres):
    assert spread(wanted, [10.0] * len(wanted), 2.0, 0.0, 100.0) == pytest.approx(centres)


def test_spread_moves_the_narrow_one():
    lane, box = spread([50.0, 50.0], [10.0, 90.0], 0.0, -100.0, 200.0)
    assert box == pytest.approx(55.0)
    assert lane == pytest.approx(5.0)
