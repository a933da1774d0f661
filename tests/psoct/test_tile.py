import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct import (
    TileSettings,
    find_surface,
    jones_to_volumes,
    process_jones,
    process_spectral,
    project_enface,
    spectral_to_jones,
)

from . import phantom


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "double", "toolbox_quirks": True},
        {"flip_phase": True, "phase_offset_deg": -23.0, "flip_z": False, "surface_args": (7, 7)},
        {"offset_px": 5, "depth_px": 20, "modalities": ("biref", "aip"), "wavelength_um": 0.0013},
    ],
)
@pytest.mark.parametrize("alines", [1, 6, 37])
def test_one_pass_equals_the_stages(settings: dict[str, Any], alines: int) -> None:
    samples = 256
    cal = phantom.calibration(samples)
    rng = np.random.default_rng(alines)
    spectra = rng.integers(0, 5000, (4, 2, alines, samples), dtype=np.uint16)
    chosen = TileSettings(**settings)
    products = process_spectral(spectra, cal, chosen)

    jones = spectral_to_jones(
        spectra, cal, precision=chosen.precision, toolbox_quirks=chosen.toolbox_quirks
    )
    volumes = jones_to_volumes(
        *jones,
        flip_phase=chosen.flip_phase,
        phase_offset_deg=chosen.phase_offset_deg,
        flip_z=chosen.flip_z,
        toolbox_quirks=chosen.toolbox_quirks,
    )
    surface = find_surface(volumes.dbi, chosen.surface_spec, chosen.surface_args)
    enface = project_enface(
        volumes,
        surface,
        offset_px=chosen.offset_px,
        depth_px=chosen.depth_px,
        modalities=chosen.modalities,
        wavelength_um=chosen.wavelength_um,
    )
    for name in ("dbi", "r3d", "o3d"):
        np.testing.assert_array_equal(getattr(products.volumes, name), getattr(volumes, name))
    np.testing.assert_array_equal(products.surface, surface)
    assert list(products.enface) == list(enface)
    for name, image in enface.items():
        np.testing.assert_array_equal(products.enface[name], image)

    kept = process_jones(*jones, chosen)
    np.testing.assert_array_equal(kept.volumes.o3d, volumes.o3d)
    np.testing.assert_array_equal(kept.surface, surface)
    assert list(kept.enface) == list(enface)


def test_known_tissue_is_recovered() -> None:
    # One reflector 150 bins from zero delay: counted from the deep end it is the first tissue.
    alines, blines, samples, depth_bin = 32, 3, 512, 150
    cal = phantom.calibration(samples)
    carrier = np.exp(2j * np.pi * np.arange(alines) / alines)[:, None] * np.ones((1, blines))
    retardance = np.deg2rad(np.linspace(10, 60, blines))[None, :]
    orientation = np.array([-70.0, 10.0, 85.0])[None, :]
    spectra = phantom.reflector(
        cal,
        carrier * np.sin(retardance) * np.exp(2j * np.deg2rad(orientation - 100)),
        carrier * np.cos(retardance),
        depth_bin=depth_bin,
    )
    volumes = process_spectral(spectra, cal).volumes
    z = samples // 2 - 24 - 1 - (depth_bin - 24)
    assert (volumes.dbi.argmax(axis=2) == z).all()
    np.testing.assert_allclose(
        volumes.r3d[:, :, z], np.rad2deg(retardance).repeat(alines, 0), atol=1
    )
    off = (volumes.o3d[:, :, z] - orientation + 90) % 180 - 90
    np.testing.assert_allclose(off, 0, atol=1)


def test_memory_beside_the_products_does_not_grow_with_blines() -> None:
    alines, samples = 64, 512
    cal = phantom.calibration(samples)
    line = np.random.default_rng(0).integers(0, 5000, (1, 2, alines, samples), dtype=np.uint16)
    process_spectral(line, cal)  # imports happen here
    beside = {}
    # 60 B-lines already fill the blocks in which en-face windows are gathered.
    for blines in (60, 120):
        spectra = np.broadcast_to(line, (blines, 2, alines, samples))
        tracemalloc.start()
        products = process_spectral(spectra, cal)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        v = products.volumes
        beside[blines] = peak - v.dbi.nbytes - v.r3d.nbytes - v.o3d.nbytes
    jones_bytes = 2 * alines * 60 * (samples // 2 - 24) * 8
    assert beside[120] - beside[60] < 0.1 * jones_bytes


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "quad"},
        {"surface_spec": "edges"},
        {"surface_args": (1, 2, 3)},
        {"modalities": ("aip", "depth")},
        {"ori_method": "median"},
        {"biref_method": "slope"},
        {"complex_z_order": "reversed"},
        {"surface_spec": 60, "surface_args": (5,)},
        {"depth_px": 0},
    ],
)
def test_wrong_settings_show_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TileSettings(**wrong)


def test_wrong_shape() -> None:
    with pytest.raises(CorruptInputError, match=r"expected \(Y, 2, X, N\)"):
        process_spectral(np.zeros((2, 2, 64), np.uint16), phantom.calibration(64))


def test_import_leaves_scipy_alone() -> None:
    # Commands import this package for its names; scipy would double their start time.
    code = "import sys, opticstream_smk.psoct; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
