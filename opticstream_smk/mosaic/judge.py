"""A verdict on solved positions: can the mosaic be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from opticstream_smk.mosaic.checks import checked_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from opticstream_smk.mosaic.positions import TilePositions

Level = Literal["ok", "warn", "fail"]
_LEVELS: tuple[Level, ...] = ("ok", "warn", "fail")
# With fewer measured overlaps a share of them says nothing.
_MIN_MEASURED = 4


@dataclass(frozen=True)
class Limits:
    """When to warn and when to fail: (warn, fail) each, None for never.

    Attributes
    ----------
    min_anchored_share
        Share linked by content of the tiles that should be: those that show tissue, as does a
        neighbour.
    max_residual_rms_px
        Rms of what the offsets that were used are off from the resolved positions.
    max_rejected_share
        Of the measured offsets, those that the others contradict.
    max_islands
        Groups of tiles that content links to each other but not to the rest.
    max_strangers
        Tiles that show tissue and match no neighbour.
    """

    min_anchored_share: tuple[float | None, float | None] = (0.9, 0.5)
    max_residual_rms_px: tuple[float | None, float | None] = (0.5, 3.0)
    max_rejected_share: tuple[float | None, float | None] = (0.1, 0.4)
    max_islands: tuple[float | None, float | None] = (1, None)
    max_strangers: tuple[float | None, float | None] = (0, None)


@dataclass(frozen=True)
class Verdict:
    """What `judge_positions` found.

    Attributes
    ----------
    level
        The worst of all checks.
    reasons
        One sentence for each check that is not "ok", naming tiles by their 1-based number.
    numbers
        What was compared with the limits, and the counts behind it.
    """

    level: Level
    reasons: tuple[str, ...]
    numbers: Mapping[str, float]


def judge_positions(
    found: TilePositions, limits: Limits | None = None, *, signal: ArrayLike | None = None
) -> Verdict:
    """Judge the positions of one mosaic.

    A mosaic of nothing but background is a warning, never a failure.

    Parameters
    ----------
    found
        As solved.
    limits
        None for the defaults.
    signal
        (N,) bool, tiles with tissue, such as those above the mask threshold. Neighbours with tissue
        are expected to be linked by content. None goes by the overlaps where both tiles show
        structure; that does not notice a mosaic in which nothing matches at all.
    """
    limits = limits or Limits()
    edges = found.edges
    measured, used = np.isfinite(edges["dy"]), edges["used"]
    should_match = edges["has_content"]
    if signal is not None:
        shows = checked_signal(signal, len(found.island))
        should_match = shows[edges["tile_a"]] & shows[edges["tile_b"]]
    expected = np.zeros(len(found.island), dtype=bool)
    for end in ("tile_a", "tile_b"):
        expected[edges[end][should_match]] = True
    loose = expected & ~found.is_anchored
    islands = int(found.island.max(initial=-1)) + 1
    n_expected, n_measured = int(expected.sum()), int(measured.sum())
    numbers: dict[str, float] = {
        "tiles": len(found.island),
        "tiles_expected": n_expected,
        "anchored_share": 1.0 - loose.sum() / n_expected if n_expected else 1.0,
        "edges_measured": n_measured,
        "edges_used": int(used.sum()),
        "rejected_share": float((measured & ~used).sum() / n_measured) if n_measured else 0.0,
        "residual_rms_px": _rms(edges["residual"][used]),
        "residual_worst_px": float(edges["residual"][used].max(initial=0.0)),
        "islands": islands,
        "strangers": int(found.is_stranger.sum()),
    }

    checks: list[tuple[Level, str]] = []
    if not used.any():
        checks.append(
            (
                "warn",
                "no overlap matches: all tiles lie where the stage should have gone. Expected of a "
                "mosaic of background.",
            )
        )
    checks += [
        (
            _level(-numbers["anchored_share"], limits.min_anchored_share, sign=-1),
            f"{int(loose.sum())} of {n_expected} tiles with tissue are not linked by content "
            f"({_numbered(loose)}): they lie where the stage should have gone.",
        ),
        (
            _level(numbers["residual_rms_px"], limits.max_residual_rms_px),
            f"measured offsets are off by {numbers['residual_rms_px']:.2f} px rms from the "
            "positions that fit them best: see the residual table.",
        ),
        (
            _level(numbers["rejected_share"], limits.max_rejected_share)
            if n_measured >= _MIN_MEASURED
            else "ok",
            f"{int((measured & ~used).sum())} of {n_measured} measured offsets contradict the "
            "others. Are the grid and the overlap as configured?",
        ),
        (
            _level(islands, limits.max_islands),
            f"{islands} groups of tiles are not linked to each other by content: where they lie to "
            "each other is known only as well as the stage is regular.",
        ),
        (
            _level(numbers["strangers"], limits.max_strangers),
            f"tiles {_numbered(found.is_stranger)} show tissue and match no neighbour: their files "
            f"may be of another place.{_exchanged(found)}",
        ),
    ]
    bad = [(level, reason) for level, reason in checks if level != "ok"]
    worst: Level = max((level for level, _ in bad), key=_LEVELS.index, default="ok")
    return Verdict(worst, tuple(reason for _, reason in bad), numbers)


def _level(value: float, limit: tuple[float | None, float | None], *, sign: int = 1) -> Level:
    warn, fail = (None if bound is None else sign * bound for bound in limit)
    if fail is not None and value > fail:
        return "fail"
    return "warn" if warn is not None and value > warn else "ok"


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def _exchanged(found: TilePositions) -> str:
    partner = found.exchanged_with
    pairs = [(a, b) for a, b in enumerate(partner.tolist()) if a < b]
    return "".join(f" Tiles {a + 1} and {b + 1} look swapped." for a, b in pairs)


def _numbered(is_named: NDArray[np.bool_]) -> str:
    """1-based, at most ten of them."""
    names = [str(tile + 1) for tile in np.flatnonzero(is_named).tolist()]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
