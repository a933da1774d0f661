"""What each stage takes of a host: for snakemake's rules and for the tokens of its jobs."""

from collections.abc import Callable, Iterable, Mapping
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
    """One tile in flight: blocks of B-lines that are read, computed and written."""
    scan, processing = config.acquisition, config.processing
    alines, depth = max(map(scan.alines, scan.labels)), scan.depth_samples
    if scan.maps_are_input:
        # Maps are looked at one after the other; the largest is a volume.
        return 4 * alines * scan.tile_size_y * depth // _MB + _PROGRAM_MB
    counts = 2 * (scan.samples_per_aline or 2 * (depth + 24))
    threads = config.run.tile_threads
    # Two blocks of each; `psoct.engine` says how many B-lines they have.
    rows = -(-8 // threads) * threads
    read = 2 * rows * alines * max(2 * counts * scan.illuminations, 16 * depth)
    # Of each depth also the pages at both ends.
    written = 2 * 3 * depth * (120_000 + rows * 4 * alines + 2 * 4096)
    scratch = threads * alines * (12 * counts + 16 * depth)
    total = read + written + scratch
    smoothed = processing.biref_method not in ("", "legacy", "fft")
    if smoothed or any(name.startswith("mus") for name in processing.modalities):
        # The volumes as a whole, and blocks of 2**23 voxels in float64.
        total += 3 * 4 * alines * scan.tile_size_y * depth + 12 * 2**26
    return total // _MB + _PROGRAM_MB


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


def _archive_memory_mb(config: Config) -> int:
    """Blocks of 4 MiB and their output, two for each thread, whatever the size of a tile."""
    return config.run.archive_threads * 20 + _PROGRAM_MB


def _mosaic_memory_mb(config: Config) -> int:
    """One solution or registration: some ten images of the whole canvas."""
    pixels = max(height * width for height, width in _canvases(config))
    return pixels * 8 * 12 // _MB + _PROGRAM_MB + 200


def _coordinates_memory_mb(config: Config) -> int:
    """As a stitching, and Fiji where it does the work."""
    mosaic = config.mosaic
    fiji_mb = mosaic.fiji.java_memory_mb if mosaic.method == "fiji" else 0
    return _mosaic_memory_mb(config) + fiji_mb


def _volume_memory_mb(config: Config) -> int:
    """One volume: blocks and what is left of a footprint, whatever the mosaic."""
    return config.volume.memory_mb + _PROGRAM_MB


def _stitch_memory_mb(config: Config) -> int:
    """Masks, labels and a JPEG of the whole canvas, 12 bytes a pixel; of images only some rows."""
    rows = 2 * config.acquisition.tile_size_y + 256
    return (
        max(12 * height * width + 24 * rows * width for height, width in _canvases(config)) // _MB
        + _PROGRAM_MB
    )


def _canvases(config: Config) -> Iterable[tuple[int, int]]:
    """Height and width of the mosaics, px; as if tiles did not overlap."""
    scan = config.acquisition
    for label in scan.labels:
        yield scan.rows(label) * scan.tile_size_y, scan.columns(label) * scan.alines(label)


def _largest_raw_bytes(config: Config) -> int:
    scan = config.acquisition
    return max(scan.raw_tile_bytes(label) for label in scan.labels)


_STAGES: Mapping[str, tuple[Kind | None, Callable[[Config], int]]] = MappingProxyType(
    {
        "convert_complex": ("tile", _tile_memory_mb),
        "process_tiles": ("tile", _tile_memory_mb),
        "qc_tiles": (None, _tile_picture_memory_mb),
        # Not counted as a tile, so that it never keeps one from being processed.
        "archive_batch": (None, _archive_memory_mb),
        # It correlates the tiles of a whole mosaic, which is the work of a stitching.
        "solve_coordinates": ("stitch", _coordinates_memory_mb),
        "stitch_enface": ("stitch", _stitch_memory_mb),
        # It reads the surfaces of a whole mosaic.
        "fit_focus": ("stitch", _mosaic_memory_mb),
        # Long, and nothing waits for it: never one of the stitchings that others wait for.
        "stitch_volume": ("volume", _volume_memory_mb),
        "finish_volumes": (None, lambda _config: _PROGRAM_MB),
        "register_slice": ("register", _mosaic_memory_mb),
        "qc_mosaic": (None, _mosaic_memory_mb),
        "qc_slice": (None, _mosaic_memory_mb),
        "qc_focus": (None, _mosaic_memory_mb),
    }
)
