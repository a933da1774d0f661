"""En-face maps of a tile: one value per A-line from a window below the surface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError
from opticstream_smk.psoct.attenuation import estimate_attenuation
from opticstream_smk.psoct.birefringence import BIREF_METHODS, SMOOTHED_METHODS
from opticstream_smk.psoct.surface import clamped_surface
from opticstream_smk.psoct.volumes import Volumes
from opticstream_smk.psoct.window import DepthWindow

DEFAULT_MODALITIES = ("aip", "mip", "ret", "ori", "biref")
_ORI_METHODS = ("circularMean", "mean", "legacy")
_Maps: TypeAlias = dict[str, NDArray[np.float32]]


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
        _require("biref_method", self.biref_method, ("legacy", "", *BIREF_METHODS))

    @property
    def needs_neighbours(self) -> bool:
        """Whether a map of an A-line depends on the volumes of the B-lines around it."""
        return any(
            name.startswith("mus") or (name == "biref" and self.biref_method in SMOOTHED_METHODS)
            for name in self.modalities
        )

    def plain_function(
        self, modality: str
    ) -> Callable[[Volumes, DepthWindow, EnfaceOptions], _Maps] | None:
        """What makes a map in NumPy; None: it comes from the compiled loop."""
        is_compiled = {
            "ori": self.ori_method == "circularMean",
            "biref": self.biref_method in ("", "legacy"),
        }.get(modality, modality in DEFAULT_MODALITIES)
        return None if is_compiled else _PLAIN[modality]


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
        degrees in (-90, 90], NaN if one sample is; the plain mean omits NaN. biref: dimensionless;
        "legacy" is the slope of ``retardance / 360 * wavelength`` against depth, where a sample of
        exactly 0 is the last one used, 0 for fewer than 3 samples or retardance 0 throughout, and
        NaN if a used sample is; for the others see `birefringence`. mus: attenuation,
        1/mm, and mus_confidence: how far it is measured, 0 to 1, see `estimate_attenuation`.

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
    arrays = volumes.by_depth
    if any(options.plain_function(name) is None for name in options.modalities):
        arrays = tuple(np.ascontiguousarray(volume, np.float32) for volume in arrays)
    return project_lines(arrays, 0, surface, options)


def project_lines(
    volumes: tuple[NDArray[np.float32], ...],
    start: int,
    surface: NDArray[np.floating[Any]],
    options: EnfaceOptions,
) -> dict[str, NDArray[np.float32]]:
    """Make the maps of some B-lines of a block of volumes.

    Parameters
    ----------
    volumes : three of (Z, Y, X) float32
        dBI, R3D and O3D, contiguous.
    start : int
        First of the B-lines.
    surface : (X, Y') array
        1-based surface index of each A-line of them.
    options : EnfaceOptions
        Which maps, and how.

    Returns
    -------
    dict of (X, Y') float32
    """
    depth = volumes[0].shape[0]
    window = DepthWindow(
        clamped_surface(surface, depth),
        depth=depth,
        offset_px=int(options.offset_px),
        depth_px=int(options.depth_px),
    )
    blines = slice(start, start + surface.shape[1])
    maps: dict[str, NDArray[np.float32]] = {}
    for name in options.modalities:
        if name in maps:
            continue
        function = options.plain_function(name)
        if function is None:
            maps.update(_compiled_maps(volumes, start, window, options))
        else:
            maps.update(function(Volumes(*(v[:, blines].T for v in volumes)), window, options))
    return {name: maps[name] for name in options.modalities}


def _compiled_maps(
    volumes: tuple[NDArray[np.float32], ...],
    start: int,
    window: DepthWindow,
    options: EnfaceOptions,
) -> _Maps:
    from opticstream_smk.psoct.depth_kernels import window_maps

    alines, blines = window.shape
    maps = np.empty((blines, 5, alines))
    wavelength = np.float32(options.wavelength_um)
    for y in range(blines):
        first = np.ascontiguousarray(window.first[:, y])
        window_maps(*volumes, start + y, first, window.length, wavelength, maps[y])
    aip, mip, ret, ori, path = maps.transpose(1, 2, 0)
    made = {"aip": aip, "mip": mip, "ret": ret, "ori": ori, "biref": path / options.dz_um}
    found = {name: np.ascontiguousarray(values, np.float32) for name, values in made.items()}
    # -90 comes from a sine of -0, or from rounding to float32.
    found["ori"][found["ori"] == -90] = 90
    return {n: v for n, v in found.items() if options.plain_function(n) is None}


def _mean(samples: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of the samples inside that are not NaN; NaN without any."""
    valid = inside & ~np.isnan(samples)
    total = samples.sum(axis=0, dtype=np.float64, where=valid)
    count = np.count_nonzero(valid, axis=0)
    mean: NDArray[np.float64] = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _plain_mean_orientation(volumes: Volumes, window: DepthWindow, _: EnfaceOptions) -> _Maps:
    return {"ori": window.summarise(volumes.o3d, _mean)}


def _biref(volumes: Volumes, window: DepthWindow, options: EnfaceOptions) -> _Maps:
    fit = BIREF_METHODS[options.biref_method]
    return {"biref": fit(volumes, window, options.dz_um, options.wavelength_um)}


def _mus(volumes: Volumes, window: DepthWindow, options: EnfaceOptions) -> _Maps:
    mus, confidence = estimate_attenuation(volumes.dbi, window, dz_um=options.dz_um)
    return {"mus": mus, "mus_confidence": confidence}


# What has no compiled loop. A function may give maps of other modalities too, at one cost.
_PLAIN: dict[str, Callable[[Volumes, DepthWindow, EnfaceOptions], _Maps]] = {
    "ori": _plain_mean_orientation,
    "biref": _biref,
    "mus": _mus,
    "mus_confidence": _mus,
}
_MODALITIES = (*DEFAULT_MODALITIES, "mus", "mus_confidence")


def _require(what: str, name: str, accepted: Iterable[str]) -> None:
    if name not in accepted:
        names = ", ".join(key for key in accepted if key)
        raise ConfigError(f"{what} {name!r} is unknown; accepted: {names}. Set one of them.")
