"""Checks of a tile's products by shape, type, finite share and plausible values."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opticstream_smk import naming
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.io import nifti

# Samples looked at together: 16 MiB of float32 beside the page cache.
_SLAB_SAMPLES = 2**22

# atan in float32, times 180 / pi in float32, may end one step above 90.
_ROUNDING_DEG = 1e-4

_FLOAT32 = ("float32",)
# float64 as the surface detection gives it; the others come from a surface that was handed in.
_SURFACE_TYPES = ("float64", "float32", "int32", "int16", "uint16")


@dataclass(frozen=True)
class ProductLimits:
    """What the products of a tile may hold.

    Attributes
    ----------
    min_finite_share
        Share 0 to 1 of finite values in volumes and en-face maps. Dead A-lines are rare; 1 % of
        them would already show in a mosaic. The surface must be finite throughout; mus need not
        be finite anywhere.
    intensity_db
        Lowest and highest dBI, aip and mip. -69.24 dB is the floor of the computation
        (eps of float32); 12-bit cameras stay below 130 dB.
    max_abs_biref
        No fit can give more than 90 degrees per step in depth, which is 0.13 at 1.3 um wavelength
        and 2.5 um depth of a voxel. A larger value means a wrong unit in the configuration.
    max_mus_per_mm
        Tissue has up to some 50; single A-lines of noise, and windows cut short by the end of the
        volume, give much more.
    constant_surface
        The surface was not searched for but set to one index, so it may be the same everywhere.
    toolbox_quirks
        Data of psoct-toolbox, or computed with its defects: O3D was wrapped once only and may
        reach 180 degrees either way, and ori may be -90.
    """

    min_finite_share: float = 0.99
    intensity_db: tuple[float, float] = (-70.0, 200.0)
    max_abs_biref: float = 0.2
    max_mus_per_mm: float = 10_000.0
    constant_surface: bool = False
    toolbox_quirks: bool = False


@dataclass(frozen=True)
class _Expected:
    """What one product should be."""

    dtypes: tuple[str, ...]
    low: float
    high: float
    unit: str
    finite_share: float
    low_included: bool = True
    rounding: float = 0.0
    may_be_constant: bool = False
    whole: bool = False


class Content:
    """What was found in one product, put together from its parts.

    Attributes
    ----------
    shape, dtype
        Of the whole product.
    finite
        Number of finite values.
    low, high
        Smallest and largest of them.
    whole
        Whether all are whole numbers; only maps are looked at for that.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.size = math.prod(shape)
        self.finite = 0
        self.low, self.high = math.inf, -math.inf
        self.whole = True
        self._is_map = len(shape) == 2 or shape[-1] == 1

    def add(self, part: NDArray[Any]) -> None:
        """Look at some of the values."""
        smallest, largest = part.min(), part.max()
        values = part
        # NaN goes through minimum and maximum, so two fast passes clear a part without any.
        if not (np.isfinite(smallest) and np.isfinite(largest)):
            values = part[np.isfinite(part)]
            if not values.size:
                return
            smallest, largest = values.min(), values.max()
        self.finite += values.size
        self.low, self.high = min(self.low, float(smallest)), max(self.high, float(largest))
        if self._is_map:
            self.whole = self.whole and bool((values == np.rint(values)).all())

    def merge(self, other: "Content") -> None:
        """Take over what another found in other parts of the same product."""
        self.finite += other.finite
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.whole = self.whole and other.whole


def validate_products(
    products: Mapping[str, "ArrayLike | Path | Content"],
    *,
    shape: tuple[int, int, int],
    limits: ProductLimits | None = None,
) -> list[str]:
    """Check the products of one tile.

    Parameters
    ----------
    products
        Arrays, paths of NIfTI files, or what was found in them, by modality: dBI, R3D, O3D
        (X, Y, Z); surf, aip, mip, ret, ori, biref, mus, mus_confidence (X, Y) or (X, Y, 1). Each is
        checked by itself, and only those that are given: pass the path of a product that should be
        there, whether it is or not.
    shape
        X, Y, Z of the tile.
    limits
        ``ProductLimits()`` by default.

    Returns
    -------
    list of str
        One message per fault, with product, what was found and what was expected; empty when all
        is well. An unreadable or missing file is a fault, as is a product whose values are all
        equal, and a mapping without products.

    Notes
    -----
    All values are looked at, in slabs of 16 MiB along the last axis, in which files are
    contiguous. Memory-mapped volumes pass through the page cache, one file after the other.
    """
    limits = ProductLimits() if limits is None else limits
    if not products:
        return ["no product to check; expected dBI, R3D, O3D, surf and en-face maps"]
    known = _expected(shape[2], limits)
    messages = []
    for name, product in products.items():
        if name not in known:
            messages.append(f"{name}: unknown product; expected one of {', '.join(known)}")
            continue
        wanted = shape if name in naming.VOLUME_MODALITIES else shape[:2]
        try:
            content = _content_of(product, wanted)
        except OpticStreamError as error:
            messages.append(f"{name}: {error}")
            continue
        what = f"{name} ({product})" if isinstance(product, Path) else name
        messages += [f"{what}: {fault}" for fault in _faults(content, wanted, known[name])]
    return messages


def _expected(depth: int, limits: ProductLimits) -> dict[str, _Expected]:
    share = limits.min_finite_share
    intensity = _Expected(_FLOAT32, *limits.intensity_db, "dB", share)
    retardance = _Expected(_FLOAT32, 0.0, 90.0, "deg", share, rounding=_ROUNDING_DEG)
    axis_deg = 180.0 if limits.toolbox_quirks else 90.0
    return {
        "dBI": intensity,
        "R3D": retardance,
        "O3D": _Expected(_FLOAT32, -axis_deg, axis_deg, "deg", share),
        "surf": _Expected(
            _SURFACE_TYPES,
            1,
            depth,
            "(1-based depth index)",
            1.0,
            whole=True,
            may_be_constant=limits.constant_surface,
        ),
        "aip": intensity,
        "mip": intensity,
        "ret": retardance,
        "ori": _Expected(_FLOAT32, -90.0, 90.0, "deg", share, limits.toolbox_quirks),
        "biref": _Expected(_FLOAT32, -limits.max_abs_biref, limits.max_abs_biref, "", share),
        # Beside the tissue there is nothing that decays: NaN, with a confidence of 0.
        "mus": _Expected(_FLOAT32, 0.0, limits.max_mus_per_mm, "1/mm", 0.0),
        "mus_confidence": _Expected(_FLOAT32, 0.0, 1.0, "", 1.0, may_be_constant=True),
    }


def _content_of(product: "ArrayLike | Path | Content", shape: tuple[int, ...]) -> Content:
    if isinstance(product, Content):
        return product
    array = nifti.read_array(product) if isinstance(product, Path) else np.asarray(product)
    if array.shape not in _accepted(shape):
        return Content(array.shape, array.dtype)  # whatever it holds
    return _content(array)


def _accepted(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (shape, (*shape, 1)) if len(shape) == 2 else (shape,)


def _faults(content: Content, shape: tuple[int, ...], expected: _Expected) -> Iterator[str]:
    if content.shape not in _accepted(shape):
        yield f"shape {content.shape}, expected {shape}"
        return
    # By name, so that either byte order will do.
    if content.dtype.name not in expected.dtypes:
        yield f"dtype {content.dtype.name}, expected {' or '.join(expected.dtypes)}"
        if content.dtype.kind not in "fiu":
            return
    share = content.finite / content.size
    if share < expected.finite_share:
        missing = content.size - content.finite
        yield (
            f"finite share {share:.6g} ({missing} of {content.size} values are NaN or infinite), "
            f"expected at least {expected.finite_share:g}"
        )
    if not content.finite:
        return
    constant = content.low == content.high and content.finite > 1
    if constant and not expected.may_be_constant:
        yield f"all values are {content.low:g}, expected values that differ"
    unit = f" {expected.unit}" if expected.unit else ""
    too_low = content.low < expected.low or (
        content.low == expected.low and not expected.low_included
    )
    if too_low or content.high > expected.high + expected.rounding:
        bracket = "[" if expected.low_included else "("
        yield (
            f"values from {content.low:g} to {content.high:g}, expected within "
            f"{bracket}{expected.low:g}, {expected.high:g}]{unit}"
        )
    if expected.whole and not content.whole:
        yield f"values that are not whole numbers, expected whole numbers{unit}"


def _content(array: NDArray[Any]) -> Content:
    content = Content(array.shape, array.dtype)
    # Complex numbers and text have no range.
    if array.dtype.kind in "fiu":
        for slab in _slabs(array):
            content.add(slab)
    return content


def _slabs(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Parts of the array along its last axis, of at most 16 MiB of float32 each."""
    last = array.shape[-1]
    step = max(1, _SLAB_SAMPLES // max(1, array.size // last))
    for start in range(0, last, step):
        yield array[..., start : start + step]
