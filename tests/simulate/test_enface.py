"""Maps made without spectra, against those that the engine makes of simulated spectra."""

import dataclasses

import numpy as np
import pytest

from opticstream_smk.psoct import TileSettings, process_spectral
from opticstream_smk.simulate import AcquisitionSettings
from opticstream_smk.simulate.enface import enface_tile
from opticstream_smk.simulate.host import calibration
from opticstream_smk.simulate.tile import render_tile, seen_maps
from opticstream_smk.simulate.truth import compute_truth

# Tile 5 of 3 x 3 is the middle of the tissue, tile 1 a corner with agar.
SETTINGS = AcquisitionSettings(
    n_slices=1, seed=5, alines=56, alines_tilted=40, blines=56, samples=1024,
    first_surface_px=150, background_fraction=0.6,
)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(tile, Y, X) maps by name: of the engine, and without spectra."""
    engine_tiles, tiles = [], []
    for image in (1, 5):
        spectra = np.stack(list(render_tile(SETTINGS, 1, image)))
        products = process_spectral(spectra, calibration(SETTINGS), TileSettings())
        engine_tiles.append({**products.enface, "surf": products.surface})
        tiles.append(enface_tile(SETTINGS, 1, image))
    return {
        name: (
            np.stack([tile[name].T for tile in engine_tiles]),
            np.stack([tile[name][:, :, 0].T for tile in tiles]),
        )
        for name in tiles[0]
    }


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    """(tile, Y, X) truth of the same tiles, with where tissue is and where agar."""
    seen = [seen_maps(SETTINGS, 1, image) for image in (1, 5)]
    agar, power = (np.stack([getattr(maps, name) for maps in seen]) for name in ("agar", "power"))
    return {
        "tissue": agar < 0.02 * agar.max(),
        "agar": (agar > 0.7 * agar.max()) & (power < 1e-3 * power.max()),
        "ori": np.stack([maps.orientation_deg for maps in seen]),
        "surf": np.stack([np.ceil(maps.surface_px) + 1 for maps in seen]),
    }


# Mean within, deviation within (share), where. The engine's values are biased by interpolation
# between camera pixels, which grows with the distance from the surface: some 0.4 dB.
@pytest.mark.parametrize(
    ("name", "where", "off", "scatter"),
    [
        ("aip", "tissue", 0.7, 0.15), ("aip", "agar", 1.0, 0.5),
        ("mip", "tissue", 0.4, 0.15), ("mip", "agar", 1.0, 0.3),
        ("ret", "tissue", 1.0, 0.15), ("ret", "agar", 3.0, 0.3),
        ("biref", "tissue", 5e-5, 0.15), ("biref", "agar", 5e-5, 0.4),
    ],
)  # fmt: skip
def test_maps_are_distributed_as_the_engines(made, truth, name, where, off, scatter):
    engine, fast = (maps[truth[where]] for maps in made[name])
    assert engine.size > 500
    assert abs(fast.mean() - engine.mean()) < off
    assert fast.std() == pytest.approx(engine.std(), rel=scatter)


def test_orientation_scatters_as_the_engines(made, truth):
    def spread(maps):
        error = (maps - truth["ori"] + 90) % 180 - 90
        return np.percentile(error[truth["tissue"]], [10, 50, 90])

    engine, fast = (spread(maps) for maps in made["ori"])
    assert abs(fast[1]) < 0.5
    assert fast[2] - fast[0] == pytest.approx(engine[2] - engine[0], rel=0.15)
    # Beside the tissue there is no orientation.
    _, fast_maps = made["ori"]
    angle = np.deg2rad(2 * fast_maps[truth["agar"]])
    assert abs(np.exp(1j * angle).mean()) < 0.1
    assert fast_maps.min() > -90
    assert fast_maps.max() <= 90


def test_surface_errs_as_the_engines(made, truth):
    engine, fast = ((maps - truth["surf"])[truth["tissue"]] for maps in made["surf"])
    for error in (engine, fast):
        assert np.median(error) in (-1, 0)
        assert (np.abs(error + 0.5) < 2).mean() > 0.95
    assert abs(fast.mean() - engine.mean()) < 0.4
    assert made["surf"][1][truth["agar"]].std() > 50


def test_types_and_shapes():
    maps = enface_tile(SETTINGS, 2, 3)
    assert list(maps) == ["aip", "mip", "ret", "ori", "biref", "surf"]
    assert {values.shape for values in maps.values()} == {(40, 56, 1)}
    assert {name: values.dtype.name for name, values in maps.items()} == {
        name: "float64" if name == "surf" else "float32" for name in maps
    }
    assert (maps["mip"] > maps["aip"]).all()
    surface = maps["surf"]
    assert (surface == np.rint(surface)).all()
    assert surface.min() >= 1
    assert surface.max() <= SETTINGS.depth_px


def test_the_mean_of_many_draws_is_the_expected_aip():
    settings = dataclasses.replace(SETTINGS, vignetting=0.0)
    position = compute_truth(settings)["positions_px"][0, 4]
    expected = compute_truth(settings)["aip"][0]
    row, column = np.rint(position).astype(int)
    tile = enface_tile(settings, 1, 5)["aip"][:, :, 0].T
    place = expected[row : row + tile.shape[0], column : column + tile.shape[1]]
    # 3136 pixels of 0.6 dB.
    assert tile.mean() == pytest.approx(place.mean(), abs=0.05)
