"""Translation between two images with holes, by overlap-normalised cross-correlation."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def masked_ncc(
    fixed: NDArray[np.float64],
    fixed_valid: NDArray[np.bool_],
    moving: NDArray[np.float64],
    moving_valid: NDArray[np.bool_],
    *,
    min_overlap: float = 0.3,
) -> NDArray[np.float64]:
    """Correlate two images at every whole-pixel shift, each time over their overlap only.

    Mean and variance are taken over the common valid pixels of each shift, so neither the
    border nor holes attract the peak (Padfield 2012, doi:10.1109/TIP.2011.2181402).

    Parameters
    ----------
    fixed, moving
        (y, x) images, of any two sizes; values where not valid are ignored, but must be finite.
    fixed_valid, moving_valid
        Which pixels count.
    min_overlap
        Shifts with fewer common pixels than this share of the smaller image give -1.

    Returns
    -------
    (Hf + Hm - 1, Wf + Wm - 1) float64 in [-1, 1]
        Entry ``[Hf - 1 + dy, Wf - 1 + dx]`` is the correlation of ``fixed[p]`` with
        ``moving[p + (dy, dx)]``, where the fixed image has ``Hf`` rows and ``Wf`` columns.
    """
    shifts = [a + b - 1 for a, b in zip(fixed.shape, moving.shape, strict=True)]
    size = [fft.next_fast_len(n, real=True) for n in shifts]
    # Without their means, the sums of squares below do not cancel to rounding noise.
    f = np.where(fixed_valid, fixed - fixed[fixed_valid].mean(), 0.0)
    m = np.where(moving_valid, moving - moving[moving_valid].mean(), 0.0)

    def spectrum(image: NDArray[np.float64]) -> NDArray[np.complex128]:
        return np.asarray(fft.rfft2(image, size))

    ff, ff2, fv = spectrum(f), spectrum(f * f), spectrum(fixed_valid.astype(np.float64))
    mm, mm2, mv = spectrum(m), spectrum(m * m), spectrum(moving_valid.astype(np.float64))

    def correlate(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> NDArray[np.float64]:
        cyclic = fft.irfft2(np.conj(a) * b, size)
        # Negative shifts stand at the end of the cycle: bring them to the front.
        rolled = np.roll(cyclic, (fixed.shape[0] - 1, fixed.shape[1] - 1), axis=(0, 1))
        return np.asarray(rolled[: shifts[0], : shifts[1]])

    count = correlate(fv, mv)
    enough = count >= max(1.0, min_overlap * min(fixed_valid.sum(), moving_valid.sum()))
    count = np.where(enough, count, 1.0)
    sum_f, sum_m = correlate(ff, mv), correlate(fv, mm)
    covariance = correlate(ff, mm) - sum_f * sum_m / count
    variance_f = correlate(ff2, mv) - sum_f**2 / count
    variance_m = correlate(fv, mm2) - sum_m**2 / count
    # Flat overlaps have no correlation; their variance is rounding noise.
    floor_f, floor_m = 1e-6 * (f * f).sum(), 1e-6 * (m * m).sum()
    known = enough & (variance_f > floor_f) & (variance_m > floor_m)
    ncc = np.full(count.shape, -1.0)
    ncc[known] = covariance[known] / np.sqrt(variance_f[known] * variance_m[known])
    return np.asarray(np.clip(ncc, -1.0, 1.0))


def best_shift(
    ncc: NDArray[np.float64], fixed_shape: tuple[int, int]
) -> tuple[NDArray[np.float64], float]:
    """Return the shift (dy, dx) of the highest entry of :func:`masked_ncc`, and that entry."""
    row, column = np.unravel_index(int(np.argmax(ncc)), ncc.shape)
    shift = np.array([row - (fixed_shape[0] - 1), column - (fixed_shape[1] - 1)], dtype=np.float64)
    return shift, float(ncc[row, column])
