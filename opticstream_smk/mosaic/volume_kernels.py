"""Compiled loops over the voxels of a block of a mosaic: blend, normalise, halve.

Blocks are (z, y, x) float32; NaN is "no value". Orientation is blended and averaged as the vector
of its double angle, see `opticstream_smk.angle_kernels`.
"""

import numpy as np

from opticstream_smk.angle_kernels import axial_vector, axis_of
from opticstream_smk.compiled import kernel

_NAN = np.float32(np.nan)


@kernel()
def add_tile(part, source, stride, weights, total, sums, y, x, row):  # type: ignore[no-untyped-def]
    """Add weighted values of a tile to a block.

    Each row is gathered first, as neighbours come from different depths; all else then runs
    through many voxels at a time.

    Parameters
    ----------
    part : (n,) float32
        Planes of the tile, one after the other; values that are not finite have no weight.
    source : (rows, columns) uint64, contiguous
        Where in `part` the value of each pixel lies for the first plane of the block. Unsigned:
        no test for negative indices.
    stride : int
        Length of a plane of `part`.
    weights : (rows, columns) float32, contiguous
    total, sums : (depth, height, width) float32
        Weights, and weighted values.
    y, x : int
        Row and column of the block where the tile begins.
    row : (columns or more,) float32
        Scratch memory.
    """
    rows, columns = source.shape
    for d in range(total.shape[0]):
        plane = np.uint64(d * stride)
        for r in range(rows):
            places, own = source[r], weights[r]
            target, weight = sums[d, y + r, x : x + columns], total[d, y + r, x : x + columns]
            for c in range(columns):
                row[c] = part[places[c] + plane]
            for c in range(columns):
                value = row[c]
                # inf - inf and nan - nan are not 0.
                known = value - value == np.float32(0)
                w = own[c] if known else np.float32(0)
                target[c] += w * (value if known else np.float32(0))
                weight[c] += w


@kernel()
def add_axial_tile(part, source, stride, weights, total, cosines, sines, y, x, row):  # type: ignore[no-untyped-def]
    """Add weighted vectors of axial angles (degrees) to two blocks; see `add_tile`."""
    rows, columns = source.shape
    for d in range(total.shape[0]):
        plane = np.uint64(d * stride)
        for r in range(rows):
            places, own, weight = source[r], weights[r], total[d, y + r, x : x + columns]
            target_x = cosines[d, y + r, x : x + columns]
            target_y = sines[d, y + r, x : x + columns]
            for c in range(columns):
                row[c] = part[places[c] + plane]
            for c in range(columns):
                value = row[c]
                known = value - value == np.float32(0)
                w = own[c] if known else np.float32(0)
                cosine, sine = axial_vector(value if known else np.float32(0))
                target_x[c] += w * cosine
                target_y[c] += w * sine
                weight[c] += w


@kernel()
def finish_mean(total, sums, keep):  # type: ignore[no-untyped-def]
    """Turn weighted sums into means, in place; NaN where there is no weight or not `keep` (y, x).

    Returns how many voxels have no weight that are to be kept.
    """
    depth, height, width = sums.shape
    empty = 0
    for k in range(depth):
        for y in range(height):
            row, weight, wanted = sums[k, y], total[k, y], keep[y]
            for x in range(width):
                is_known = weight[x] > np.float32(0)
                empty += 1 if wanted[x] and not is_known else 0
                row[x] = row[x] / weight[x] if wanted[x] and is_known else _NAN
    return empty


@kernel()
def finish_axial_mean(total, cosines, sines, keep):  # type: ignore[no-untyped-def]
    """Turn summed vectors into angles, in place of `cosines`; see `finish_mean`."""
    depth, height, width = cosines.shape
    empty = 0
    for k in range(depth):
        for y in range(height):
            row, other = cosines[k, y], sines[k, y]
            weight, wanted = total[k, y], keep[y]
            for x in range(width):
                is_known = weight[x] > np.float32(0)
                empty += 1 if wanted[x] and not is_known else 0
                angle = axis_of(row[x], other[x])
                row[x] = angle if wanted[x] and is_known else _NAN
    return empty


@kernel()
def halve(block, half):  # type: ignore[no-untyped-def]
    """Write the mean of each 2 x 2 x 2 voxels that have a value; NaN where none of them has."""
    depth, height, width = half.shape
    for k in range(depth):
        for y in range(height):
            out = half[k, y]
            row0, row1 = block[2 * k, 2 * y], block[2 * k, 2 * y + 1]
            row2, row3 = block[2 * k + 1, 2 * y], block[2 * k + 1, 2 * y + 1]
            for x in range(width):
                total, count = np.float32(0), np.float32(0)
                for c in range(2 * x, 2 * x + 2):
                    for value in (row0[c], row1[c], row2[c], row3[c]):
                        known = value == value
                        total += value if known else np.float32(0)
                        count += np.float32(1) if known else np.float32(0)
                out[x] = total / count if count > np.float32(0) else _NAN


@kernel()
def halve_axial(block, half):  # type: ignore[no-untyped-def]
    """Write the mean axis of each 2 x 2 x 2 voxels that have a value; see `halve`."""
    depth, height, width = half.shape
    for k in range(depth):
        for y in range(height):
            out = half[k, y]
            row0, row1 = block[2 * k, 2 * y], block[2 * k, 2 * y + 1]
            row2, row3 = block[2 * k + 1, 2 * y], block[2 * k + 1, 2 * y + 1]
            for x in range(width):
                total_x, total_y, count = np.float32(0), np.float32(0), np.float32(0)
                for c in range(2 * x, 2 * x + 2):
                    for value in (row0[c], row1[c], row2[c], row3[c]):
                        known = value == value
                        cosine, sine = axial_vector(value if known else np.float32(0))
                        total_x += cosine if known else np.float32(0)
                        total_y += sine if known else np.float32(0)
                        count += np.float32(1) if known else np.float32(0)
                axis = axis_of(total_x, total_y)
                out[x] = axis if count > np.float32(0) else _NAN


@kernel()
def fill_gaps(chunk, fill):  # type: ignore[no-untyped-def]
    """Replace NaN by `fill`; returns how many voxels have a value."""
    known = 0
    values = chunk.reshape(chunk.size)
    for i in range(values.size):
        value = values[i]
        known += 1 if value == value else 0
        values[i] = value if value == value else fill
    return known
