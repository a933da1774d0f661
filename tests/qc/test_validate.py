import numpy as np
import pytest

from opticstream_smk.io import nifti
from opticstream_smk.qc import validate
from opticstream_smk.qc.validate import ProductLimits, validate_products
from tests.qc.phantom import tile

SHAPE = (40, 30, 300)


def faults(name, change, **limits):
    products = tile()
    products[name] = change(products[name].copy())
    return validate_products(products, shape=SHAPE, limits=ProductLimits(**limits))


def put(value, count=1):
    def change(array):
        array.reshape(-1)[:count] = value
        return array

    return change


def test_good_products_have_no_fault():
    assert validate_products(tile(), shape=SHAPE) == []


def test_files_are_read(tmp_path):
    geometry = nifti.Geometry((0.01, 0.01, 0.0025))
    paths = {}
    for name, array in tile().items():
        paths[name] = tmp_path / f"{name}.nii"
        nifti.write_array(paths[name], array, geometry)
    assert validate_products(paths, shape=SHAPE) == []
    paths["aip"].unlink()
    paths["dBI"].write_bytes(paths["dBI"].read_bytes()[:5000])
    missing, cut = sorted(validate_products(paths, shape=SHAPE), reverse=True)
    assert missing.startswith("dBI: ")
    assert "cannot be read" in missing
    assert cut.startswith("aip: ")
    assert "does not exist" in cut


def test_every_product_of_the_engine_passes():
    from opticstream_smk.psoct import TileSettings, process_jones

    rng = np.random.default_rng(2)
    jones = [
        (rng.normal(size=(12, 10, 200)) + 1j * rng.normal(size=(12, 10, 200))).astype(np.complex64)
        for _ in range(2)
    ]
    for quirks in (False, True):
        made = process_jones(*jones, TileSettings(toolbox_quirks=quirks))
        volumes = {"dBI": made.volumes.dbi, "R3D": made.volumes.r3d, "O3D": made.volumes.o3d}
        products = {**volumes, "surf": made.surface, **made.enface}
        limits = ProductLimits(toolbox_quirks=quirks)
        assert validate_products(products, shape=(12, 10, 200), limits=limits) == []


BAD = [
    ("dBI", lambda a: a[:, :, :-1], ["shape (40, 30, 299)", "(40, 30, 300)"]),
    ("aip", lambda a: a.T, ["shape (30, 40)", "expected (40, 30)"]),
    ("R3D", lambda a: a.astype(np.float64), ["dtype float64", "expected float32"]),
    ("O3D", lambda a: a.astype(np.complex64), ["dtype complex64", "expected float32"]),
    ("surf", lambda a: a.astype(np.uint8), ["dtype uint8", "float64"]),
    ("dBI", put(np.nan, 36000), ["finite share 0.9 ", "36000 of 360000", "at least 0.99"]),
    ("biref", put(np.inf, 120), ["finite share 0.9 ", "at least 0.99"]),
    ("ret", lambda a: np.full_like(a, np.nan), ["finite share 0 ", "1200 of 1200"]),
    ("surf", put(np.nan), ["finite share 0.999167", "at least 1"]),
    ("dBI", put(-71), ["from -71 to 62", "[-70, 200] dB"]),
    ("dBI", put(201), ["to 201", "[-70, 200] dB"]),
    ("aip", put(500), ["to 500", "[-70, 200] dB"]),
    ("mip", put(-80), ["from -80", "[-70, 200] dB"]),
    ("R3D", put(-0.5), ["from -0.5", "[0, 90] deg"]),
    ("R3D", put(90.1), ["to 90.1", "[0, 90] deg"]),
    ("ret", put(95), ["to 95", "[0, 90] deg"]),
    ("O3D", put(95), ["to 95", "[-90, 90] deg"]),
    ("ori", put(-90), ["from -90", "(-90, 90] deg"]),
    ("ori", put(90.5), ["to 90.5", "(-90, 90] deg"]),
    ("biref", put(-0.3), ["from -0.3", "[-0.2, 0.2]"]),
    ("surf", put(0), ["from 0", "[1, 300]", "1-based"]),
    ("surf", put(301), ["to 301", "[1, 300]"]),
    ("surf", put(119.5), ["not whole numbers", "expected whole numbers"]),
    ("biref", lambda a: np.zeros_like(a), ["all values are 0", "differ"]),
    ("surf", lambda a: np.ones_like(a), ["all values are 1", "differ"]),
    ("mip", lambda a: np.full_like(a, -69.24), ["all values are -69.24", "differ"]),
]


@pytest.mark.parametrize(("name", "change", "parts"), BAD)
def test_a_bad_product_is_named_with_what_was_found_and_expected(name, change, parts):
    (message,) = faults(name, change)
    assert message.startswith(f"{name}: ")
    for part in [*parts, "expected"]:
        assert part in message


def test_range_is_checked_beside_nan_too():
    def both(array):
        array[0, 0, 0], array[1, 0, 0] = np.nan, 300
        return array

    (message,) = faults("dBI", both)
    assert "to 300" in message


def test_rounding_and_three_axes_pass():
    just_above = np.nextafter(np.float32(90), np.float32(91))
    assert faults("R3D", put(just_above)) == []
    assert faults("aip", lambda a: a[:, :, None]) == []
    assert faults("surf", lambda a: a.astype(np.float32)) == []
    assert faults("aip", lambda a: a.astype(">f4")) == []
    assert faults("ori", put(90)) == []


def test_limits_are_settings():
    assert faults("O3D", put(124), toolbox_quirks=True) == []
    assert faults("ori", put(-90), toolbox_quirks=True) == []
    assert "[-180, 180]" in faults("O3D", put(190), toolbox_quirks=True)[0]
    assert faults("biref", put(0.3), max_abs_biref=0.4) == []
    assert faults("dBI", put(np.nan, 36000), min_finite_share=0.8) == []
    assert faults("aip", put(30), intensity_db=(40.0, 120.0))


def test_a_surface_that_was_set_may_be_constant():
    assert faults("surf", lambda a: np.full_like(a, 40), constant_surface=True) == []
    assert "[1, 300]" in faults("surf", lambda a: a * 0 - 1, constant_surface=True)[0]


def test_attenuation_may_be_missing_but_not_negative():
    nothing = np.full((40, 30), np.nan, np.float32)
    maps = {"mus": nothing, "mus_confidence": np.zeros_like(nothing)}
    assert validate_products(maps, shape=SHAPE) == []
    maps["mus"][0, :2] = -1, 5
    maps["mus_confidence"][0, 0] = 1.5
    low, high = validate_products(maps, shape=SHAPE)
    assert low == "mus: values from -1 to 5, expected within [0, 10000] 1/mm"
    assert high == "mus_confidence: values from 0 to 1.5, expected within [0, 1]"


def test_several_faults_of_several_products_are_all_told():
    products = tile()
    products["dBI"] = products["dBI"].astype(np.float64)
    products["dBI"][0, 0, 0] = 1000
    products["surf"][0, 0] = -3.5
    found = validate_products({**products, "phase": products["aip"]}, shape=SHAPE)
    assert [message.split(":")[0] for message in found] == ["dBI", "dBI", "surf", "surf", "phase"]
    assert "unknown product" in found[-1]


def test_nothing_to_check_is_a_fault():
    (message,) = validate_products({}, shape=SHAPE)
    assert "no product" in message


def test_slabs_cover_the_volume_once(monkeypatch):
    monkeypatch.setattr(validate, "_SLAB_SAMPLES", 40 * 30 * 7)
    assert faults("dBI", lambda a: np.concatenate([a[:, :, :-1], a[:, :, -1:] * 0 + 999], 2))
    (message,) = faults("dBI", put(np.nan, 36000))
    assert "36000 of 360000" in message
    assert faults("R3D", lambda a: a) == []
