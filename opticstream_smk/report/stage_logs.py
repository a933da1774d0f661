"""Which stage writes a flag."""

from collections.abc import Mapping
from types import MappingProxyType

from opticstream_smk import naming

# Level and state of a flag to the stage that writes it.
STAGE_OF_FLAG: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("batch", "complex"): "convert_complex",
        ("batch", "processed"): "process_tiles",
        ("batch", "qc"): "qc_tiles",
        ("batch", "archived"): "archive_batch",
        ("mosaic", "coordinates"): "solve_coordinates",
        ("mosaic", "stitched"): "stitch_enface",
        **{
            ("mosaic", naming.volume_state(modality)): "stitch_volume"
            for modality in naming.VOLUME_MODALITIES
        },
        ("mosaic", "volume_stitched"): "stitch_volume",
        ("slice", "registered"): "register_slice",
        ("tilemap", "solved"): "solve_coordinates",
        ("focus", "fitted"): "fit_focus",
    }
)
