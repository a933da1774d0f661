"""Tiles to mosaics: grid order, tile positions, blending, mask, tile-info template.

Arrays in, arrays out. Images are (y, x), positions are (y, x) in pixels of the tile's first
pixel. The names below are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opticstream_smk.mosaic.blending import blend, blend_rows, canvas_shape, tile_corners
    from opticstream_smk.mosaic.drift import Drift, measure_drift
    from opticstream_smk.mosaic.flat_field import FlatField, estimate_flat_field
    from opticstream_smk.mosaic.focus import FocusPlane, fit_focus_plane, solve_focus_plane
    from opticstream_smk.mosaic.grid import nominal_positions, snake_order
    from opticstream_smk.mosaic.joint import solve_jointly
    from opticstream_smk.mosaic.judge import Limits, Verdict, judge_positions
    from opticstream_smk.mosaic.mask import make_mask
    from opticstream_smk.mosaic.positions import TilePositions, solve_positions
    from opticstream_smk.mosaic.template import (
        TileEntry,
        TileInfo,
        parse_tile_info,
        read_tile_info,
        render_template,
        template_text,
        write_template,
    )
    from opticstream_smk.mosaic.threshold import TissueThreshold, find_threshold
    from opticstream_smk.mosaic.volumes import VolumeReport, stitch_volume

__all__ = [
    "Drift",
    "FlatField",
    "FocusPlane",
    "Limits",
    "TileEntry",
    "TileInfo",
    "TilePositions",
    "TissueThreshold",
    "Verdict",
    "VolumeReport",
    "blend",
    "blend_rows",
    "canvas_shape",
    "estimate_flat_field",
    "find_threshold",
    "fit_focus_plane",
    "judge_positions",
    "make_mask",
    "measure_drift",
    "nominal_positions",
    "parse_tile_info",
    "read_tile_info",
    "render_template",
    "snake_order",
    "solve_focus_plane",
    "solve_jointly",
    "solve_positions",
    "stitch_volume",
    "template_text",
    "tile_corners",
    "write_template",
]

_MODULE_OF = {
    "FlatField": "flat_field",
    "TissueThreshold": "threshold",
    "estimate_flat_field": "flat_field",
    "find_threshold": "threshold",
    "Drift": "drift",
    "FocusPlane": "focus",
    "Limits": "judge",
    "TileEntry": "template",
    "TileInfo": "template",
    "TilePositions": "positions",
    "Verdict": "judge",
    "VolumeReport": "volumes",
    "blend": "blending",
    "blend_rows": "blending",
    "canvas_shape": "blending",
    "fit_focus_plane": "focus",
    "judge_positions": "judge",
    "make_mask": "mask",
    "measure_drift": "drift",
    "nominal_positions": "grid",
    "parse_tile_info": "template",
    "read_tile_info": "template",
    "render_template": "template",
    "snake_order": "grid",
    "solve_focus_plane": "focus",
    "solve_jointly": "joint",
    "solve_positions": "positions",
    "stitch_volume": "volumes",
    "template_text": "template",
    "tile_corners": "blending",
    "write_template": "template",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    try:
        module = import_module(f"{__name__}.{_MODULE_OF[name]}")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(module, name)
