"""``optic-trigger resume``: let the watcher start work again."""

import argparse

from opticstream_smk.cli.options import add_config, given_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.plan import project_layout
    from opticstream_smk.state import locks
    from opticstream_smk.trigger.control import paused, resume

    config = given_config(arguments)
    layout = project_layout(config)
    before = paused(layout)
    if resume(layout):
        print(f"resumed; it was paused {before}" if before else "resumed")
    else:
        print("it is not paused")
    if locks.is_held(layout.watcher_lock):
        print(f"the watcher goes on within {config.watch.poll_interval_s:g} s")
    else:
        print("next: optic-trigger watch   (no watcher is running)")
    return 0
