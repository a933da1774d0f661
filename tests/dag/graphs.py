"""Graphs with the shape of real plans, in any size."""

from graphlib import TopologicalSorter

from opticstream_smk.dag.graph import Graph, Node, State

ACQUISITIONS = ("normal", "tilted", "other")


class _Builder:
    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, node_id, label, level, place, *sources) -> str:
        rule = label.split("\n")[0]
        self.nodes[node_id] = Node(node_id, rule, label, level, *place, "pending", (node_id,))
        self.edges += [(source, node_id) for source in sources]
        return node_id


def slices_graph(slices=1, mosaics=2, batches=3, *, with_services=False) -> Graph:
    """Slices of a PS-OCT project; services add archive, QC, volumes, publishing and upload."""
    build = _Builder()
    for number in range(1, slices + 1):
        stitched = []
        for i in range(mosaics):
            mosaic = (number - 1) * mosaics + i + 1
            stitched.append(
                _add_mosaic(build, number, mosaic, ACQUISITIONS[i], batches, with_services)
            )
        place = (number, None, None)
        flag = f"state/slice-{number:02d}"
        registered = build.add(f"{flag}.registered", "register_slice", "slice", place, *stitched)
        if with_services:
            build.add(f"{flag}.published", "publish_slice", "slice", place, registered)
            if number == 1:
                build.add("state/stack-ret.stacked", "stack_slices\nret", "project", [None] * 3)
            build.edges.append((registered, "state/stack-ret.stacked"))
    return with_progress(Graph(tuple(build.nodes.values()), tuple(build.edges)))


def _add_mosaic(build, number, mosaic, acquisition, batches, with_services) -> str:
    folder = f"mosaic-{mosaic:02d}/state"
    processed, archived = [], []
    for batch in range(1, batches + 1):
        place = (number, mosaic, batch)
        flag = f"{folder}/batch-{batch:03d}"
        converted = build.add(f"{flag}.complex", "convert_complex", "batch", place)
        processed.append(build.add(f"{flag}.processed", "process_tiles", "batch", place, converted))
        if with_services:
            archived.append(build.add(f"{flag}.archived", "archive_batch", "batch", place))
            build.add(f"{flag}.qc", "qc_tiles", "batch", place, processed[-1])
            sources = (processed[-1], archived[-1])
            build.add(f"{flag}.uploaded", "upload_batch", "batch", place, *sources)
    place = (number, mosaic, None)
    flag = f"{folder}/mosaic-{mosaic:02d}"
    template = f"state/tilemap-{acquisition}.solved"
    if number == 1:
        nowhere = (None, None, None)
        label = f"solve_coordinates\n{acquisition}"
        build.add(template, label, "project", nowhere, *processed)
    sources = (template, *processed)
    stitched = build.add(f"{flag}.stitched", "stitch_enface", "mosaic", place, *sources)
    build.add(f"report/mosaic-{mosaic:02d}.jpg", "qc_mosaic", "picture", place, stitched)
    if with_services:
        volumes = [
            build.add(f"{flag}.volume_{m}", f"stitch_volume\n{m}", "mosaic", place, stitched)
            for m in ("dBI", "R3D", "O3D")
        ]
        published = build.add(f"{flag}.published", "publish_mosaic", "mosaic", place, *volumes)
        sources = (published, *archived)
        build.add(f"{flag}.released", "release_mosaic", "mosaic", place, *sources)
    return stitched


def with_progress(graph: Graph) -> Graph:
    """Every state occurs once the graph is large enough: jobs are done in order, up to a point."""
    before: dict[str, list[str]] = {node.id: [] for node in graph.nodes}
    for start, end in graph.edges:
        before[end].append(start)
    states: dict[str, State] = {}
    for i, node_id in enumerate(TopologicalSorter(before).static_order()):
        if any(states[source] != "done" for source in before[node_id]):
            states[node_id] = "pending"
        else:
            states[node_id] = ("done", "done", "running", "done", "ready", "done", "failed")[i % 7]
    nodes = tuple(
        Node(**{**vars(node), "state": states[node.id]})
        for node in sorted(graph.nodes, key=lambda n: n.id)
    )
    return Graph(nodes, graph.edges)
