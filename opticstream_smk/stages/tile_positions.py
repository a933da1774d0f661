"""Positions of the tiles of a mosaic as stages solve, describe and record them."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.io.atomic import write_bytes
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import image_list
from opticstream_smk.stages.tilemap import TileFiles, cells

if TYPE_CHECKING:
    from opticstream_smk.mosaic import TilePositions

_EDGE_COLUMNS = ("image_a", "image_b", "dy_px", "dx_px", "ncc", "weight", "residual_px", "used")


def mosaic_files(
    config: Config, layout: ProjectLayout, mosaic: int, acquisition: str, missing: Collection[int]
) -> TileFiles:
    """The maps that positions are solved from."""
    scan = config.acquisition
    shape = (scan.tile_size_y, scan.alines(acquisition))
    count = scan.rows(acquisition) * scan.columns(acquisition)
    return TileFiles(layout, mosaic, "aip", shape, count, missing)


def solve_tiles(config: Config, acquisition: str, tiles: NDArray[np.float32]) -> "TilePositions":
    """Positions of the tiles (N, y, x) of one mosaic, from their overlaps."""
    from opticstream_smk.mosaic import solve_positions

    return solve_positions(
        tiles,
        cells(config, acquisition),
        overlap_percent=config.acquisition.tile_overlap_percent,
    )


def edge_numbers(found: "TilePositions") -> dict[str, Any]:
    """What the flag says about the overlaps."""
    edges = found.edges
    measured = edges[edges["used"]]
    residual = float(np.sqrt(np.mean(measured["residual"] ** 2))) if len(measured) else None
    return {
        "tiles": len(found.positions_px),
        "anchored_tiles": int(found.is_anchored.sum()),
        "pairs": len(edges),
        "pairs_used": len(measured),
        "pairs_rejected": int((np.isfinite(edges["dy"]) & ~edges["used"]).sum()),
        "ncc_median": rounded(np.median(measured["ncc"])) if len(measured) else None,
        "residual_px_rms": rounded(residual),
    }


def rounded(value: Any) -> float | None:
    """A number as flags have it; None stays None."""
    return None if value is None else round(float(value), 4)


def stranger_warning(found: "TilePositions", mosaic: int, then: str) -> list[str]:
    """Tiles that do not belong where they are; ``then`` is what to type after mending."""
    strangers = images_where(found.is_stranger)
    if not strangers:
        return []
    return [
        f"mosaic {mosaic:03d}: images {image_list(strangers)} show tissue that matches none of "
        "their neighbours; expected overlaps that agree. Most likely files are swapped or from "
        "another place: compare them with the acquisition's log, put right what is wrong, then "
        f"`optic-trigger redo --from scan --mosaic {mosaic}`{then}"
    ]


def images_where(chosen: NDArray[np.bool_]) -> list[int]:
    """Image numbers of the tiles that are chosen."""
    return [int(index) + 1 for index in np.flatnonzero(chosen)]


def write_edges(path: Path, found: "TilePositions") -> None:
    """Write the table of the overlaps: one line for each pair of neighbours, tab-separated.

    Offsets are those of image b from image a; empty fields were not measured.
    """
    rows = ["\t".join(_EDGE_COLUMNS)]
    rows += ["\t".join(_edge_fields(edge)) for edge in found.edges]
    write_bytes(path, ("\n".join(rows) + "\n").encode())


def _edge_fields(edge: Any) -> Iterable[str]:
    yield from (str(edge[name] + 1) for name in ("tile_a", "tile_b"))
    for name in ("dy", "dx", "ncc", "weight", "residual"):
        yield f"{edge[name]:.4f}" if np.isfinite(edge["dy"]) else ""
    yield "yes" if edge["used"] else "no"
