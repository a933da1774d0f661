"""What a picture holds, before anything has a place: batches, boxes, and the ways between them."""

from dataclasses import dataclass
from functools import cached_property

from opticstream_smk.dag.drawing import text_width
from opticstream_smk.dag.graph import Graph, Node
from opticstream_smk.dag.matrix import Matrix, arrange_batches
from opticstream_smk.dag.order import Edges, Part, Zone, assign_rows, needed_edges, place_in_zones

TEXT_PX = 13
LINE_HEIGHT = 16.0
BOX_PADDING = 10.0
ICON_ROOM = 26.0
LANE_WIDTH = 8.0

MosaicKey = tuple[int | None, int | None]


@dataclass(frozen=True)
class Net:
    """All arrows from one box, or from one outlet of batches; they share their way.

    Attributes
    ----------
    source
        Id of the job, or a name for the outlet.
    zone, row
        Where the source lies; outlets are in row 0.
    targets
        Ids of the jobs, all in rows below.
    last_row
        The lowest row of a target.
    outlet
        The mosaic and the number of its outlet.
    """

    source: str
    zone: Zone
    row: int
    targets: tuple[str, ...]
    last_row: int
    outlet: tuple[MosaicKey, int] | None = None


@dataclass(frozen=True)
class Item:
    """Something with a place in a row: a box, or a lane for a net that passes by."""

    name: str
    width: float
    node: Node | None = None
    net: Net | None = None


class Content:
    """A graph sorted into the parts of its picture.

    Raises
    ------
    ValueError
        Jobs wait for each other.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.edges: Edges = needed_edges(graph)
        self.zones = place_in_zones(graph, self.edges)
        self.row_of = assign_rows(self.zones, self.edges)

    @cached_property
    def mosaics(self) -> list[MosaicKey]:
        """Mosaics in drawing order."""
        keys = {(z.slice, z.mosaic) for z in self.zones.values() if z.part <= Part.MOSAIC}
        return sorted(keys, key=lambda key: Zone(Part.MOSAIC, *key).order)

    @cached_property
    def slices(self) -> list[int | None]:
        """Slices in drawing order."""
        found = {zone.slice for zone in self.zones.values() if zone.part <= Part.SLICE}
        return sorted(found, key=lambda number: Zone(Part.SLICE, number).order)

    @cached_property
    def batches(self) -> dict[MosaicKey, list[Node]]:
        """Jobs of the batches of each mosaic."""
        members: dict[MosaicKey, list[Node]] = {}
        for node in self.graph.nodes:
            zone = self.zones[node.id]
            if zone.part is Part.BATCHES:
                members.setdefault((zone.slice, zone.mosaic), []).append(node)
        return members

    @cached_property
    def matrices(self) -> dict[MosaicKey, Matrix]:
        """The batches of each mosaic, laid out but not yet in the picture."""
        matrices = {}
        for key, nodes in self.batches.items():
            own = {node.id for node in nodes}
            edges = [
                (start, end)
                for start, end in self.edges
                if start in own and (end in own or self.row_of[end] > 0)
            ]
            matrices[key] = arrange_batches(nodes, edges, self.graph.batch_word)
        return matrices

    @cached_property
    def last_row(self) -> dict[Part, int]:
        """The last row of each part; that of the part above where a part is empty."""
        last = {Part.BATCHES: 0}
        for part in (Part.MOSAIC, Part.SLICE, Part.PROJECT):
            own = [self.row_of[n] for n, zone in self.zones.items() if zone.part is part]
            last[part] = max([last[Part(part - 1)], *own])
        return last

    @cached_property
    def nets(self) -> list[Net]:
        """The ways below the batches."""
        nets = []
        for key, matrix in self.matrices.items():
            for number, outlet in enumerate(matrix.outlets):
                targets = tuple(sorted(outlet.targets))
                last = max(self.row_of[target] for target in targets)
                zone = Zone(Part.MOSAIC, *key)
                nets.append(Net(f"{key} {number}", zone, 0, targets, last, (key, number)))
        below: dict[str, list[str]] = {}
        for start, end in self.edges:
            if 0 < self.row_of[start] < self.row_of[end]:
                below.setdefault(start, []).append(end)
        for start, ends in sorted(below.items()):
            last = max(self.row_of[end] for end in ends)
            row = self.row_of[start]
            nets.append(Net(start, self.zones[start], row, tuple(sorted(ends)), last))
        return nets

    @cached_property
    def loose_edges(self) -> list[tuple[str, str]]:
        """Arrows that the layout has no way for: between batches, or up to one."""
        drawn = {edge for matrix in self.matrices.values() for edge in matrix.drawn}
        drawn |= {(net.source, end) for net in self.nets for end in net.targets}
        return [edge for edge in self.edges if edge not in drawn]

    @cached_property
    def items(self) -> dict[tuple[Zone, int], list[Item]]:
        """Boxes and lanes by zone and row."""
        items: dict[tuple[Zone, int], list[Item]] = {}
        for node in self.graph.nodes:
            zone = self.zones[node.id]
            if zone.part is not Part.BATCHES:
                item = Item(node.id, self.box_size(node)[0], node=node)
                items.setdefault((zone, self.row_of[node.id]), []).append(item)
        for net in self.nets:
            for row in range(net.row + 1, net.last_row):
                lane = Item(f"{net.source} lane", LANE_WIDTH, net=net)
                items.setdefault((self._lane_zone(net.zone, row), row), []).append(lane)
        return items

    def _lane_zone(self, source: Zone, row: int) -> Zone:
        if row <= self.last_row[Part.MOSAIC]:
            return source
        if row <= self.last_row[Part.SLICE]:
            return Zone(Part.SLICE, source.slice)
        return Zone(Part.PROJECT)

    def box_lines(self, node: Node) -> list[str]:
        """What a box below the batches says; names what its place does not."""
        lines = node.label.split("\n")
        part = self.zones[node.id].part
        if node.slice is not None and part is Part.PROJECT:
            lines.append(f"slice {node.slice}")
        if node.mosaic is not None and part > Part.MOSAIC:
            lines.append(f"{self.graph.mosaic_word} {node.mosaic}")
        return lines

    def box_size(self, node: Node) -> tuple[float, float]:
        """Width and height in px."""
        lines = self.box_lines(node)
        width = ICON_ROOM + max(text_width(line, TEXT_PX) for line in lines) + BOX_PADDING
        return width, len(lines) * LINE_HEIGHT + BOX_PADDING
