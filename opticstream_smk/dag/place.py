"""Places along one line: as near as possible to where they want to be, without overlap."""

from collections.abc import Sequence
from itertools import pairwise


def spread(
    wanted: Sequence[float], widths: Sequence[float], gap: float, low: float, high: float
) -> list[float]:
    """Centres of things in a row, in the given order.

    The sum of the squared distances to ``wanted``, weighted by the widths so that boxes stay and
    lanes give way, is smallest (isotonic regression by pooling adjacent violators). Then all is
    shifted into ``low`` to ``high``, which must be wide enough.

    Parameters
    ----------
    wanted
        Centres in px, ascending.
    widths
        Widths in px.
    gap
        Space to keep between neighbours.
    low, high
        Ends of the row.
    """
    if not wanted:
        return []
    # Distance of each centre from the first one when all touch; without it, order is all there is.
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    pools: list[tuple[float, float, int]] = []
    for want, offset, width in zip(wanted, offsets, widths, strict=True):
        mean, weight, count = want - offset, width, 1
        while pools and pools[-1][0] > mean:
            last_mean, last_weight, last_count = pools.pop()
            mean = (mean * weight + last_mean * last_weight) / (weight + last_weight)
            weight += last_weight
            count += last_count
        pools.append((mean, weight, count))
    starts = [mean for mean, _, count in pools for _ in range(count)]
    lowest = low + widths[0] / 2
    highest = high - widths[-1] / 2 - offsets[-1]
    return [
        max(lowest, min(start, highest)) + offset
        for start, offset in zip(starts, offsets, strict=True)
    ]
