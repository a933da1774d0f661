"""What archiving a raw tile costs: CPU seconds, against Python's gzip at level 3 in the same run.

Tiles are those of `optic-trigger simulate psoct`: 16-bit spectra of tissue. Limits: at least 5
times as fast, the SHA-256 of the content included; at most 1.08 times as large. Beside them, what
a whole stage takes, which also reads the archive back and hashes it.
"""

import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import yaml

from opticstream_smk.archive.files import checksum_path, store
from opticstream_smk.io.gzip_file import read_gzip, write_gzip
from opticstream_smk.state.flags import file_input

FASTER, LARGER = 5.0, 1.08
REPEATS = 5


def cpu(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def simulate(root: Path, saving_type: str, size: int) -> list[Path]:
    raw = root / saving_type
    values = {
        "project": {"name": "speed", "dir": "project"},
        "acquisition": {
            "sources": [{"dir": str(raw)}],
            "calibration_file": str(raw / "wave-pixel.mat"),
            "dispersion_file": str(raw / "dispersion.bin"),
            "tile_saving_type": saving_type,
            "grid_size_x_normal": 1,
            "grid_size_x_tilted": 1,
            "grid_size_y": 2,
            "tile_size_x_normal": size,
            "tile_size_x_tilted": size,
            "tile_size_y": size,
            "tile_overlap_percent": 30,
        },
    }
    config = root / f"{saving_type}.yaml"
    config.write_text(yaml.safe_dump(values))
    trigger = Path(sys.executable).with_name("optic-trigger")
    command = [trigger, "simulate", "psoct", "--config", config, "--out", raw, "--slices", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return sorted(raw.glob("mosaic_*"))


def with_gzip(source: Path, target: Path) -> None:
    with source.open("rb") as raw, gzip.open(target, "wb", compresslevel=3) as packed:
        while block := raw.read(64 * 2**20):
            packed.write(block)


def measure(source: Path, root: Path) -> tuple[float, float]:
    """Print the figures of one tile; gives how much faster and how much larger it was."""
    ours, theirs, stored = root / "ours.gz", root / "theirs.gz", root / "stored.nii.gz"
    raw = file_input(source)
    write_gzip(source, ours)
    ratios, stage, back = [], [], []
    for _ in range(REPEATS):
        # By turns, so that what else the machine does falls on both.
        slow = cpu(lambda: with_gzip(source, theirs))
        fast = cpu(lambda: write_gzip(source, ours))
        ratios.append(slow / fast)
        back.append(slow / cpu(lambda: read_gzip(ours)))
        stored.unlink(missing_ok=True)
        checksum_path(stored).unlink(missing_ok=True)
        stage.append(slow / cpu(lambda: store(raw, stored)))
    faster = median(ratios)
    larger = ours.stat().st_size / theirs.stat().st_size
    print(
        f"{source.parent.name:<15} {source.name[:21]} {raw.size / 1e6:6.1f} MB  gzip -3 "
        f"{raw.size / slow / 1e6:4.0f} MB/s, {theirs.stat().st_size / raw.size:.3f} of its size; "
        f"archive {faster:5.2f} x as fast, {larger:.4f} x as large; reading back "
        f"{median(back):.1f} x; all of it {median(stage):.2f} x"
    )
    return faster, larger


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        found = [measure(path, root) for path in simulate(root, "spectral", 80)]
        for saving_type in ("spectral_12bit", "complex"):
            measure(simulate(root, saving_type, 40)[0], root)
    slowest = min(faster for faster, _ in found)
    largest = max(larger for _, larger in found)
    ok = slowest >= FASTER and largest <= LARGER
    limits = f"{FASTER:g} x as fast, {LARGER:g} x as large"
    print(f"16 bits: at least {slowest:.2f} x as fast, at most {largest:.4f} x as large, ", end="")
    print("within the limits" if ok else f"BEYOND THE LIMITS ({limits})")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
