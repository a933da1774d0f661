"""Volumes and focus planes that a project will make: size, time, and what would not fit."""

from collections.abc import Iterator

from opticstream_smk import estimate
from opticstream_smk.config import Config
from opticstream_smk.estimate import format_bytes
from opticstream_smk.preflight.check import Check, counted, note, ok, warning
from opticstream_smk.preflight.pace import told_time

# A core reads, blends, halves and compresses a GB of volume in 3.5 s; disks may be slower.
_CORE_S_PER_GB = 3.5


def check_volumes(config: Config, slices: int) -> list[Check]:
    """What volumes of a whole run take, and settings that do not suit the tiles.

    Parameters
    ----------
    slices
        Of the whole run.
    """
    modalities = config.volume_modalities
    if not modalities:
        why = "volume.enabled is false" if not config.volume.enabled else "tiles have no volumes"
        return [note("volumes", f"none are stitched: {why}")]
    scan, volume = config.acquisition, config.volume
    each = {label: estimate.volume_bytes(config, label) for label in scan.labels}
    total = sum(each.values()) * len(modalities) * slices
    run_s = total / 1e9 * _CORE_S_PER_GB / config.run.volume_threads
    sizes = ", ".join(f"{label} {format_bytes(size)}" for label, size in each.items())
    checks = [
        ok(
            "volumes",
            f"{', '.join(modalities)} of every mosaic, each up to {sizes}; "
            f"{format_bytes(total)} for {counted(slices, 'slice')}, "
            f"{told_time(run_s)} of work one after the other where the disk keeps up",
            bytes=total,
            run_s=round(run_s, 1),
        )
    ]
    left = scan.depth_samples - volume.offset_px
    if volume.depth_px > left:
        checks.append(
            warning(
                "depth of volumes",
                f"tiles have {scan.depth_samples} depth samples, of which volume.offset_px leaves "
                f"{left}",
                f"volume.depth_px {volume.depth_px}",
                f"What is missing is filled; volume.depth_px: {left} leaves it out",
            )
        )
    return [*checks, *_check_focus(config)]


def _check_focus(config: Config) -> Iterator[Check]:
    if not config.fits_focus:
        return
    scan, crop = config.acquisition, config.volume.focus_crop_x_px
    for label in scan.labels:
        columns, rows = scan.columns(label), scan.rows(label)
        overlap = scan.alines(label) * scan.tile_overlap_percent / 100
        name = f"focus plane of {label} mosaics"
        if min(columns, rows) < 2:
            yield warning(
                name,
                f"a grid of {columns} x {rows} tiles has no neighbours along one axis",
                "at least 2 x 2 tiles",
                "Set volume.focus: false; volumes wait for the plane otherwise",
            )
        elif crop >= overlap:
            yield warning(
                name,
                f"tiles overlap by {overlap:.0f} px along x, volume.focus_crop_x_px takes {crop}",
                "overlap beyond the crop",
                "Set volume.focus_crop_x_px to less, or volume.focus: false",
            )
