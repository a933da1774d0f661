"""Section ``project``: what the project is called and where it lies."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from opticstream_smk.config.section import Section


class ProjectSection(Section):
    """Name, place and kind of the project."""

    name: str = Field(
        min_length=1,
        pattern=r"^[^/\x00]+$",
        description="Name of the project; it is written into flags, events and picture titles.",
    )
    dir: Path = Field(
        description="Project folder: products, flags and logs are written there, and nowhere else."
    )
    pipeline: Literal["psoct", "lsm"] = Field(
        default="psoct", description="Microscope of this project: PS-OCT or light-sheet (LSM)."
    )
