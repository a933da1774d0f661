"""Section ``lsm``: light-sheet strips."""

from pydantic import Field

from opticstream_smk.config.section import Section


class LsmSection(Section):
    """What the light-sheet host writes: one folder of camera files for each strip."""

    folder_prefix: str = Field(
        default="Run",
        pattern=r"^[A-Za-z]+$",
        description="Strip folders begin with it, upper or lower case: Run1, Run1_2, Run1_C2_2.",
    )
    min_files: int = Field(
        default=101, ge=1, description="A folder with fewer files is no strip (yet)."
    )
    strips_per_slice: int = Field(
        default=1,
        ge=1,
        le=9999,
        description="Strips of one slice; with more than one, the strip numbers of a run go on "
        "from slice to slice.",
    )
