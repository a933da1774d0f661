"""Compiled loop of the correlation: sums over the overlap at every offset."""

import numpy as np

from opticstream_smk.compiled import kernel


@kernel()
def box_sums(image, top, bottom, left, right):  # type: ignore[no-untyped-def]
    """Sum an image and its square over boxes, by summed-area tables.

    Parameters
    ----------
    image : (ny, nx) float32
    top, bottom : (M,) int64
        Rows ``top[i]:bottom[i]``.
    left, right : (N,) int64
        Columns.

    Returns
    -------
    sums, squares : (M, N) float64
        For every pair of row and column ranges.
    """
    rows, columns = image.shape
    table = np.zeros((rows + 1, columns + 1))
    table2 = np.zeros((rows + 1, columns + 1))
    for y in range(rows):
        total = 0.0
        total2 = 0.0
        for x in range(columns):
            value = np.float64(image[y, x])
            total += value
            total2 += value * value
            table[y + 1, x + 1] = table[y, x + 1] + total
            table2[y + 1, x + 1] = table2[y, x + 1] + total2
    sums = np.empty((top.size, left.size))
    squares = np.empty((top.size, left.size))
    for i in range(top.size):
        t, b = top[i], bottom[i]
        for j in range(left.size):
            u, v = left[j], right[j]
            sums[i, j] = table[b, v] - table[t, v] - table[b, u] + table[t, u]
            squares[i, j] = table2[b, v] - table2[t, v] - table2[b, u] + table2[t, u]
    return sums, squares
