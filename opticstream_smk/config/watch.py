"""Section ``watch``: when raw data counts as complete."""

from pydantic import Field

from opticstream_smk.config.section import Section


class WatchSection(Section):
    """How raw tiles are discovered."""

    min_file_bytes: int = Field(
        default=102400, ge=1, description="Smaller files are not tiles (yet) and are ignored."
    )
    stability_s: float = Field(
        default=15.0,
        ge=0,
        le=86400,
        description="A batch is complete when its files have not changed for this long.",
    )
