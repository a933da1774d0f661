"""Birefringence from the rise of retardance with depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.psoct.window import DepthWindow

if TYPE_CHECKING:
    from opticstream_smk.psoct.volumes import Volumes

BirefMethod = Callable[["Volumes", DepthWindow, float, float], NDArray[np.float32]]


def fit_linear(
    volumes: Volumes, window: DepthWindow, dz_um: float, wavelength_um: float
) -> NDArray[np.float32]:
    """Fit a line to the optical path difference in the window.

    Parameters
    ----------
    volumes : Volumes
        Retardance in degrees is used.
    window : DepthWindow
        The samples to fit.
    dz_um, wavelength_um : float
        Depth of a voxel and centre wavelength, um.

    Returns
    -------
    (X, Y) float32
        Slope of ``retardance / 360 * wavelength`` against depth, dimensionless. A sample of
        exactly 0 is the last one used. 0 for fewer than 3 samples or retardance 0 throughout;
        NaN if a used sample is NaN.

    Notes
    -----
    Follows psoct-toolbox ``fitLinear`` ("legacy"): retardance that folds back at 90 degrees
    is not unwrapped.
    """

    def slope(samples: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        step = np.arange(samples.shape[0])[:, None, None]
        zero = (samples == 0) & inside
        first_zero = np.where(zero.any(axis=0), zero.argmax(axis=0), samples.shape[0])
        used = inside & (step <= first_zero)
        # float32 as in the toolbox.
        path_um = samples / np.float32(360) * np.float32(wavelength_um)
        path_um = np.where(used, path_um, np.float32(0))
        count = np.count_nonzero(used, axis=0).astype(np.float64)
        # Least squares over x = dz * (0..n-1), whose centred squares sum to dz^2 n (n^2 - 1) / 12.
        centred = np.where(used, step - (count - 1) / 2, 0.0)
        squares = dz_um * count * (count * count - 1) / 12
        fitted = (count >= 3) & (path_um != 0).any(axis=0)
        result: NDArray[np.float64] = np.zeros(count.shape)
        np.divide(np.einsum("zyx,zyx->yx", centred, path_um), squares, out=result, where=fitted)
        return result

    return window.summarise(volumes.r3d, slope)


BIREF_METHODS: dict[str, BirefMethod] = {"legacy": fit_linear, "": fit_linear}
