"""Compiled loops from raw spectra to what is Fourier transformed.

A-lines lie side by side, so that every loop runs over them along memory and becomes vector
instructions: interpolation reads whole rows and gathers nothing, and the Fourier transform and all
that follows keep this order, which is that of the files.
"""

import numpy as np

from opticstream_smk.compiled import kernel

# Samples of one A-line read at a time; the number must be known to be compiled well, and twice as
# many take twice as long.
_TRANSPOSED_AT_ONCE = 16
# Beyond these the search for a median goes on value by value.
_COUNTS_AT_MOST = 12
_NARROW = 2

_LEAST = np.int32(-(2**31))
_GREATEST = np.int32(2**31 - 1)


@kernel()
def transpose(spectra, counts):  # type: ignore[no-untyped-def]
    """Lay the spectra (X, N) of a B-line out as counts (N, X)."""
    alines, samples = spectra.shape
    whole = samples - samples % _TRANSPOSED_AT_ONCE
    for start in range(0, whole, _TRANSPOSED_AT_ONCE):
        for x in range(alines):
            for n in range(_TRANSPOSED_AT_ONCE):
                counts[start + n, x] = spectra[x, start + n]
    for n in range(whole, samples):
        for x in range(alines):
            counts[n, x] = spectra[x, n]


@kernel()
def unpack(packed, counts):  # type: ignore[no-untyped-def]
    """Unpack 12-bit counts (2M,) from bytes (3M,); see `raw.unpack12`."""
    for pair in range(counts.size // 2):
        first, middle, last = packed[3 * pair], packed[3 * pair + 1], packed[3 * pair + 2]
        counts[2 * pair] = np.uint16(first) | (np.uint16(middle & 15) << np.uint16(8))
        counts[2 * pair + 1] = np.uint16(middle >> 4) | (np.uint16(last) << np.uint16(4))


@kernel()
def rounded_means(counts, means):  # type: ignore[no-untyped-def]
    """Rounded mean over A-lines of counts (N, X), as int32 (N,)."""
    alines = counts.shape[1]
    for n in range(counts.shape[0]):
        total = np.int64(0)
        row = counts[n]
        for x in range(alines):
            total += np.int64(row[x])
        means[n] = np.int32((2 * total + alines) // (2 * alines))


@kernel()
def nyquist_of_first_aline(counts):  # type: ignore[no-untyped-def]
    """Half of the Nyquist component of A-line 1 less the mean A-line, for counts (N, X)."""
    samples, alines = counts.shape
    component = 0.0
    for n in range(samples):
        total = np.int64(0)
        for x in range(alines):
            total += np.int64(counts[n, x])
        value = counts[n, 0] - total / alines
        component += value if n % 2 == 0 else -value
    return 0.5 / samples * component


@kernel()
def resample(  # type: ignore[no-untyped-def]
    counts, background, nyquist, lower, upper, weight, correction, guess, row, fringes
):
    """Interpolate, subtract the median A-line and correct dispersion, sample by sample.

    Parameters
    ----------
    counts : (N, X) uint16
    background : (N,) int32
        Subtracted from the counts as whole numbers, so that float32 holds what is left exactly.
        Whatever all A-lines share leaves with the median, so any background gives the same result.
    nyquist : float
        Alternating sum to take off A-line 1; see `nyquist_of_first_aline`.
    lower, upper, weight : (N,) intp, intp, float32
        A value is ``counts[lower] + weight * (counts[upper] - counts[lower])``.
    correction : (N,) complex64
    guess : (N,) float32
        Medians of another B-line, where the search starts; those of this one afterwards.
    row : (X,) float32
        Scratch memory.
    fringes : (ceil(X / L), N, L) complex64
        The result, L A-lines side by side.
    """
    alines = row.size
    blocks, samples, lanes = fringes.shape
    spacing = np.float32(1)
    bits = row.view(np.int32)
    for n in range(samples):
        low, high = lower[n], upper[n]
        below, above = background[low], background[high]
        counts_low, counts_high = counts[low], counts[high]
        share = weight[n]
        for x in range(alines):
            value = np.float32(np.int32(counts_low[x]) - below)
            other = np.float32(np.int32(counts_high[x]) - above)
            row[x] = value + (other - value) * share
        if nyquist != 0:
            value = np.float32(counts_low[0] - below - (nyquist if low % 2 == 0 else -nyquist))
            other = np.float32(counts_high[0] - above - (nyquist if high % 2 == 0 else -nyquist))
            row[0] = value + (other - value) * share
        median, spacing = _median(row, bits, guess[n], spacing)
        guess[n] = median
        real, imag = correction[n].real, correction[n].imag
        for block in range(blocks):
            first = block * lanes
            out = fringes[block, n]
            for lane in range(min(lanes, alines - first)):
                value = row[first + lane] - median
                out[lane] = complex(value * real, value * imag)


@kernel()
def _median(row, bits, guess, spacing):  # type: ignore[no-untyped-def]
    """Exact median of a row, and the mean distance of the values around it.

    A threshold is moved until half of the values lie below it. Counting is one comparison per
    value, sixteen at a time, and a good guess needs about four counts; sorting needs hundreds.

    Parameters
    ----------
    row, bits : (X,) float32 and the same memory as int32
        Finite values.
    guess, spacing : float32
        Where to start, and how far one value is from the next.
    """
    size = row.size
    half = size // 2
    low, high = np.float32(-np.inf), np.float32(np.inf)
    count_low, count_high = 0, size
    at = guess
    for _ in range(_COUNTS_AT_MOST):
        count = _count_below(row, at)
        if count <= half:
            low, count_low = at, count
        else:
            high, count_high = at, count
        if count == half or count_high - count_low <= _NARROW:
            break
        if np.isinf(low) or np.isinf(high):
            # A little further than it seems, so that the median is passed; then further still.
            step = np.float32(half - count)
            at += (step + np.float32(0.75 if count <= half else -0.75)) * spacing
            spacing *= np.float32(2)
        else:
            spacing = (high - low) / np.float32(count_high - count_low)
            at = low + spacing * np.float32(half - count_low)
            if not low < at < high:
                break  # the values between are equal
    # From here on value by value: equal ones are never separated by a threshold.
    below, above = _around(bits, low)
    while count_low < half:
        at = np.nextafter(above, np.float32(np.inf))
        count = _count_below(row, at)
        if count > half:
            return above, spacing
        count_low = count
        below, above = _around(bits, at)
    middle = above if size % 2 else (below + above) * np.float32(0.5)
    return middle, spacing


@kernel(forceinline=True)
def _count_below(row, threshold):  # type: ignore[no-untyped-def]
    count = np.int32(0)
    for x in range(row.size):
        count += np.int32(row[x] < threshold)
    return count


@kernel(forceinline=True)
def _around(bits, threshold):  # type: ignore[no-untyped-def]
    """Largest value below a threshold and smallest one not below it.

    On whole numbers in the order of the floats, of which compilers make vector instructions.
    """
    limit = np.float32(threshold).view(np.int32)
    limit ^= (limit >> np.int32(31)) & np.int32(0x7FFFFFFF)
    below, above = _LEAST, _GREATEST
    for x in range(bits.size):
        value = bits[x]
        value ^= (value >> np.int32(31)) & np.int32(0x7FFFFFFF)
        below = max(below, value if value < limit else _LEAST)
        above = min(above, _GREATEST if value < limit else value)
    below ^= (below >> np.int32(31)) & np.int32(0x7FFFFFFF)
    above ^= (above >> np.int32(31)) & np.int32(0x7FFFFFFF)
    return np.int32(below).view(np.float32), np.int32(above).view(np.float32)
