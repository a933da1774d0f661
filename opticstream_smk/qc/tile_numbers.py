"""Numbers that say how good one tile is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.psoct.surface import clamped_surface

# Attenuation is NaN wherever there is no tissue, which is no defect.
_MAY_BE_NAN = ("mus",)

NUMBERS = ("snr_db", "surface_coverage", "saturation_share", "nan_share", "phase_noise_deg")

# B-lines of each volume that are read. On a tile of 350 B-lines, 16 change the coverage by less
# than 0.01 and the SNR by less than 0.1 dB, for a twentieth of the reading.
SAMPLED_BLINES = 16

# Depth samples on either side of the surface whose mean dBI is compared. Speckle of one sample
# scatters by about 4 dB, so the difference of two means of 20 scatters by little more than 1 dB.
_SIDE_PX = 20
# A rise that is both steep and of the length of _SIDE_PX; steepest rises in noise reach 2 to 3 dB.
_MIN_RISE_DB = 3.0
# Fewer samples on one side of the surface do not say anything about it.
_MIN_SIDE_PX = 5
# Farther (50 um at 2.5 um) from the median of 7 x 7 A-lines is no tissue: a cut is smooth.
_NEIGHBOURHOOD = 7
_MAX_JUMP_PX = 20.0
# In noise a quarter of them agree by chance, and because the detection takes 3 x 3 medians; at
# a straight border of the tissue, more than half do.
_MIN_NEIGHBOURS = 0.35
# Noise is measured above the surface, but not in the samples next to it, to which the smoothing
# of the surface detection and the side lobes of the spectrum carry tissue.
_NOISE_GAP_PX = 20
_NOISE_PX = 100
_MIN_NOISE_PX = 10


@dataclass(frozen=True)
class NumberLimits:
    """What a tile's numbers should be; a number beyond is pointed out, never an error.

    Attributes
    ----------
    min_snr_db
        A tile whose tissue is nearer to the noise shows little in any map.
    min_surface_coverage
        Share 0 to 1. A surface that lies wrong leaves next to nothing; a tile at the border of
        the tissue rightly has little, one beside it nothing.
    max_saturation_share
        Share 0 to 1 of raw samples; saturation spreads over the whole depth of an A-line.
    max_nan_share
        Share 0 to 1 of values that are not finite, in the worst product.
    max_phase_noise_deg
        Orientations without any order have about 60 degrees in a window of 80 samples.
    """

    min_snr_db: float = 3.0
    min_surface_coverage: float = 0.1
    max_saturation_share: float = 0.001
    max_nan_share: float = 0.01
    max_phase_noise_deg: float = 45.0

    def bounds(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a number that is not pointed out."""
        low = getattr(self, f"min_{name}", -np.inf)
        return low, getattr(self, f"max_{name}", np.inf)

    def outliers(self, numbers: Mapping[str, float]) -> dict[str, str]:
        """Numbers beyond their limit.

        Returns
        -------
        dict
            Name of the number: ``"low"`` or ``"high"``.
        """
        found = {}
        for name, value in numbers.items():
            low, high = self.bounds(name)
            if value < low:
                found[name] = "low"
            elif value > high:
                found[name] = "high"
        return found


def measure_tile(
    products: Mapping[str, NDArray[Any]],
    *,
    offset_px: int = 0,
    depth_px: int = 80,
    raw: NDArray[np.unsignedinteger[Any]] | None = None,
    saturation_count: int = 4095,
) -> dict[str, float]:
    """Measure the quality of one tile.

    Parameters
    ----------
    products : mapping of arrays
        By modality: ``dBI`` and ``O3D`` (X, Y, Z) and ``surf`` (X, Y), 1-based, are needed; all
        others only count for `nan_share`. Volumes may be memory-mapped.
    offset_px, depth_px
        The en-face window: from ``surf + offset_px`` on, ``depth_px + 1`` samples.
    raw : (Y, 2, X, N) unsigned
        Raw counts, may be memory-mapped; None when they are no longer there.
    saturation_count
        Largest count of the cameras' converter: 4095 for 12 bits.

    Returns
    -------
    dict
        A number that cannot be measured on this tile is left out.

        ``surface_coverage``
            Share of A-lines with a credible surface, see :func:`credible_surface`.
        ``snr_db``
            Mean power in the en-face window, signal and noise, over the mean power of up to
            100 samples that end 20 samples above the surface; each is the median over A-lines
            with a credible surface. 0 dB is noise alone.
        ``phase_noise_deg``
            Axial circular standard deviation of O3D along the en-face window,
            ``sqrt(-2 ln R) / 2`` with R the length of the mean of exp(2i O3D); median over
            A-lines with a credible surface. Real changes of the axis with depth count as noise.
        ``nan_share``
            Share of values that are not finite, in the worst product but ``mus``.
        ``saturation_share``
            Share of raw samples at `saturation_count` or above; needs `raw`.

    Raises
    ------
    CorruptInputError
        A needed product is missing, or the shapes do not belong together.

    Notes
    -----
    Of volumes and of `raw`, only 16 evenly spaced B-lines are read, one at a time; of maps,
    everything. A 350 x 350 x 1000 tile needs some 20 MB beside the page cache.
    """
    dbi, o3d, surf = _needed(products)
    alines, blines, depth = dbi.shape
    lines = sampled_blines(blines)
    smooth = smooth_surface(surf)
    surface = usable_surface(surf, depth)
    credible = np.zeros((alines, len(lines)), np.bool_)
    signal, noise, spread = (np.full((alines, len(lines)), np.nan) for _ in range(3))
    for column, y in enumerate(lines):
        intensity, above = np.ascontiguousarray(dbi[:, y, :]), surface[:, y] - 1
        credible[:, column] = credible_surface(intensity, surface[:, y], smooth[:, y])
        first = np.clip(above + offset_px, 0, depth - 1)
        window = _samples(intensity, first, depth_px + 1)
        signal[:, column] = _mean(_power(window))
        medium = _samples(intensity, above - _NOISE_GAP_PX - _NOISE_PX, _NOISE_PX)
        noise[:, column] = _mean(_power(medium), at_least=_MIN_NOISE_PX)
        axis = _samples(np.ascontiguousarray(o3d[:, y, :]), first, depth_px + 1)
        spread[:, column] = _axial_deviation_deg(axis)
    numbers = {"surface_coverage": float(credible.mean())}
    # Comparison with NaN, too few samples, is False.
    both = credible & (signal > 0) & (noise > 0)
    if both.any():
        ratio = float(np.median(signal[both]) / np.median(noise[both]))
        numbers["snr_db"] = 10 * float(np.log10(ratio))
    measured = credible & np.isfinite(spread)
    if measured.any():
        numbers["phase_noise_deg"] = float(np.median(spread[measured]))
    numbers["nan_share"] = max(
        _nan_share(array, lines) for name, array in products.items() if name not in _MAY_BE_NAN
    )
    if raw is not None:
        numbers["saturation_share"] = _saturation_share(raw, saturation_count)
    return numbers


def sampled_blines(blines: int) -> list[int]:
    """0-based B-lines that are read: the middles of up to 16 equal parts of the tile."""
    count = min(blines, SAMPLED_BLINES)
    return [int((part + 0.5) * blines / count) for part in range(count)]


def usable_surface(surf: NDArray[Any], depth: int) -> NDArray[np.intp]:
    """(X, Y) 1-based surface that can be used as an index; 1 where it is not finite."""
    plane = as_map(surf)
    return clamped_surface(np.where(np.isfinite(plane), plane, 1.0), depth).astype(np.intp)


def smooth_surface(surf: NDArray[Any]) -> NDArray[np.bool_]:
    """(X, Y) A-lines whose surface is within 20 samples of the median of 7 x 7 around them.

    So must be at least 35 % of those around. Where there is no tissue, the detected surface
    jumps about the whole depth, and agrees with its neighbours only by chance.
    """
    from scipy.ndimage import median_filter, uniform_filter

    plane = as_map(surf).astype(np.float64)
    finite = np.isfinite(plane)
    filled = np.where(finite, plane, 0.0)
    median = median_filter(filled, size=_NEIGHBOURHOOD, mode="nearest")
    near = finite & (np.abs(filled - median) <= _MAX_JUMP_PX)
    share = uniform_filter(near.astype(np.float64), size=_NEIGHBOURHOOD, mode="nearest")
    smooth: NDArray[np.bool_] = near & (share >= _MIN_NEIGHBOURS)
    return smooth


def credible_surface(
    lines: NDArray[Any], surface: NDArray[np.intp], smooth: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Say which A-lines have a surface that can be believed.

    Parameters
    ----------
    lines : (A, Z) array
        dBI of the A-lines.
    surface : (A,) array
        1-based surface, in 1..Z.
    smooth : (A,) array
        See :func:`smooth_surface`.

    Returns
    -------
    (A,) bool
        The surface continues that of its neighbours, and the mean dBI of the 20 samples from it
        down is at least 3 dB above that of the 20 samples before it.
    """
    below = _mean(_samples(lines, surface - 1, _SIDE_PX), at_least=_MIN_SIDE_PX)
    above = _mean(_samples(lines, surface - 1 - _SIDE_PX, _SIDE_PX), at_least=_MIN_SIDE_PX)
    # NaN, too few samples, does not rise.
    rises: NDArray[np.bool_] = below - above >= _MIN_RISE_DB
    return smooth & rises


def as_map(array: NDArray[Any]) -> NDArray[Any]:
    """(X, Y) of a map that is stored as (X, Y) or (X, Y, 1)."""
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _needed(
    products: Mapping[str, NDArray[Any]],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    missing = [name for name in ("dBI", "O3D", "surf") if name not in products]
    if missing:
        raise CorruptInputError(
            f"tile without {', '.join(missing)}; expected dBI, O3D and surf. Process the tile again"
        )
    dbi, o3d, surf = products["dBI"], products["O3D"], products["surf"]
    if dbi.ndim != 3 or 0 in dbi.shape or o3d.shape != dbi.shape:
        raise CorruptInputError(
            f"dBI has shape {dbi.shape} and O3D {o3d.shape}; expected the same (X, Y, Z). Take "
            "both from one tile"
        )
    if as_map(surf).shape != dbi.shape[:2]:
        raise CorruptInputError(
            f"surf has shape {surf.shape}; expected {dbi.shape[:2]}, one index per A-line of dBI. "
            "Take both from one tile"
        )
    return dbi, o3d, surf


def _samples(lines: NDArray[Any], first: NDArray[np.intp], length: int) -> NDArray[np.float64]:
    """(A, `length`) samples of (A, Z) lines from 0-based `first` on; NaN outside the line."""
    index = first[:, None] + np.arange(length)
    inside = (index >= 0) & (index < lines.shape[1])
    taken = np.take_along_axis(lines, np.clip(index, 0, lines.shape[1] - 1), axis=1)
    return np.where(inside, taken, np.nan).astype(np.float64)


def _power(dbi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear power of dB; what is beyond float64 becomes infinite, hence not counted."""
    with np.errstate(over="ignore"):
        power: NDArray[np.float64] = 10 ** (dbi / 10)
    return power


def _mean(samples: NDArray[np.float64], *, at_least: int = 1) -> NDArray[np.float64]:
    """(A,) mean of the finite samples of (A, K); NaN where there are fewer than `at_least`."""
    finite = np.isfinite(samples)
    count = np.count_nonzero(finite, axis=1)
    total = np.where(finite, samples, 0.0).sum(axis=1)
    mean: NDArray[np.float64] = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count >= at_least)
    return mean


def _axial_deviation_deg(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """(A,) circular standard deviation of axial angles (A, K); NaN for fewer than 2."""
    finite = np.isfinite(degrees)
    doubled = np.exp(2j * np.deg2rad(np.where(finite, degrees, 0.0))) * finite
    count = np.count_nonzero(finite, axis=1)
    length = np.full(count.shape, np.nan)
    np.divide(np.abs(doubled.sum(axis=1)), count, out=length, where=count >= 2)
    # Rounding may carry the length of equal angles beyond 1, and opposite ones cancel to 0.
    length = np.clip(length, np.finfo(np.float64).tiny, 1.0)
    deviation: NDArray[np.float64] = np.rad2deg(np.sqrt(-2 * np.log(length)) / 2)
    return deviation


def _nan_share(array: NDArray[Any], lines: list[int]) -> float:
    plane = as_map(array)
    if plane.ndim != 3:
        return float(np.mean(~np.isfinite(plane)))
    missing = sum(np.count_nonzero(~np.isfinite(plane[:, y, :])) for y in lines)
    return float(missing / (plane.shape[0] * len(lines) * plane.shape[2]))


def _saturation_share(raw: NDArray[Any], saturation_count: int) -> float:
    lines = sampled_blines(raw.shape[0])
    saturated = sum(np.count_nonzero(raw[y] >= saturation_count) for y in lines)
    return float(saturated / (len(lines) * raw[0].size))
