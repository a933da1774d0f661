import numpy as np
import pytest

from opticstream_smk.simulate.optics import (
    apparent_fibre,
    fibre_direction,
    jones_profiles,
    orientation_from_angle,
    toolbox_axis,
)

GAMMA_DEG = -15.0


def _appearance(x: np.ndarray, k: np.ndarray) -> np.ndarray:
    """E(x; k), written out for one vector."""
    along = k @ x
    return (x - along * k) * np.sqrt(1 - along**2 / (x @ x))


def test_views_follow_the_forward_model():
    rng = np.random.default_rng(0)
    gamma = np.deg2rad(GAMMA_DEG)
    for _ in range(20):
        theta, alpha, b = rng.uniform(-3, 3), rng.uniform(-1, 1), rng.uniform(1e-4, 1e-3)
        u = fibre_direction(np.array(theta), np.array(alpha))
        dn, phi = apparent_fibre(u, np.array(b))
        straight = _appearance(b * u, np.array([0, 0, 1.0]))
        assert dn == pytest.approx(np.linalg.norm(straight))
        assert dn * np.array([np.cos(phi), np.sin(phi), 0]) == pytest.approx(straight)
        dn, phi = apparent_fibre(u, np.array(b), GAMMA_DEG)
        tilted = _appearance(b * u, np.array([np.sin(gamma), 0, np.cos(gamma)]))
        in_view = np.array([np.cos(phi) * np.cos(gamma), np.sin(phi), -np.cos(phi) * np.sin(gamma)])
        assert dn * in_view == pytest.approx(tilted)


def test_fibre_along_the_view_disappears():
    gamma = np.deg2rad(GAMMA_DEG)
    along = np.array([np.sin(gamma), 0, np.cos(gamma)])
    assert apparent_fibre(along, np.array(1e-3), GAMMA_DEG)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("phi_deg", "orientation_deg"), [(0, 0), (30, -30), (-30, 30), (90, 90), (-90, 90), (120, 60)]
)
def test_orientation_has_the_opposite_sign(phi_deg: float, orientation_deg: float):
    result = orientation_from_angle(np.deg2rad(np.array([phi_deg], float)))
    assert result == pytest.approx(orientation_deg)


def test_axis_order_and_sign():
    u = np.array([0.6, 0.0, 0.8])
    assert toolbox_axis(u).tolist() == [-0.6, 0.8, 0.0]


def test_profiles_carry_retardance_and_orientation():
    depth = np.linspace(0, 200, 81, dtype=np.float32)[:, None]
    j1, j2 = jones_profiles(
        depth,
        np.ones_like(depth),
        np.full(depth.shape, 0.3 - 0.4j, np.complex64),
        dn=np.array([1e-3], np.float32),
        orientation_deg=np.array([35.0], np.float32),
        wavelength_um=1.3,
        phase_offset_deg=100.0,
    )
    retardance = np.rad2deg(np.arctan2(np.abs(j1), np.abs(j2)))
    assert retardance == pytest.approx(360 * 1e-3 * depth / 1.3, abs=1e-3)
    phase = np.rad2deg(np.angle(j1[1:] * j2[1:].conj())) / 2 + 100.0
    assert (phase - 35 + 90) % 180 - 90 == pytest.approx(0, abs=1e-3)
