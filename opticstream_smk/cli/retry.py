"""``optic-trigger retry``: have what failed tried again at once."""

import argparse
from typing import TYPE_CHECKING

from opticstream_smk.cli.options import add_config, given_config
from opticstream_smk.errors import ConfigError, IncompleteInputError

if TYPE_CHECKING:
    from opticstream_smk.report.look import Look
    from opticstream_smk.state.places import Place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    parser.add_argument("--slice", type=int, metavar="S", help="this slice with all its mosaics")
    parser.add_argument("--mosaic", type=int, metavar="M", help="this mosaic with all its batches")
    parser.add_argument("--batch", type=int, metavar="B", help="only this batch of --mosaic")
    parser.add_argument("-a", "--all", action="store_true", help="everything that failed")


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Exit code 3 when nothing there has failed."""
    from opticstream_smk.plan import project_state
    from opticstream_smk.report.look import Look
    from opticstream_smk.state.failures import drop_failure

    config = given_config(arguments)
    asked = _asked(arguments)
    if config.project.pipeline == "lsm":
        raise ConfigError(
            f"{config.project.name} is a light-sheet project: the watcher takes a strip by itself "
            "once its folder is mended; there is nothing to retry"
        )
    look = Look(config)
    places = [
        place
        for place in sorted(look.listing.with_state("failed"), key=str)
        if all(getattr(place, name) == number for name, number in asked.items())
    ]
    # What runs now is the next attempt already: releasing it would be forgotten at its end.
    failures = {place: look.failures_at(place) for place in places}
    at_work = {place for place, _, _ in look.running()}
    running = [place for place in places if place in at_work and not failures[place]]
    released = []
    with project_state(config).open_project() as project:
        for place in places:
            node = project.node(place)
            if place in running or not node.has("failed"):
                continue
            if place in at_work:  # on something else than what failed
                for failure in failures[place]:
                    drop_failure(node, failure.flag)
            else:
                node.drop("failed")
            released.append(place)
    for place in running:
        print(f"running  {place}: it is being tried again now")
    if not released and not running:
        raise IncompleteInputError(
            f"nothing to retry: no failure is recorded for {_told(asked)} in "
            f"{config.project.dir}. `optic-trigger status` lists what failed."
        )
    for place in released:
        print(f"released {place}{_why(look, place)}")
    print(_next(look))
    return 0


def _asked(arguments: argparse.Namespace) -> dict[str, int]:
    asked = {
        name: value
        for name in ("slice", "mosaic", "batch")
        if (value := getattr(arguments, name)) is not None
    }
    if bool(asked) == arguments.all:
        raise ConfigError(
            "name what to retry by --slice, --mosaic or --mosaic with --batch, or everything by "
            "--all"
        )
    if "batch" in asked and "mosaic" not in asked:
        raise ConfigError("--batch needs --mosaic: batches of all mosaics have the same numbers")
    return asked


def _told(asked: dict[str, int]) -> str:
    return " ".join(f"{name} {number}" for name, number in asked.items()) or "anything"


def _why(look: "Look", place: "Place") -> str:
    failure = look.failure(place)
    return f": {failure.stage}, {failure.told_attempt()}" if failure else ""


def _next(look: "Look") -> str:
    watching = look.watching
    if not watching.is_running:
        return "next: snakemake --profile zircon   (no watcher is running)"
    if watching.pause is not None:
        return f"next: optic-trigger resume   (paused {watching.pause})"
    poll_s = look.config.watch.poll_interval_s
    return f"next: nothing to type; the watcher takes it within {poll_s:g} s"
