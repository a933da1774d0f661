"""One table of what the peers reach on mosaics, and what this package does.

The peers are OpticStream (Fiji for the registration, linc-convert for the volumes), ashlar and
others. Their numbers were measured once, on the same synthetic mosaics (the same generator, presets
and seeds) and one machine, and are quoted; ours are measured in this run. Positions, images and
planes compare; times and speeds do so only roughly, as machines differ.

    PYTHONPATH=. python tests/perf/mosaic_table.py [--folder DIR]

The limits are those of the issue, checked at length by `positions.py` and `volumes.py`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from opticstream_smk.mosaic import blend, solve_focus_plane, solve_positions
from tests.mosaic.golden_presets import error_px, generator, make_golden
from tests.perf import volumes
from tests.perf.positions import fft_cpu_s

# Rms px of the tiles with tissue: Fiji with subpixel accuracy, OpticStream, ashlar; our limit for a
# single mosaic. 6 x 8 tiles of 350 px, seed 11.
POSITIONS = {
    "stage": (0.26, 0.87, 0.20, 0.15),
    "standard": (2.57, 4.6, 0.20, 0.10),
    "noisy": (914, 821, 0.74, 0.40),
    "sparse": (0.26, 7.9, 0.21, 0.15),
    "rough": (0.20, 12.3, 0.45, 0.15),
    "lattice": (0.39, 0.25, 0.21, 0.12),
}
TILE, SEED = 350, 11


def positions() -> list[tuple[str, str, str, str, bool]]:
    rows = []
    for preset, (fiji, opticstream, ashlar, limit) in POSITIONS.items():
        mosaic = make_golden(preset, 6, 8, seed=SEED, tile_px=TILE)
        found = solve_positions(mosaic.tiles, mosaic.cells, overlap_percent=mosaic.overlap_percent)
        rms, worst = error_px(found.positions_px, mosaic)
        peers = f"Fiji {fiji:g}, OpticStream {opticstream:g}, ashlar {ashlar:g}"
        ours = f"{rms:.3f}, farthest {worst:.2f}"
        rows.append((f"positions, {preset}, px rms", peers, ours, f"{limit:g}", rms <= limit))
    return rows


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def solve_large(folder: str) -> dict[str, float]:
    """Solve 20 x 20 tiles; the process is its own and has the tiles in memory, nothing else."""
    tiles, cells = (np.load(Path(folder) / f"{name}.npy") for name in ("tiles", "cells"))
    solve_positions(tiles[:4], cells[:4], overlap_percent=20)  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_mb()
    start = time.process_time()
    found = solve_positions(tiles, cells, overlap_percent=20)
    cpu_s = time.process_time() - start
    bare_s = min(fft_cpu_s(tiles, found.edges, cells, 70) for _ in range(3))
    np.save(Path(folder) / "found.npy", found.positions_px)
    peak = peak_mb()
    return {"cpu_s": cpu_s, "bare_s": bare_s, "peak_mb": peak, "extra_mb": peak - before}


def large() -> list[tuple[str, str, str, str, bool]]:
    mosaic = make_golden("standard", 20, 20, seed=21, tile_px=TILE)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tiles", "cells"):
            np.save(Path(folder) / f"{name}.npy", getattr(mosaic, name))
        command = [sys.executable, __file__, "--solve", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        one = json.loads(done.stdout)
        found = np.load(Path(folder) / "found.npy")
    rms, _ = error_px(found, mosaic)
    times = one["cpu_s"] / one["bare_s"]
    return [
        (
            "positions, 20 x 20 tiles, CPU s",
            "Fiji 19.6, ashlar 7.7 to 8.1, m2stitch 138 (wall)",
            f"{one['cpu_s']:.1f}, {times:.0f} x the bare FFTs; {rms:.2f} px rms",
            "8, 30 x",
            one["cpu_s"] <= 8 and times <= 30,
        ),
        (
            "positions, 20 x 20 tiles, peak MB",
            "Fiji 1460, ashlar about 900",
            f"{one['peak_mb']:.0f}, of it {one['extra_mb']:.0f} beside the tiles",
            "none",
            True,
        ),
    ]


def seams() -> list[tuple[str, str, str, str, bool]]:
    """Jumps at the borders of tiles over those elsewhere, of the error of orientation."""
    make = generator()
    found = []
    for preset, seed in (("standard", 11), ("standard", 21), ("stage", 12), ("noisy", 13)):
        phantom = make.make_phantom(make.preset(preset, 6, 8, seed), modalities=("ori",))
        image, origin = blend(phantom.tiles["ori"], phantom.true, overlap_percent=20, circular=True)
        truth = make.reference_image(phantom.truth["ori"], origin, image.shape, axial=True)
        error = make.axial_residual(image, truth)
        place = tuple(slice(o, o + n) for o, n in zip(origin, image.shape, strict=True))
        at_seams = make.seam_metric(
            error, 0 * error, phantom.true - origin, TILE, mask=phantom.truth["tissue"][place]
        )
        found.append(at_seams["ratio"])
    middle = median(found)
    return [
        (
            "orientation, seam ratio (1 = invisible)",
            "linc-convert 2.51",
            f"{middle:.2f}, worst {max(found):.2f}",
            "1.1",
            middle <= 1.1,
        )
    ]


def focus() -> list[tuple[str, str, str, str, bool]]:
    make = generator()
    errors, cpu_s = [], []
    for seed in (3, 4, 5):
        phantom = make.make_phantom(make.preset("standard", 4, 5, seed), modalities=("surf",))
        usable = ~make.weak_tiles(phantom)
        surfaces = np.asarray(phantom.tiles["surf"])
        start = time.process_time()
        found = solve_focus_plane(surfaces, phantom.true, usable=usable)
        cpu_s.append(time.process_time() - start)
        off = found.plane_px - phantom.plane
        errors.append(float(np.sqrt(np.mean((off - off.mean()) ** 2))))
    good = max(errors) <= 0.02 and max(cpu_s) < 1
    return [
        (
            "focus plane, 20 tiles, px rms; s",
            "0.008; 7.0",
            f"{max(errors):.4f}; {max(cpu_s):.2f} (worst of 3)",
            "0.02; 1",
            good,
        )
    ]


def volume(folder: Path | None) -> list[tuple[str, str, str, str, bool]]:
    """One volume, three times; `volumes.py` has orientations and a larger mosaic too.

    Wall times of so few runs depend on what else the machine does: they decide nothing here.
    """
    depth, threads = 192, 2
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        volumes.make_tiles(place, depth)
        runs = []
        for _ in range(3):
            volumes.clean(place)
            stitched = volumes.child("stitch", place, 4, depth, False, threads)
            runs.append((stitched, volumes.child("write_finished", place, threads)))
    ours = min((stitched for stitched, _ in runs), key=lambda run: run["wall_s"])
    ratio = min(written["wall_s"] for _, written in runs) / ours["wall_s"]
    return [
        (
            "volume to OME-Zarr, GB/s",
            "linc-convert 0.034",
            f"{ours['bytes'] / ours['wall_s'] / 1e9:.2f} ({ours['bytes'] / 1e9:.2f} GB)",
            "none",
            True,
        ),
        (
            "volume, speed over tensorstore's",
            "not measured in one run",
            f"{ratio:.2f} x",
            f"{volumes.SPEED} x, enforced by volumes.py",
            True,
        ),
        (
            "volume, peak MB",
            "linc-convert 8500 (2.2 GB of output)",
            f"{max(run['rss_mb'] for run, _ in runs):.0f}",
            f"{volumes.MEMORY_MB}",
            all(run["rss_mb"] <= volumes.MEMORY_MB for run, _ in runs),
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the volume is written and removed")
    parser.add_argument("--solve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.solve:
        print(json.dumps(solve_large(options.solve)))
        return 0
    print("Peers: quoted, measured once on the same mosaics. Ours: measured in this run.\n")
    print("| what | peer | ours | limit | |")
    print("|---|---|---|---|---|")
    ok = True
    for part in (positions, large, seams, focus, lambda: volume(options.folder)):
        for what, peer, ours, limit, good in part():
            print(
                f"| {what} | {peer} | {ours} | {limit} | {'' if good else 'BEYOND'} |", flush=True
            )
            ok &= good
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
