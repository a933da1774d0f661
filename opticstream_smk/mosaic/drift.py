"""How far a mosaic lies from the template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from opticstream_smk.mosaic.positions import TilePositions


@dataclass(frozen=True)
class Drift:
    """Measured against a template, see `measure_drift`.

    Attributes
    ----------
    shift_px
        (2,) (y, x): how far the largest island as a whole lies from the template, in the frames of
        both (each has its minimum at 0 as a rule, so this says little by itself). 0 if no tile can
        be compared.
    residual_px
        (N,) distance of each tile from where the template has it once the shift of its island is
        removed; NaN for tiles that no content anchors and those that the template lacks.
    rms_px, worst_px
        Of `residual_px`; 0 if there is none.
    worst_tile
        0-based index, None if no tile can be compared.
    """

    shift_px: NDArray[np.float64]
    residual_px: NDArray[np.float64]
    rms_px: float
    worst_px: float
    worst_tile: int | None


def measure_drift(found: TilePositions, template_px: ArrayLike) -> Drift:
    """Compare solved positions with those of a template.

    Every island is compared by itself, after removing the median translation of its tiles: content
    says nothing about where islands lie to each other.

    Parameters
    ----------
    found
        A mosaic as solved.
    template_px
        (N, 2) (y, x) in px of the same tiles; NaN where the template has none.

    Raises
    ------
    ValueError
        If the template is not one of these tiles.
    """
    template = np.asarray(template_px, dtype=np.float64)
    if template.shape != found.positions_px.shape:
        raise ValueError(
            f"template of shape {template.shape} for {len(found.positions_px)} tiles: expected "
            f"{found.positions_px.shape}. Is it the template of another grid?"
        )
    difference = found.positions_px - template
    known = found.is_anchored & np.isfinite(difference).all(axis=1)
    residual = np.full(len(difference), np.nan)
    shift = np.zeros(2)
    for island in np.unique(found.island[known])[::-1]:
        members = known & (found.island == island)
        shift = np.median(difference[members], axis=0)
        off = difference[members] - shift
        residual[members] = np.hypot(off[:, 0], off[:, 1])
    if not known.any():
        return Drift(shift, residual, 0.0, 0.0, None)
    worst = int(np.nanargmax(residual))
    rms = float(np.sqrt(np.nanmean(residual**2)))
    return Drift(shift, residual, rms, float(residual[worst]), worst)
