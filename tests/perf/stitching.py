"""Stitching: CPU and memory of the stage, and what flat field and placement do to the image.

CPU: `blend_rows` of 20 x 20 tiles of 350 px against a plain NumPy blend of the whole canvas (sums
and weights, one division), in the same run. Memory: the stage on two sizes of mosaic, each in a
process of its own; what grows with the canvas is counted per pixel. Images: PSNR and seam ratio in
tissue on reference mosaics.

    PYTHONPATH=. python tests/perf/stitching.py [--folder DIR]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import yaml

from opticstream_smk.mosaic import blend, nominal_positions, snake_order
from opticstream_smk.mosaic.blending import blend_rows, ramp_weights
from opticstream_smk.mosaic.flat_field import estimate_flat_field
from tests.mosaic.golden_presets import generator

TILE, OVERLAP = 350, 20
# Times the plain blend, per pixel of the canvas, and MB of a mosaic of 22 x 16 tiles.
TIMES_PLAIN, BYTES_PER_PIXEL, PEAK_MB = 2.0, 12.0, 700
ORIENTATION_SEAMS = 1.1
MODALITIES = ("aip", "mip", "ret", "ori", "biref", "surf")


def grid(rows: int, columns: int) -> np.ndarray:
    positions = nominal_positions(snake_order(rows, columns), (TILE, TILE), OVERLAP)
    positions += np.random.default_rng(0).uniform(-2, 2, positions.shape)
    return positions - positions.min(axis=0)


def plain_blend(tiles: list, positions: np.ndarray) -> np.ndarray:
    corners = np.rint(positions).astype(int)
    shape = corners.max(axis=0) + TILE
    weights = ramp_weights((TILE, TILE), OVERLAP)
    sums, total = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for (y, x), tile in zip(corners, tiles, strict=True):
        window = (slice(y, y + TILE), slice(x, x + TILE))
        sums[window] += weights * tile
        total[window] += weights
    with np.errstate(invalid="ignore"):
        return sums / total


def cpu_s(call, repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def speed() -> bool:
    positions = grid(20, 20)
    images = np.random.default_rng(0).normal(60, 9, (20, TILE, TILE)).astype(np.float32)
    tiles = [images[i % 20] for i in range(len(positions))]
    plain = cpu_s(lambda: plain_blend(tiles, positions))
    print(f"20 x 20 tiles of {TILE} px; plain NumPy blend {plain:.2f} CPU s")
    ratio = float("inf")
    for name, options in {
        "rounded": {},
        "subpixel": {"placement": "subpixel"},
        "orientation": {"circular": True},
        "orientation, subpixel": {"circular": True, "placement": "subpixel"},
    }.items():

        def run(options=options):
            for _ in blend_rows(tiles, positions, overlap_percent=OVERLAP, **options):
                pass

        taken = cpu_s(run)
        ratio = min(ratio, taken / plain)
        print(f"  blend_rows, {name:<22} {taken:.2f} CPU s, {taken / plain:.1f} x")
    flat = cpu_s(lambda: estimate_flat_field(tiles, positions, threshold=0), repeats=1)
    print(f"  flat field {flat:.2f} CPU s")
    return ratio <= TIMES_PLAIN


def stage(folder: str, rows: int, columns: int) -> dict:
    """Stitch a mosaic of files; every tile is a link to one of a few."""
    from opticstream_smk.config import load_config
    from opticstream_smk.io import nifti
    from opticstream_smk.layout import ProjectLayout
    from opticstream_smk.stages import stitch_enface
    from opticstream_smk.stages.resources import stage_resources
    from opticstream_smk.stages.tilemap import Tilemap, read_tilemap, write_tilemap
    from tests.conftest import small_values

    root = Path(folder) / f"{rows}x{columns}"
    (root / "raw").mkdir(parents=True)
    rng = np.random.default_rng(0)
    layout = ProjectLayout(root / "project")
    for modality in MODALITIES:
        level, spread = (0, 50) if modality == "ori" else (70, 8)
        kinds = []
        for kind in range(3):
            kinds.append(root / f"{modality}_{kind}.nii")
            tile = rng.normal(level, spread, (TILE, TILE)).astype(np.float32)
            nifti.write_image(kinds[-1], tile, nifti.Geometry((0.01, 0.01, 0.0025)))
        for image in range(1, rows * columns + 1):
            path = layout.processed_tile(1, image, modality)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(kinds[image % 3])
    values = small_values(
        acquisition__grid_size_x_normal=columns,
        acquisition__grid_size_y=rows,
        acquisition__tile_size_x_normal=TILE,
        acquisition__tile_size_y=TILE,
        acquisition__tile_overlap_percent=OVERLAP,
    )
    (root / "project.yaml").write_text(yaml.safe_dump(values))
    config = load_config(root / "project.yaml")
    positions = grid(rows, columns)
    count = len(positions)
    tilemap = Tilemap(positions, np.ones(count, bool), (TILE, TILE), np.ones(count))
    write_tilemap(config, layout.template("normal"), tilemap)
    stitch_enface.solved_tilemap = lambda *_: read_tilemap(config, layout, "normal")
    plan = SimpleNamespace(
        accept_missing=lambda _: frozenset(),
        images=lambda _: range(1, count + 1),
        closed_without=lambda _: frozenset(),
    )
    context = SimpleNamespace(
        config=config, layout=layout, mosaic=1, acquisition="normal", plan=plan,
        place=SimpleNamespace(slice=1),
    )  # fmt: skip
    before = peak_mb()
    start, wall = time.process_time(), time.perf_counter()
    stitch_enface.compute(context)
    return {
        "cpu_s": time.process_time() - start,
        "wall_s": time.perf_counter() - wall,
        "before_mb": before,
        "peak_mb": peak_mb(),
        "stated_mb": stage_resources(config, "stitch_enface").memory_mb,
        "pixels": int(np.prod(tilemap.canvas_px)),
    }


def peak_mb() -> float:
    """Peak of this process alone; what `getrusage` says begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(folder: Path | None) -> bool:
    found = []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for size in ((8, 11), (16, 22)):
            command = [sys.executable, __file__, "--stage", json.dumps([name, *size])]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
            one = found[-1]
            print(
                f"stage, {size[1]} x {size[0]} tiles, {one['pixels'] / 1e6:.0f} Mpx, 6 modalities: "
                f"{one['cpu_s']:.1f} CPU s, {one['wall_s']:.1f} s, peak {one['peak_mb']:.0f} MB "
                f"({one['before_mb']:.0f} before; stated {one['stated_mb']})"
            )
    small, large = found
    per_pixel = (large["peak_mb"] - small["peak_mb"]) * 2**20 / (large["pixels"] - small["pixels"])
    print(f"  {per_pixel:.1f} bytes a pixel of the canvas (limit {BYTES_PER_PIXEL:g})")
    stated = all(one["peak_mb"] <= one["stated_mb"] for one in found)
    return per_pixel <= BYTES_PER_PIXEL and large["peak_mb"] <= PEAK_MB and stated


def images() -> bool:
    make = generator()
    print("PSNR in dB and seam ratio in tissue; tiles where they truly lie")
    orientation = []
    for preset, seed in (("standard", 11), ("standard", 21), ("stage", 12), ("noisy", 13)):
        phantom = make.make_phantom(make.preset(preset, 6, 8, seed), modalities=("aip", "ori"))
        tiles = phantom.tiles["aip"]
        found = estimate_flat_field(tiles, phantom.true, threshold=50, domain="gain")
        flat = np.stack([found.correct(tile) for tile in tiles])
        line = []
        for name, given in (("as recorded", tiles), ("flat field", flat)):
            for placement in ("rounded", "subpixel"):
                image, origin = blend(
                    given, phantom.true, overlap_percent=OVERLAP, placement=placement
                )
                truth = make.reference_image(phantom.truth["aip"], origin, image.shape)
                tissue = crop(phantom.truth["tissue"], origin, image.shape)
                seams = make.seam_metric(image, truth, phantom.true - origin, TILE, mask=tissue)[
                    "ratio"
                ]
                psnr = make.psnr(image, truth, tissue)
                line.append(f"{name}, {placement} {psnr:.2f}, {seams:.2f}")
        image, origin = blend(
            phantom.tiles["ori"], phantom.true, overlap_percent=OVERLAP, circular=True
        )
        truth = make.reference_image(phantom.truth["ori"], origin, image.shape, axial=True)
        residual = make.axial_residual(image, truth)
        tissue = crop(phantom.truth["tissue"], origin, image.shape)
        seams = make.seam_metric(residual, 0 * residual, phantom.true - origin, TILE, mask=tissue)[
            "ratio"
        ]
        orientation.append(seams)
        print(f"  {preset} {seed}: {'; '.join(line)}; orientation seams {seams:.3f}", flush=True)
    print(
        f"  orientation seams: median {median(orientation):.3f}, worst {max(orientation):.3f} "
        f"(limit of the median {ORIENTATION_SEAMS})"
    )
    return median(orientation) <= ORIENTATION_SEAMS


def crop(image: np.ndarray, origin: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    return image[tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where files are written and removed")
    parser.add_argument("--stage")
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(stage(*json.loads(options.stage))))
        sys.exit(0)
    results = [speed(), memory(options.folder), images()]
    print("within the limits" if all(results) else "BEYOND THE LIMITS")
    sys.exit(0 if all(results) else 1)
