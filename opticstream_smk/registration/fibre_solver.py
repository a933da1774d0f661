"""Per-pixel fit of the 3-D fibre vector to a normal and a tilted view.

The model and the search are those of psoct-toolbox's ``thruplane_registration`` (MATLAB,
``fminsearch``). Levenberg-Marquardt is faster per step but fails where the fibre is nearly
parallel to the tilted optical axis, so the Nelder-Mead search is kept, written out for three
unknowns and compiled.

This module imports Numba, which takes about half a second: import it where it is used.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.compiled import kernel

# The start simplex and the stopping rule of fminsearch started at zero, with TolFun 1e-20,
# TolX at its default and 6000 evaluations. All four decide the answer to the last digit.
_START_STEP = 2.5e-4
_X_TOLERANCE = 1e-4
_F_TOLERANCE = 1e-20
_MAX_EVALUATIONS = 6000

# Seen from the tilted view, a fibre within gamma of the optical axis can point to the other side,
# and an axial angle has lost that sign. The other sign is taken only when it fits better by this
# factor: noise alone must not turn a flat fibre along x into a steep one.
_SIGN_GAIN = 1e-6

_MIN_PIXELS_PER_TASK = 2048


@kernel(inline="always")
def _misfit(x, y, z, r, k):  # type: ignore[no-untyped-def]
    """Return |r1 - E(x; k1)|^2 + |r2 - E(x; k2)|^2 with k1 = (0, 0, 1), r1[2] = 0.

    NaN at the zero vector, as in the toolbox: the search sorts that vertex last.
    """
    length2 = x * x + y * y + z * z
    along = k[0] * x + k[1] * y + k[2] * z
    # Rounding can push the argument a hair below zero for vectors parallel to an axis.
    sine1 = math.sqrt(max(1.0 - z * z / length2, 0.0)) if length2 > 0.0 else math.nan
    sine2 = math.sqrt(max(1.0 - along * along / length2, 0.0)) if length2 > 0.0 else math.nan
    e0 = r[0] - x * sine1
    e1 = r[1] - y * sine1
    e2 = r[2] - (x - along * k[0]) * sine2
    e3 = r[3] - (y - along * k[1]) * sine2
    e4 = r[4] - (z - along * k[2]) * sine2
    return e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3 + e4 * e4


@kernel(inline="always")
def _sort_last(sim, f, first):  # type: ignore[no-untyped-def]
    """Insertion-sort the vertices ``first..3`` into ascending order; NaN counts as largest."""
    for i in range(first, 4):
        j = i
        while j > 0 and (f[j] < f[j - 1] or (math.isnan(f[j - 1]) and not math.isnan(f[j]))):
            f[j], f[j - 1] = f[j - 1], f[j]
            for c in range(3):
                sim[j, c], sim[j - 1, c] = sim[j - 1, c], sim[j, c]
            j -= 1


@kernel()
def _nelder_mead(r, k, sim, f, mean, trial):  # type: ignore[no-untyped-def]
    """Minimise the misfit from zero; the best vertex is left in ``sim[0]``, ``f[0]``.

    Equal to ``scipy.optimize.minimize(method="Nelder-Mead", xatol=1e-4, fatol=1e-20)``.
    """
    for i in range(4):
        for c in range(3):
            sim[i, c] = 0.0
        if i > 0:
            sim[i, i - 1] = _START_STEP
        f[i] = _misfit(sim[i, 0], sim[i, 1], sim[i, 2], r, k)
    _sort_last(sim, f, 1)
    evaluations = 4
    iterations = 1
    while evaluations < _MAX_EVALUATIONS and iterations < _MAX_EVALUATIONS:
        close = True
        for i in range(1, 4):
            # Written with "not <=" so that a NaN keeps the search going.
            if not abs(f[0] - f[i]) <= _F_TOLERANCE:
                close = False
            for c in range(3):
                if not abs(sim[i, c] - sim[0, c]) <= _X_TOLERANCE:
                    close = False
        if close:
            break
        for c in range(3):
            mean[c] = (sim[0, c] + sim[1, c] + sim[2, c]) / 3.0
            trial[c] = 2.0 * mean[c] - sim[3, c]
        f_trial = _misfit(trial[0], trial[1], trial[2], r, k)
        evaluations += 1
        shrink = False
        if f_trial < f[0]:
            x = 3.0 * mean[0] - 2.0 * sim[3, 0]
            y = 3.0 * mean[1] - 2.0 * sim[3, 1]
            z = 3.0 * mean[2] - 2.0 * sim[3, 2]
            f_new = _misfit(x, y, z, r, k)
            evaluations += 1
            if f_new < f_trial:
                trial[0], trial[1], trial[2] = x, y, z
                f_trial = f_new
        elif not f_trial < f[2]:
            if f_trial < f[3]:
                x = 1.5 * mean[0] - 0.5 * sim[3, 0]
                y = 1.5 * mean[1] - 0.5 * sim[3, 1]
                z = 1.5 * mean[2] - 0.5 * sim[3, 2]
                f_new = _misfit(x, y, z, r, k)
                shrink = not f_new <= f_trial
            else:
                x = 0.5 * mean[0] + 0.5 * sim[3, 0]
                y = 0.5 * mean[1] + 0.5 * sim[3, 1]
                z = 0.5 * mean[2] + 0.5 * sim[3, 2]
                f_new = _misfit(x, y, z, r, k)
                shrink = not f_new < f[3]
            evaluations += 1
            trial[0], trial[1], trial[2] = x, y, z
            f_trial = f_new
        if shrink:
            for i in range(1, 4):
                for c in range(3):
                    sim[i, c] = sim[0, c] + 0.5 * (sim[i, c] - sim[0, c])
                f[i] = _misfit(sim[i, 0], sim[i, 1], sim[i, 2], r, k)
            evaluations += 3
            _sort_last(sim, f, 1)
        else:
            for c in range(3):
                sim[3, c] = trial[c]
            f[3] = f_trial
            _sort_last(sim, f, 3)
        iterations += 1


@kernel()
def _solve_range(  # type: ignore[no-untyped-def]
    phi_n, phi_x, b1, b2, use, gamma, try_both_signs, first, last, vector, misfit
):
    """Solve pixels ``first <= i < last`` of flat arrays; see :func:`solve_fibres`."""
    sin_g, cos_g = math.sin(gamma), math.cos(gamma)
    sim = np.empty((4, 3))
    f = np.empty(4)
    mean = np.empty(3)
    trial = np.empty(3)
    r = np.empty(5)
    k = np.empty(3)
    for i in range(first, last):
        if not use[i]:
            for c in range(3):
                vector[i, c] = math.nan
            misfit[i] = math.nan
            continue
        swapped = not abs(phi_n[i]) < math.pi / 4
        if swapped:
            # Frame (y, x, -z): near the y axis the tilt leaves the first component alone, so
            # the sign of the vector survives in both views.
            angle_n = math.pi / 2 - phi_n[i]
            if angle_n > math.pi / 2:
                angle_n -= math.pi
            angle_x = math.pi / 2 - phi_x[i]
            if angle_x > math.pi / 2:
                angle_x -= math.pi
            r[2] = b2[i] * math.cos(angle_x)
            r[3] = b2[i] * math.sin(angle_x) * cos_g
            r[4] = b2[i] * math.sin(angle_x) * sin_g
            k[0], k[1], k[2] = 0.0, -sin_g, cos_g
        else:
            angle_n = phi_n[i]
            angle_x = phi_x[i]
            r[2] = b2[i] * math.cos(angle_x) * cos_g
            r[3] = b2[i] * math.sin(angle_x)
            r[4] = -b2[i] * math.cos(angle_x) * sin_g
            k[0], k[1], k[2] = sin_g, 0.0, cos_g
        r[0] = b1[i] * math.cos(angle_n)
        r[1] = b1[i] * math.sin(angle_n)
        _nelder_mead(r, k, sim, f, mean, trial)
        x, y, z, best = sim[0, 0], sim[0, 1], sim[0, 2], f[0]
        # The directions alone give x.e1 = sin(phi_n) / tan(phi_x): negative when the signs differ.
        if try_both_signs and not swapped and phi_n[i] * phi_x[i] < 0.0:
            r[2], r[3], r[4] = -r[2], -r[3], -r[4]
            _nelder_mead(r, k, sim, f, mean, trial)
            if f[0] < _SIGN_GAIN * best:
                x, y, z, best = sim[0, 0], sim[0, 1], sim[0, 2], f[0]
        if swapped:
            vector[i, 0], vector[i, 1], vector[i, 2] = y, x, -z
        else:
            vector[i, 0], vector[i, 1], vector[i, 2] = x, y, z
        misfit[i] = best


def solve_fibres(
    phi_n: NDArray[np.float64],
    phi_x: NDArray[np.float64],
    biref_n: NDArray[np.float64],
    biref_x: NDArray[np.float64],
    *,
    gamma_rad: float,
    use: NDArray[np.bool_] | None = None,
    try_both_signs: bool = True,
    threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the birefringence vector of every pixel from two views of it.

    Minimises ``|r1 - E(x; k1)|^2 + |r2 - E(x; k2)|^2`` over ``x`` with
    ``E(x; k) = (x - (k.x) k) sqrt(1 - (k.x)^2 / |x|^2)``, ``k1 = (0, 0, 1)`` and
    ``k2 = (sin gamma, 0, cos gamma)``. Pixels are independent; the work is shared by threads
    that release the interpreter lock.

    Parameters
    ----------
    phi_n, phi_x
        In-plane angle of the fibre in the normal and in the tilted view, radians, axial, in
        [-pi/2, pi/2], any shape (the tilted one already on the normal grid). The sign is that
        of the physical angle: the negative of the orientation maps.
    biref_n, biref_x
        Apparent birefringence (delta n) in the two views, same shape, finite.
    gamma_rad
        Tilt of the second view about the y axis, radians.
    use
        Pixels to solve; the others become NaN. Default: all.
    try_both_signs
        Also try the reversed vector of the tilted view where the two angles differ in sign
        (fibres within about ``gamma`` of the optical axis), and keep it when it fits better by a
        factor of 1e6. The toolbox does not.
    threads
        Worker threads; default is the number of cores this process may use.

    Returns
    -------
    vector : (..., 3) float64
        Birefringence vector (x, y, z) in the frame of the normal view; its length is the
        birefringence. An axis: the sign has no meaning.
    misfit : (...) float64
        The minimum that was reached.
    """
    shape = phi_n.shape
    flat = [
        np.ascontiguousarray(a, dtype=np.float64).ravel() for a in (phi_n, phi_x, biref_n, biref_x)
    ]
    count = flat[0].size
    wanted = np.ones(count, bool) if use is None else np.ascontiguousarray(use, dtype=bool).ravel()
    vector = np.empty((count, 3))
    misfit = np.empty(count)

    def solve(first: int, last: int) -> None:
        _solve_range(
            *flat, wanted, float(gamma_rad), bool(try_both_signs), first, last, vector, misfit
        )

    workers = threads or _usable_cores()
    # More tasks than workers, because masked regions take no time.
    size = max(_MIN_PIXELS_PER_TASK, -(-count // (8 * workers)))
    starts = range(0, count, size)
    if workers == 1 or len(starts) <= 1:
        solve(0, count)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(solve, starts, [min(s + size, count) for s in starts]))
    return vector.reshape(*shape, 3), misfit.reshape(shape)


def _usable_cores() -> int:
    # SLURM and containers grant fewer cores than the machine has; only Linux tells.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
