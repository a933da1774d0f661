"""``optic-trigger watch``: look at the source folders and have everything made as it arrives."""

import argparse
from pathlib import Path
from typing import Any

from opticstream_smk.cli.options import add_config
from opticstream_smk.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    parser.add_argument(
        "--direct",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="start snakemake for what is ready (PS-OCT: yes); --no-direct only enters it into the "
        "queue, with its event (LSM: so)",
    )
    parser.add_argument(
        "--until-idle", type=float, metavar="S", help="end when nothing has happened for S seconds"
    )
    parser.add_argument("--heartbeat", type=Path, metavar="FILE", help="rewritten at each look")
    parser.add_argument(
        "--profile",
        default="zircon",
        metavar="NAME",
        help="snakemake profile, a name or a folder (zircon)",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    again = parser.add_argument_group("what is there already")
    again.add_argument(
        "--force-resend",
        action="store_true",
        help="enter every batch again and process it anew, once for each state of its files",
    )
    again.add_argument(
        "--reprocess-changed",
        action="store_true",
        help="process the new files of finished batches; else they are reported and results kept",
    )
    instead = parser.add_argument_group("instead of what the configuration says")
    instead.add_argument("--stability-seconds", type=float, metavar="S")
    instead.add_argument("--poll-interval", type=float, metavar="S")
    instead.add_argument("--observer", choices=("auto", "poll", "native"))
    instead.add_argument(
        "--incomplete-timeout",
        type=float,
        metavar="S",
        help="report (or, as allowed, process) a batch that stays incomplete for so long",
    )
    instead.add_argument(
        "--allow-missing",
        nargs="?",
        type=int,
        const=10**9,
        metavar="N",
        help="go on when at most N tiles of a mosaic are missing (no N: any number)",
    )
    instead.add_argument("--refresh", metavar="NAME", help="hook to run after each batch")
    instead.add_argument(
        "--slice-offset", type=int, metavar="N", help="added to the slice numbers of every source"
    )
    instead.add_argument(
        "--mosaic-ranges", metavar="A:B[,C:D]", help="mosaics to take, of every source"
    )
    instead.add_argument(
        "-p", "--process", metavar="NAME", help="acquisition software whose priority is kept up"
    )
    instead.add_argument("-l", "--priority", metavar="CLASS", help="its priority")
    instead.add_argument("--no-pp", action="store_true", help="leave priorities alone")


def run(arguments: argparse.Namespace) -> int:
    """Run the command. With --until-idle, exit code 3 when something failed."""
    from opticstream_smk.config import find_config
    from opticstream_smk.trigger.options import WatchOptions, load_with
    from opticstream_smk.trigger.watch import Watcher
    from opticstream_smk.workflow import find_profile

    path = find_config(arguments.config)
    overrides = tuple(_overrides(arguments))
    config = load_with(path, overrides)
    options = WatchOptions(
        direct=_direct(arguments.direct, config.project.pipeline),
        profile=find_profile(arguments.profile),
        force=arguments.force_resend,
        replace_results=arguments.reprocess_changed,
        allow_missing=arguments.allow_missing,
        overrides=overrides,
        until_idle_s=arguments.until_idle,
        heartbeat=arguments.heartbeat,
    )
    return Watcher(path, options).run()


def _direct(asked: bool | None, pipeline: str) -> bool:
    if pipeline == "lsm":
        if asked:
            raise ConfigError(
                "--direct: light-sheet strips are only entered into the queue by this version; "
                "leave the option out"
            )
        return False
    return True if asked is None else asked


def _overrides(arguments: argparse.Namespace) -> list[tuple[str, str, Any]]:
    """Section, key and value of what the command line says instead of the configuration."""
    given = {
        ("watch", "stability_s"): arguments.stability_seconds,
        ("watch", "poll_interval_s"): arguments.poll_interval,
        ("watch", "observer"): arguments.observer,
        ("watch", "incomplete_timeout_s"): arguments.incomplete_timeout,
        ("watch", "refresh"): arguments.refresh,
        ("watch", "protect_process"): arguments.process,
        ("watch", "protect_priority"): arguments.priority,
        ("sources", "slice_offset"): arguments.slice_offset,
        ("sources", "mosaic_ranges"): arguments.mosaic_ranges,
    }
    chosen = [(*place, value) for place, value in given.items() if value is not None]
    if arguments.no_pp:
        chosen.append(("watch", "protect_process", None))
    return chosen
