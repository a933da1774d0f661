"""Section ``project``: what the project is called and where it lies."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from opticstream_smk.config.section import Section
from opticstream_smk.naming.archive import subject_label


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
    dandiset_dir: Path | None = Field(
        default=None,
        description="Local folder of the dandiset that results are published in, as links. Null: "
        "none.",
    )
    subject: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]+$",
        description="Subject in names of the dandiset. Null: letters and digits of `name`.",
    )

    @property
    def subject_label(self) -> str:
        """Subject as names have it."""
        return self.subject or subject_label(self.name)
