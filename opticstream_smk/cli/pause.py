"""``optic-trigger pause``: have the watcher start nothing new."""

import argparse

from opticstream_smk.cli.options import add_config, given_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="for the others, who see it in `status`"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.plan import project_layout
    from opticstream_smk.state import locks
    from opticstream_smk.trigger.control import pause, paused

    layout = project_layout(given_config(arguments))
    before = paused(layout)
    now = pause(layout, arguments.reason)
    print(f"{'was paused before, ' if before == now else 'paused '}{now}")
    if locks.is_held(layout.watcher_lock):
        print("what runs is finished; new files are seen and wait")
    else:
        print("no watcher is running; one that is started now stays paused")
    print("next: optic-trigger resume")
    return 0
