"""``optic-trigger status``: progress and failures, with the command to type."""

import argparse
from typing import TYPE_CHECKING, Any

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json

if TYPE_CHECKING:
    from opticstream_smk.plan import Plan
    from opticstream_smk.state.psoct import NodeView

_SIGNS = {"done": "#", "running": ">", "failed": "!", "ready": ".", "pending": " "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when something failed."""
    from opticstream_smk.plan import Plan, project_layout, project_state

    config = given_config(arguments)
    layout = project_layout(config)
    plan = Plan(config, layout)
    view = project_state(config).peek_project()
    report = _report(plan, view)
    if arguments.format == "json":
        print_json(report)
    else:
        _print(report)
    return 3 if report["failures"] else 0


def _report(plan: "Plan", view: "NodeView") -> dict[str, Any]:
    slices = [_slice(plan, n) for n in view.children if n.place and n.place.level == "slice"]
    failures = [failure for node in view.children for failure in _failures(node)]
    return {
        "project": plan.config.project.name,
        "dir": str(plan.layout.root),
        "slices": slices,
        "waiting": plan.waiting(),
        "failures": failures,
        "warnings": [warning for node in view.children for warning in _warnings(node)],
        "next": _next_command(plan, slices, failures),
    }


def _slice(plan: "Plan", node: "NodeView") -> dict[str, Any]:
    assert node.place is not None
    return {
        "slice": node.place.slice,
        "status": node.status,
        "mosaics": [_mosaic(plan, mosaic) for mosaic in node.children],
    }


def _mosaic(plan: "Plan", node: "NodeView") -> dict[str, Any]:
    assert node.place is not None
    assert node.place.mosaic is not None
    mosaic = node.place.mosaic
    by_id = {batch.place.batch: batch.status for batch in node.children if batch.place}
    return {
        "mosaic": mosaic,
        "acquisition": plan.acquisition(mosaic),
        "status": node.status,
        "batches": {batch: by_id.get(batch, "pending") for batch in plan.batches(mosaic)},
    }


def _failures(node: "NodeView") -> list[dict[str, Any]]:
    own = []
    if node.status == "failed":
        record = node.flags["failed"]
        own.append(
            {
                "where": str(node.place),
                "stage": record.stage,
                "kind": record.extra.get("kind"),
                "attempts": record.extra.get("attempts"),
                "error": record.extra.get("error"),
                "tiles": list(record.tiles.missing),
            }
        )
    return own + [failure for child in node.children for failure in _failures(child)]


def _warnings(node: "NodeView") -> list[str]:
    own = [
        f"{node.place}: {warning}"
        for flag in node.flags.values()
        for warning in flag.extra.get("warnings", ())
    ]
    return own + [warning for child in node.children for warning in _warnings(child)]


def _next_command(
    plan: "Plan", slices: list[dict[str, Any]], failures: list[dict[str, Any]]
) -> str:
    if failures:
        return "mend what the failures name, then: snakemake --profile zircon"
    from opticstream_smk.state.places import flag_path

    if any(not flag_path(plan.layout, *wanted).exists() for wanted in plan.flags()):
        return "snakemake --profile zircon"
    if not slices:
        return "optic-trigger scan"
    return "nothing to do"


def _print(report: dict[str, Any]) -> None:
    print(f"{report['project']}  {report['dir']}")
    if not report["slices"]:
        print("  nothing is ready yet")
    for slice_ in report["slices"]:
        print(f"  slice {slice_['slice']:02d}  {slice_['status']}")
        for mosaic in slice_["mosaics"]:
            batches = mosaic["batches"]
            done = sum(status == "done" for status in batches.values())
            bar = "".join(_SIGNS[status] for status in batches.values())
            print(
                f"    mosaic {mosaic['mosaic']:03d} {mosaic['acquisition']:<8} "
                f"{mosaic['status']:<8} [{bar}] {done} of {len(batches)} batches processed "
                f"({100 * done // len(batches)} %)"
            )
    print("  # processed   > running   ! failed   . ready   (blank) not acquired yet")
    for message in report["waiting"]:
        print(f"WAITING  {message}")
    for message in report["warnings"]:
        print(f"WARNING  {message}")
    for failure in report["failures"]:
        print(
            f"FAILED   {failure['where']} in {failure['stage']}, attempt {failure['attempts']}: "
            f"{failure['error']}"
        )
    print(f"next: {report['next']}")
