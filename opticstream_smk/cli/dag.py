"""``optic-trigger dag``: the pipeline of a project as a picture, coloured by state."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from opticstream_smk.cli.options import add_config

if TYPE_CHECKING:
    from opticstream_smk.dag import State
    from opticstream_smk.layout import ProjectLayout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    parser.add_argument("--slice", type=int, metavar="N", help="only this slice")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".svg, .png or .mmd"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.config import find_config, load_config
    from opticstream_smk.dag import (
        check_suffix,
        plan_jobs,
        restrict_to_slice,
        snakemake_graph,
        write_dag,
    )
    from opticstream_smk.errors import IncompleteInputError
    from opticstream_smk.plan import project_layout
    from opticstream_smk.workflow import workflow_folder

    check_suffix(arguments.output)
    path = find_config(arguments.config)
    config = load_config(path)
    layout = project_layout(config)
    if not layout.root.is_dir():
        raise IncompleteInputError(
            f"there is no project folder {layout.root} yet; run `optic-trigger scan`"
        )
    plan = plan_jobs(
        workflow_folder() / "Snakefile", workdir=layout.root, configfiles=[path], targets=["all"]
    )
    # A plan of everything names what an earlier version stitched without, and nobody needs.
    jobs = tuple(job for job in plan.jobs if not _is_needless(layout, job.outputs))
    graph = snakemake_graph(
        replace(plan, jobs=jobs),
        lambda outputs: _state(layout, outputs),
        mosaics_per_slice=config.acquisition.mosaics_per_slice,
    )
    title = config.project.name
    if arguments.slice is not None:
        graph = restrict_to_slice(graph, arguments.slice)
        title += f", slice {arguments.slice:02d}"
    if not graph.nodes:
        raise IncompleteInputError(
            f"{title}: no batch is ready, so there is nothing to draw; run `optic-trigger scan`"
        )
    write_dag(graph, arguments.output, title=title)
    print(arguments.output)
    return 0


def _is_needless(layout: "ProjectLayout", outputs: tuple[str, ...]) -> bool:
    """Whether a job would make coordinates of a mosaic that was stitched without them."""
    path = layout.root / outputs[0] if outputs else layout.root
    if path.suffix != ".coordinates" or path.exists():
        return False
    return path.with_suffix(".stitched").exists()


def _state(layout: "ProjectLayout", outputs: tuple[str, ...]) -> "State":
    """State of a job by the flag or picture that it makes."""
    from opticstream_smk.state import locks
    from opticstream_smk.state.failures import failures_in
    from opticstream_smk.state.flags import read_flag
    from opticstream_smk.state.places import flag_path, parse_flag_path

    path = layout.root / outputs[0]
    if path.exists():
        return "done"
    if locks.is_held(layout.lock(path)):
        return "running"
    parsed = parse_flag_path(path)
    if parsed is None:
        return "pending"
    place, _ = parsed
    if place.level == "batch" and not flag_path(layout, place, "ready").exists():
        return "pending"
    if place.level != "tilemap" and any(
        failure.extra.get("flag") == path.name
        for failure in failures_in(read_flag(flag_path(layout, place, "failed")))
    ):
        return "failed"
    return "ready" if place.level == "batch" else "pending"
