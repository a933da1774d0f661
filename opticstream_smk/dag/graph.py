"""The plan of a project as a graph: one node per job, with its state and what it leaves on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from opticstream_smk.dag.plan import Plan, PlannedJob
from opticstream_smk.naming import slice_of_mosaic

Level = Literal["batch", "mosaic", "slice", "project", "picture"]
State = Literal["done", "ready", "running", "failed", "pending"]
Pipeline = Literal["psoct", "lsm"]

# A strip is to a light-sheet channel what a batch is to a mosaic, and is drawn in the same place.
MOSAIC_WILDCARDS = ("mosaic", "channel")
BATCH_WILDCARDS = ("batch", "strip")
# Flags lie in a folder of this name; an output that lies elsewhere is a picture of the report.
FLAG_FOLDER = "state"


@dataclass(frozen=True)
class Node:
    """One job.

    Attributes
    ----------
    id
        Unique and stable: the first output, relative to the project.
    rule
        Name of the rule, which is also the name of the stage command.
    label
        What a box shows, the rule, then what the place of the box does not say (acquisition,
        modality), one line each.
    level
        What the job is done once for; ``picture`` marks the jobs that only draw for the report.
    slice, mosaic, batch
        1-based ids, ``None`` where the job spans several. In a light-sheet project ``mosaic`` is
        the channel and ``batch`` the strip.
    state
        ``done``, ``running``, ``failed``, ``ready`` (can start now) or ``pending`` (has to wait).
    outputs
        The declared outputs, relative to the project.
    """

    id: str
    rule: str
    label: str
    level: Level
    slice: int | None
    mosaic: int | None
    batch: int | None
    state: State
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Jobs and what they wait for.

    Attributes
    ----------
    nodes
        The jobs.
    edges
        ``(from_id, to_id)``: the second job waits for the first.
    pipeline
        Decides the words only: "mosaic" and "batch", or "channel" and "strip".

    Raises
    ------
    ValueError
        Two nodes have the same id, or an edge names a node that is not there.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    pipeline: Pipeline = "psoct"

    def __post_init__(self) -> None:
        ids = {node.id for node in self.nodes}
        if len(ids) != len(self.nodes):
            raise ValueError("two nodes of the graph have the same id")
        if unknown := {end for edge in self.edges for end in edge} - ids:
            raise ValueError(f"edges name nodes that are not in the graph: {sorted(unknown)}")

    def ordered(self) -> "Graph":
        """The same graph, in an order that does not depend on who built it."""
        nodes = sorted(self.nodes, key=lambda node: node.id)
        return Graph(tuple(nodes), tuple(sorted(set(self.edges))), self.pipeline)

    @property
    def mosaic_word(self) -> str:
        """What an operator calls ``Node.mosaic``."""
        return "channel" if self.pipeline == "lsm" else "mosaic"

    @property
    def batch_word(self) -> str:
        """What an operator calls ``Node.batch``."""
        return "strip" if self.pipeline == "lsm" else "batch"


def snakemake_graph(
    plan: Plan,
    state_of: Callable[[tuple[str, ...]], State],
    *,
    mosaics_per_slice: int = 2,
) -> Graph:
    """Turn what snakemake would run into a graph.

    Rules without outputs (``all``) only name goals and are left out.

    Parameters
    ----------
    plan
        From `opticstream_smk.dag.plan.plan_jobs`; holds finished jobs too.
    state_of
        The state of the job with these outputs (paths relative to the project).
    mosaics_per_slice
        Tells the slice of a mosaic.
    """
    kept = {job.id: job for job in plan.jobs if job.outputs}
    nodes = tuple(_node(job, state_of, mosaics_per_slice) for job in kept.values())
    edges = tuple(
        (kept[before].outputs[0], kept[after].outputs[0])
        for before, after in plan.edges
        if before in kept and after in kept
    )
    is_lsm = any("channel" in job.wildcards for job in kept.values())
    return Graph(nodes, edges, "lsm" if is_lsm else "psoct").ordered()


def restrict_to_slice(graph: Graph, slice_number: int) -> Graph:
    """Keep the jobs of one slice, and the project-wide ones next to them.

    A template solved on slice 1 draws all of slice 1 into the plan of slice 3; this takes it out
    again and leaves the template.
    """
    own = {node.id for node in graph.nodes if node.slice == slice_number}
    project_wide = {node.id for node in graph.nodes if node.slice is None}
    kept = set(own)
    for before, after in graph.edges:
        if before in project_wide and after in own:
            kept.add(before)
        if before in own and after in project_wide:
            kept.add(after)
    return Graph(
        tuple(node for node in graph.nodes if node.id in kept),
        tuple(edge for edge in graph.edges if kept.issuperset(edge)),
        graph.pipeline,
    )


def _node(
    job: PlannedJob,
    state_of: Callable[[tuple[str, ...]], State],
    mosaics_per_slice: int,
) -> Node:
    wildcards = dict(job.wildcards)
    batch = _take(wildcards, BATCH_WILDCARDS)
    slice_number = _take(wildcards, ("slice",))
    mosaic = _take(wildcards, MOSAIC_WILDCARDS)
    if slice_number is None and mosaic is not None:
        slice_number, _ = slice_of_mosaic(mosaic, mosaics_per_slice)
    return Node(
        id=job.outputs[0],
        rule=job.rule,
        label="\n".join([job.rule, *wildcards.values()]),
        level=_level(job.outputs, slice_number, mosaic, batch),
        slice=slice_number,
        mosaic=mosaic,
        batch=batch,
        state=state_of(job.outputs),
        outputs=job.outputs,
    )


def _take(wildcards: dict[str, str], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in wildcards:
            return int(wildcards.pop(name))
    return None


def _level(
    outputs: tuple[str, ...], slice_number: int | None, mosaic: int | None, batch: int | None
) -> Level:
    if not any(FLAG_FOLDER in PurePosixPath(output).parts for output in outputs):
        return "picture"
    if batch is not None:
        return "batch"
    if mosaic is not None:
        return "mosaic"
    return "project" if slice_number is None else "slice"
