"""Section ``mosaic.fiji``: how Fiji is started."""

from pathlib import Path

from pydantic import Field, field_validator

from opticstream_smk.config.section import Section

MACRO = "{macro}"
MEMORY = "{memory_mb}"


class FijiSection(Section):
    """How ``mosaic.method: fiji`` runs Fiji's "Grid/Collection stitching"."""

    executable: Path | None = Field(
        default=None,
        description="Fiji's launcher, such as /opt/Fiji.app/ImageJ-linux64, or its name if it is "
        "on the PATH. Needed by method `fiji`.",
    )
    arguments: tuple[str, ...] = Field(
        default=("--headless", "--console", "--mem={memory_mb}M", "-macro", MACRO),
        description="Its arguments, without a shell. {macro} stands for the file of the macro, "
        "{memory_mb} for java_memory_mb.",
    )
    java_memory_mb: int = Field(
        default=4000,
        ge=256,
        le=1_000_000,
        description="Memory of Java in MB; Fiji holds all tiles of a mosaic.",
    )
    timeout_s: float = Field(
        default=3600.0,
        gt=0,
        le=604800,
        description="A Fiji that has not ended after so many seconds is ended.",
    )

    @field_validator("arguments")
    @classmethod
    def _macro_has_its_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if sum(argument.count(MACRO) for argument in value) != 1:
            raise ValueError(f"{list(value)}: expected {MACRO} once, such as -macro {MACRO}")
        return value

    def words(self, macro: Path) -> list[str]:
        """Arguments for a macro."""
        memory = str(self.java_memory_mb)
        return [a.replace(MEMORY, memory).replace(MACRO, str(macro)) for a in self.arguments]
