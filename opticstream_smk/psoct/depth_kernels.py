"""Compiled loops along depth: the surface of every A-line, and maps of the window below it.

Volumes are (Z, Y, X) in memory. All A-lines of a B-line go down together, one row of memory at
a time.
"""

import numpy as np

from opticstream_smk.compiled import kernel

# Of the smoothing filter: 2 sigma. A constant, so that its loop is unrolled.
RADIUS = 10

_NAN = np.float32(np.nan)
_RAD = np.float32(np.pi / 180)


@kernel()
def signal_lengths(dbi, y, threshold, lengths):  # type: ignore[no-untyped-def]
    """Count the samples above `threshold` of each A-line of B-line `y`, into (X,) int64."""
    depth, _, alines = dbi.shape
    lengths[:] = 0
    for z in range(depth):
        row = dbi[z, y]
        for x in range(alines):
            lengths[x] += np.int64(row[x] > threshold)


@kernel()
def strongest_rise(  # type: ignore[no-untyped-def]
    dbi, y, lengths, taps, window, window2, padded, smooth, surface
):
    """Find the strongest rise of the smoothed A-lines of B-line `y`.

    Parameters
    ----------
    dbi : (Z, Y, X) float
    lengths : (X,) int64
        Samples of each A-line that count; the last of them is repeated beyond.
    taps : (R + 1,) float64
        Half of the symmetric smoothing filter, its middle first.
    window, window2 : int
        Samples before and after the edge.
    padded, smooth : (Z + 2R, X) and (Z, X) float64
        Scratch memory.
    surface : (X,) float64
        1-based surface index; 1 where there are too few samples.
    """
    depth, alines = smooth.shape
    _pad(dbi, y, lengths, padded)
    _smooth(padded, taps, smooth)
    # The padded samples are not needed any more.
    _window_means(smooth, window, padded)
    after = padded
    if window2 != window:
        after = np.empty_like(smooth)
        _window_means(smooth, window2, after)
    best = np.full(alines, -np.inf)
    place = np.zeros(alines, np.int64)
    for k in range(depth - window - window2 + 1):
        upper, lower = after[k + window], padded[k]
        for x in range(alines):
            value = upper[x] - lower[x]
            # The first of equals; NaN is passed over.
            is_better = value > best[x] and k <= lengths[x] - window - window2
            best[x] = value if is_better else best[x]
            place[x] = k if is_better else place[x]
    for x in range(alines):
        surface[x] = place[x] + 1 + window if lengths[x] > window + window2 else 1


@kernel()
def _pad(dbi, y, lengths, padded):  # type: ignore[no-untyped-def]
    """Copy B-line `y`; beyond the first sample, and the last one that counts, these go on."""
    depth, _, alines = dbi.shape
    last = np.empty(alines, np.float64)
    for x in range(alines):
        last[x] = dbi[max(lengths[x], 1) - 1, y, x]
    for z in range(depth):
        row, out = dbi[z, y], padded[RADIUS + z]
        for x in range(alines):
            out[x] = row[x] if z < lengths[x] else last[x]
    for edge in range(RADIUS):
        padded[edge] = padded[RADIUS]
        padded[RADIUS + depth + edge] = padded[RADIUS + depth - 1]


@kernel()
def _smooth(padded, taps, smooth):  # type: ignore[no-untyped-def]
    """Filter along depth."""
    for z in range(smooth.shape[0]):
        out = smooth[z]
        for x in range(out.size):
            total = padded[RADIUS + z, x] * taps[0]
            # From the far ends inwards, in the order in which SciPy sums.
            for step in range(RADIUS):
                total += (padded[z + step, x] + padded[z + 2 * RADIUS - step, x]) * taps[
                    RADIUS - step
                ]
            out[x] = total


@kernel()
def _window_means(smooth, window, means):  # type: ignore[no-untyped-def]
    """Means of `window` rows of `smooth` (Z, X), at the first of them."""
    # Summed term by term: a running sum would carry one NaN to the end of the line.
    share = 1.0 / window
    for k in range(smooth.shape[0] - window + 1):
        out = means[k]
        out[:] = smooth[k]
        for step in range(1, window):
            row = smooth[k + step]
            for x in range(out.size):
                out[x] += row[x]
        for x in range(out.size):
            out[x] *= share


@kernel()
def window_maps(dbi, r3d, o3d, y, first, length, wavelength, maps):  # type: ignore[no-untyped-def]
    """Summarise the windows of B-line `y` in one pass over them.

    Parameters
    ----------
    dbi, r3d, o3d : (Z, Y, X) float32
    first : (X,) intp
        0-based first sample of each window.
    length : int
        Samples of a window; it ends with the volume.
    wavelength : float32
        Optical path of a full turn of retardance.
    maps : (5, X) float64
        Mean and maximum of dBI, mean of R3D, circular mean of O3D (degrees), and slope of the
        optical path per sample; see `project_enface`.
    """
    depth, _, alines = dbi.shape
    intensity, intensity_count = np.zeros(alines), np.zeros(alines)
    retardance, retardance_count = np.zeros(alines), np.zeros(alines)
    sine, cosine = np.zeros(alines), np.zeros(alines)
    path_sum, moment, path_count = np.zeros(alines), np.zeros(alines), np.zeros(alines)
    has_path, is_open = np.zeros(alines), np.ones(alines)
    maximum = np.full(alines, _NAN)
    for z in range(first.min(), min(first.max() + length, depth)):
        row = dbi[z, y]
        for x in range(alines):
            value = row[x] if first[x] <= z < first[x] + length else _NAN
            is_number = value == value
            intensity[x] += value if is_number else 0.0
            intensity_count[x] += is_number
            is_larger = is_number and not value <= maximum[x]
            maximum[x] = value if is_larger else maximum[x]
        row = r3d[z, y]
        for x in range(alines):
            inside = first[x] <= z < first[x] + length
            value = row[x]
            counts = inside and value == value
            retardance[x] += value if counts else 0.0
            retardance_count[x] += counts
            # In float32, as the toolbox has it. The line ends with the first zero.
            path = value / np.float32(360) * wavelength
            is_used = inside and is_open[x] > 0
            path_sum[x] += path if is_used else 0.0
            moment[x] += path * np.float64(z - first[x]) if is_used else 0.0
            path_count[x] += is_used
            has_path[x] += is_used and path != 0
            is_open[x] = 0.0 if inside and value == 0 else is_open[x]
        row = o3d[z, y]
        for x in range(alines):
            inside = first[x] <= z < first[x] + length
            s, c = _sine_and_cosine(row[x] + row[x])
            sine[x] += s if inside else 0.0
            cosine[x] += c if inside else 0.0
    for x in range(alines):
        count = path_count[x]
        maps[0, x] = intensity[x] / intensity_count[x]
        maps[1, x] = maximum[x]
        maps[2, x] = retardance[x] / retardance_count[x]
        maps[3, x] = np.degrees(0.5 * np.arctan2(sine[x], cosine[x]))
        # The squares of 0..n-1 about their mean sum to n (n^2 - 1) / 12.
        slope = (moment[x] - (count - 1) / 2 * path_sum[x]) / (count * (count * count - 1) / 12)
        maps[4, x] = slope if count >= 3 and has_path[x] > 0 else 0.0


@kernel(forceinline=True)
def _sine_and_cosine(degrees):  # type: ignore[no-untyped-def]
    """Sine and cosine in float32; Cephes polynomials within 45 degrees of a multiple of 90."""
    quarter = np.floor(degrees * np.float32(1 / 90) + np.float32(0.5))
    rest = (degrees - quarter * np.float32(90)) * _RAD
    square = rest * rest
    s = np.float32(-1.9515295891e-4) * square + np.float32(8.3321608736e-3)
    s = (s * square - np.float32(1.6666654611e-1)) * square * rest + rest
    c = np.float32(2.443315711809948e-5) * square - np.float32(1.388731625493765e-3)
    c = (c * square + np.float32(4.166664568298827e-2)) * square * square
    c = c - np.float32(0.5) * square + np.float32(1)
    turns = np.int32(quarter) & np.int32(3)
    is_odd = (turns & np.int32(1)) == 1
    sine, cosine = (c, s) if is_odd else (s, c)
    sine = -sine if turns >= 2 else sine
    cosine = -cosine if turns == 1 or turns == 2 else cosine
    return sine, cosine
