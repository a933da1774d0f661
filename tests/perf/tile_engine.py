"""What a tile of full size costs: 350 x 350 A-lines of 2 x 2048 samples, 1.00 GB raw.

CPU seconds are given as multiples of D (`fft_floor`), wall times as multiples of what the machine
needs at least; all are from one run. Two tiles are simulated first, which takes a minute or two
and 7 GB of disk.

    PYTHONPATH=. python tests/perf/tile_engine.py [--folder DIR] [--threads 2]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opticstream_smk.config import Config, load_config
from opticstream_smk.psoct.engine import TileEngine
from opticstream_smk.psoct.raw import RawBlines, find_spectral
from opticstream_smk.stages.inputs import load_calibration
from opticstream_smk.stages.process_tiles import tile_settings
from tests.perf.fft_floor import floor_s, simd_level

BIN = Path(sys.executable).parent
SIZE = {"alines": 350, "blines": 350, "samples": 2048}
SHAPE = (350, 2, 350, 2048)
GB = 1e9
PIECE = 8 * 2**20
# Of everything that is measured the fastest counts.
REPEATS = 3


@dataclass(frozen=True)
class Spent:
    """Of one measurement: CPU and wall seconds, peak memory in GB where it was a process."""

    cpu_s: float
    wall_s: float
    peak_gb: float = 0.0


def spent_by(work: Callable[[], object]) -> Spent:
    """The fastest of some calls in this process."""

    def once() -> Spent:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        return Spent(time.process_time() - cpu, time.perf_counter() - wall)

    return fastest(once)


def fastest(measure: Callable[[], Spent]) -> Spent:
    """Of some measurements the least time, and the most memory."""
    found = [measure() for _ in range(REPEATS)]
    return Spent(
        min(one.cpu_s for one in found),
        min(one.wall_s for one in found),
        max(one.peak_gb for one in found),
    )


def write_project(folder: Path, name: str, rows: int = 2, **overrides: Any) -> Path:
    """A project of one column of tiles; all share the raw files in ``folder/raw``."""
    values: dict[str, Any] = {
        "project": {"name": name, "dir": name},
        "acquisition": {
            "sources": [{"dir": "raw"}],
            "calibration_file": "raw/wave-pixel.mat",
            "dispersion_file": "raw/dispersion.bin",
            "grid_size_x_normal": 1,
            "grid_size_x_tilted": 1,
            "grid_size_y": rows,
            "tile_size_x_normal": 350,
            # The tilted mosaic is only simulated.
            "tile_size_x_tilted": 8,
            "tile_size_y": 350,
            "tile_overlap_percent": 20,
        },
        "processing": {"complex": "discard"},
        "run": {"token_dir": "tokens"},
    }
    for key, value in overrides.items():
        section, _, key = key.partition("__")
        values[section][key] = value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


# A process inherits the peak memory of the one that starts it, so a small one does.
LAUNCH = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stdout, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def run(*command: object) -> Spent:
    """Run a command of the project; CPU, wall and peak memory of the process."""
    wall = time.perf_counter()
    launched = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCH, *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
    )
    code, said, cpu_s, peak_kib = json.loads(launched.stdout)
    if code != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{said}")
    return Spent(cpu_s, time.perf_counter() - wall, peak_kib * 1024 / GB)


def stage(name: str, config: Path, threads: int) -> Spent:
    """Run a stage on the batch."""
    return run(
        BIN / "optic-stage", name, "--config", config, "--mosaic", 1, "--batch", 1,
        "--threads", threads,
    )  # fmt: skip


def fresh_stage(name: str, config: Path, threads: int, source: list[Path]) -> Spent:
    """Run a stage on the batch that has not run; its input comes from the disk."""
    kind = "complex" if name == "convert_complex" else "processed"
    forget_products(config.with_suffix(""), (kind,))
    for path in source:
        forget(path)
    return stage(name, config, threads)


def scan(config: Path) -> None:
    """Enter the batch; the tilted one is too."""
    run(BIN / "optic-trigger", "scan", "--config", config, "--assume-stable")


def forget(path: Path) -> None:
    """Have a file leave the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_io(raw: list[Path], folder: Path, n_bytes: int) -> Spent:
    """Read the raw files and write so many bytes, one after the other, as fast as it goes."""
    piece = bytearray(os.urandom(PIECE))

    def work() -> None:
        for path in raw:
            forget(path)
            with path.open("rb", buffering=0) as file:
                while file.readinto(piece):
                    pass
        # In three files a tile, as the volumes are.
        each = n_bytes // (3 * len(raw))
        for number in range(3 * len(raw)):
            path = folder / f"plain-{number}"
            with path.open("wb", buffering=0) as file:
                for start in range(0, each, PIECE):
                    file.write(memoryview(piece)[: min(PIECE, each - start)])
                os.fsync(file.fileno())
        for number in range(3 * len(raw)):
            (folder / f"plain-{number}").unlink()

    return spent_by(work)


class Kept:
    """Spectra in memory, read once: the cost of computing alone."""

    def __init__(self, spectra: np.ndarray) -> None:
        self._spectra = spectra

    def buffer(self, _rows: int) -> np.ndarray:
        return self._spectra

    def read(self, start: int, stop: int, _: np.ndarray) -> np.ndarray:
        return self._spectra[start:stop]


def compute(config: Config, path: Path, threads: int) -> Spent:
    """Compute all default products of a tile in reused buffers; nothing is read or written."""
    counts = np.empty(SHAPE, np.uint16)
    find_spectral(path, **SIZE).read_blines(0, 350, counts)
    engine = TileEngine.of_spectra(
        load_calibration(config), SHAPE, tile_settings(config), threads=threads
    )
    return spent_by(lambda: engine.run(Kept(counts), lambda *_: None))


def compute_12bit(config: Config, path: Path, packed: Path) -> tuple[Spent, Spent]:
    """The same from files in the page cache, of 16 and of 12 bits."""
    counts = np.empty(SHAPE, np.uint16)
    find_spectral(path, **SIZE).read_blines(0, 350, counts)
    with packed.open("wb") as file:
        for line in counts & 4095:
            pairs = line.reshape(-1, 2)
            triples = np.empty((len(pairs), 3), np.uint8)
            triples[:, 0] = pairs[:, 0] & 255
            triples[:, 1] = pairs[:, 0] >> 8 | (pairs[:, 1] & 15) << 4
            triples[:, 2] = pairs[:, 1] >> 4
            file.write(triples)
    del counts
    found = []
    for bits, raw in ((16, path), (12, packed)):
        tile = find_spectral(raw, **SIZE, bits=bits)
        engine = TileEngine.of_spectra(load_calibration(config), SHAPE, tile_settings(config))

        def work(tile: Any = tile, engine: TileEngine = engine) -> None:
            engine.run(RawBlines(tile), lambda *_: None)

        found.append(spent_by(work))
    packed.unlink()
    return found[0], found[1]


@contextmanager
def folder_for(given: Path | None) -> Iterator[Path]:
    """A folder on a disk; what is simulated in a folder that is given stays there."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    # Not where temporary files may lie in memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as made:
        yield Path(made)


def main() -> int:
    """Print the tables; 1 when a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to work; simulated tiles are kept there")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with folder_for(arguments.folder) as folder:
        return measure(folder.resolve(), arguments.threads)


def fixed_cost(folder: Path) -> Spent:
    """A stage on tiles so small that only its start is left, with warm caches."""
    config = write_project(folder, "tiny", rows=1, acquisition__tile_size_x_normal=16,
                           acquisition__tile_size_y=16,
                           acquisition__sources=[{"dir": "tiny-raw"}])  # fmt: skip
    command = (BIN / "optic-trigger", "simulate", "psoct", "--config", config)
    run(*command, "--out", folder / "tiny-raw")
    scan(config)
    stage("process_tiles", config, 1)
    return fastest(partial(fresh_stage, "process_tiles", config, 1, []))


def forget_products(project: Path, kinds: Iterable[str] = ("complex", "processed")) -> None:
    """Remove what stages made, with the flags."""
    for name in kinds:
        shutil.rmtree(project / "mosaic-01" / name, ignore_errors=True)
        (project / f"mosaic-01/state/batch-001.{name}").unlink(missing_ok=True)


def measure(folder: Path, threads: int) -> int:
    """Measure all and print it."""
    discard = write_project(folder, "discard")
    keep = write_project(folder, "keep", processing__complex="keep")
    unwrap = write_project(folder, "unwrap", processing__biref_method="unwrap_new")
    run(BIN / "optic-trigger", "simulate", "psoct", "--config", discard, "--out", folder / "raw")
    raw = sorted((folder / "raw").glob("mosaic_001_image_*_spectral_*.nii"))
    floor = floor_s()
    print(f"SIMD: {simd_level()}; D = {floor:.2f} CPU s")
    limits = Limits()

    config = load_config(discard)
    one, more = compute(config, raw[0], 1), compute(config, raw[0], threads)
    limits.check("compute of all default products, discard, D", one.cpu_s / floor, 6.0)
    limits.check(f"CPU of {threads} threads over that of 1", more.cpu_s / one.cpu_s, 1.15)
    wide, packed = compute_12bit(config, raw[0], folder / "tile.raw")
    limits.check("CPU of 12 bits over that of 16", packed.cpu_s / wide.cpu_s, 1.2)
    fixed = fixed_cost(folder)
    limits.check("start of a stage, CPU s", fixed.cpu_s, 1.5)

    volumes, maps = 3 * 4 * 350 * 350 * 1000, 5 * 4 * 350 * 350 + 8 * 350 * 350
    stack = 4 * volumes // 3
    for path in (discard, keep, unwrap):
        scan(path)
    took: list[str] = []
    heads = ("CPU s", "D", "wall s", "plain I/O s", "of its rate", "peak GB")
    print(f"\n{'a batch of 2 tiles, per tile':<38}" + "".join(f"{head:>13}" for head in heads))
    for count, computed in ((1, one), (threads, more)):
        for title, path, name, source, written in (
            ("discard: process_tiles", discard, "process_tiles", raw, volumes + maps),
            ("keep: convert_complex", keep, "convert_complex", raw, stack),
            ("keep: process_tiles", keep, "process_tiles", None, volumes + maps),
        ):
            if source is None:
                source = sorted((folder / "keep/mosaic-01/complex").glob("*.nii"))
            spent = fastest(partial(fresh_stage, name, path, count, source))
            io = plain_io(source, folder, written * len(raw))
            # A stage starts once for its tiles.
            wall = (spent.wall_s - fixed.wall_s) / len(raw)
            cpu = (spent.cpu_s - fixed.cpu_s) / len(raw)
            plain = io.wall_s / len(raw)
            numbers = (cpu, cpu / floor, wall, plain, plain / wall, spent.peak_gb)
            print(f"{title + f', {count} threads':<38}" + "".join(f"{n:>13.2f}" for n in numbers))
            if path is discard:
                least = max(computed.wall_s, plain)
                took.append(
                    f"{title}, {count} threads: {wall:.2f} s; computing takes "
                    f"{computed.wall_s:.2f} s, plain I/O {plain:.2f} s"
                )
                limits.check(f"{title}, {count} threads, wall over the least", wall / least, 1.3)
            limits.check(f"{title}, {count} threads, peak GB", spent.peak_gb, 2.5)
    print("", *took, sep="\n")
    forget_products(unwrap.with_suffix(""))
    spent = stage("process_tiles", unwrap, threads)
    limits.check("unwrap_new: process_tiles, peak GB", spent.peak_gb, 5.0)
    return limits.verdict()


class Limits:
    """What was found, against what is allowed."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, float, float]] = []

    def check(self, what: str, value: float, limit: float) -> None:
        """Note a number that should not exceed a limit."""
        self._rows.append((what, value, limit))

    def verdict(self) -> int:
        """Print all; 1 when one exceeds its limit."""
        print(f"\n{'':<62}{'found':>8}{'limit':>8}")
        for what, value, limit in self._rows:
            kept = "" if value <= limit else "  EXCEEDED"
            print(f"{what:<62}{value:8.2f}{limit:8.2f}{kept}")
        return int(any(value > limit for _, value, limit in self._rows))


if __name__ == "__main__":
    sys.exit(main())
