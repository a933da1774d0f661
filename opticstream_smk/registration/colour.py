"""Pictures of angle maps: hue is the angle, brightness the birefringence."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opticstream_smk.errors import ConfigError, CorruptInputError

# The toolbox's window for birefringence maps made with a wavelength of 0.0013 (mm). Maps made
# with 1.3 (um) are 1000 times larger and saturate.
_TOOLBOX_DARK = 1.3e-7
_TOOLBOX_RANGE = 1e-7

_PERCENTILES = (1.0, 99.0)


def orientation_rgb(
    angle_rad: ArrayLike,
    biref: ArrayLike,
    *,
    scale: Literal["percentile", "toolbox"] = "percentile",
) -> NDArray[np.float64]:
    """Colour an axial angle map.

    Parameters
    ----------
    angle_rad
        (y, x) axial angle, radians in [-pi/2, pi/2]. Hue is ``(angle + pi/2) / pi``, saturation 1.
    biref
        (y, x) birefringence (delta n), NaN where masked. It gives the brightness.
    scale
        "percentile": the 1st..99th percentile of the finite birefringence becomes 0..1, whatever
        its unit; a constant map is fully bright. "toolbox": ``(m - 1.3e-7) / 1e-7`` with ``m``
        the median of the 2 x 2 window that starts at the pixel, as psoct-toolbox does.

    Returns
    -------
    (y, x, 3) float64 in 0..1, NaN where angle or brightness is not known.

    Raises
    ------
    CorruptInputError
        The two maps differ in shape or are not two-dimensional.
    ConfigError
        ``scale`` is unknown.
    """
    angle = np.asarray(angle_rad, dtype=np.float64)
    strength = np.asarray(biref, dtype=np.float64)
    if angle.shape != strength.shape or angle.ndim != 2:
        raise CorruptInputError(
            "Angle and birefringence maps must be two-dimensional and of one shape; "
            f"got {angle.shape} and {strength.shape}."
        )
    if scale == "toolbox":
        value = np.clip((_median_2x2(strength) - _TOOLBOX_DARK) / _TOOLBOX_RANGE, 0.0, 1.0)
    elif scale == "percentile":
        value = _stretch(strength)
    else:
        raise ConfigError(f"scale must be 'percentile' or 'toolbox', not {scale!r}.")
    return _hue_to_rgb((angle + np.pi / 2) / np.pi, value)


def to_uint8(rgb: ArrayLike) -> NDArray[np.uint8]:
    """Turn 0..1 into 0..255 (rounded, clipped); what is not finite becomes 0."""
    values = np.asarray(rgb, dtype=np.float64)
    scaled = np.rint(np.clip(np.where(np.isfinite(values), values, 0.0), 0.0, 1.0) * 255.0)
    return scaled.astype(np.uint8)


def _median_2x2(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of rows i..i+1, columns j..j+1, zeros beyond; NaN sorts last, as in MATLAB."""
    padded = np.pad(image, ((0, 1), (0, 1)))
    window = np.sort(
        np.stack([padded[:-1, :-1], padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:]]), axis=0
    )
    return np.asarray((window[1] + window[2]) / 2)


def _stretch(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = strength[np.isfinite(strength)]
    if finite.size == 0:
        return np.full(strength.shape, np.nan)
    low, high = np.percentile(finite, _PERCENTILES, method="hazen")
    if high <= low:
        return np.where(np.isfinite(strength), 1.0, np.nan)
    return np.asarray(np.clip((strength - low) / (high - low), 0.0, 1.0))


def _hue_to_rgb(hue: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """HSV to RGB (..., 3) at saturation 1; hue 0..1, both ends red."""
    # Each channel is a trapezoid over the hue circle: |6h - 3| - 1 and its two shifts.
    sixth = hue * 6.0
    red = np.abs(sixth - 3.0) - 1.0
    green = 2.0 - np.abs(sixth - 2.0)
    blue = 2.0 - np.abs(sixth - 4.0)
    saturated = np.clip(np.stack([red, green, blue], axis=-1), 0.0, 1.0)
    return np.asarray(saturated * value[..., np.newaxis])
