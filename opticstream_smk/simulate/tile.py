"""One tile as the cameras record it."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.simulate.optics import (
    apparent_fibre,
    fibre_direction,
    jones_profiles,
    orientation_from_angle,
)
from opticstream_smk.simulate.settings import AcquisitionSettings
from opticstream_smk.simulate.spectra import Spectrometer, digitise, make_spectrometer
from opticstream_smk.simulate.stage import (
    field_plane,
    illumination,
    stage_positions,
    view_geometry,
)
from opticstream_smk.simulate.tissue import make_tissue

Float32Array = NDArray[np.float32]


@lru_cache(maxsize=1)
def spectrometer(settings: AcquisitionSettings) -> Spectrometer:
    """The instrument of an acquisition; the same one for every seed."""
    return make_spectrometer(settings.samples)


def surface_power(settings: AcquisitionSettings) -> float:
    """Mean power per voxel of the uppermost tissue that gives the wanted signal-to-noise ratio."""
    level_db = settings.noise_floor_db + settings.surface_snr_db
    return float(_at_surface(settings, level_db))


def agar_power(settings: AcquisitionSettings) -> float:
    """Power per voxel of what surrounds the tissue."""
    return float(_at_surface(settings, settings.noise_floor_db + settings.agar_snr_db))


def noise_counts(settings: AcquisitionSettings) -> float:
    """Camera noise (standard deviation, counts) that gives the wanted noise floor."""
    gain = spectrometer(settings).noise_gain(settings.first_surface_px)
    # Half of the floor from either channel.
    return float(np.sqrt(10 ** (settings.noise_floor_db / 10) / 2 / gain))


def render_tile(
    settings: AcquisitionSettings, mosaic: int, image: int
) -> Iterator[NDArray[np.uint16]]:
    """B-lines of one tile, in order.

    Parameters
    ----------
    mosaic, image
        1-based numbers.

    Yields
    ------
    (2, X, N) uint16 counts: channel, A-line, sample; channel 2 reversed. The random numbers come
    from a stream of the tile's own, so a tile is the same whoever computes it, and when.
    """
    instrument = spectrometer(settings)
    maps = seen_maps(settings, mosaic, image)
    rng = np.random.default_rng([settings.seed, 30, mosaic, image])
    noise = np.float32(noise_counts(settings))
    z = np.arange(settings.depth_px, dtype=np.float32)[:, None]
    for power, agar, dn, orientation, surface in zip(*maps, strict=True):
        depth_um = (z - surface) * np.float32(settings.voxel_um[2])
        below = depth_um >= 0
        fall = np.exp(-np.maximum(depth_um, 0) / np.float32(settings.attenuation_length_um))
        tissue = jones_profiles(
            depth_um,
            fall * np.sqrt(power) * below,
            _speckle(rng, depth_um.shape),
            dn=dn,
            orientation_deg=orientation,
            wavelength_um=settings.wavelength_um,
            phase_offset_deg=settings.phase_offset_deg,
        )
        # Agar keeps the polarisation: all of it is in the second channel.
        agar_field = _speckle(rng, depth_um.shape) * (np.sqrt(agar) * below)
        lines = []
        for camera, jones in enumerate((tissue[0], tissue[1] + agar_field)):
            counts = instrument.synthesize(jones, camera)
            grain = noise * rng.standard_normal(counts.shape, dtype=np.float32)
            line = digitise(counts, instrument.background[camera], grain)
            lines.append(line[::-1].T if camera == 1 else line.T)
        yield np.stack(lines)


def render_interleaved(
    settings: AcquisitionSettings, mosaics: Sequence[int], image: int
) -> Iterator[NDArray[np.uint16]]:
    """B-lines of a raw file that holds the same tile of one or more mosaics, in order.

    Parameters
    ----------
    mosaics, image
        1-based numbers; the mosaics share their tile size.

    Yields
    ------
    (2, M X, N) uint16 counts for M mosaics. Within a channel, A-line a (0-based) is A-line
    ``a // M`` of mosaic ``a % M``, as `render_tile` gives it.
    """
    for blines in zip(*(render_tile(settings, m, image) for m in mosaics), strict=True):
        channels, _, samples = blines[0].shape
        yield np.stack(blines, axis=2).reshape(channels, -1, samples)


class SeenMaps(NamedTuple):
    """What a tile sees of the tissue, each (Y, X).

    Attributes
    ----------
    power, agar
        Power per voxel of the uppermost tissue, and of the agar, before the processing.
    dn, orientation_deg
        Apparent birefringence; orientation as the maps carry it.
    surface_px
        Depth of the cut face with the field of the scan, 0-based z, fractional.
    """

    power: Float32Array
    agar: Float32Array
    dn: Float32Array
    orientation_deg: Float32Array
    surface_px: Float32Array


def seen_maps(settings: AcquisitionSettings, mosaic: int, image: int) -> SeenMaps:
    """What one tile sees of the tissue; numbers are 1-based."""
    slice_number, view = settings.slice_and_view(mosaic)
    shape = settings.tile_shape(view)
    yy, xx = np.indices(shape).astype(np.float64)
    position = stage_positions(settings, view, slice_number)[image - 1]
    points = view_geometry(settings, view).to_tissue(np.stack([yy, xx], axis=-1) + position)
    maps = make_tissue(settings, slice_number).sample(points)
    direction = fibre_direction(maps.theta_rad, maps.alpha_rad)
    dn, phi = apparent_fibre(direction, maps.birefringence, settings.tilt_deg(view))
    light = illumination(settings, view)
    power = surface_power(settings) * maps.reflectivity * maps.share * light
    agar = agar_power(settings) * (1 - maps.share) * light
    surface = maps.surface_px + field_plane(settings, view, yy, xx)
    seen = (power, agar, dn, orientation_from_angle(phi), surface)
    return SeenMaps(*(values.astype(np.float32) for values in seen))


def _speckle(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """Fully developed speckle: circular complex Gaussian of unit mean power."""
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return parts.view(np.complex64)[..., 0]


def _at_surface(settings: AcquisitionSettings, level_db: float) -> float:
    """Power before the processing of what is at a level (dB) after it, at the surface's depth."""
    gain = spectrometer(settings).signal_gain(settings.first_surface_px)
    return float(10 ** (level_db / 10) / gain)
