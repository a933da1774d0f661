"""Disk space that a whole run takes, against what is free."""

from opticstream_smk import estimate, naming
from opticstream_smk.config import Config
from opticstream_smk.estimate import format_bytes
from opticstream_smk.io.disk import existing, exists
from opticstream_smk.plan import project_layout
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.archive import archive_bytes_to_come, is_on_disk_of_project
from opticstream_smk.preflight.check import Check, counted, failed, ok, warning
from opticstream_smk.preflight.raw_files import RawFiles
from opticstream_smk.state.places import DONE
from opticstream_smk.state.psoct import OctProjectState


def check_room(config: Config, raw: RawFiles, *, slices: int, assumption: str) -> list[Check]:
    """Space and files of the whole run, less what is made already.

    Parameters
    ----------
    slices, assumption
        Slices of the whole run, and where that number comes from.
    """
    whole = estimate.run_products(config, slices)
    made = _made(config)
    needed = max(whole.bytes - made, 0)
    space = disk.space(config.project.dir)
    reserve = config.run.reserve_free_mb * 10**6
    coming, where = _raw_to_come(config, raw, slices)
    if is_on_disk_of_project(config):
        archive = archive_bytes_to_come(config, slices)
        coming += archive
        where += f", and {format_bytes(archive)} of archived raw files come to the same disk"
    found = (
        f"products of {counted(slices, 'slice')} ({assumption}) take {format_bytes(whole.bytes)}"
        f"{f', of which {format_bytes(made)} are there' if made else ''}{where}; "
        f"{format_bytes(space.free_bytes)} are free on the disk of {config.project.dir}"
    )
    numbers = {
        "slices": slices,
        "run_bytes": whole.bytes,
        "needed_bytes": needed + coming,
        "free_bytes": space.free_bytes,
        "raw_bytes": estimate.raw_slice_bytes(config) * slices,
    }
    wanted = needed + coming + reserve
    if wanted > space.free_bytes:
        checks = [
            failed(
                "service",
                "space",
                found,
                f"{format_bytes(wanted)} (run.reserve_free_mb included)",
                "Free some, choose another project.dir, or write less: processing.complex: "
                "discard, save_volume_outputs: false, volume.enabled: false",
                **numbers,
            )
        ]
    else:
        checks = [ok("space", found, **numbers)]
    if space.free_files is not None and whole.files > space.free_files:
        checks.append(
            warning(
                "inodes",
                f"{space.free_files} files can still be made on the disk of {config.project.dir}",
                f"{whole.files}",
                "Choose a file system with more inodes",
            )
        )
    return checks


def _made(config: Config) -> int:
    """Bytes that finished levels have written, by the same estimate."""
    scan = config.acquisition
    per_slice = scan.mosaics_per_slice
    made = 0
    for place, state in OctProjectState(project_layout(config), per_slice).present():
        if naming.modality_of_state(state) and place.mosaic is not None:
            made += estimate.volume_bytes(config, scan.labels[(place.mosaic - 1) % per_slice])
        if state != DONE[place.level]:
            continue
        if place.level == "slice":
            made += estimate.slice_product_bytes(config)
        elif place.mosaic is not None:
            label = scan.labels[(place.mosaic - 1) % per_slice]
            level = estimate.batch_product_bytes if place.batch else estimate.mosaic_product_bytes
            made += level(config, label)
    return made


def _raw_to_come(config: Config, raw: RawFiles, slices: int) -> tuple[int, str]:
    """Bytes that the acquisition will still write to the disk of the project."""
    ours = existing(config.project.dir).stat().st_dev
    shared = [
        source.dir
        for source in config.acquisition.sources
        if exists(source.dir) and source.dir.stat().st_dev == ours
    ]
    if not shared:
        return 0, ""
    expected = estimate.raw_slice_bytes(config) * slices
    coming = max(expected - sum({file.path: file.size for file in raw.files}.values()), 0)
    if not coming:
        return 0, ""
    return coming, f", and {format_bytes(coming)} of raw tiles are to come to the same disk"
