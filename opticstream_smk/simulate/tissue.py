"""The tissue: smooth random maps of one slice that all views and all tiles look at.

Coordinates are (y, x) px of the normal view's stage frame. From slice to slice each map turns
from one random field towards another, so that neighbouring slices resemble each other.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from opticstream_smk.simulate.settings import AcquisitionSettings
from opticstream_smk.simulate.stage import nominal_extent, view_geometry

FloatArray = NDArray[np.float64]

# Fields turn by this angle per 500 um, which leaves neighbouring slices 95 % correlated.
_TURN_RAD = 0.3
_TURN_PER_UM = _TURN_RAD / 500.0
# Share of the outline's radius by which it is wavy.
_OUTLINE_WAVES = 0.14
# The outline goes from tissue to agar over about this many px.
_EDGE_PX = 0.6
# delta-n of grey matter, and what white matter adds; apparent values stay in 1e-4..1e-3 for
# elevations up to 25 degrees (40 degrees to the tilted view: cos^2 = 0.59).
_BIREFRINGENCE = (2.2e-4, 7.6e-4)
_LARGEST_ALPHA_DEG = 25.0
# In-plane angle across the mosaic: a sweep, and waves on it (standard deviation), degrees.
_THETA_SWEEP_DEG = 160.0
_THETA_WAVES_DEG = 18.0
# In-plane turn of all fibres from slice to slice, degrees per radian of the fields' turn.
_THETA_DRIFT_DEG = 40.0
# Height of the cut face (standard deviation), px.
_SURFACE_WAVES_PX = 4.0


@dataclass(frozen=True)
class TissueMaps:
    """Tissue at a set of places; all arrays have the shape of the places.

    Attributes
    ----------
    share
        How much of the place is tissue, 0..1 (a soft edge); above 1/2 is tissue.
    reflectivity
        Backscattered power just below the surface; its mean over the tissue is 1.
    birefringence
        delta-n of the fibres.
    theta_rad, alpha_rad
        In-plane angle and elevation of the fibres, radians; theta is not wrapped.
    surface_px
        Depth of the cut face, 0-based z, fractional.
    """

    share: FloatArray
    reflectivity: FloatArray
    birefringence: FloatArray
    theta_rad: FloatArray
    alpha_rad: FloatArray
    surface_px: FloatArray


@dataclass(frozen=True)
class Tissue:
    """The maps of one slice on a pixel grid, as cubic splines.

    Attributes
    ----------
    origin
        (2,) integer coordinates (y, x) of the grid's first pixel.
    coefficients
        (6, H, W) spline coefficients in the order of `TissueMaps`, where the first map is the
        distance inside the outline (px) and the second is in dB.
    """

    origin: NDArray[np.int64]
    coefficients: FloatArray

    def sample(self, points: FloatArray) -> TissueMaps:
        """Maps at points (..., 2); places beyond the grid repeat its rim."""
        place = np.moveaxis(points - self.origin, -1, 0)
        inside, reflectivity_db, *others = (
            ndimage.map_coordinates(c, place, order=3, mode="nearest", prefilter=False)
            for c in self.coefficients
        )
        share = 1 / (1 + np.exp(np.clip(-inside / _EDGE_PX, -50, 50)))
        return TissueMaps(share, 10 ** (reflectivity_db / 10), *others)


@lru_cache(maxsize=2)
def make_tissue(settings: AcquisitionSettings, slice_number: int) -> Tissue:
    """Tissue of one slice (1-based). Cached: every tile of a mosaic asks for it.

    The grid covers what all views can see. It does not depend on the number of slices.
    """
    origin, shape = _covered_grid(settings)
    extent = nominal_extent(settings, "normal")
    size = float(extent.min())
    yy, xx = np.indices(shape) + origin[:, None, None]
    v, u = yy / extent[0] - 0.5, xx / extent[1] - 0.5
    turn = _TURN_PER_UM * settings.slice_thickness_um * (slice_number - 1)

    def field(number: int, beta: float, shortest_px: float) -> FloatArray:
        def part(k: int) -> FloatArray:
            rng = np.random.default_rng([settings.seed, 10, number, k])
            return _random_field(shape, rng, beta, shortest_px)

        if turn == 0:  # nothing of the second one
            return part(0)
        return np.asarray(np.cos(turn) * part(0) + np.sin(turn) * part(1))

    radius = 2 * np.hypot(v - 0.02, u + 0.03) + _OUTLINE_WAVES * field(4, 3.5, size / 3)
    nominal = (np.abs(v) <= 0.5) & (np.abs(u) <= 0.5)
    edge = np.quantile(radius[nominal], 1 - settings.background_fraction)
    inside_px = (edge - radius) * size / 2
    in_tissue = nominal & (inside_px > 0)

    # Half of the tissue is white matter, whatever the seed.
    matter = field(0, 3.0, size / 5)
    matter = (matter - np.median(matter[in_tissue])) / matter[in_tissue].std()
    white = 1 / (1 + np.exp(-2.5 * matter))
    middle = field(1, 2.0, 8.0)
    fine = field(2, 0.0, 7.0)
    vessels = np.exp(-((field(3, 2.2, 20.0) / 0.08) ** 2))
    # White matter is brighter, vessels are darker; the rest is texture for the tiles to match.
    reflectivity_db = 3.0 * white + 0.9 * middle + 1.0 * fine - 2.5 * vessels
    reflectivity_db -= 10 * np.log10((10 ** (reflectivity_db[in_tissue] / 10)).mean())

    sweep = _THETA_SWEEP_DEG * (0.75 * u + 0.35 * v)
    theta_deg = sweep + _THETA_WAVES_DEG * field(5, 3.0, size / 3) + _THETA_DRIFT_DEG * turn
    alpha_deg = _LARGEST_ALPHA_DEG * np.tanh(0.8 * field(6, 3.0, size / 3))
    birefringence = _BIREFRINGENCE[0] + _BIREFRINGENCE[1] * white
    waves = _SURFACE_WAVES_PX * field(7, 4.0, size / 2)
    surface = settings.first_surface_px + np.clip(waves, -10, 10) + 4 * u
    maps = [
        inside_px, reflectivity_db, birefringence,
        np.deg2rad(theta_deg), np.deg2rad(alpha_deg), surface,
    ]  # fmt: skip
    return Tissue(origin, np.stack([ndimage.spline_filter(m, 3, mode="nearest") for m in maps]))


def _covered_grid(
    settings: AcquisitionSettings,
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """First pixel and shape of a grid that holds all views with room for the stage error."""
    corners = [
        view_geometry(settings, view).to_tissue(
            np.array([(0, 0), (0, 1), (1, 0), (1, 1)]) * nominal_extent(settings, view)
        )
        for view in settings.views
    ]
    points = np.concatenate(corners)
    extent = np.ptp(points, axis=0).max()
    lattice = (settings.step_error_percent + settings.shear_percent) / 100 * extent
    margin = 3 * settings.jitter_px + 6 * settings.repeat_jitter_px + lattice + 3
    first = np.floor(points.min(axis=0) - margin).astype(np.int64)
    last = np.ceil(points.max(axis=0) + margin).astype(np.int64)
    height, width = (last - first + 1).tolist()
    return first, (height, width)


def _random_field(
    shape: tuple[int, int], rng: np.random.Generator, beta: float, shortest_px: float
) -> FloatArray:
    """Gaussian random field of unit variance: power ~ f^-beta, smooth below `shortest_px`."""
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = np.inf
    response = frequency ** (-beta / 2) * np.exp(-((frequency * shortest_px) ** 2) / 2)
    response[0, 0] = 0
    spectrum = fft.rfft2(rng.standard_normal(shape)) * response
    values = fft.irfft2(spectrum, s=shape)
    return np.asarray(values / values.std())
