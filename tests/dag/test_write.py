import io
import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from opticstream_smk.cli.dag import _is_needless
from opticstream_smk.dag import write_dag
from opticstream_smk.dag.drawing import Drawing
from opticstream_smk.dag.graph import Graph, Node
from opticstream_smk.dag.layout import arrange
from opticstream_smk.dag.mermaid import draw_mermaid
from opticstream_smk.dag.png import SCALE, draw_png
from opticstream_smk.dag.style import STATES, STYLES
from opticstream_smk.dag.svg import draw_svg
from opticstream_smk.errors import ConfigError
from opticstream_smk.layout import ProjectLayout

from .graphs import slices_graph

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "a<b> & \"c\" 'd' ]]> # ; `\\ µ\x07\ud800"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return slices_graph(1, 2, 8, with_services=True)


@pytest.fixture(scope="module")
def drawing(graph) -> Drawing:
    return arrange(graph, "brain 7, slice 1")


def nasty_graph() -> Graph:
    nodes = (
        Node(f"{NASTY}1", NASTY, NASTY, "mosaic", 1, 1, None, "done", (NASTY,)),
        Node(f"{NASTY}2", NASTY, NASTY, "batch", 1, 1, 1, "failed", (NASTY,)),
    )
    return Graph(nodes, ((nodes[1].id, nodes[0].id),))


def test_svg_has_one_group_with_tooltip_per_job(graph, drawing):
    root = ET.fromstring(draw_svg(drawing))
    groups = {
        g.get("data-id"): g for g in root.iter(f"{SVG}g") if g.get("class").startswith("node ")
    }
    assert groups.keys() == {node.id for node in graph.nodes}
    for node in graph.nodes:
        group = groups[node.id]
        assert group.get("class") == f"node {node.state}"
        tooltip = group.find(f"{SVG}title").text
        assert node.rule in tooltip
        assert tooltip.split("\n")[0].endswith(f": {node.state}")
        assert node.outputs[0] in tooltip
        assert len(group.findall(f"{SVG}path")) == len(STYLES[node.state].icon)
    assert root.find(f"{SVG}title").text == "brain 7, slice 1"


def test_svg_gives_every_text_its_measured_length(drawing):
    texts = list(ET.fromstring(draw_svg(drawing)).iter(f"{SVG}text"))
    assert len(texts) > 50
    assert all(float(text.get("textLength")) > 0 for text in texts)


def test_svg_escapes():
    root = ET.fromstring(draw_svg(arrange(nasty_graph(), NASTY)))
    shown = NASTY.replace("\x07", "\ufffd").replace("\ud800", "\ufffd")
    assert root.find(f"{SVG}title").text == shown
    ids = [g.get("data-id") for g in root.iter(f"{SVG}g") if g.get("data-id")]
    assert sorted(ids) == [f"{shown}1", f"{shown}2"]


def test_png_has_the_size_and_colours_of_the_drawing(drawing):
    image = Image.open(io.BytesIO(draw_png(drawing))).convert("RGB")
    assert image.size == (drawing.width * SCALE, drawing.height * SCALE)
    assert {box.state for box in drawing.boxes if box.node} == set(STATES)
    for box in drawing.boxes:
        # Beside the icon, between the inner border and the text, nothing is drawn.
        x, y = box.inner_border.right - 3, box.rect.middle[1]
        colour = "#{:02X}{:02X}{:02X}".format(*image.getpixel((round(x * SCALE), round(y * SCALE))))
        assert colour == STYLES[box.state].fill


def test_png_of_a_very_large_picture_is_painted_without_smoothing(monkeypatch, drawing):
    monkeypatch.setattr("opticstream_smk.dag.png.SMOOTHED_PIXELS_MAX", 1000)
    image = Image.open(io.BytesIO(draw_png(drawing)))
    assert image.size == (drawing.width * SCALE, drawing.height * SCALE)


def test_states_differ_in_fill_border_and_icon():
    for look in ("fill", "border", "icon", "symbol"):
        assert len({getattr(STYLES[state], look) for state in STATES}) == len(STATES)
    borders = {(STYLES[s].border_px, STYLES[s].dashes, STYLES[s].is_double) for s in STATES}
    assert len(borders) == len(STATES)


@pytest.mark.parametrize("state", STATES)
def test_text_can_be_read_on_every_fill(state):
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    # 4.5 is what WCAG 2.1 AA asks for text of this size; the icon stands in the border's colour.
    fill = luminance(STYLES[state].fill)
    for ink in ("#1B1F23", STYLES[state].border):
        assert (fill + 0.05) / (luminance(ink) + 0.05) >= 3.0
    assert (fill + 0.05) / (luminance("#1B1F23") + 0.05) >= 4.5


def test_mermaid_lists_every_job_and_arrow_once(graph):
    text = draw_mermaid(graph, "brain 7")
    lines = [line.strip() for line in text.splitlines()]
    arrows = [line for line in lines if "-->" in line]
    assert len(arrows) == len(set(arrows)) == len(set(graph.edges))
    names = dict(
        re.match(r'(n\d+)\["(.*)"\]', line).groups() for line in lines if re.match(r"n\d+\[", line)
    )
    assert len(names) == len(graph.nodes)
    assert all(set(arrow.split(" --> ")) <= names.keys() for arrow in arrows)
    assert {f"{STYLES[state].symbol}" for state in STATES} == {n[0] for n in names.values()}
    assert sum(line.startswith("classDef ") for line in lines) == len(STATES)
    assert 'subgraph s1m2["mosaic 2"]' in lines
    assert sum(line.startswith("subgraph") for line in lines) == lines.count("end") == 3


def test_mermaid_escapes():
    text = draw_mermaid(nasty_graph(), 'a "title": b')
    boxes = re.findall(r'n\d+\["(.*)"\]:::', text)
    assert len(boxes) == 2
    assert not any(set('"<>`\\\x07') & set(box.replace("<br/>", "")) for box in boxes)
    assert "a#60;b#62; #38; #34;c#34;" in boxes[0]
    assert 'title: "a \\"title\\": b"' in text


@pytest.mark.parametrize("suffix", [".svg", ".png", ".mmd"])
def test_same_graph_gives_the_same_file(tmp_path, suffix, graph):
    shuffled = Graph(graph.nodes[::-1], graph.edges[::-1])
    contents = []
    for number, variant in enumerate((graph, graph, shuffled)):
        path = tmp_path / f"{number}{suffix}"
        write_dag(variant, path, title="same")
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("suffix", [".svg", ".png", ".mmd"])
def test_any_text_can_be_written(tmp_path, suffix):
    path = tmp_path / f"nasty{suffix}"
    write_dag(nasty_graph(), path, title=NASTY)
    assert path.stat().st_size > 0


def test_file_is_replaced_as_a_whole(tmp_path, graph, monkeypatch):
    path = tmp_path / "new" / "plan.SVG"
    write_dag(graph, path)
    assert [p.name for p in path.parent.iterdir()] == ["plan.SVG"]
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", _refuse)
    with pytest.raises(RuntimeError, match="disk"):
        write_dag(Graph((), ()), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["plan.SVG"]


def _refuse(descriptor: int) -> None:
    raise RuntimeError("disk is gone")


@pytest.mark.parametrize("name", ["plan.pdf", "plan"])
def test_other_suffixes_are_refused(tmp_path, name, graph):
    with pytest.raises(ConfigError, match=r"\.svg, \.png, \.mmd") as caught:
        write_dag(graph, tmp_path / name)
    assert ("'.pdf'" if name == "plan.pdf" else "no suffix") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_coordinates_of_what_an_earlier_version_stitched_are_no_job(tmp_path):
    layout = ProjectLayout(tmp_path)
    coordinates, stitched = (layout.mosaic_flag(1, name) for name in ("coordinates", "stitched"))
    outputs = (layout.relative(coordinates),)
    stitched.parent.mkdir(parents=True)
    assert not _is_needless(layout, outputs)
    stitched.touch()
    assert _is_needless(layout, outputs)
    assert not _is_needless(layout, (layout.relative(stitched),))
    coordinates.touch()
    assert not _is_needless(layout, outputs)
