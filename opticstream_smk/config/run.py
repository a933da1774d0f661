"""Section ``run``: how work is run on this host."""

from pydantic import Field

from opticstream_smk.config.section import Section


class RunSection(Section):
    """Threads of the heavy stages."""

    tile_threads: int = Field(
        default=1, ge=1, le=1024, description="Threads of one batch of tiles."
    )
    stitch_threads: int = Field(default=1, ge=1, le=1024, description="Threads of one stitching.")
    register_threads: int = Field(
        default=2, ge=1, le=1024, description="Threads of one registration."
    )
