"""One default tile through the real processing, against the truth."""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from opticstream_smk.psoct import TileProducts, process_spectral
from opticstream_smk.simulate import AcquisitionSettings
from opticstream_smk.simulate.compare import (
    compare_aip,
    compare_dn,
    compare_orientation,
    compare_surface,
    truth_patch,
)
from opticstream_smk.simulate.host import calibration
from opticstream_smk.simulate.tile import render_interleaved, render_tile
from opticstream_smk.simulate.truth import Truth, compute_truth

SETTINGS = AcquisitionSettings(n_slices=1, seed=0)


@dataclass(frozen=True)
class Processed:
    mosaic: int
    spectra: np.ndarray
    products: TileProducts
    position: np.ndarray
    truth: Truth

    def expected(self, name: str) -> np.ndarray:
        """Truth where the tile lies, (y, x)."""
        return truth_patch(self.truth[name][self.mosaic - 1], self.position, (48, 48))


@pytest.fixture(scope="module", params=[1, 2], ids=["normal", "tilted"])
def tile(request: pytest.FixtureRequest) -> Processed:
    mosaic, image = request.param, 1  # a corner: tissue and background
    truth = compute_truth(SETTINGS)
    spectra = np.stack(list(render_tile(SETTINGS, mosaic, image)))
    position = truth["positions_px"][mosaic - 1, image - 1]
    products = process_spectral(spectra, calibration(SETTINGS))
    return Processed(mosaic, spectra, products, position, truth)


def test_default_tiles_are_those_of_the_first_version(tile: Processed):
    # Tiles of acquisitions that are on disk; other counts need another SIMULATOR_VERSION.
    digests = {
        1: "258cb3f30a1711be4afc93bb3678a420d8a8f8dc0973572cd03a067c4dd303ec",
        2: "b7233bb2a471a1e10553dd81573c04fece48d85a126f0522ecdbee527faca780",
    }
    assert hashlib.sha256(tile.spectra.tobytes()).hexdigest() == digests[tile.mosaic]


def test_counts_fit_12_bit(tile: Processed):
    assert tile.spectra.shape == (48, 2, 48, 2048)
    assert tile.spectra.min() > 0
    assert tile.spectra.max() < 4095


def test_default_processing_recovers_the_truth(tile: Processed):
    enface = tile.products.enface
    orientation = compare_orientation(
        enface["ori"].T, tile.expected("orientation_deg"), limit_deg=4.5
    )
    assert orientation.passed, orientation
    surface = compare_surface(tile.products.surface.T, tile.expected("surface_px"), limit_px=1.5)
    assert surface.passed, surface
    dn = compare_dn(enface["biref"].T, tile.expected("dn"))
    assert dn.passed, dn


def test_signal_to_noise_at_the_surface(tile: Processed):
    intensity = 10 ** (tile.products.volumes.dbi.transpose(1, 0, 2) / 10)
    tissue, surface = tile.expected("tissue") > 0.5, tile.expected("surface_px")
    signal = np.mean([intensity[y, x, int(surface[y, x]) :][:6] for y, x in np.argwhere(tissue)])
    first = int(SETTINGS.first_surface_px)
    noise = intensity[~tissue][:, first - 80 : first - 20].mean()
    assert 10 * np.log10(signal / noise) == pytest.approx(15, abs=1.5)


def test_aip_levels_suit_the_mask_thresholds(tile: Processed):
    aip, tissue = tile.products.enface["aip"].T, tile.expected("tissue") > 0.5
    smooth = ndimage.gaussian_filter(aip, 1)  # as the mask does
    assert (smooth[tissue] > 60).mean() > 0.95
    far = tile.expected("aip") < 53
    assert (smooth[far] < 55).mean() > 0.95
    agreement = compare_aip(aip, tile.position, tile.truth["aip"][tile.mosaic - 1])
    assert agreement.passed, agreement


def test_speckle_differs_between_tiles_and_not_between_runs(small: AcquisitionSettings):
    first, again, other = (next(render_tile(small, 1, image)) for image in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9


@pytest.fixture(scope="module")
def three(small: AcquisitionSettings) -> AcquisitionSettings:
    """Three illuminations; what is said of the tilted grid does not matter."""
    return dataclasses.replace(small, mosaics_per_slice=3, n_slices=2, saving_type="spectral")


def test_interleaved_alines_are_those_of_single_illuminations(three: AcquisitionSettings):
    together = np.stack(list(render_interleaved(three, (4, 5, 6), 2)))
    assert together.shape == (18, 2, 60, 512)
    for position, mosaic in enumerate((4, 5, 6)):
        alone = np.stack(list(render_tile(three, mosaic, 2)))
        np.testing.assert_array_equal(together[:, :, position::3], alone)


def test_normal_illumination_of_three_is_that_of_two(three: AcquisitionSettings):
    two = dataclasses.replace(
        three,
        mosaics_per_slice=2,
        grid_columns_tilted=three.grid_columns,
        alines_tilted=three.alines,
    )
    for together, alone in zip(
        render_interleaved(three, (1, 2, 3), 3), render_tile(two, 1, 3), strict=True
    ):
        np.testing.assert_array_equal(together[:, 0::3], alone)


def test_illuminations_see_the_truth_of_their_own_mosaics():
    settings = dataclasses.replace(SETTINGS, mosaics_per_slice=3)
    truth = compute_truth(settings)
    together = np.stack(list(render_interleaved(settings, (1, 2, 3), 1)))
    orientations = []
    for position in range(3):
        spectra = together[:, :, position::3]
        enface = process_spectral(spectra, calibration(settings)).enface
        place = truth["positions_px"][position, 0]
        expected = truth_patch(truth["orientation_deg"][position], place, (48, 48))
        found = compare_orientation(enface["ori"].T, expected, limit_deg=4.5)
        assert found.passed, found
        dn = truth_patch(truth["dn"][position], place, (48, 48))
        assert compare_dn(enface["biref"].T, dn).passed
        orientations.append(expected)
    # The views differ by more than the error allowed above.
    assert compare_orientation(orientations[1], orientations[2]).value > 4.5
