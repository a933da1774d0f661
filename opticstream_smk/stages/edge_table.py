"""The table of the overlaps of a mosaic: one line for each pair of neighbours, tab-separated."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.errors import CorruptInputError
from opticstream_smk.io.atomic import write_bytes

if TYPE_CHECKING:
    from opticstream_smk.mosaic import TilePositions

_COLUMNS = ("image_a", "image_b", "dy_px", "dx_px", "ncc", "weight", "residual_px", "used")


@dataclass(frozen=True)
class Edge:
    """One overlap.

    Attributes
    ----------
    image_a, image_b
        Neighbours, 1-based.
    offset_px
        (2,) y, x of image b from image a as measured; NaN when it was not.
    ncc
        Correlation of the overlap; NaN when it was not measured.
    is_used
        Whether the positions were solved with it; others contradict one that was measured and not
        used.
    """

    image_a: int
    image_b: int
    offset_px: NDArray[np.float64]
    ncc: float
    is_used: bool

    @property
    def is_measured(self) -> bool:
        """Whether there was content to measure it by."""
        return bool(np.isfinite(self.offset_px).all())

    def residual_px(self, positions_px: NDArray[np.float64]) -> float:
        """How far it is off from where (N, 2) positions have the two images; NaN if unknown."""
        placed = positions_px[self.image_b - 1] - positions_px[self.image_a - 1]
        return float(np.hypot(*(self.offset_px - placed)))


def write_edges(path: Path, found: "TilePositions") -> None:
    """Write the table.

    Offsets are those of image b from image a, the residual is to the positions that were solved
    from all of them; empty fields were not measured.
    """
    rows = ["\t".join(_COLUMNS)]
    rows += ["\t".join(_fields(edge)) for edge in found.edges]
    write_bytes(path, ("\n".join(rows) + "\n").encode())


def _fields(edge: Any) -> Iterable[str]:
    yield from (str(edge[name] + 1) for name in ("tile_a", "tile_b"))
    for name in ("dy", "dx", "ncc", "weight", "residual"):
        yield f"{edge[name]:.4f}" if np.isfinite(edge["dy"]) else ""
    yield "yes" if edge["used"] else "no"


def read_edges(path: Path) -> list[Edge]:
    """Read a table; empty when there is none, as with what an earlier version stitched.

    Raises
    ------
    CorruptInputError
        It is not such a table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_edge(row) for row in csv.DictReader(file, delimiter="\t")]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptInputError(
            f"{path} is no table of overlaps ({error!r}); `optic-trigger redo --from "
            "solve_coordinates` writes it again"
        ) from error


def _edge(row: dict[str, str]) -> Edge:
    dy, dx, ncc = (float(row[name] or "nan") for name in ("dy_px", "dx_px", "ncc"))
    is_used = {"yes": True, "no": False}[row["used"]]
    return Edge(int(row["image_a"]), int(row["image_b"]), np.array([dy, dx]), ncc, is_used)
