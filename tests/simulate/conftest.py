from pathlib import Path

import pytest

from opticstream_smk.simulate import AcquisitionSettings, SimulatedAcquisition, simulate_psoct


@pytest.fixture(scope="session")
def small() -> AcquisitionSettings:
    """Few short spectra; the two views differ in grid and tile."""
    return AcquisitionSettings(
        n_slices=1,
        seed=3,
        grid_columns=2,
        grid_columns_tilted=3,
        grid_rows=2,
        alines=20,
        alines_tilted=16,
        blines=18,
        samples=512,
        first_surface_px=90,
    )


@pytest.fixture(scope="session")
def small_acquisition(
    small: AcquisitionSettings, tmp_path_factory: pytest.TempPathFactory
) -> SimulatedAcquisition:
    """Written once; tests must not change it."""
    return simulate_psoct(small, tmp_path_factory.mktemp("acquisition") / "raw")


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Contents of all files; the calibration's header carries the date and is left out."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix != ".mat"}
