"""``optic-trigger systemd``: a unit that runs the watcher of a project as a service."""

import argparse
import sys
from pathlib import Path

from opticstream_smk.cli.options import add_config

# The watcher beats at each look, at most every hour by configuration; two beats may be missed.
_WATCHDOG_LOOKS = 3
_WATCHDOG_LEAST_S = 120

_UNIT = """\
# Watcher of {name}. As a user service (no root needed):
#   optic-trigger systemd --config {config} > ~/.config/systemd/user/{unit}
#   systemctl --user daemon-reload && systemctl --user enable --now {unit}
#   loginctl enable-linger     (so that it also runs while nobody is logged in)
[Unit]
Description=opticstream-smk watcher of {name}
After=network-online.target remote-fs.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} watch --config {config}
# First the watcher alone: it lets running jobs finish. What then still lives is ended.
KillMode=mixed
TimeoutStopSec=2h
Restart=on-failure
RestartSec=5
# A wrong configuration: trying again does not help.
RestartPreventExitStatus=2
WatchdogSec={watchdog}

[Install]
WantedBy=default.target
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the unit."""
    from opticstream_smk.config import find_config, load_config

    path = find_config(arguments.config)
    config = load_config(path)
    watchdog = max(_WATCHDOG_LEAST_S, int(_WATCHDOG_LOOKS * config.watch.poll_interval_s))
    print(
        _UNIT.format(
            name=config.project.name.replace("%", "%%"),
            unit=f"opticstream-{_unit_name(config.project.name)}.service",
            command=_quoted(Path(sys.executable).with_name("optic-trigger")),
            config=_quoted(path),
            watchdog=watchdog,
        ),
        end="",
    )
    return 0


def _unit_name(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in text)


def _quoted(path: Path) -> str:
    """A path as systemd reads it: quoted, with its escapes and specifiers doubled."""
    text = str(path)
    for char in ("\\", '"'):
        text = text.replace(char, "\\" + char)
    return '"' + text.replace("%", "%%").replace("$", "$$") + '"'
