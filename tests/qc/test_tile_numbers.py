import numpy as np
import pytest

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.qc.tile_numbers import (
    NUMBERS,
    NumberLimits,
    credible_surface,
    measure_tile,
    sampled_blines,
    smooth_surface,
)
from tests.qc.phantom import NOISE_DB, tile


@pytest.mark.parametrize("snr_db", [4.0, 12.0, 25.0])
def test_snr_is_power_in_the_window_over_power_above_the_surface(snr_db):
    assert measure_tile(tile(snr_db=snr_db))["snr_db"] == pytest.approx(snr_db, abs=1e-4)


def test_snr_is_of_mean_power_not_of_mean_db():
    products = tile()
    # Half of the window 20 dB above noise, half at noise: mean power is (100 + 1) / 2.
    products["dBI"][:, :, 119:] = NOISE_DB
    products["dBI"][:, :, 119:159] = NOISE_DB + 20
    found = measure_tile(products, depth_px=79)["snr_db"]
    assert found == pytest.approx(10 * np.log10(50.5), abs=1e-4)


def test_window_starts_below_the_surface_by_the_offset():
    products = tile()
    products["dBI"][:, :, 139:] = NOISE_DB + 30
    assert measure_tile(products, offset_px=20)["snr_db"] == pytest.approx(30, abs=1e-4)


def test_a_few_reflections_do_not_change_snr():
    products = tile()
    products["dBI"][3, :, 130] = 110
    assert measure_tile(products)["snr_db"] == pytest.approx(12, abs=1e-4)


def test_noise_alone_has_no_credible_surface():
    rng = np.random.default_rng(3)
    products = tile()
    # Exponential power as of speckle and the sum of two channels.
    power = rng.gamma(2, size=products["dBI"].shape)
    products["dBI"] = (NOISE_DB + 10 * np.log10(power)).astype(np.float32)
    products["surf"] = rng.integers(1, 301, products["surf"].shape).astype(float)
    numbers = measure_tile(products)
    assert numbers["surface_coverage"] < 0.01
    products["surf"] = np.full(products["surf"].shape, 150.0)
    assert measure_tile(products)["surface_coverage"] < 0.02


def test_coverage_is_the_share_of_alines_with_a_rise():
    products = tile()
    products["dBI"][:10, :, :] = NOISE_DB
    assert measure_tile(products)["surface_coverage"] == 0.75


@pytest.mark.parametrize("shift", [-40, 40])
def test_surface_off_the_edge_is_not_credible(shift):
    products = tile()
    products["surf"] += shift
    numbers = measure_tile(products)
    assert numbers["surface_coverage"] == 0
    # Nothing is tissue, so there is nothing to measure on it.
    assert numbers.keys() == {"surface_coverage", "nan_share"}


def test_jumping_surface_is_not_smooth_but_a_slope_and_a_border_are():
    x, y = np.indices((40, 40))
    surface = 100.0 + 8 * x + 3 * y
    assert smooth_surface(surface).all()
    surface[20, 20] += 60
    assert np.argwhere(~smooth_surface(surface)).tolist() == [[20, 20]]
    border = np.full((40, 40), 100.0)
    border[:, 20:] = np.random.default_rng(0).uniform(200, 900, (40, 20))
    smooth = smooth_surface(border)
    assert smooth[:, :19].all()
    assert smooth[:, 23:].mean() < 0.02


def test_surface_too_near_the_ends_is_not_credible():
    lines = np.full((3, 100), 50.0)
    lines[:, 2:] = 70
    found = credible_surface(lines, np.array([3, 5, 98]), np.ones(3, bool))
    assert not found.any()


@pytest.mark.parametrize("deviation_deg", [5.0, 10.0, 20.0])
def test_phase_noise_is_the_spread_along_depth(deviation_deg):
    products = tile()
    rng = np.random.default_rng(5)
    # About 88 degrees, so that many wrap: the spread is axial.
    angles = rng.normal(88, deviation_deg, products["O3D"].shape)
    products["O3D"] = (90 - (90 - angles) % 180).astype(np.float32)
    found = measure_tile(products)["phase_noise_deg"]
    assert found == pytest.approx(deviation_deg, rel=0.03)


def test_phase_noise_of_constant_and_of_cancelling_axes_is_finite():
    products = tile()
    products["O3D"][:] = 45
    assert measure_tile(products)["phase_noise_deg"] == pytest.approx(0, abs=1e-4)
    products["O3D"][:, :, ::2] = -45
    assert measure_tile(products, depth_px=79)["phase_noise_deg"] > 100


def test_nan_share_is_that_of_the_worst_product():
    products = tile()
    products["aip"][:4] = np.nan
    products["ret"][:8] = np.inf
    products["R3D"][:, :, :30] = np.nan
    assert measure_tile(products)["nan_share"] == pytest.approx(8 / 40)
    products["dBI"][:20] = np.nan
    numbers = measure_tile(products)
    assert numbers["nan_share"] == pytest.approx(0.5)
    assert numbers["surface_coverage"] == pytest.approx(0.5)
    assert numbers["snr_db"] == pytest.approx(12, abs=1e-4)


def test_attenuation_outside_tissue_is_no_nan():
    products = tile()
    assert measure_tile({**products, "mus": products["aip"] * np.nan})["nan_share"] == 0


def test_surface_with_nan_is_measured_all_the_same():
    products = tile()
    products["surf"][:10] = np.nan
    numbers = measure_tile(products)
    assert numbers["nan_share"] == 0.25
    assert 0.6 < numbers["surface_coverage"] <= 0.75


def test_saturation_needs_raw_counts():
    products = tile()
    assert "saturation_share" not in measure_tile(products)
    raw = np.full((30, 2, 40, 64), 2000, np.uint16)
    assert measure_tile(products, raw=raw)["saturation_share"] == 0
    raw[:, 1, :, :16] = 4095
    assert measure_tile(products, raw=raw)["saturation_share"] == 0.125
    assert measure_tile(products, raw=raw, saturation_count=65535)["saturation_share"] == 0


def test_numbers_are_plain_and_known():
    numbers = measure_tile(tile(), raw=np.zeros((30, 2, 40, 8), np.uint16))
    assert set(numbers) == set(NUMBERS)
    assert all(type(value) is float for value in numbers.values())


def test_maps_of_three_axes_count_as_maps():
    products = tile()
    flat = measure_tile(products)
    for name in ("surf", "aip"):
        products[name] = products[name][:, :, None]
    assert measure_tile(products) == flat


def test_sampled_blines_are_spread_evenly():
    assert sampled_blines(5) == [0, 1, 2, 3, 4]
    lines = sampled_blines(350)
    assert len(lines) == 16
    assert (lines[0], lines[-1]) == (10, 339)
    assert set(np.diff(lines)) == {21, 22}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"O3D": None}, "without O3D"),
        ({"O3D": np.zeros((2, 2, 2))}, "O3D (2, 2, 2)"),
        ({"surf": np.zeros((3, 3))}, "surf has shape (3, 3); expected (40, 30)"),
    ],
)
def test_products_that_do_not_belong_together_are_refused(change, part):
    products = {k: v for k, v in {**tile(), **change}.items() if v is not None}
    with pytest.raises(CorruptInputError) as caught:
        measure_tile(products)
    assert part in str(caught.value)


def test_limits_name_the_side():
    limits = NumberLimits(min_snr_db=5, max_nan_share=0.1)
    numbers = {"snr_db": 4.9, "nan_share": 0.2, "surface_coverage": 0.9, "phase_noise_deg": 45.0}
    assert limits.outliers(numbers) == {"snr_db": "low", "nan_share": "high"}
    assert limits.bounds("snr_db") == (5, np.inf)
    assert limits.outliers({}) == {}
