"""What a perfect pipeline would write about a synthetic acquisition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.simulate.optics import (
    apparent_fibre,
    fibre_direction,
    orientation_from_angle,
    toolbox_axis,
)
from opticstream_smk.simulate.settings import (
    ENFACE_WINDOW_PX,
    AcquisitionSettings,
    View,
)
from opticstream_smk.simulate.stage import (
    field_plane,
    stage_positions,
    view_geometry,
)
from opticstream_smk.simulate.tile import agar_power, spectrometer, surface_power
from opticstream_smk.simulate.tissue import make_tissue

FloatArray = NDArray[np.float64]
MaskArray = NDArray[np.bool_]
Truth = dict[str, NDArray[np.generic]]

_Scalar = TypeVar("_Scalar", np.float64, np.bool_)

_EULER_GAMMA = float(np.euler_gamma)


def compute_truth(settings: AcquisitionSettings) -> Truth:
    """All truth arrays of an acquisition.

    Maps are (mosaic, y, x) or (slice, y, x) on the mosaics' own canvases: pixel 0 is the least
    tile position of that mosaic. The mosaic axis has ``n_slices * mosaics_per_slice`` entries:
    mosaic m (0-based) shows slice ``m // mosaics_per_slice`` in view ``m % mosaics_per_slice``.
    Canvases differ in size: all are padded at their ends to the largest with NaN (False in
    masks).

    Returns
    -------
    dict
        ``positions_px`` (mosaic, tile, 2) y, x of each tile's first pixel on the canvas, in order
        of acquisition; the tile axis is as long as the largest mosaic has tiles, and NaN beyond
        a mosaic's last tile. Equal for three mosaics of a slice.
        ``canvas_shape`` (mosaic, 2) y, x.
        ``tissue`` (mosaic, y, x) and ``tissue_slice`` (slice, y, x; the normal canvas), bool.
        ``surface_px`` 1-based z of the first tissue sample after the depth flip, with the scan's
        field plane, blended where tiles overlap; ``orientation_deg`` in (-90, 90] with the maps'
        sign; ``dn`` apparent delta-n: (mosaic, y, x), NaN outside the tissue.
        ``aip`` (mosaic, y, x) expected mean dB over the default window, without vignetting; in
        the agar too.
        ``axis`` (slice, y, x, 3) unit fibre axis as (-x, z, y), its sign meaningless;
        ``dn_true`` (slice, y, x) delta-n of the fibre itself: on the normal canvas, NaN outside.
        ``affine_A`` (slice, 2, 2), ``affine_t`` (slice, 2): point p (y, x) of the normal canvas
        is at A p + t of the slice's second one, which is tilted by ``gamma_deg``. With three
        mosaics per slice, ``affine_A_tiltNeg``, ``affine_t_tiltNeg`` and ``gamma_deg_tiltNeg``
        are those of the third one.
        ``focus_plane_{view}_px`` (y, x) field plane of a tile, least value 0; the views are
        normal and tilted, or normal, tiltPos and tiltNeg.
        ``voxel_um`` (3,) x, y, z; ``wavelength_um``, ``gamma_deg``, ``noise_floor_db``,
        ``surface_snr_db`` scalars; ``settings`` JSON of all parameters.
    """
    views = settings.views
    numbers = [(s, view) for s in range(1, settings.n_slices + 1) for view in views]
    mosaics = [_mosaic_truth(settings, number, view) for number, view in numbers]
    normal = mosaics[0 :: len(views)]
    affine_A, affine_t = _to_tilted(settings, mosaics, 1)
    shapes = np.array([mosaic.tissue.shape for mosaic in mosaics])
    canvas: tuple[int, ...] = tuple(shapes.max(axis=0).tolist())
    n_tiles = max(len(mosaic.positions_px) for mosaic in mosaics)
    tissue = _stack([mosaic.tissue for mosaic in mosaics], canvas)
    truth: Truth = {
        "positions_px": _stack([mosaic.positions_px for mosaic in mosaics], (n_tiles, 2)),
        "canvas_shape": shapes,
        "tissue": tissue,
        "tissue_slice": tissue[0 :: len(views)],
        "axis": _stack([mosaic.axis for mosaic in normal], (*canvas, 3)),
        "dn_true": _stack([mosaic.dn_true for mosaic in normal], canvas),
        "affine_A": affine_A,
        "affine_t": affine_t,
        "voxel_um": np.array(settings.voxel_um),
        "settings": np.array(settings.to_json()),
    }
    for name in ("surface_px", "orientation_deg", "dn", "aip"):
        truth[name] = _stack([getattr(mosaic, name) for mosaic in mosaics], canvas)
    truth["wavelength_um"] = np.array(settings.wavelength_um)
    truth["gamma_deg"] = np.array(settings.tilt_deg(views[1]))
    for name in ("noise_floor_db", "surface_snr_db"):
        truth[name] = np.array(getattr(settings, name))
    if len(views) == 3:
        third = views[2]
        truth[f"affine_A_{third}"], truth[f"affine_t_{third}"] = _to_tilted(settings, mosaics, 2)
        truth[f"gamma_deg_{third}"] = np.array(settings.tilt_deg(third))
    for view in views:
        plane = field_plane(settings, view, *_grid(settings.tile_shape(view)))
        truth[f"focus_plane_{view}_px"] = plane - plane.min()
    return truth


@dataclass(frozen=True)
class _MosaicTruth:
    """Truth of one mosaic on its own canvas, and the canvas' place in the stage frame."""

    origin: FloatArray
    positions_px: FloatArray
    tissue: MaskArray
    surface_px: FloatArray
    orientation_deg: FloatArray
    dn: FloatArray
    dn_true: FloatArray
    axis: FloatArray
    aip: FloatArray


def _to_tilted(
    settings: AcquisitionSettings, mosaics: Sequence[_MosaicTruth], position: int
) -> tuple[FloatArray, FloatArray]:
    """Affine maps (slice, 2, 2) and (slice, 2) from a slice's first mosaic to the one there."""
    geometry = view_geometry(settings, settings.views[position])
    step = settings.mosaics_per_slice
    shifts = [
        geometry.matrix @ fixed.origin + geometry.shift - moving.origin
        for fixed, moving in zip(mosaics[0::step], mosaics[position::step], strict=True)
    ]
    return np.stack([geometry.matrix] * settings.n_slices), np.stack(shifts)


def _mosaic_truth(settings: AcquisitionSettings, slice_number: int, view: View) -> _MosaicTruth:
    stage = stage_positions(settings, view, slice_number)
    origin = stage.min(axis=0)
    positions = stage - origin
    height, width = np.ceil(positions.max(axis=0) + settings.tile_shape(view)).astype(int).tolist()
    yy, xx = _grid((height, width))
    points = view_geometry(settings, view).to_tissue(np.stack([yy, xx], axis=-1) + origin)
    maps = make_tissue(settings, slice_number).sample(points)
    tissue = maps.share > 0.5
    direction = fibre_direction(maps.theta_rad, maps.alpha_rad)
    dn, phi = apparent_fibre(direction, maps.birefringence, settings.tilt_deg(view))
    surface = maps.surface_px + _blended_plane(settings, view, positions, (height, width))

    def in_tissue(values: FloatArray) -> FloatArray:
        return np.where(tissue.reshape(tissue.shape + (1,) * (values.ndim - 2)), values, np.nan)

    return _MosaicTruth(
        origin=origin,
        positions_px=positions,
        tissue=tissue,
        # z is 0-based here: the first sample at or below the face, counted from 1.
        surface_px=in_tissue(np.ceil(surface) + 1),
        orientation_deg=in_tissue(orientation_from_angle(phi)),
        dn=in_tissue(dn),
        dn_true=in_tissue(maps.birefringence),
        axis=in_tissue(toolbox_axis(direction)),
        aip=_expected_aip(settings, maps.reflectivity, maps.share),
    )


def _blended_plane(
    settings: AcquisitionSettings, view: View, positions: FloatArray, shape: tuple[int, int]
) -> FloatArray:
    """(y, x) field plane as a mosaic shows it: of the tile, or blended by distance to its edge."""
    ny, nx = settings.tile_shape(view)
    weighted, weights = np.zeros(shape), np.full(shape, np.finfo(float).tiny)
    for position in positions:
        first = np.ceil(position).astype(int)
        last = np.minimum(np.floor(position + np.array([ny, nx])).astype(int), shape)
        part = np.s_[first[0] : last[0], first[1] : last[1]]
        y, x = np.mgrid[part] - position[:, None, None]
        weight = (1 + np.minimum(y, ny - 1 - y)) * (1 + np.minimum(x, nx - 1 - x))
        weighted[part] += weight * field_plane(settings, view, y, x)
        weights[part] += weight
    return np.asarray(weighted / weights)


def _expected_aip(
    settings: AcquisitionSettings, reflectivity: FloatArray, share: FloatArray
) -> FloatArray:
    """Mean over the window of the expected dB of speckle in noise.

    With signal power S (one polarisation state) and noise power P (both channels), the intensity
    is a sum of two exponential variables of means a = S + P/2 and b = P/2, the logarithm of which
    has the mean (a ln a - b ln b) / (a - b) - 0.5772.
    """
    gain = spectrometer(settings).signal_gain(settings.first_surface_px)
    half_noise = 10 ** (settings.noise_floor_db / 10) / 2
    fall_px = settings.attenuation_length_um / settings.voxel_um[2]
    total = np.zeros_like(share)
    for z in range(ENFACE_WINDOW_PX):
        tissue = surface_power(settings) * reflectivity * share * np.exp(-2 * z / fall_px)
        signal = gain * (tissue + agar_power(settings) * (1 - share))
        a = signal + half_noise
        total += (a * np.log(a) - half_noise * np.log(half_noise)) / signal - _EULER_GAMMA
    return np.asarray(10 / np.log(10) * total / ENFACE_WINDOW_PX)


def _grid(shape: tuple[int, int]) -> FloatArray:
    return np.indices(shape).astype(np.float64)


def _stack(arrays: Sequence[NDArray[_Scalar]], shape: tuple[int, ...]) -> NDArray[_Scalar]:
    """Arrays padded at their ends to a shape, with NaN (False in masks), and stacked."""
    fill = False if arrays[0].dtype == bool else np.nan
    stacked = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for full, array in zip(stacked, arrays, strict=True):
        full[tuple(slice(n) for n in array.shape)] = array
    return stacked
