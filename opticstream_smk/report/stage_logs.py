"""Which stage writes a flag."""

from collections.abc import Mapping
from types import MappingProxyType

# Level and state of a flag to the stage that writes it.
STAGE_OF_FLAG: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("batch", "complex"): "convert_complex",
        ("batch", "processed"): "process_tiles",
        ("batch", "qc"): "qc_tiles",
        ("batch", "archived"): "archive_batch",
        ("mosaic", "coordinates"): "solve_coordinates",
        ("mosaic", "stitched"): "stitch_enface",
        ("slice", "registered"): "register_slice",
        ("tilemap", "solved"): "solve_coordinates",
    }
)
