"""Affine registration of two mosaics of the same tissue.

Coarse translation by overlap-normalised cross-correlation on a decimated copy, tried with a few
rotations and widths, then Gauss-Newton down a pyramid of contrast-evened images.
"""

import itertools
import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from opticstream_smk.errors import CorruptInputError, QualityError
from opticstream_smk.registration.affine import Affine
from opticstream_smk.registration.gauss_newton import Refined, correlation, refine
from opticstream_smk.registration.masked_correlation import best_shift, masked_ncc
from opticstream_smk.registration.pyramid import (
    Level,
    even_contrast,
    from_level,
    independent_samples,
    make_level,
    matched_pair,
    to_level,
)

_log = logging.getLogger(__name__)

# 4x decimation of a 4000 x 6000 mosaic: 0.01 px there, in a few seconds.
_MAX_FINEST_PIXELS = 2_000_000
# The coarsest level keeps at least this many pixels along the longer and the shorter side.
_MIN_LONG_SIDE = 96
_MIN_SHORT_SIDE = 24
_MIN_SIDE = 8
_MIN_VALID = 64
_MIN_CONTRAST = 1e-6

# First guesses. A tilt of 15 degrees narrows x by 3.4 %, a slice may be turned by a few degrees;
# Gauss-Newton on the coarsest level bridges the gaps.
_START_ROTATIONS_DEG = (-5.0, 0.0, 5.0)
_START_WIDTHS = (0.93, 1.0, 1.07)
_STARTS_REFINED = 3

_MAX_ITERATIONS = 25
_STOP_STEP_PX = 0.005
# The next level goes on anyway.
_STOP_STEP_COARSE_PX = 0.02

_SETTLED_STEP_PX = 0.5
_MIN_OVERLAP = 0.3
_SCALE_RANGE = (0.7, 1.4)
# 70 pairs of unrelated images reached 6.5 at most, the noisiest matching pairs (2 looks) 10.
_MIN_SIGNIFICANCE = 8.0
# Small images have too few samples for that; this high only images of the same thing get.
_CERTAIN_NCC = 0.85
# The weights of the fit are not those of the correlation, so its maximum is missed by a little.
_NCC_TOLERANCE = 0.01


@dataclass(frozen=True)
class AffineFit:
    """A registration and how good it is.

    Attributes
    ----------
    affine
        Fixed to moving, full-resolution pixels.
    ncc_before, ncc_after
        Correlation of the two contrast-evened images over their overlap, with the identity and
        with ``affine``, on the finest level that was used; -1 without overlap.
    significance
        Largest correlation of any level in standard deviations of what unrelated images of the
        same texture give by chance.
    overlap
        Share of the smaller image's valid pixels that the other one covers, 0..1.
    iterations
        Gauss-Newton steps over all levels.
    last_step_px
        Largest movement of a corner in the last step, full-resolution pixels.
    """

    affine: Affine
    ncc_before: float
    ncc_after: float
    significance: float
    overlap: float
    iterations: int
    last_step_px: float


def register_affine(
    fixed: ArrayLike, moving: ArrayLike, *, mask: ArrayLike | None = None
) -> Affine:
    """Find where the points of one image lie in another.

    A fixed point ``p`` (y, x) is found in the moving image at ``A @ p + t``. Parameters, errors
    and method are those of :func:`estimate_affine`, which tells the quality, too.
    """
    return estimate_affine(fixed, moving, mask=mask).affine


def estimate_affine(
    fixed: ArrayLike, moving: ArrayLike, *, mask: ArrayLike | None = None
) -> AffineFit:
    """Register two images of the same tissue by an affine map and judge the result.

    Parameters
    ----------
    fixed, moving
        (y, x) images of any two sizes and brightness units, equal pixel size; NaN where there is
        nothing. Zeros count as brightness: the edge of a mask that was filled with them attracts.
    mask
        (y, x) on the fixed grid; only pixels that are nonzero count.

    Returns
    -------
    AffineFit

    Raises
    ------
    CorruptInputError
        Not two-dimensional, too small, a mask of another shape, nearly no finite pixel, or flat.
    QualityError
        The images do not match: the correlation is what unrelated images give or falls below
        that of the identity, the scale leaves 0.7..1.4, the overlap is small, or the iteration
        does not settle.

    Notes
    -----
    Local brightness and contrast are evened out, so vignetting, gain, and tissue that lights up
    in one view only do little harm; but an image and its negative do not match. Elastic
    deformation is not modelled. Rotations up to about 8 degrees and width changes up to about
    10 % are found from any shift that leaves 30 % overlap.
    """
    fixed_image, fixed_valid = _prepare("fixed", fixed, mask)
    moving_image, moving_valid = _prepare("moving", moving, None)
    steps = _pyramid_steps(fixed_image.shape, moving_image.shape)

    affine = Affine.identity()
    iterations = 0
    significance = 0.0
    for step in steps:
        level_f = make_level(fixed_image, fixed_valid, step)
        level_m = make_level(moving_image, moving_valid, step)
        if step == steps[0]:
            coarse = _coarse_fit(level_f, level_m)
            affine = from_level(coarse.affine, step)
            iterations += coarse.iterations
        start = to_level(affine, step)
        seen_f, seen_m = matched_pair(level_f, level_m, start)
        refined = refine(
            seen_f,
            seen_m,
            Affine.identity(),
            max_iterations=_MAX_ITERATIONS,
            stop_step_px=_STOP_STEP_PX if step == steps[-1] else _STOP_STEP_COARSE_PX,
        )
        affine = from_level(start.compose(refined.affine), step)
        iterations += refined.iterations
        by_chance = 1.0 / np.sqrt(max(1.0, independent_samples(seen_f, seen_m)))
        significance = max(significance, refined.ncc / by_chance)
        _log.debug(
            "step %d: ncc %.3f, %.1f sigma, %d iterations",
            step,
            refined.ncc,
            refined.ncc / by_chance,
            refined.iterations,
        )

    before = correlation(*matched_pair(level_f, level_m, Affine.identity()), Affine.identity())
    # Moving pixels counted in fixed ones.
    moving_area = level_m.valid.sum() / abs(np.linalg.det(affine.A))
    smaller = min(level_f.valid.sum(), moving_area)
    fit = AffineFit(
        affine=affine,
        ncc_before=before,
        ncc_after=refined.ncc,
        significance=float(significance),
        overlap=min(1.0, float(seen_f.valid.sum() / max(1.0, smaller))),
        iterations=iterations,
        last_step_px=refined.last_step_px * steps[-1],
    )
    check_quality(fit)
    return fit


def _prepare(
    name: str, image: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    values = np.asarray(image)
    if values.ndim != 2 or min(values.shape) < _MIN_SIDE:
        raise CorruptInputError(
            f"The {name} image has shape {values.shape}; registration needs a map (y, x) of at "
            f"least {_MIN_SIDE} x {_MIN_SIDE} px."
        )
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
    valid = np.isfinite(values)
    if mask is not None:
        wanted = np.asarray(mask) > 0
        if wanted.shape != values.shape:
            raise CorruptInputError(
                f"The mask has shape {wanted.shape}, the {name} image {values.shape}. "
                "Give a mask on the grid of the fixed image."
            )
        valid &= wanted
    if valid.sum() < _MIN_VALID:
        raise CorruptInputError(
            f"Only {int(valid.sum())} of {values.size} pixels of the {name} image are finite and "
            f"inside the mask; registration needs at least {_MIN_VALID}. "
            "Check the mask threshold and the stitched map."
        )
    known = values[valid]
    low, high = float(known.min()), float(known.max())
    # Contrast is evened out later, so rounding noise would pass for texture.
    if high - low <= _MIN_CONTRAST * max(abs(low), abs(high)):
        raise CorruptInputError(
            f"The {name} image is flat ({low:g} to {high:g}): there is nothing to register. "
            "Check the stitched map."
        )
    return values, valid


def _pyramid_steps(fixed: tuple[int, ...], moving: tuple[int, ...]) -> list[int]:
    """Return the decimation steps, powers of two, coarsest first."""
    finest = 1
    while max(np.prod(fixed), np.prod(moving)) / finest**2 > _MAX_FINEST_PIXELS:
        finest *= 2
    long_side, short_side = min(max(fixed), max(moving)), min(*fixed, *moving)
    steps = [finest]
    while (
        long_side / (2 * steps[0]) >= _MIN_LONG_SIDE
        and short_side / (2 * steps[0]) >= _MIN_SHORT_SIDE
    ):
        steps.insert(0, 2 * steps[0])
    return steps


def _coarse_fit(fixed: Level, moving: Level) -> Refined:
    """Find the best affine map on the coarsest level, in level pixels, from nothing."""
    even_f, even_m = even_contrast(fixed), even_contrast(moving)
    starts = [Affine.identity()]
    # Outline and large areas decide in the one, texture in the other; which of them the two
    # views have in common is not known.
    for f, m in ((fixed, moving), (even_f, even_m)):
        found = _shift_candidates(f, m)
        found.sort(key=lambda entry: entry[0], reverse=True)
        starts += [start for _, start in found[:_STARTS_REFINED]]
    tried = [
        refine(
            even_f,
            even_m,
            start,
            max_iterations=_MAX_ITERATIONS,
            stop_step_px=_STOP_STEP_COARSE_PX,
        )
        for start in starts
    ]
    return max(tried, key=lambda r: r.ncc if r.overlap >= 0.5 * _MIN_OVERLAP else -1.0)


def _shift_candidates(fixed: Level, moving: Level) -> list[tuple[float, Affine]]:
    """Return (correlation, map) of the best shift for each guess of rotation and width."""
    found: list[tuple[float, Affine]] = []
    shape = (fixed.image.shape[0], fixed.image.shape[1])
    centre = (np.array(moving.image.shape) - 1) / 2
    for degrees, width in itertools.product(_START_ROTATIONS_DEG, _START_WIDTHS):
        turn = np.deg2rad(degrees)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        guess = rotation @ np.diag([1.0, width])
        # The moving image as seen through the guess about its own centre ...
        about_centre = Affine(guess, centre - guess @ centre)
        seen = ndimage.affine_transform(moving.image, guess, about_centre.t, order=1)
        share = ndimage.affine_transform(
            moving.valid.astype(np.float32), guess, about_centre.t, order=1
        )
        seen_valid = share > 0.99
        if not (seen_valid.any() and fixed.valid.any()):
            continue
        ncc = masked_ncc(fixed.image, fixed.valid, seen, seen_valid, min_overlap=_MIN_OVERLAP)
        # ... needs only a shift.
        shift, score = best_shift(ncc, shape)
        found.append((score, about_centre.compose(Affine(np.eye(2), shift))))
    return found


def check_quality(fit: AffineFit) -> None:
    """Raise QualityError, with the numbers, when a registration must not be used."""
    scales = np.linalg.svd(fit.affine.A, compute_uv=False)
    problem = None
    if fit.significance < _MIN_SIGNIFICANCE and fit.ncc_after < _CERTAIN_NCC:
        problem = (
            f"the images are hardly more alike than unrelated ones ({fit.significance:.1f} "
            f"standard deviations, at least {_MIN_SIGNIFICANCE} expected)"
        )
    elif fit.ncc_after < fit.ncc_before - _NCC_TOLERANCE:
        problem = "the images match worse than before"
    elif scales[0] > _SCALE_RANGE[1] or scales[1] < _SCALE_RANGE[0]:
        problem = (
            f"it scales by {scales[1]:.2f} and {scales[0]:.2f} "
            f"(expected {_SCALE_RANGE[0]} to {_SCALE_RANGE[1]})"
        )
    elif np.linalg.det(fit.affine.A) < 0:
        problem = "it mirrors the image"
    elif fit.overlap < _MIN_OVERLAP:
        problem = f"the images overlap by only {100 * fit.overlap:.0f} % after it"
    elif fit.last_step_px > _SETTLED_STEP_PX:
        problem = f"it still moved by {fit.last_step_px:.2f} px in the last step"
    if problem is None:
        return
    raise QualityError(
        f"The affine registration cannot be trusted: {problem}. Correlation {fit.ncc_before:.3f} "
        f"before, {fit.ncc_after:.3f} after {fit.iterations} iterations; A "
        f"{np.round(fit.affine.A, 4).tolist()}, t {np.round(fit.affine.t, 1).tolist()} px. "
        "Look at both mosaics; set registration.image to the other map (aip or biref), or give "
        "the transform yourself."
    )
