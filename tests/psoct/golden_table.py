"""Compare every stage with psoct-toolbox's own output; prints a table when run.

The reference outputs were made by the toolbox's MATLAB functions in GNU Octave.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
SPECTRAL, COMPLEX = "spectral_nii_default", "complex_default"
# How the toolbox was called: its own defaults.
WINDOW = {"offset_px": 0, "depth_px": 70, "wavelength_um": 0.0013}
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


def spectra_of(golden: dict[str, np.ndarray]) -> tuple[np.ndarray, Calibration]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tile.nii"
        path.write_bytes(golden["in_file_bytes"].tobytes())
        spectra = np.array(read_spectral(path, alines=10, blines=6))
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


def enface_rows(
    case: str, what: str, maps: dict[str, np.ndarray], golden: dict[str, np.ndarray]
) -> list[Row]:
    rows = [
        Row(f"{what} {name}", case, absolute(maps[name], golden[f"out_{name}"]), 1e-4)
        for name in ("aip", "mip", "ret")
    ]
    ori = circular(maps["ori"], golden["out_ori"])
    biref = relative(maps["biref"], golden["out_biref_legacy"])
    return [
        *rows,
        Row(f"{what} ori [deg, axial]", case, ori, 1e-3),
        Row(f"{what} biref [of max]", case, biref, 1e-6),
    ]


def surface_and_enface_rows(case: str, golden: dict[str, np.ndarray]) -> Iterator[Row]:
    """Stages after the volumes, each from the toolbox's own inputs."""
    dbi = golden["out_dBI"]
    for name, args in (("gradient", ()), ("gradient_w7k7", (7, 7))):
        off = share_off(find_surface(dbi, "gradient", args), golden[f"out_surf_{name}"], 0)
        yield Row(f"dBI -> surface {name} [share unequal]", case, off, 0)
    volumes = Volumes(dbi, golden["out_R3D"], golden["out_O3D"])
    yield from enface_rows(
        case, "volumes ->", project_enface(volumes, golden["out_surf"], **WINDOW), golden
    )


def golden_rows() -> list[Row]:
    golden = load(SPECTRAL)
    spectra, calibration = spectra_of(golden)
    rows: list[Row] = []
    for precision, tolerance in JONES_TOLERANCES.items():
        jones = spectral_to_jones(spectra, calibration, precision=precision, toolbox_quirks=True)
        for number, found in enumerate(jones, 1):
            error = relative(found[:, :1], golden[f"out_J{number}_b0"])
            rows.append(
                Row(f"spectra -> J{number} {precision} [of max]", SPECTRAL, error, tolerance)
            )
        # The reference stack is float32 (half a unit in the last place: 6e-8).
        error = relative(stack_jones(*jones), golden["out_Jstack"])
        rows.append(
            Row(f"spectra -> stack {precision} [of max]", SPECTRAL, error, max(tolerance, 6e-8))
        )

    for case, source in ((SPECTRAL, "out_Jstack"), (COMPLEX, "in_V")):
        golden = load(case)
        volumes = jones_to_volumes(*unstack_jones(golden[source]), toolbox_quirks=True)
        rows += volume_rows(case, "J ->", volumes, golden)
        rows += surface_and_enface_rows(case, golden)

    golden = load(SPECTRAL)
    for precision in JONES_TOLERANCES:
        settings = TileSettings(precision=precision, toolbox_quirks=True, **WINDOW)
        products = process_spectral(spectra, calibration, settings)
        what = f"spectra -> ({precision})"
        rows += volume_rows(SPECTRAL, what, products.volumes, golden)
        off = share_off(products.surface, golden["out_surf"], 0)
        rows.append(Row(f"{what} surface [share unequal]", SPECTRAL, off, 1e-3))
        rows += enface_rows(SPECTRAL, what, products.enface, golden)
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
