"""En-face maps of a tile straight from the tissue, as an acquisition host would save them.

What the processing makes of a pixel is a function of some eighty independent voxels: two complex
Gaussian channels of known covariance each, the speckle of the tissue and the noise of the cameras.
The mean and the scatter of every map follow from that in closed form, so a pixel is a draw from
them. There are no spectra and no volumes: a tile takes a hundredth of the time.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.simulate.settings import ENFACE_WINDOW_PX, AcquisitionSettings
from opticstream_smk.simulate.tile import agar_power, seen_maps, spectrometer

FloatArray = NDArray[np.float64]

# Tables: signal of the uppermost tissue over the noise, dB; apparent birefringence. Between their
# nodes all is smooth; weaker tissue is invisible.
_LEVELS_DB = np.arange(-30.0, 40.1, 0.5)
_BIREFRINGENCE = np.linspace(0.0, 1.2e-3, 25)
# Middles of the steps of numerical integrals: dB over the noise; degrees, one each.
_INTENSITY_DB = np.arange(-25.0, 60.1, 0.25)
_RETARDANCE_DEG = np.arange(0.5, 90.0)
_EULER_GAMMA = float(np.euler_gamma)
_DB = 10 / np.log(10)
# Error of the surface that the processing finds in tissue (mean, standard deviation), px: the
# step in depth is smoothed before its steepest place is looked for. Measured on spectra.
_SURFACE_ERROR_PX = (-0.7, 0.6)


def enface_tile(
    settings: AcquisitionSettings, mosaic: int, image: int
) -> dict[str, NDArray[np.floating]]:
    """Maps of one tile.

    Parameters
    ----------
    mosaic, image
        1-based numbers.

    Returns
    -------
    dict
        (X, Y, 1) by name: aip and mip (dB), ret and ori (degrees), biref (delta-n), float32; surf,
        1-based depth index, float64. Where there is no tissue, orientation and surface are random.
        Neighbouring pixels are independent, as A-lines are. The random numbers come from a stream
        of the tile's own.

    Notes
    -----
    Left out, as too small to matter for a mosaic: the error of the surface does not move the
    window of the other maps, agar does not change their polarisation, and surfaces of neighbouring
    A-lines are not drawn together by the median filter.
    """
    seen = seen_maps(settings, mosaic, image)
    rng = np.random.default_rng([settings.seed, 40, mosaic, image])
    tables = _tables(settings)
    noise, gain = tables.noise, tables.gain
    level_db = 10 * np.log10(np.maximum(seen.power * gain / noise, 1e-9))
    full = agar_power(settings)
    aip, aip_sd, mip, mip_sd = _look_up(
        tables.intensity, _place(level_db, _LEVELS_DB), seen.agar / full
    )
    ret, ret_sd, biref, biref_sd, correlation, along, along_sd, across_sd = _look_up(
        tables.polarisation, _place(level_db, _LEVELS_DB), _place(seen.dn, _BIREFRINGENCE)
    )
    normal = rng.standard_normal((6, *level_db.shape))
    # The maximum of many: Gumbel's distribution, here of mean 0 and unit variance.
    largest = (rng.gumbel(size=level_db.shape) - _EULER_GAMMA) * np.sqrt(6) / np.pi
    slope = correlation * normal[1] + np.sqrt(1 - correlation**2) * normal[2]
    turn = np.arctan2(across_sd * normal[3], along + along_sd * normal[4]) / 2
    # Without tissue the surface is anywhere, and the window with it.
    visible = level_db > 0
    anywhere = rng.integers(0, settings.depth_px, level_db.shape)
    floor_db = np.where(visible, 0, tables.floor_db[anywhere])
    mean, deviation = _SURFACE_ERROR_PX
    found = np.ceil(seen.surface_px) + np.rint(mean + deviation * normal[5])
    surface = np.clip(np.where(visible, found, anywhere), 0, settings.depth_px - 1)
    maps: dict[str, FloatArray] = {
        "aip": aip + aip_sd * normal[0] + floor_db,
        "mip": mip + mip_sd * largest + floor_db,
        "ret": np.clip(ret + ret_sd * normal[1], 0, 90),
        "ori": 90 - (90 - seen.orientation_deg - np.rad2deg(turn)) % 180,
        "biref": biref + biref_sd * slope,
    }
    result: dict[str, NDArray[np.floating]] = {
        name: values.T[:, :, None].astype(np.float32) for name, values in maps.items()
    }
    result["ori"][result["ori"] <= -90] = 90  # what rounding to float32 made of -89.9999999
    result["surf"] = (surface + 1).astype(np.float64).T[:, :, None]
    return result


@dataclass(frozen=True)
class _Tables:
    """What the maps of a pixel are on average, and how they scatter.

    Attributes
    ----------
    noise
        Noise power of both channels after the processing.
    floor_db
        (depth,) noise power of a window that starts there over that at the depth of the tissue, dB.
    gain
        Signal power after the processing over that before.
    intensity
        (4, level, 2): mean and deviation of aip, of mip, dB; without agar and with all of it.
    polarisation
        (8, level, birefringence): mean and deviation of ret (degrees), of biref, correlation of the
        two; sum of the unit vectors of twice the orientation over the depth: its mean along the
        true one, its deviation along and across.
    """

    noise: float
    floor_db: FloatArray
    gain: float
    intensity: FloatArray
    polarisation: FloatArray


@lru_cache(maxsize=1)
def _tables(settings: AcquisitionSettings) -> _Tables:
    noise = 10 ** (settings.noise_floor_db / 10)
    instrument = spectrometer(settings)
    gain = instrument.signal_gain(settings.first_surface_px)
    fall_px = settings.attenuation_length_um / settings.voxel_um[2]
    depth = np.arange(ENFACE_WINDOW_PX)
    # (depth, level), in units of the noise.
    signal = 10 ** (_LEVELS_DB / 10) * np.exp(-2 * depth[:, None] / fall_px)
    agar = np.array([0.0, agar_power(settings) * gain / noise])
    intensity = _intensity(signal[:, :, None] + agar)
    intensity[[0, 2]] += settings.noise_floor_db
    middle = np.minimum(np.arange(settings.depth_px) + ENFACE_WINDOW_PX // 2, settings.depth_px - 1)
    floor = np.array([instrument.noise_gain(z) for z in middle])
    floor_db = 10 * np.log10(floor / instrument.noise_gain(settings.first_surface_px))
    return _Tables(noise, floor_db, gain, intensity, _polarisation(settings, signal))


def _intensity(signal: FloatArray) -> FloatArray:
    """(4, ...) mean and deviation of the mean and of the maximum over depth of 10 log10 of power.

    `signal` (depth, ...) is in units of the noise. The power of a voxel is a sum of exponential
    variables of means a and b: one of signal and half of the noise, one of the other half.
    """
    a, b = signal + 0.5, 0.5
    first = (a * np.log(a) - b * np.log(b)) / signal - _EULER_GAMMA
    second = (
        a * ((np.log(a) - _EULER_GAMMA) ** 2 + np.pi**2 / 6)
        - b * ((np.log(b) - _EULER_GAMMA) ** 2 + np.pi**2 / 6)
    ) / signal
    n = len(signal)
    mean = _DB * first.mean(axis=0)
    deviation = _DB * np.sqrt((second - first**2).sum(axis=0)) / n

    power = 10 ** (_INTENSITY_DB / 10)
    below = np.ones((*signal.shape[1:], power.size))  # share of maxima below a power
    for layer in signal[..., None]:
        mean_a = layer + 0.5
        below *= 1 - (mean_a * np.exp(-power / mean_a) - b * np.exp(-power / b)) / layer
    step = _INTENSITY_DB[1] - _INTENSITY_DB[0]
    end = _INTENSITY_DB[-1] + step / 2
    largest = end - step * below.sum(axis=-1)
    square = end**2 - step * (2 * _INTENSITY_DB * below).sum(axis=-1)
    return np.stack([mean, deviation, largest, np.sqrt(square - largest**2)])


def _polarisation(settings: AcquisitionSettings, signal: FloatArray) -> FloatArray:
    """(8, level, birefringence) as `_Tables` says.

    `signal` (depth, level) is in units of the noise.
    """
    from scipy.special import hyp2f1

    n = len(signal)
    dz_um, wavelength_um = settings.voxel_um[2], settings.wavelength_um
    # Slope of a straight line as a weighted sum; retardance of 360 degrees is one wavelength.
    centred = np.arange(n) - (n - 1) / 2
    weights = wavelength_um / 360 / dz_um * centred / (centred**2).sum()
    u = np.tan(np.deg2rad(_RETARDANCE_DEG)) ** 2
    sums = np.zeros((8, signal.shape[1], _BIREFRINGENCE.size))
    for z, (weight, power) in enumerate(zip(weights, signal[:, :, None], strict=True)):
        delta = 2 * np.pi / wavelength_um * _BIREFRINGENCE * z * dz_um
        v1, v2 = power * np.sin(delta) ** 2 + 0.5, power * np.cos(delta) ** 2 + 0.5
        covariance = power * np.abs(np.sin(delta) * np.cos(delta))
        # Share of voxels with |J1|^2 < u |J2|^2.
        v1u, v2u, cu = v1[..., None], v2[..., None] * u, covariance[..., None] ** 2 * u
        above = 0.5 - 0.5 * (v2u - v1u) / np.sqrt((v2u + v1u) ** 2 - 4 * cu)
        ret = above.sum(axis=-1)
        variance = (2 * _RETARDANCE_DEG * above).sum(axis=-1) - ret**2
        rho = covariance / np.sqrt(v1 * v2)
        # Mean of exp(i d) and of exp(2 i d) of the phase difference d of the two channels.
        once = np.pi / 4 * rho * hyp2f1(0.5, 0.5, 2, rho**2)
        twice = rho**2 / 2 * hyp2f1(1, 1, 3, rho**2)
        sums += [
            ret / n, variance / n**2, weight * ret, weight**2 * variance, weight * variance / n,
            once, (1 + twice) / 2 - once**2, (1 - twice) / 2,
        ]  # fmt: skip
    squared = [1, 3, 6, 7]
    sums[squared] = np.sqrt(sums[squared])
    sums[4] /= sums[1] * sums[3]
    return np.asarray(sums, np.float64)


def _place(values: NDArray[np.floating], nodes: FloatArray) -> FloatArray:
    """Fractional index of values on even nodes; the ends stand for what is beyond."""
    index = (values - nodes[0]) / (nodes[1] - nodes[0])
    return np.asarray(np.clip(index, 0, nodes.size - 1))


def _look_up(
    tables: FloatArray, row: NDArray[np.floating], column: NDArray[np.floating]
) -> FloatArray:
    """(n, Y, X) values of (n, R, C) tables at fractional indices (Y, X), bilinear."""
    r = np.minimum(row.astype(np.intp), tables.shape[1] - 2)
    c = np.minimum(column.astype(np.intp), tables.shape[2] - 2)
    v, w = row - r, column - c
    above = (1 - w) * tables[:, r, c] + w * tables[:, r, c + 1]
    below = (1 - w) * tables[:, r + 1, c] + w * tables[:, r + 1, c + 1]
    return np.asarray((1 - v) * above + v * below)
