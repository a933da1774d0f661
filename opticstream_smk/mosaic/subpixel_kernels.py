"""Compiled loops of the subpixel step: high-pass, cubic splines, and sums of products."""

import numpy as np

from opticstream_smk.compiled import kernel

# Products of the seven quantities at a pixel: A, dA/dy, dA/dx, B, dB/dy, dB/dx and 1.
QUANTITIES = 7


@kernel()
def smooth_rows(image, taps, out):  # type: ignore[no-untyped-def]
    """Filter (ny, nx) `image` along y with the symmetric `taps` (R + 1,), middle first.

    Beyond the first and the last row these go on.
    """
    rows, columns = image.shape
    for y in range(rows):
        target = out[y]
        row = image[y]
        for x in range(columns):
            target[x] = taps[0] * row[x]
        for step in range(1, taps.size):
            above, below = image[max(y - step, 0)], image[min(y + step, rows - 1)]
            tap = taps[step]
            for x in range(columns):
                target[x] += tap * (above[x] + below[x])


@kernel()
def smooth_columns(image, taps, out):  # type: ignore[no-untyped-def]
    """Filter along x as `smooth_rows` does along y."""
    rows, columns = image.shape
    reach = taps.size - 1
    line = np.empty(columns + 2 * reach, image.dtype)
    for y in range(rows):
        line[reach : reach + columns] = image[y]
        line[:reach] = image[y, 0]
        line[reach + columns :] = image[y, columns - 1]
        target = out[y]
        for x in range(columns):
            target[x] = taps[0] * line[reach + x]
        for step in range(1, reach + 1):
            tap = taps[step]
            for x in range(columns):
                target[x] += tap * (line[reach + x - step] + line[reach + x + step])


@kernel()
def subtract_background(image, box, slope):  # type: ignore[no-untyped-def]
    """Subtract from (ny, nx) `image`, in place, its running mean over `box` px, thrice; return it.

    `box` is odd. Three boxes make a Gaussian of sigma ``box / 2`` to within a few percent, at a
    cost that does not depend on the width. Beyond the rim the outermost pixels go on (`slope` 0),
    or the image does, point-symmetrically (`slope` 1): a slope that ends there then leaves
    nothing, and the rim is noisier.
    """
    background = image.copy()
    scratch = np.empty_like(image)
    for _ in range(3):
        _mean_along_x(background, box // 2, slope, scratch)
        _mean_along_y(scratch, box // 2, slope, background)
    rows, columns = image.shape
    for y in range(rows):
        for x in range(columns):
            image[y, x] -= background[y, x]
    return background


@kernel()
def _mean_along_x(image, reach, slope, out):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    share = 1.0 / (2 * reach + 1)
    line = np.empty(columns + 2 * reach, np.float64)
    for y in range(rows):
        row, target = image[y], out[y]
        line[reach : reach + columns] = row
        for step in range(1, reach + 1):
            inside = min(step, columns - 1)
            first, last = row[0], row[columns - 1]
            line[reach - step] = first + slope * (first - row[inside])
            line[reach + columns - 1 + step] = last + slope * (last - row[columns - 1 - inside])
        # In double precision, or a running sum drifts.
        total = line[: 2 * reach].sum()
        for x in range(columns):
            total += line[x + 2 * reach]
            target[x] = total * share
            total -= line[x]


@kernel()
def _mean_along_y(image, reach, slope, out):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    share = 1.0 / (2 * reach + 1)
    total = np.zeros(columns, np.float64)
    for step in range(-reach, reach + 1):
        row = image[min(abs(step), rows - 1)]
        for x in range(columns):
            first = image[0, x]
            total[x] += row[x] if step >= 0 else first + slope * (first - row[x])
    for y in range(rows):
        target = out[y]
        for x in range(columns):
            target[x] = total[x] * share
        inside, beyond = y + reach + 1, y - reach
        enters = image[inside] if inside < rows else image[max(2 * (rows - 1) - inside, 0)]
        leaves = image[beyond] if beyond >= 0 else image[min(-beyond, rows - 1)]
        last, first = image[rows - 1], image[0]
        for x in range(columns):
            new = enters[x] if inside < rows else last[x] + slope * (last[x] - enters[x])
            old = leaves[x] if beyond >= 0 else first[x] + slope * (first[x] - leaves[x])
            total[x] += new - old


@kernel()
def block_products(a, b, weight, taps_a, taps_b, margin, block):  # type: ignore[no-untyped-def]
    """Sum the products of the values and gradients of two splines over blocks of pixels.

    Parameters
    ----------
    a, b : (ny, nx) float32
        Cubic B-spline coefficients.
    weight : (ny, nx) float32
        Weight of each pixel.
    taps_a, taps_b : (2, 2, 5) float32
        For axis y and x: weights of value and of slope, of coefficients -2 ... 2.
    margin : int
        Pixels left out along the rim, at least 2.
    block : int
        Size of a block, px.

    Returns
    -------
    (blocks along y, blocks along x, 28) float64
        Weighted sums of the products of `QUANTITIES`, upper triangle row by row.
    """
    rows, columns = a.shape
    width = columns - 2 * margin
    height = rows - 2 * margin
    down, across = max(height // block, 1), max(width // block, 1)
    products = np.zeros((down, across, QUANTITIES * (QUANTITIES + 1) // 2))
    values = np.ones((QUANTITIES, width), np.float32)
    weighted = np.empty((QUANTITIES, width), np.float32)
    sums = np.zeros((products.shape[2], width), np.float32)
    mixed = np.empty((2, columns), np.float32)
    for y in range(margin, rows - margin):
        _sample(a, y, margin, taps_a, mixed, values[0], values[1], values[2])
        _sample(b, y, margin, taps_b, mixed, values[3], values[4], values[5])
        line = weight[y, margin : margin + width]
        for i in range(QUANTITIES):
            source, target = values[i], weighted[i]
            for x in range(width):
                target[x] = source[x] * line[x]
        k = 0
        for i in range(QUANTITIES):
            left = weighted[i]
            for j in range(i, QUANTITIES):
                right, total = values[j], sums[k]
                for x in range(width):
                    total[x] += left[x] * right[x]
                k += 1
        at = min((y - margin) // block, down - 1)
        is_last = y == rows - margin - 1
        if is_last or min((y + 1 - margin) // block, down - 1) != at:
            for k in range(sums.shape[0]):
                for x in range(width):
                    products[at, min(x // block, across - 1), k] += sums[k, x]
            sums[:] = 0
    return products


@kernel()
def _sample(coefficients, y, margin, taps, mixed, value, dy, dx):  # type: ignore[no-untyped-def]
    """Value and gradient of a spline along row `y`, from pixel `margin` on."""
    columns = coefficients.shape[1]
    for kind in range(2):
        t0, t1, t2, t3, t4 = taps[0, kind]
        line = mixed[kind]
        r0, r1, r2 = coefficients[y - 2], coefficients[y - 1], coefficients[y]
        r3, r4 = coefficients[y + 1], coefficients[y + 2]
        for x in range(columns):
            line[x] = t0 * r0[x] + t1 * r1[x] + t2 * r2[x] + t3 * r3[x] + t4 * r4[x]
    smooth, steep = mixed[0], mixed[1]
    v0, v1, v2, v3, v4 = taps[1, 0]
    s0, s1, s2, s3, s4 = taps[1, 1]
    for x in range(value.size):
        k = x + margin
        c0, c1, c2, c3, c4 = smooth[k - 2], smooth[k - 1], smooth[k], smooth[k + 1], smooth[k + 2]
        value[x] = v0 * c0 + v1 * c1 + v2 * c2 + v3 * c3 + v4 * c4
        dx[x] = s0 * c0 + s1 * c1 + s2 * c2 + s3 * c3 + s4 * c4
        dy[x] = (
            v0 * steep[k - 2]
            + v1 * steep[k - 1]
            + v2 * steep[k]
            + v3 * steep[k + 1]
            + v4 * steep[k + 2]
        )
