import numpy as np
import pytest

from opticstream_smk.psoct import Volumes, project_enface

DZ_MM = 2.5e-3


def decay(
    mus: np.ndarray,
    *,
    depth: int = 600,
    surface: int = 100,
    snr_db: float = 40,
    seed: int = 0,
) -> Volumes:
    """Speckle of exponentially decaying power in two channels, and noise; `mus` is (X, Y)."""
    rng = np.random.default_rng(seed)
    z = (np.arange(depth) - (surface - 1)) * DZ_MM
    m = mus[:, :, None]
    # The fraction that comes back from a voxel is proportional to what it takes away.
    signal = np.where(z >= 0, m / 5 * np.exp(-2 * m * np.maximum(z, 0)), 0) * 10 ** (snr_db / 10)
    power = np.zeros(signal.shape)
    for _ in range(2):
        speckle, noise = (rng.normal(size=(2, *signal.shape)) / np.sqrt(2) for _ in range(2))
        channel = speckle * np.sqrt(signal / 2) + noise * np.sqrt(0.5)
        power += (channel**2).sum(axis=0)
    dbi = (10 * np.log10(np.maximum(power, 2.0**-23))).astype(np.float32)
    return Volumes(dbi, np.zeros_like(dbi), np.zeros_like(dbi))


def maps(v: Volumes, surface: int = 100, **options: object) -> tuple[np.ndarray, np.ndarray]:
    found = project_enface(
        v,
        np.full(v.dbi.shape[:2], float(surface)),
        modalities=("mus", "mus_confidence"),
        **options,
    )
    assert list(found) == ["mus", "mus_confidence"]
    assert all(image.dtype == np.float32 for image in found.values())
    return found["mus"], found["mus_confidence"]


@pytest.mark.parametrize("snr_db", [20, 30, 40])
@pytest.mark.parametrize("truth", [1.0, 2.0, 5.0, 10.0])
def test_known_attenuation_is_recovered(truth: float, snr_db: float) -> None:
    mus, confidence = maps(decay(np.full((20, 12), truth), snr_db=snr_db))
    assert np.median(np.abs(mus / truth - 1)) < 0.1
    assert np.median(mus) == pytest.approx(truth, rel=0.05)
    assert (confidence > 0.7).all()


def test_map_follows_the_tissue() -> None:
    truth = np.repeat([[2.0], [8.0]], 10, axis=0) * np.ones((1, 9))
    mus, _ = maps(decay(truth), offset_px=5, depth_px=60)
    assert np.median(np.abs(mus / truth - 1)) < 0.1


def test_noise_floor_is_subtracted() -> None:
    # Without it, attenuation of a weak signal would be underestimated: what is left of the
    # A-line behind the window would be mostly noise.
    truth = np.full((20, 12), 5.0)
    weak, confidence = maps(decay(truth, snr_db=15))
    assert np.median(weak) == pytest.approx(5, rel=0.1)
    assert np.median(confidence) < 0.97


def test_light_beyond_a_short_volume_is_extrapolated() -> None:
    truth = np.full((20, 12), 3.0)
    mus, short = maps(decay(truth, depth=250))
    assert np.median(mus) == pytest.approx(3, rel=0.05)
    _, long = maps(decay(truth, depth=800))
    assert np.median(short) < np.median(long) - 0.05


def test_window_that_reaches_the_end_of_the_volume() -> None:
    mus, confidence = maps(decay(np.full((20, 12), 6.0), depth=180))
    assert np.median(mus) == pytest.approx(6, rel=0.1)
    # What decayed over the 81 samples was measured, the rest was not.
    assert np.median(confidence) == pytest.approx(1 - np.exp(-2 * 6 * 81 * DZ_MM), abs=0.02)


def test_confidence_tells_noise_from_tissue() -> None:
    empty, tissue = decay(np.zeros((10, 8))), decay(np.full((10, 8), 5.0))
    _, none = maps(empty)
    _, much = maps(tissue)
    assert none.max() < 0.2
    assert much.min() > 0.8


def test_missing_samples() -> None:
    v = decay(np.full((4, 3), 5.0))
    v.dbi[0, 0, 120] = np.nan  # in the window
    v.dbi[1, 0, 20] = np.nan  # above the surface
    v.dbi[2, 0, :] = np.nan
    mus, confidence = maps(v)
    assert np.isnan(mus[[0, 2], 0]).all()
    assert (confidence[[0, 2], 0] == 0).all()
    assert np.count_nonzero(np.isfinite(mus)) == 10
    assert (confidence[np.isfinite(mus)] > 0).all()


@pytest.mark.parametrize("value", [np.nan, -69.24, 30.0])
def test_volumes_without_decay_give_nothing(value: float) -> None:
    dbi = np.full((3, 2, 200), value, np.float32)
    mus, confidence = maps(Volumes(dbi, dbi, dbi))
    assert np.isnan(mus).all()
    assert (confidence == 0).all()


def test_maps_are_independent_and_scale_with_voxel_size() -> None:
    v = decay(np.full((5, 4), 4.0))
    surface = np.full((5, 4), 100.0)
    together = maps(v)
    for name, image in zip(("mus", "mus_confidence"), together, strict=True):
        alone = project_enface(v, surface, modalities=(name,))
        assert list(alone) == [name]
        np.testing.assert_array_equal(alone[name], image)
    np.testing.assert_allclose(maps(v, dz_um=5.0)[0], together[0] / 2, rtol=1e-6)
    everything = project_enface(v, surface, modalities=("mus", "aip", "mus_confidence", "biref"))
    assert list(everything) == ["mus", "aip", "mus_confidence", "biref"]
    np.testing.assert_array_equal(everything["mus"], together[0])
