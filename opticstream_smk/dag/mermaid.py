"""Write a graph as a mermaid flowchart, for a page or a ticket that renders it."""

import json
import re

from opticstream_smk.dag.graph import Graph, Node
from opticstream_smk.dag.style import INK, STATES, STYLES

# Mermaid reads these inside quotes, as markup or as entities of its own.
_SPECIAL = re.compile(r'["#&;<>`\\\x00-\x08\x0b-\x1f]')


def draw_mermaid(graph: Graph, title: str) -> str:
    """The flowchart: one node per job, every arrow once, one frame per slice and mosaic."""
    graph = graph.ordered()
    names = {node.id: f"n{i}" for i, node in enumerate(graph.nodes)}
    # JSON is YAML, which is what the front matter is read as.
    lines = ["---", f"title: {json.dumps(title)}", "---", "flowchart TD"]
    groups: dict[tuple[int | None, int | None], list[Node]] = {}
    for node in graph.nodes:
        groups.setdefault((node.slice, node.mosaic), []).append(node)
    slices = sorted({key[0] for key in groups}, key=lambda number: (number is None, number or 0))
    for number in slices:
        body = []
        mosaics = {key[1] for key in groups if key[0] == number}
        for mosaic in sorted(mosaics, key=lambda m: (m is None, m or 0)):
            members = [
                f"{names[node.id]}{_box(graph, node)}:::{node.state}"
                for node in groups[number, mosaic]
            ]
            if mosaic is not None:
                name = f"s{number or 0}m{mosaic}"
                members = _frame(name, f"{graph.mosaic_word} {mosaic}", members)
            body += members
        lines += body if number is None else _frame(f"s{number}", f"slice {number}", body)
    lines += [f"{names[start]} --> {names[end]}" for start, end in graph.edges]
    for state in STATES:
        style = STYLES[state]
        dashes = f",stroke-dasharray:{' '.join(f'{d:g}' for d in style.dashes)}"
        lines.append(
            f"classDef {state} fill:{style.fill},stroke:{style.border},color:{INK},"
            f"stroke-width:{style.border_px:g}px{dashes if style.dashes else ''}"
        )
    return "\n".join(lines) + "\n"


def _frame(name: str, label: str, lines: list[str]) -> list[str]:
    return [f'subgraph {name}["{label}"]', *(f"  {line}" for line in lines), "end"]


def _box(graph: Graph, node: Node) -> str:
    lines = node.label.split("\n")
    if node.batch is not None:
        lines.append(f"{graph.batch_word} {node.batch}")
    text = "<br/>".join(_escape(line) for line in lines)
    return f'["{STYLES[node.state].symbol} {text}"]'


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"#{ord(found.group())};", text)
