"""Section ``run``: how work is run on this host."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from opticstream_smk.config.section import Section

Goal = Literal["batch", "mosaic", "slice", "volume", "qc", "archive"]


class RetryRule(Section):
    """How often and how soon something that failed is tried again."""

    first_s: float = Field(ge=0, le=86400, description="Seconds before the second attempt.")
    longest_s: float = Field(
        ge=0, le=604800, description="The wait doubles with each attempt up to this."
    )
    attempts: int = Field(
        ge=1, le=1000, description="After this many attempts it is set aside for a person."
    )

    def wait_s(self, attempts: int) -> float | None:
        """Seconds to wait after so many attempts; None when it is set aside."""
        if attempts >= self.attempts:
            return None
        return min(self.first_s * 2.0 ** max(attempts - 1, 0), self.longest_s)


class RetrySection(Section):
    """Retries by the kind of what went wrong."""

    data: RetryRule = Field(
        default=RetryRule(first_s=60, longest_s=900, attempts=3),
        description="A tile is damaged, a result cannot be right, the configuration is wrong.",
    )
    resource: RetryRule = Field(
        default=RetryRule(first_s=10, longest_s=900, attempts=6),
        description="A stage ended without a word: killed, out of memory.",
    )
    service: RetryRule = Field(
        default=RetryRule(first_s=30, longest_s=900, attempts=20),
        description="Disk full, folder not mounted, network.",
    )

    def rule(self, kind: str) -> RetryRule:
        """Rule for a kind of failure, as errors and records name it."""
        return {"resource": self.resource, "service": self.service}.get(kind, self.data)


class RunSection(Section):
    """Goals, limits of this host, threads, retries."""

    goals: tuple[Goal, ...] = Field(
        default=("batch", "mosaic", "slice", "volume", "qc", "archive"),
        description="What the watcher asks snakemake for: processed batches, stitched mosaics, "
        "registered slices, stitched volumes with their focus planes, pictures, archived raw files "
        "(where archive.dir is set).",
    )
    max_drivers: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Snakemake runs of the watcher at a time. A new batch gets one at once while "
        "fewer are busy; beyond that, goals wait and share the next one.",
    )
    cores: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Cores that all projects on this host use together. Null: all that "
        "`cpu_affinity` allows.",
    )
    memory_mb: int | None = Field(
        default=None,
        ge=256,
        description="Memory that all projects on this host use together. Null: 85 % of it.",
    )
    max_tile_jobs: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Batches of tiles in work at a time on this host. Null: as cores allow.",
    )
    max_stitch_jobs: int = Field(
        default=2, ge=1, le=4096, description="Mosaics being stitched at a time on this host."
    )
    max_volume_jobs: int = Field(
        default=2, ge=1, le=4096, description="Volumes being stitched at a time on this host."
    )
    max_register_jobs: int = Field(
        default=2, ge=1, le=4096, description="Slices being registered at a time on this host."
    )
    max_upload_jobs: int = Field(
        default=2, ge=1, le=4096, description="Uploads at a time on this host."
    )
    token_dir: Path | None = Field(
        default=None,
        description="Folder of the locks by which all projects of this host share these limits; on "
        "a local disk. Null: opticstream-tokens in the system's temporary folder.",
    )
    cpu_affinity: str | None = Field(
        default=None,
        description="Cores that stages may run on, such as 14-27 or 0,2,4-7; the others stay with "
        "the acquisition. Null: all.",
    )
    nice: int = Field(
        default=0, ge=0, le=19, description="Niceness of stages: 19 gives way to everything else."
    )
    read_limit_mb_s: float | None = Field(
        default=None,
        gt=0,
        description="Raw data read per second (MB = 10^6 bytes) by all stages of this host "
        "together, so that processing never disturbs the camera. Null: no limit.",
    )
    reserve_free_mb: int = Field(
        default=2000,
        ge=0,
        description="Disk space that must stay free beside the estimate of what a driver writes; "
        "with less the watcher waits.",
    )
    tile_threads: int = Field(
        default=1, ge=1, le=1024, description="Threads of one batch of tiles."
    )
    archive_threads: int = Field(
        default=1, ge=1, le=1024, description="Threads of archiving one batch."
    )
    stitch_threads: int = Field(default=1, ge=1, le=1024, description="Threads of one stitching.")
    volume_threads: int = Field(default=1, ge=1, le=1024, description="Threads of one volume.")
    register_threads: int = Field(
        default=2, ge=1, le=1024, description="Threads of one registration."
    )
    retry: RetrySection = Field(
        default=RetrySection(), description="Retries by the kind of what went wrong."
    )

    @field_validator("cpu_affinity")
    @classmethod
    def _affinity_parses(cls, value: str | None) -> str | None:
        if value is not None:
            parse_cores(value)
        return value


def parse_cores(text: str) -> frozenset[int]:
    """Cores of a list such as ``0,2,4-7``.

    Raises
    ------
    ValueError
        The text is no such list.
    """
    cores: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) < int(first):
            raise ValueError(f"cores {text!r}: expected numbers and ranges, such as 0,2,4-7")
        cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)
