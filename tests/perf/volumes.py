"""Stitching tile volumes, against tensorstore writing the finished array; memory for two sizes.

Tiles are read from files, blended with a focus plane and written with their pyramid, synced.
tensorstore writes full resolution only, from memory, with the same codec, chunks, shards and sync.
Runs alternate; each is a process of its own. Limits: 0.6 x the speed, by median wall time; 1500 MB,
and no more than 10 % more for the larger mosaic.

    PYTHONPATH=. python tests/perf/volumes.py [--repeats 3] [--depth 192] [--folder DIR]
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

SPEED, MEMORY_MB, GROWTH = 0.6, 1500, 1.1
TILE, OVERLAP, OFFSET = 350, 20, 30
DISTINCT = 4  # files; more would only fill the disk


def make_tiles(folder: Path, depth: int) -> None:
    """Decaying intensity under speckle, as noisy as OCT: compresses as badly."""
    from opticstream_smk.io import nifti

    rng = np.random.default_rng(0)
    z = np.arange(depth + 2 * OFFSET, dtype=np.float32)
    for i in range(DISTINCT):
        speckle = rng.standard_exponential((TILE, TILE, len(z)), dtype=np.float32)
        values = 10 * np.log10(speckle + np.float32(1e-3)) + 70 - z / 10
        geometry = nifti.Geometry((0.01, 0.01, 0.0025))
        nifti.write_array(folder / f"{i}.nii", np.asfortranarray(values, np.float32), geometry)


def peak_mb() -> float:
    """Peak of this process alone; what `getrusage` says begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def stitch(folder: Path, tiles: int, depth: int, circular: bool, threads: int) -> dict:
    from opticstream_smk.io.nifti import StackReader
    from opticstream_smk.mosaic import nominal_positions, snake_order, stitch_volume

    def run(name, count, planes):
        cells = snake_order(count, count)
        positions = nominal_positions(cells, (TILE, TILE), OVERLAP)
        shape = (TILE, TILE, depth + 2 * OFFSET)
        files = [StackReader(folder / f"{i}.nii", shape) for i in range(DISTINCT)]
        y, x = np.mgrid[:TILE, :TILE] / TILE
        return stitch_volume(
            [files[i % DISTINCT] for i in range(len(cells))],
            positions,
            folder / name,
            overlap_percent=OVERLAP,
            voxel_um=(2.5, 10, 10),
            focus_plane=8 * x + 12 * y**2,
            offset_px=OFFSET,
            depth_px=planes,
            circular=circular,
            threads=threads,
        )

    run("warm.ome.zarr", 1, 4)  # compiles
    start, cpu = time.perf_counter(), time.process_time()
    report = run("ours.ome.zarr", tiles, depth)
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "rss_mb": peak_mb(),
        "bytes": 4 * int(np.prod(report.shape)),
        "written": report.written_bytes,
        "reads": report.read_bytes / report.tile_bytes,
    }


def write_finished(folder: Path, threads: int) -> dict:
    """Write the array that was stitched again, from memory."""
    import tensorstore

    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder / "ours.ome.zarr" / "0")},
        "context": {"data_copy_concurrency": {"limit": threads}},
    }
    finished = tensorstore.open(spec, read=True).result()
    values = finished.read().result()
    metadata = finished.spec(retain_context=False).to_json()["metadata"]
    spec["kvstore"]["path"] = str(folder / "theirs")
    target = tensorstore.open({**spec, "metadata": metadata}, create=True).result()
    start, cpu = time.perf_counter(), time.process_time()
    target.write(values).result()
    return {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def child(*arguments: object) -> dict:
    command = [sys.executable, __file__, "--child", json.dumps(arguments, default=str)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def clean(folder: Path) -> None:
    for name in ("warm.ome.zarr", "ours.ome.zarr", "theirs"):
        shutil.rmtree(folder / name, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--depth", type=int, default=192)
    parser.add_argument("--tiles", type=int, nargs=2, default=(4, 7), help="along an axis")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        name, folder, *rest = json.loads(options.child)
        print(json.dumps(globals()[name](Path(folder), *rest)))
        return 0
    ok = True
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_tiles(folder, options.depth)
        for what, circular in (("dBI", False), ("O3D", True)):
            ours, theirs = [], []
            for _ in range(options.repeats):
                clean(folder)
                ours.append(
                    child(
                        "stitch", folder, options.tiles[0], options.depth, circular, options.threads
                    )
                )
                theirs.append(child("write_finished", folder, options.threads))
            clean(folder)
            large = child(
                "stitch", folder, options.tiles[1], options.depth, circular, options.threads
            )
            clean(folder)
            size = ours[0]["bytes"]
            ratio = median(r["wall_s"] for r in theirs) / median(r["wall_s"] for r in ours)
            cpu = median(r["cpu_s"] for r in theirs) / median(r["cpu_s"] for r in ours)
            print(f"{what}: {size / 1e9:.2f} GB ({ours[0]['written'] / 1e9:.2f} GB on disk), tiles "
                  f"read {ours[0]['reads']:.2f} x")  # fmt: skip
            for label, runs in (("stitch_volume", ours), ("tensorstore", theirs)):
                speeds = ", ".join(f"{size / r['wall_s'] / 1e9:.2f}" for r in runs)
                used = median(r["cpu_s"] for r in runs)
                print(f"  {label:<14} {speeds} GB/s, {used:.1f} CPU s")
            print(f"  speed {ratio:.2f} x, CPU {cpu:.2f} x that of tensorstore")
            peak = max(r["rss_mb"] for r in ours)
            print(
                f"  peak {peak:.0f} MB; {large['rss_mb']:.0f} MB for {large['bytes'] / 1e9:.2f} GB"
            )
            ok &= ratio >= SPEED and max(peak, large["rss_mb"]) <= MEMORY_MB
            ok &= large["rss_mb"] <= GROWTH * peak
    print("within the limits" if ok else f"BEYOND THE LIMITS ({SPEED} x, {MEMORY_MB} MB)")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
