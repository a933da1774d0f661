"""What each stage takes of a host: for snakemake's rules and for the tokens of its jobs."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType

from opticstream_smk.config import Config
from opticstream_smk.host import tokens
from opticstream_smk.host.limits import Kind
from opticstream_smk.plan import runs_matlab

_MB = 2**20
# The interpreter with its libraries, and what compiled code and threads take of their own.
_PROGRAM_MB = 300
# MATLAB itself, without data.
_MATLAB_MB = 1500


@dataclass(frozen=True)
class Resources:
    """What one job takes at most.

    Attributes
    ----------
    kind
        What the number of such jobs at a time is limited for; None: not by number.
    """

    kind: Kind | None
    cores: int
    memory_mb: int


def stage_resources(config: Config, stage: str, *, threads: int = 1) -> Resources:
    """What a stage takes with so many threads; every stage and picture has an entry."""
    kind, memory_mb = _STAGES[stage]
    if stage == "process_tiles" and runs_matlab(config):
        return Resources(kind, max(threads, matlab_workers(config)), _matlab_memory_mb(config))
    return Resources(kind, threads, memory_mb(config))


def matlab_workers(config: Config) -> int:
    """Tiles of a batch that one MATLAB works on at a time."""
    return config.processing.matlab.num_workers or config.run.tile_threads


def hold_resources(
    config: Config, stage: str, place: object, *, threads: int = 1
) -> AbstractContextManager[None]:
    """Hold what a stage takes of this host while it computes; waits for it.

    Parameters
    ----------
    place
        Where the stage works, for those who wait for it.

    Raises
    ------
    ConfigError, ServiceError
        On entering: the folder of the tokens cannot be used.
    """
    needed = stage_resources(config, stage, threads=threads)
    return tokens.take(
        config.run,
        needed.kind,
        cores=needed.cores,
        memory_mb=needed.memory_mb,
        label=f"{stage} {place} of {config.project.name}",
    )


def _tile_memory_mb(config: Config) -> int:
    """One tile in flight."""
    # Spectra, complex tile and its stack, each about twice the raw bytes, and the volumes.
    return _largest_raw_bytes(config) * 7 // _MB + _PROGRAM_MB


def _matlab_memory_mb(config: Config) -> int:
    """One start of MATLAB with its workers."""
    # Two complex128 volumes and permuted copies of them: a full tile of 1 GB takes some 8 GB.
    packed = config.acquisition.tile_saving_type == "spectral_12bit"
    counts = _largest_raw_bytes(config) * (4 if packed else 3) // 3
    return matlab_workers(config) * counts * 17 // 2 // _MB + _MATLAB_MB + _PROGRAM_MB


def _tile_picture_memory_mb(config: Config) -> int:
    """Pictures of a batch: volumes are mapped; packed spectra are unpacked as a whole."""
    packed = config.acquisition.tile_saving_type == "spectral_12bit"
    raw = _largest_raw_bytes(config) * 7 // 3 if packed else 0
    return raw // _MB + _PROGRAM_MB + 300


def _mosaic_memory_mb(config: Config) -> int:
    """One stitching or registration: some ten images of the whole canvas."""
    scan = config.acquisition
    pixels = max(
        scan.columns(label) * scan.alines(label) * scan.rows(label) * scan.tile_size_y
        for label in scan.labels
    )
    return pixels * 8 * 12 // _MB + _PROGRAM_MB + 200


def _largest_raw_bytes(config: Config) -> int:
    scan = config.acquisition
    return max(scan.raw_tile_bytes(label) for label in scan.labels)


_STAGES: Mapping[str, tuple[Kind | None, Callable[[Config], int]]] = MappingProxyType(
    {
        "convert_complex": ("tile", _tile_memory_mb),
        "process_tiles": ("tile", _tile_memory_mb),
        "qc_tiles": (None, _tile_picture_memory_mb),
        # It correlates the tiles of a whole mosaic, which is the work of a stitching.
        "solve_coordinates": ("stitch", _mosaic_memory_mb),
        "stitch_enface": ("stitch", _mosaic_memory_mb),
        "register_slice": ("register", _mosaic_memory_mb),
        "qc_mosaic": (None, _mosaic_memory_mb),
        "qc_slice": (None, _mosaic_memory_mb),
    }
)
