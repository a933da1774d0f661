"""Compare every stage with psoct-toolbox's own output; prints a table when run.

The reference outputs were made by the toolbox's MATLAB functions in GNU Octave.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opticstream_smk.psoct import (
    Calibration,
    TileSettings,
    Volumes,
    find_surface,
    jones_to_volumes,
    process_spectral,
    project_enface,
    read_spectral,
    spectral_to_jones,
    stack_jones,
    unstack_jones,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "psoct"


@dataclass(frozen=True)
class Case:
    """How the toolbox was called."""

    window: dict[str, float]
    volumes: dict[str, Any] = field(default_factory=dict)
    surface: tuple[str, tuple[float, ...]] = ("gradient", ())
    threshold_db: float = 55
    sizes: dict[str, int] = field(default_factory=dict)


SPECTRAL, COMPLEX = "spectral_nii_default", "complex_default"
SPECTRAL_12BIT, COMPLEX_EDGES, COMPLEX_DEEP = (
    "spectral_raw12_opts",
    "complex_opts",  # a zero A-line, NaN, isolated zeros, J1 = 0, J2 = 0
    "complex_flat_deep",
)
DEFAULT_WINDOW = {"offset_px": 0, "depth_px": 70, "wavelength_um": 0.0013}
CASES = {
    SPECTRAL: Case(DEFAULT_WINDOW, sizes={"alines": 10, "blines": 6, "bits": 16}),
    SPECTRAL_12BIT: Case(
        {"offset_px": 5, "depth_px": 110, "wavelength_um": 1.3},
        {"flip_phase": True},
        sizes={"alines": 7, "blines": 5, "bits": 12},
    ),
    COMPLEX: Case(DEFAULT_WINDOW),
    COMPLEX_EDGES: Case(
        {"offset_px": 10, "depth_px": 40, "wavelength_um": 1.3},
        {"flip_phase": True, "phase_offset_deg": math.degrees(-0.4), "flip_z": False},
        ("gradientThreshold", (20, 62)),
        62,
    ),
    COMPLEX_DEEP: Case({"offset_px": 3, "depth_px": 150, "wavelength_um": 1.3}, surface=("60", ())),
}
BIREF_TOLERANCES = {
    "legacy": 1e-6,
    "fft": 1e-6,
    "unwrap_old": 5e-6,
    "unwrap_new": 5e-6,
    "unwrap_exp": 5e-6,
}
# What an FFT in single precision makes of J (1e-6 of max |J|), and float32 rounding of J.
VOLUME_TOLERANCES = {"dBI": 1.3e-4, "R3D": 8.4e-4, "O3D": 5.7e-3}
JONES_TOLERANCES = {"double": 1e-9, "single": 1e-6}


@dataclass(frozen=True)
class Row:
    stage: str
    case: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def load(case: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{case}.npz") as content:
        return dict(content)


def spectra_of(
    golden: dict[str, np.ndarray], case: str = SPECTRAL
) -> tuple[np.ndarray, Calibration]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tile"
        path.write_bytes(golden["in_file_bytes"].tobytes())
        spectra = np.array(read_spectral(path, **CASES[case].sizes))
    return spectra, Calibration(golden["in_mu"], golden["in_wave_prime"], golden["in_disp"])


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Greatest difference in units of the greatest value; nan where NaN does not agree."""
    return absolute(found, expected) / float(np.nanmax(np.abs(expected)))


def absolute(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("nan")
    difference = np.abs(found.astype(complex) - expected)
    return float(np.nanmax(difference))


def circular(found: np.ndarray, expected: np.ndarray) -> float:
    """Greatest difference of axial angles, degrees; nan where NaN does not agree."""
    turns = np.round((found.astype(float) - expected) / 180)
    return absolute(found - 180 * np.nan_to_num(turns), expected)


def share_off(found: np.ndarray, expected: np.ndarray, tolerance: float) -> float:
    """Share of the values that differ by more than `tolerance`, without any wrapping."""
    same = np.isclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)
    return float(np.mean(~same))


def volume_rows(case: str, what: str, volumes: Volumes, golden: dict[str, np.ndarray]) -> list[Row]:
    limit = VOLUME_TOLERANCES
    orientation = volumes.o3d, golden["out_O3D"]
    return [
        Row(f"{what} dBI [dB]", case, absolute(volumes.dbi, golden["out_dBI"]), limit["dBI"]),
        Row(f"{what} R3D [deg]", case, absolute(volumes.r3d, golden["out_R3D"]), limit["R3D"]),
        Row(f"{what} O3D [deg, axial]", case, circular(*orientation), limit["O3D"]),
        # The axial difference hides a missing or an extra wrap.
        Row(f"{what} O3D [share unequal]", case, share_off(*orientation, limit["O3D"]), 1e-3),
    ]


def enface_rows(case: str, what: str, volumes: Volumes, surface: np.ndarray) -> list[Row]:
    golden, window = load(case), CASES[case].window
    maps = project_enface(volumes, surface, **window)
    rows = [
        Row(f"{what} {name}", case, absolute(maps[name], golden[f"out_{name}"]), 1e-4)
        for name in ("aip", "mip", "ret")
    ]
    rows.append(
        Row(f"{what} ori [deg, axial]", case, circular(maps["ori"], golden["out_ori"]), 1e-3)
    )
    mean = project_enface(volumes, surface, modalities=["ori"], ori_method="mean", **window)
    rows.append(
        Row(f"{what} ori mean", case, absolute(mean["ori"], golden["out_ori_legacy"]), 1e-3)
    )
    for method, tolerance in BIREF_TOLERANCES.items():
        biref = project_enface(
            volumes, surface, modalities=["biref"], biref_method=method, **window
        )["biref"]
        # unwrap_exp is complex there; its real part is the usable result.
        error = relative(biref, golden[f"out_biref_{method}"].real)
        rows.append(Row(f"{what} biref {method} [of max]", case, error, tolerance))
    return rows


def surface_rows(case: str) -> Iterator[Row]:
    golden = load(case)
    for name, spec, args in (
        ("surf_gradient", "gradient", ()),
        ("surf_gradient_w7k7", "gradient", (7, 7)),
        ("surf_threshold", "gradientThreshold", (20, CASES[case].threshold_db)),
        ("surf", *CASES[case].surface),
    ):
        off = share_off(find_surface(golden["out_dBI"], spec, args), golden[f"out_{name}"], 0)
        yield Row(f"dBI -> {name} [share unequal]", case, off, 0)


def jones_rows(case: str) -> Iterator[Row]:
    golden = load(case)
    spectra, calibration = spectra_of(golden, case)
    for precision, tolerance in JONES_TOLERANCES.items():
        jones = spectral_to_jones(spectra, calibration, precision=precision, toolbox_quirks=True)
        for number, found in enumerate(jones, 1):
            error = relative(found[:, :1], golden[f"out_J{number}_b0"])
            yield Row(f"spectra -> J{number} {precision} [of max]", case, error, tolerance)
        # The reference stack is float32 (half a unit in the last place: 6e-8).
        error = relative(stack_jones(*jones), golden["out_Jstack"])
        yield Row(f"spectra -> stack {precision} [of max]", case, error, max(tolerance, 6e-8))


def one_pass_rows(case: str) -> Iterator[Row]:
    """The whole way from spectra with the defaults of the methods, errors adding up."""
    golden, options = load(case), CASES[case]
    for precision in JONES_TOLERANCES:
        settings = TileSettings(
            precision=precision,
            toolbox_quirks=True,
            surface_spec=options.surface[0],
            surface_args=options.surface[1],
            **options.volumes,
            **options.window,
        )
        products = process_spectral(*spectra_of(golden, case), settings)
        what = f"spectra -> ({precision})"
        yield from volume_rows(case, what, products.volumes, golden)
        off = share_off(products.surface, golden["out_surf"], 0)
        yield Row(f"{what} surface [share unequal]", case, off, 1e-3)
        maps = products.enface
        for name in ("aip", "mip", "ret"):
            yield Row(f"{what} {name}", case, absolute(maps[name], golden[f"out_{name}"]), 1e-4)
        ori, biref = circular(maps["ori"], golden["out_ori"]), golden["out_biref_legacy"]
        yield Row(f"{what} ori [deg, axial]", case, ori, 1e-3)
        yield Row(f"{what} biref [of max]", case, relative(maps["biref"], biref), 1e-6)


def golden_rows() -> list[Row]:
    rows: list[Row] = []
    for case, options in CASES.items():
        golden = load(case)
        if options.sizes:
            rows += jones_rows(case)
        jones = unstack_jones(golden["out_Jstack" if options.sizes else "in_V"])
        volumes = jones_to_volumes(*jones, toolbox_quirks=True, **options.volumes)
        rows += volume_rows(case, "J ->", volumes, golden)
        # The stages after the volumes, each from the toolbox's own inputs.
        rows += surface_rows(case)
        volumes = Volumes(golden["out_dBI"], golden["out_R3D"], golden["out_O3D"])
        rows += enface_rows(case, "volumes ->", volumes, golden["out_surf"])
        if options.sizes:
            rows += one_pass_rows(case)
    return rows


def table(rows: list[Row]) -> str:
    lines = [f"{'stage':44} {'case':22} {'max error':>10} {'tolerance':>10}  ok"]
    lines += [
        f"{row.stage:44} {row.case:22} {row.error:10.2e} {row.tolerance:10.2e}  "
        f"{'yes' if row.ok else 'NO'}"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    result = golden_rows()
    sys.stdout.write(table(result) + "\n")
    sys.exit(0 if all(row.ok for row in result) else 3)
