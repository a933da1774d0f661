"""Section ``watch``: when raw data counts as complete, and how the watcher looks for it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from opticstream_smk.config.section import Section
from opticstream_smk.host.priority import parse_nice

Command = Annotated[tuple[str, ...], Field(min_length=1)]


class WatchSection(Section):
    """How raw data is discovered."""

    min_file_bytes: int = Field(
        default=102400, ge=1, description="Smaller files are not tiles (yet) and are ignored."
    )
    stability_s: float = Field(
        default=15.0,
        ge=0,
        le=86400,
        description="A batch or strip is complete when its files have not changed for this long.",
    )
    poll_interval_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Seconds between two looks at the source folders. Looking is the truth; events "
        "of the file system only make the next look come sooner.",
    )
    observer: Literal["auto", "poll", "native"] = Field(
        default="auto",
        description="`native`: events of the operating system wake the watcher; `poll`: none do; "
        "`auto`: native where it can be had. Network file systems send no events.",
    )
    incomplete_timeout_s: float = Field(
        default=900.0,
        gt=0,
        le=604800,
        description="A batch that lacks tiles and has not changed for this long is reported; if "
        "mosaic.allow_missing_tiles covers what is missing, it is processed without them.",
    )
    recheck_s: float = Field(
        default=3600.0,
        gt=0,
        le=604800,
        description="How often the raw files of finished batches are compared with what was "
        "processed. In between only new names and new files are noticed.",
    )
    refresh: str | None = Field(
        default=None,
        description="Hook that runs after each batch that was processed, by name; built in are "
        "none, sas, sas2, sas3 (unmount and mount the acquisition's disk).",
    )
    refresh_hooks: dict[str, tuple[Command, ...]] = Field(
        default={},
        description="More hooks: name to commands (lists of words) that run one after the other.",
    )
    path_map: dict[str, Path] = Field(
        default={},
        description="Folders as the acquisition host names them to where they are mounted here, "
        "such as `D:/: /mnt/acquisition`. Used for source folders.",
    )
    protect_process: str | None = Field(
        default=None,
        description="Name of the acquisition software when it runs on this host, such as "
        "AndorSolis; the watcher keeps its priority up.",
    )
    protect_priority: str = Field(
        default="high",
        description="Its priority: idle, below_normal, normal, above_normal, high, realtime, or a "
        "nice value from -20 to 19.",
    )

    @field_validator("protect_priority", mode="before")
    @classmethod
    def _priority_parses(cls, value: object) -> object:
        text = str(value) if isinstance(value, int) else value  # YAML reads -5 as a number
        if isinstance(text, str):
            parse_nice(text)
        return text
