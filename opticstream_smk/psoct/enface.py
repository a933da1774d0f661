"""En-face maps of a tile: one value per A-line from a window below the surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct.attenuation import estimate_attenuation
from opticstream_smk.psoct.birefringence import BIREF_METHODS
from opticstream_smk.psoct.surface import clamped_surface
from opticstream_smk.psoct.volumes import Volumes
from opticstream_smk.psoct.window import DepthWindow, Summary

DEFAULT_MODALITIES = ("aip", "mip", "ret", "ori", "biref")


@dataclass(frozen=True)
class EnfaceOptions:
    """How en-face maps are made; see `project_enface`.

    Raises
    ------
    ConfigError
        If a name is unknown or a number is out of range.
    """

    offset_px: float = 0
    depth_px: float = 80
    modalities: Sequence[str] = DEFAULT_MODALITIES
    ori_method: str = "circularMean"
    biref_method: str = "legacy"
    dz_um: float = 2.5
    wavelength_um: float = 1.3

    def __post_init__(self) -> None:
        # Whole numbers only: the toolbox indexes with them.
        if not float(self.offset_px).is_integer():
            raise ConfigError(
                f"offset_px is {self.offset_px}; expected a whole number of depth samples. Round "
                "it."
            )
        if not float(self.depth_px).is_integer() or self.depth_px < 1:
            raise ConfigError(
                f"depth_px is {self.depth_px}; expected a whole number of depth samples, at least "
                "1. Round it."
            )
        for name, value in (("dz_um", self.dz_um), ("wavelength_um", self.wavelength_um)):
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(
                    f"{name} is {value}; expected a positive number of micrometres. Set the value "
                    "of the microscope."
                )
        if isinstance(self.modalities, str):
            raise ConfigError(
                f"modalities is the text {self.modalities!r}; expected a list. Write "
                f"[{self.modalities}]."
            )
        for modality in self.modalities:
            _require("modality", modality, _MODALITIES)
        _require("ori_method", self.ori_method, _ORI_METHODS)
        _require("biref_method", self.biref_method, BIREF_METHODS)


def project_enface(
    volumes: Volumes,
    surface: NDArray[np.floating[Any]],
    *,
    offset_px: float = 0,
    depth_px: float = 80,
    modalities: Sequence[str] = DEFAULT_MODALITIES,
    ori_method: str = "circularMean",
    biref_method: str = "legacy",
    dz_um: float = 2.5,
    wavelength_um: float = 1.3,
) -> dict[str, NDArray[np.float32]]:
    """Project the volumes of a tile to en-face maps.

    Parameters
    ----------
    volumes : Volumes
        dBI, R3D and O3D, each (X, Y, Z).
    surface : (X, Y) array
        1-based surface index; rounded half away from zero and clamped to 1..Z.
    offset_px : int
        Depth samples from the surface to the window; may be negative.
    depth_px : int
        Extent of the window. Both ends count: 80 is 81 samples. At the end of the volume the
        window is shorter.
    modalities : sequence of {"aip", "mip", "ret", "ori", "biref", "mus", "mus_confidence"}
        Maps to compute, each independent of the others.
    ori_method : {"circularMean", "mean"}
        How orientations are averaged. "mean" ("legacy" means the same) averages the numbers,
        which is wrong where they come near the ends of their range.
    biref_method : {"legacy", "fft", "unwrap_old", "unwrap_new", "unwrap_exp"}
        How birefringence is fitted; "" means "legacy", "exp" means "unwrap_exp".
    dz_um, wavelength_um : float
        Depth of a voxel and centre wavelength, um; used by "biref" and, the depth, by "mus".

    Returns
    -------
    dict of (X, Y) float32
        aip, mip: mean and maximum of dBI, dB. ret: mean retardance, degrees. These three omit
        NaN, and are NaN where the window holds nothing else. ori: circular mean orientation,
        degrees in (-90, 90], NaN if one sample is; the plain mean omits NaN. biref: dimensionless,
        see `birefringence`. mus: attenuation, 1/mm, and mus_confidence: how far it is measured,
        0 to 1, see `estimate_attenuation`.

    Raises
    ------
    ConfigError
        If a name is unknown or a number is out of range.
    CorruptInputError
        If the shapes do not belong together, or the surface has values that are not finite.

    Notes
    -----
    Follows the en-face functions of psoct-toolbox.
    """
    options = EnfaceOptions(
        offset_px=offset_px,
        depth_px=depth_px,
        modalities=modalities,
        ori_method=ori_method,
        biref_method=biref_method,
        dz_um=dz_um,
        wavelength_um=wavelength_um,
    )
    return project_with(volumes, surface, options)


def project_with(
    volumes: Volumes, surface: NDArray[np.floating[Any]], options: EnfaceOptions
) -> dict[str, NDArray[np.float32]]:
    """Do what `project_enface` does, with `options` that are already checked."""
    shape = volumes.dbi.shape
    if len(shape) != 3 or {volumes.r3d.shape, volumes.o3d.shape} != {shape}:
        raise CorruptInputError(
            f"volumes have shapes {shape}, {volumes.r3d.shape} and {volumes.o3d.shape}; expected "
            "the same (X, Y, Z) three times. Take all three from one tile."
        )
    if surface.shape != shape[:2]:
        raise CorruptInputError(
            f"surface has shape {surface.shape}; expected {shape[:2]}, one index per A-line of "
            "the volumes. Take both from one tile."
        )
    if not np.isfinite(surface).all():
        raise CorruptInputError(
            f"surface has {np.count_nonzero(~np.isfinite(surface))} values that are not finite; "
            "expected 1-based depth indices. Find the surface again."
        )
    window = DepthWindow(
        clamped_surface(surface, shape[2]),
        depth=shape[2],
        offset_px=int(options.offset_px),
        depth_px=int(options.depth_px),
    )
    maps: dict[str, NDArray[np.float32]] = {}
    for name in options.modalities:
        if name not in maps:
            maps.update(_MODALITIES[name](volumes, window, options))
    return {name: maps[name] for name in options.modalities}


def _mean(samples: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of the samples inside that are not NaN; NaN without any."""
    valid = inside & ~np.isnan(samples)
    total = samples.sum(axis=0, dtype=np.float64, where=valid)
    count = np.count_nonzero(valid, axis=0)
    mean: NDArray[np.float64] = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _maximum(samples: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the maximum of the samples inside, omitting NaN; NaN without any."""
    maximum: NDArray[np.float32] = np.fmax.reduce(samples, axis=0, where=inside, initial=np.nan)
    return maximum


def _circular_mean(samples: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the axial mean of angles in degrees, in (-90, 90]; one NaN inside gives NaN."""
    doubled = np.deg2rad(samples.astype(np.float64)) * 2
    sine = np.sin(doubled).sum(axis=0, where=inside)
    cosine = np.cos(doubled).sum(axis=0, where=inside)
    mean: NDArray[np.float32] = np.rad2deg(0.5 * np.arctan2(sine, cosine)).astype(np.float32)
    # -90 comes from a sine of -0, or from rounding to float32.
    mean[mean == -90] = 90
    return mean


_ORI_METHODS: dict[str, Summary] = {
    "circularMean": _circular_mean,
    "mean": _mean,
    "legacy": _mean,
}
_Maps = dict[str, NDArray[np.float32]]


def _aip(volumes: Volumes, window: DepthWindow, _: EnfaceOptions) -> _Maps:
    return {"aip": window.summarise(volumes.dbi, _mean)}


def _mip(volumes: Volumes, window: DepthWindow, _: EnfaceOptions) -> _Maps:
    return {"mip": window.summarise(volumes.dbi, _maximum)}


def _ret(volumes: Volumes, window: DepthWindow, _: EnfaceOptions) -> _Maps:
    return {"ret": window.summarise(volumes.r3d, _mean)}


def _ori(volumes: Volumes, window: DepthWindow, options: EnfaceOptions) -> _Maps:
    return {"ori": window.summarise(volumes.o3d, _ORI_METHODS[options.ori_method])}


def _biref(volumes: Volumes, window: DepthWindow, options: EnfaceOptions) -> _Maps:
    fit = BIREF_METHODS[options.biref_method]
    return {"biref": fit(volumes, window, options.dz_um, options.wavelength_um)}


def _mus(volumes: Volumes, window: DepthWindow, options: EnfaceOptions) -> _Maps:
    mus, confidence = estimate_attenuation(volumes.dbi, window, dz_um=options.dz_um)
    return {"mus": mus, "mus_confidence": confidence}


# A modality's function may give maps of other modalities too, so that they come at one cost.
_MODALITIES: dict[str, Callable[[Volumes, DepthWindow, EnfaceOptions], _Maps]] = {
    "aip": _aip,
    "mip": _mip,
    "ret": _ret,
    "ori": _ori,
    "biref": _biref,
    "mus": _mus,
    "mus_confidence": _mus,
}


def _require(what: str, name: str, accepted: dict[str, Any]) -> None:
    if name not in accepted:
        names = ", ".join(key for key in accepted if key)
        raise ConfigError(f"{what} {name!r} is unknown; accepted: {names}. Set one of them.")
