"""One default tile through the real processing, against the truth."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from opticstream_smk.psoct import Calibration, TileProducts, process_spectral
from opticstream_smk.simulate import AcquisitionSettings
from opticstream_smk.simulate.compare import (
    compare_aip,
    compare_dn,
    compare_orientation,
    compare_surface,
    truth_patch,
)
from opticstream_smk.simulate.tile import render_tile, slice_and_view, spectrometer
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
    instrument = spectrometer(SETTINGS)
    calibration = Calibration(instrument.mu, instrument.wave_prime_nm, instrument.dispersion_rad)
    position = truth["positions_px"][mosaic - 1, image - 1]
    return Processed(mosaic, spectra, process_spectral(spectra, calibration), position, truth)


def test_mosaic_numbers():
    assert [slice_and_view(m) for m in (1, 2, 3, 4)] == [
        (1, "normal"), (1, "tilted"), (2, "normal"), (2, "tilted"),
    ]  # fmt: skip


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
