"""Tile positions: how far from the truth, and at what cost.

Mosaics of the reference generator in several sizes and overlaps, seeds that it does not ship.
Errors are given over all tiles with tissue, and without islands: tiles that no content links to
the rest can only lie where the stage went. The limits are held against the latter. Then 20 x 20
tiles of 350 px: CPU seconds without reading files, and times the bare FFTs that correlate the
overlaps of the same pairs, in the same run.
"""

import sys
import time

import numpy as np
from scipy import fft

from opticstream_smk.mosaic import solve_positions
from tests.mosaic.golden_presets import LIMITS_PX, error_px, make_golden

# Rows, columns, tile px, overlap.
SIZES = (
    (4, 5, 240, 0.20),
    (5, 6, 300, 0.20),
    (4, 5, 240, 0.25),
    (6, 8, 350, 0.20),
    (5, 5, 280, 0.15),
)
SEEDS = range(1000, 1010)
CPU_S, TIMES_FFT = 8.0, 30.0
NEVER_PX = 3.0


def accuracy() -> bool:
    print(
        f"{'':10} {'without islands':^36} {'all tiles with tissue':^24} tiles in\n{'preset':10} "
        f"{'median':>8} {'limit':>6} {'worst':>7} {'limit':>6} {'tile':>6} {'median':>8} "
        f"{'worst':>7} {'tile':>6}  islands"
    )
    is_good = True
    for preset, (median_limit, worst_limit) in LIMITS_PX.items():
        linked, whole, islands = [], [], 0
        for seed in SEEDS:
            rows, columns, tile_px, overlap = SIZES[seed % len(SIZES)]
            mosaic = make_golden(preset, rows, columns, seed=seed, tile_px=tile_px, overlap=overlap)
            found = solve_positions(
                mosaic.tiles, mosaic.cells, overlap_percent=mosaic.overlap_percent
            )
            is_linked = ~mosaic.is_weak & (found.island == 0)
            islands += int((~mosaic.is_weak & (found.island != 0)).sum())
            linked.append(error_px(found.positions_px, mosaic, is_linked))
            whole.append(error_px(found.positions_px, mosaic))
        (rms, farthest), (rms_all, farthest_all) = (np.transpose(e) for e in (linked, whole))
        good = np.median(rms) <= median_limit and max(rms) <= worst_limit
        good &= max(farthest) <= NEVER_PX
        is_good &= bool(good)
        print(
            f"{preset:10} {np.median(rms):8.3f} {median_limit:6.2f} {max(rms):7.3f} "
            f"{worst_limit:6.2f} {max(farthest):6.2f} {np.median(rms_all):8.3f} "
            f"{max(rms_all):7.3f} {max(farthest_all):6.2f}  {islands}{'' if good else '  TOO FAR'}",
            flush=True,
        )
    return is_good


def fft_cpu_s(tiles: np.ndarray, edges: np.ndarray, cells: np.ndarray, overlap_px: int) -> float:
    """Two transforms and one back of the nominal overlap, for each pair."""
    start = time.process_time()
    for tile_a, tile_b in zip(edges["tile_a"], edges["tile_b"], strict=True):
        below = cells[tile_b, 0] > cells[tile_a, 0]
        last = (slice(-overlap_px, None), slice(None))
        first = (slice(None, overlap_px), slice(None))
        a = tiles[tile_a][last if below else last[::-1]]
        b = tiles[tile_b][first if below else first[::-1]]
        shape = tuple(fft.next_fast_len(n, real=True) for n in a.shape)
        fft.irfft2(fft.rfft2(a, s=shape) * np.conj(fft.rfft2(b, s=shape)), s=shape)
    return time.process_time() - start


def cost() -> bool:
    mosaic = make_golden("standard", 20, 20, seed=21, tile_px=350)
    # Compiled once per machine, not per mosaic.
    solve_positions(mosaic.tiles[:4], mosaic.cells[:4], overlap_percent=20)
    start = time.process_time()
    found = solve_positions(mosaic.tiles, mosaic.cells, overlap_percent=20)
    cpu_s = time.process_time() - start
    bare_s = min(fft_cpu_s(mosaic.tiles, found.edges, mosaic.cells, 70) for _ in range(3))
    rms, _ = error_px(found.positions_px, mosaic)
    print(
        f"20 x 20 tiles of 350 px, {len(found.edges)} pairs: {cpu_s:.1f} CPU s (limit {CPU_S}), "
        f"{cpu_s / bare_s:.0f} x the bare FFTs of {bare_s:.2f} s (limit {TIMES_FFT:.0f}); "
        f"rms {rms:.3f} px"
    )
    return cpu_s <= CPU_S and cpu_s <= TIMES_FFT * bare_s


if __name__ == "__main__":
    results = [accuracy(), cost()]
    sys.exit(0 if all(results) else 1)
