"""Positions of the tiles of a mosaic as stages solve, judge, describe and record them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opticstream_smk.config import Config
from opticstream_smk.errors import QualityError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import image_list
from opticstream_smk.stages.tilemap import TileFiles, cells

if TYPE_CHECKING:
    from opticstream_smk.mosaic import Limits, TilePositions, Verdict


def mosaic_files(
    config: Config, layout: ProjectLayout, mosaic: int, missing: Collection[int], acquisition: str
) -> TileFiles:
    """The maps that positions are solved from."""
    scan = config.acquisition
    shape = (scan.tile_size_y, scan.alines(acquisition))
    count = scan.rows(acquisition) * scan.columns(acquisition)
    return TileFiles(layout, mosaic, "aip", shape, count, missing, needs_values=True)


def tile_signal(files: TileFiles) -> NDArray[np.float64]:
    """(N,) mean of each tile, dB; 0 for one that is missing."""
    tiles = (files[index] for index in range(len(files)))
    found = (tile[np.isfinite(tile)] for tile in tiles)
    return np.array([values.mean(dtype=np.float64) if values.size else 0.0 for values in found])


# --------------------------------------------------------------------------------- positions
def solve_tiles(
    config: Config,
    acquisition: str,
    mosaics: Sequence[TileFiles],
    template_px: NDArray[np.float64] | None = None,
) -> "TilePositions":
    """Positions of the tiles of one mosaic, or of several together, from their overlaps.

    Parameters
    ----------
    mosaics
        One or more of the same acquisition.
    template_px
        (N, 2) y, x: where tiles are expected (of a single mosaic); None leaves it to the stage
        model.
    """
    from opticstream_smk.mosaic import solve_jointly, solve_positions

    grid, overlap = cells(config, acquisition), config.acquisition.tile_overlap_percent
    if len(mosaics) > 1:
        return solve_jointly(mosaics, grid, overlap_percent=overlap)
    return solve_positions(mosaics[0], grid, overlap_percent=overlap, prior_px=template_px)


# ------------------------------------------------------------------------------------ verdict
def configured_limits(config: Config) -> "Limits":
    """When the configuration has solved positions doubted."""
    from opticstream_smk.mosaic import Limits

    quality = config.mosaic.quality
    return Limits(**quality.model_dump(exclude={"action"}))


def quality_params(config: Config) -> dict[str, Any]:
    """Values of ``mosaic.quality`` that a stage reads; only those that are not the default.

    So the parameters of what was solved before there was a verdict are still the same.
    """
    changed = config.mosaic.quality.model_dump(mode="json", exclude_defaults=True)
    return {"quality": changed} if changed else {}


def refuse_failed(config: Config, verdict: "Verdict", where: str, edges: Path, redo: str) -> None:
    """Fail where the verdict and the configuration say so.

    Parameters
    ----------
    edges
        The table of the overlaps, already written: it shows what is wrong.
    redo
        How it is solved anew with other settings.

    Raises
    ------
    QualityError
        Names what was found, and what to do.
    """
    if verdict.level != "fail" or config.mosaic.quality.action != "fail":
        return
    raise QualityError(
        f"{where}: the positions of its tiles cannot be trusted: {' '.join(verdict.reasons)} "
        f"Expected no more than the second limits of mosaic.quality. {edges} has every overlap. "
        "Compare the tiles' aip maps with the grid and acquisition.tile_overlap_percent; "
        "mosaic.template_slice takes the template from another slice, mosaic.quality.action: warn "
        f"goes on all the same. {redo}"
    )


def remaining_limits(limits: "Limits") -> "Limits":
    """Limits of what has no warning of its own."""
    never = (None, None)
    return replace(limits, max_islands=never, max_strangers=never)


def stranger_warning(found: "TilePositions", mosaics: Sequence[int], then: str = "") -> list[str]:
    """Tiles that do not belong where they are; ``then`` is what else to type after mending."""
    strangers = images_where(found.is_stranger)
    if not strangers:
        return []
    swapped = "".join(
        f" Images {a} and {b} fit in each other's place." for a, b in exchanged_images(found)
    )
    redo = " and ".join(f"`optic-trigger redo --from scan --mosaic {m}`" for m in mosaics)
    return [
        f"mosaic {', '.join(f'{m:03d}' for m in mosaics)}: images {image_list(strangers)} show "
        f"tissue that matches none of their neighbours; expected overlaps that agree.{swapped} "
        "Most likely files are swapped or from another place: compare them with the acquisition's "
        f"log, put right what is wrong, then {redo}{then}"
    ]


def exchanged_images(found: "TilePositions") -> list[tuple[int, int]]:
    """Pairs of image numbers whose files were most likely swapped."""
    partner = found.exchanged_with
    return [
        (int(a) + 1, int(partner[a]) + 1) for a in np.flatnonzero(partner >= 0) if a < partner[a]
    ]


# ------------------------------------------------------------------------------------ records
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


def images_where(chosen: NDArray[np.bool_]) -> list[int]:
    """Image numbers of the tiles that are chosen."""
    return [int(index) + 1 for index in np.flatnonzero(chosen)]
