"""Which arrows are drawn, in which part of the picture a job lies, and in which row."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from graphlib import TopologicalSorter

from opticstream_smk.dag.graph import Graph, Node

Edges = tuple[tuple[str, str], ...]

# Boxes beside each other in one mosaic; more would make the picture wider than a screen.
BOXES_PER_ROW = 3


class Part(IntEnum):
    """The parts of the picture, from the top."""

    BATCHES = 0
    MOSAIC = 1
    SLICE = 2
    PROJECT = 3


@dataclass(frozen=True)
class Zone:
    """The area that a job is placed in: a part of a mosaic, of a slice, or of the project."""

    part: Part
    slice: int | None = None
    mosaic: int | None = None

    @property
    def order(self) -> tuple[int, bool, int, int]:
        """Sorts zones by part, slice and mosaic, those without a slice last."""
        return self.part, self.slice is None, self.slice or 0, self.mosaic or 0


def neighbours(
    ids: Iterable[str], edges: Iterable[tuple[str, str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What each job waits for, and what waits for it."""
    before: dict[str, list[str]] = {node_id: [] for node_id in ids}
    after: dict[str, list[str]] = {node_id: [] for node_id in before}
    for start, end in edges:
        before[end].append(start)
        after[start].append(end)
    return before, after


def topological_order(ids: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """Jobs in an order in which none comes before what it waits for.

    Raises
    ------
    graphlib.CycleError
        A ``ValueError``: jobs wait for each other.
    """
    before, _ = neighbours(sorted(ids), sorted(edges))
    return list(TopologicalSorter(before).static_order())


def needed_edges(graph: Graph) -> Edges:
    """Leave out arrows that others imply (the transitive reduction).

    A mosaic waits for each of its batches and for the template, which waits for the same batches:
    the picture says so with half of the arrows.
    """
    ids = [node.id for node in graph.nodes]
    bit = {node_id: 1 << i for i, node_id in enumerate(ids)}
    _, after = neighbours(ids, graph.edges)
    # One integer per job holds the set of all that waits for it, one bit each.
    reached: dict[str, int] = {}
    for node_id in reversed(topological_order(ids, graph.edges)):
        reached[node_id] = 0
        for successor in after[node_id]:
            reached[node_id] |= bit[successor] | reached[successor]
    kept = []
    for start, end in sorted(set(graph.edges)):
        others = (successor for successor in after[start] if successor != end)
        if not any(reached[other] & bit[end] for other in others):
            kept.append((start, end))
    return tuple(kept)


def place_in_zones(graph: Graph, edges: Edges) -> dict[str, Zone]:
    """The zone of every job.

    A job lies where its ids say, but never above what it waits for: a mosaic's job that waits for
    its slice is drawn with the slice. Project-wide jobs that mosaics need (the template, the focus
    plane) are drawn in the mosaic they were computed from, the others at the bottom.
    """
    ids = [node.id for node in graph.nodes]
    node_of = {node.id: node for node in graph.nodes}
    before, after = neighbours(ids, edges)
    order = topological_order(ids, edges)

    zones: dict[str, Zone] = {
        node.id: _own_zone(node) for node in graph.nodes if not _is_project_wide(node)
    }
    fed_mosaics: dict[str, Zone | None] = {}
    for node_id in reversed(order):
        zone = zones.get(node_id)
        found = [fed for s in after[node_id] if (fed := fed_mosaics[s]) is not None]
        if zone is not None and zone.part <= Part.MOSAIC:
            found = [Zone(Part.MOSAIC, zone.slice, zone.mosaic)]
        fed_mosaics[node_id] = min(found, key=lambda z: z.order, default=None)

    for node_id in order:
        sources = [zones[source] for source in before[node_id]]
        if node_id not in zones:
            zones[node_id] = _project_zone(sources, fed_mosaics[node_id])
        elif zones[node_id].part is Part.BATCHES:
            continue
        highest = max((source.part for source in sources), default=Part.MOSAIC)
        if highest > zones[node_id].part:
            node = node_of[node_id]
            is_in_slice = highest is Part.SLICE
            zones[node_id] = Zone(highest, node.slice if is_in_slice else None)
    return zones


def _is_project_wide(node: Node) -> bool:
    return node.slice is None and node.mosaic is None and node.batch is None


def _own_zone(node: Node) -> Zone:
    if node.batch is not None:
        return Zone(Part.BATCHES, node.slice, node.mosaic)
    if node.mosaic is not None:
        return Zone(Part.MOSAIC, node.slice, node.mosaic)
    return Zone(Part.SLICE, node.slice)


def _project_zone(sources: list[Zone], fed_mosaic: Zone | None) -> Zone:
    if any(source.part > Part.MOSAIC for source in sources):
        return Zone(Part.PROJECT)
    mosaics = {Zone(Part.MOSAIC, source.slice, source.mosaic) for source in sources}
    if len(mosaics) == 1 or (mosaics and fed_mosaic is not None):
        return min(mosaics, key=lambda zone: zone.order)
    return fed_mosaic or Zone(Part.PROJECT)


def assign_rows(zones: dict[str, Zone], edges: Edges) -> dict[str, int]:
    """The row of every job below the batches, from 1; batches themselves are in row 0.

    Rows are common to the whole picture, so that an arrow from one mosaic to another only crosses
    the space between two rows. Slices start below the last mosaic row, the project below the last
    slice row. A zone has at most `BOXES_PER_ROW` jobs in a row; those with the longest way to go
    come first.
    """
    before, after = neighbours(zones, edges)
    order = topological_order(zones, edges)
    to_go: dict[str, int] = {}
    for node_id in reversed(order):
        to_go[node_id] = 1 + max((to_go[s] for s in after[node_id]), default=0)

    rows = {node_id: 0 for node_id, zone in zones.items() if zone.part is Part.BATCHES}
    for part in (Part.MOSAIC, Part.SLICE, Part.PROJECT):
        first = 1 + max(rows.values(), default=0)
        members = {node_id for node_id, zone in zones.items() if zone.part is part}
        open_sources = {n: sum(source in members for source in before[n]) for n in members}
        queue = [(-to_go[n], n) for n in sorted(members) if not open_sources[n]]
        heapq.heapify(queue)
        taken: dict[tuple[Zone, int], int] = {}
        while queue:
            _, node_id = heapq.heappop(queue)
            row = max([first, *(rows[source] + 1 for source in before[node_id])])
            while taken.get((zones[node_id], row), 0) >= BOXES_PER_ROW:
                row += 1
            taken[zones[node_id], row] = taken.get((zones[node_id], row), 0) + 1
            rows[node_id] = row
            for successor in after[node_id]:
                if successor in members:
                    open_sources[successor] -= 1
                    if not open_sources[successor]:
                        heapq.heappush(queue, (-to_go[successor], successor))
    return rows
