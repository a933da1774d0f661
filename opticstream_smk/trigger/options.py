"""What the command line of the watcher asks for beside the configuration."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opticstream_smk.config import Config
from opticstream_smk.config.load import check_config, read_yaml


@dataclass(frozen=True)
class WatchOptions:
    """What the command line asks for beside the configuration.

    Attributes
    ----------
    direct
        Start snakemake; else only enter batches into the queue and append the event.
    profile
        Profile folder for snakemake.
    force
        Enter everything that is there again, once.
    replace_results
        Process the new files of finished batches.
    allow_missing
        Tiles that a mosaic may lack; None: as configured.
    overrides
        Values of the configuration that the command line replaces, by section and key.
    until_idle_s
        End after nothing has happened for so long.
    heartbeat
        File that is rewritten at each look.
    """

    direct: bool
    profile: Path
    force: bool = False
    replace_results: bool = False
    allow_missing: int | None = None
    overrides: tuple[tuple[str, str, Any], ...] = ()
    until_idle_s: float | None = None
    heartbeat: Path | None = None


def load_with(path: Path, overrides: Iterable[tuple[str, str, Any]]) -> Config:
    """Load a configuration in which some values are replaced.

    Parameters
    ----------
    overrides
        Section, key and value; section ``sources`` means every source folder.

    Raises
    ------
    ConfigError
        The file or a value is wrong.
    """
    values = read_yaml(path)
    for section, key, value in overrides:
        if section == "sources":
            acquisition = values.get("acquisition")
            sources = acquisition.get("sources") if isinstance(acquisition, dict) else None
            for source in sources if isinstance(sources, list) else ():
                if isinstance(source, dict):
                    source[key] = value
        elif isinstance(values.setdefault(section, {}), dict):
            values[section][key] = value
    return check_config(values, path)
