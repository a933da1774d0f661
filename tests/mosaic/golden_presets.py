"""Mosaics of the reference generator, and the limits that a solver has to keep on them."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

GENERATOR = Path(__file__).parents[1] / "data" / "golden" / "mosaic" / "mosaic_phantom.py"

# Rms error of the tiles with tissue, px: median over mosaics, and the worst of them.
LIMITS_PX = {
    "stage": (0.08, 0.15),
    "standard": (0.06, 0.10),
    "noisy": (0.20, 0.40),
    "sparse": (0.10, 0.15),
    "rough": (0.10, 0.15),
    "fine": (0.10, 0.15),
    "lattice": (0.08, 0.12),
}


@dataclass(frozen=True)
class GoldenMosaic:
    tiles: np.ndarray  # (N, n, n) float32
    cells: np.ndarray  # (N, 2)
    true: np.ndarray  # (N, 2) y, x
    is_weak: np.ndarray  # (N,) bool, less than a tenth of it is tissue
    overlap_percent: float


def generator() -> ModuleType:
    name = "mosaic_phantom"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, GENERATOR)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def make_golden(preset, rows, columns, *, seed, tile_px, overlap=0.2):
    make = generator()
    spec = make.preset(preset, rows, columns, seed, tile=tile_px, overlap=overlap)
    phantom = make.make_phantom(spec)
    return GoldenMosaic(
        phantom.tiles["aip"], phantom.rc, phantom.true, make.weak_tiles(phantom), 100 * overlap
    )


def error_px(positions, mosaic, use=None):
    """Metric of the reference: rms over tiles with tissue, and the farthest of them."""
    weak = mosaic.is_weak if use is None else ~use
    found = generator().position_error(positions, mosaic.true, weak)
    return found["rms"], found["max"]
