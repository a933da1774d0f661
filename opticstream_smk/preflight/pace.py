"""Whether processing keeps up with the acquisition, and how long a whole run takes."""

import itertools
import statistics
from dataclasses import dataclass

from opticstream_smk import estimate
from opticstream_smk.config import Config
from opticstream_smk.host.limits import host_limits
from opticstream_smk.preflight.check import Check, counted, note, ok, warning
from opticstream_smk.preflight.raw_files import RawFiles

# No camera takes A-lines faster. Files with times closer than that were copied, not acquired.
_MAX_ALINES_PER_S = 5e6
# Wall over CPU time above which it is said that a tile waited.
_WAITED = 1.5


def acquisition_interval_s(raw: RawFiles, label: str) -> float | None:
    """Median time between consecutive raw tiles of an acquisition; None when it cannot be told.

    It comes from the modification times: those of copies without their times tell nothing.
    """
    tiles = [file for file in raw.raw_tiles() if raw.label(file.mosaic) == label]
    gaps = [
        (later.mtime_ns - earlier.mtime_ns) / 1e9
        for earlier, later in itertools.pairwise(tiles)
        if earlier.mosaic == later.mosaic and later.image == earlier.image + 1
    ]
    if not gaps:
        return None
    interval = statistics.median(gaps)
    scan = raw.config.acquisition
    alines = scan.alines(label) * scan.illuminations * scan.tile_size_y
    return interval if interval > alines / _MAX_ALINES_PER_S else None


@dataclass(frozen=True)
class TileTime:
    """Wall time of one tile, seconds.

    Attributes
    ----------
    label
        Its acquisition: tiles of another size take in proportion.
    compute_s
        Reading, computing, validating and drawing it, with threads as configured.
    cpu_s
        The same as CPU time; it is less where a tile had to wait.
    write_s
        Writing its products; None where that could not be measured.
    is_warm
        Whether nothing had to be compiled.
    """

    label: str
    compute_s: float
    cpu_s: float
    write_s: float | None
    is_warm: bool

    @property
    def total_s(self) -> float:
        """Everything that was measured."""
        return self.compute_s + (self.write_s or 0.0)


def check_pace(config: Config, raw: RawFiles, tile: TileTime, *, slices: int) -> list[Check]:
    """Measured time of one tile against the time in which tiles come.

    Parameters
    ----------
    slices
        Of the whole run.
    """
    limits, threads = host_limits(config.run), config.run.tile_threads
    jobs = max(limits.cores // threads, 1)
    cores = min(min(jobs, limits.jobs["tile"] or jobs) * threads, limits.cores)
    tiles, alike = _tiles(config, tile.label, slices)
    core_s = tile.total_s * threads
    run_s = alike * core_s / cores
    written = "writing not measured"
    if tile.write_s is not None:
        written = f"{told_time(tile.write_s)} to write"
    once = "" if tile.is_warm else ", compiling included"
    if tile.compute_s > _WAITED * tile.cpu_s:
        once += f" ({told_time(tile.cpu_s)} of CPU: it waited for the disk or for other programs)"
    checks = [
        ok(
            "time of a tile",
            f"{told_time(tile.compute_s)} to compute{once}, {written}, on "
            f"{counted(threads, 'core')}; "
            f"{tiles} tiles on {cores} of {counted(limits.cores, 'core')}: {told_time(run_s)}, "
            "stitching, volumes and registration not counted",
            compute_s=round(tile.compute_s, 3),
            cpu_s=round(tile.cpu_s, 3),
            write_s=None if tile.write_s is None else round(tile.write_s, 3),
            tiles=tiles,
            run_s=round(run_s, 1),
        )
    ]
    interval = acquisition_interval_s(raw, _raw_label(config, tile.label))
    if interval is None:
        checks.append(
            note(
                "pace",
                "the times of the raw files do not tell how fast tiles come (too few, or copies)",
            )
        )
        return checks
    # One raw tile may hold three of ours.
    per_file = config.acquisition.illuminations
    needed = core_s * per_file / interval
    found = (
        f"a raw tile every {told_time(interval)}: {told_time(alike / per_file * interval)} for "
        f"{counted(slices, 'slice')}, cuts not counted; processing needs {needed:.1f} of "
        f"{counted(cores, 'core')}"
    )
    numbers = {"interval_s": round(interval, 3), "cores_needed": round(needed, 2), "cores": cores}
    if needed <= cores:
        checks.append(ok("pace", f"{found} and keeps up", **numbers))
    else:
        checks.append(
            warning(
                "pace",
                f"{found} and does not keep up",
                f"at most {counted(cores, 'core')}",
                "Nothing is lost, results come later. More cores (run.cores, run.max_tile_jobs, a "
                "SLURM profile), processing.complex: discard, save_volume_outputs: false or "
                "tile_qc: false make it faster",
                **numbers,
            )
        )
    return checks


def _tiles(config: Config, label: str, slices: int) -> tuple[int, float]:
    """Tiles of the whole run, and of how many of that acquisition they are the work."""
    scan = config.acquisition
    tiles = {other: slices * estimate.tiles_of_mosaic(config, other) for other in scan.labels}
    alike = sum(count * scan.alines(other) for other, count in tiles.items()) / scan.alines(label)
    return sum(tiles.values()), alike


def _raw_label(config: Config, label: str) -> str:
    """Acquisition under which a raw tile is counted: three illuminations are in one file."""
    scan = config.acquisition
    return scan.labels[0] if scan.illuminations > 1 else label


def told_time(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
