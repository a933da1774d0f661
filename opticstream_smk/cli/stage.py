"""``optic-stage NAME --config C [ids]``: run one stage, by ids and never by paths."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from opticstream_smk.cli.main import guard, set_up_logging
from opticstream_smk.errors import ConfigError

if TYPE_CHECKING:
    from opticstream_smk.config import Config
    from opticstream_smk.state.places import Place

Ids = tuple[str, ...]

_BATCH: tuple[Ids, ...] = (("mosaic", "batch"),)
_MOSAIC: tuple[Ids, ...] = (("mosaic",),)
_SLICE: tuple[Ids, ...] = (("slice",),)
_ACQUISITION: tuple[Ids, ...] = (("acquisition",),)
# Stage: what it does, the ids that it needs; of several kinds, one.
STAGES: dict[str, tuple[str, tuple[Ids, ...]]] = {
    "convert_complex": ("raw tiles to complex tiles", _BATCH),
    "process_tiles": ("tiles to volumes, surface and en-face maps", _BATCH),
    "qc_tiles": ("contact sheet and numbers of a batch", _BATCH),
    "archive_batch": ("raw files of a batch, compressed and verified", _BATCH),
    "solve_coordinates": (
        "tile positions to a template; of a mosaic, compared with it",
        (("acquisition",), ("mosaic",)),
    ),
    "stitch_enface": ("en-face maps to mosaics, and the mask", _MOSAIC),
    "fit_focus": ("surfaces of the template slice to a focus plane", _ACQUISITION),
    "stitch_volume": ("volumes to OME-Zarr; without --modality: .volume_stitched", _MOSAIC),
    "register_slice": ("mosaics of a slice to its 3-D axis", _SLICE),
    "qc_mosaic": ("pictures of a mosaic", _MOSAIC),
    "qc_slice": ("overview picture of a slice", _SLICE),
    "qc_focus": ("picture of a focus plane on intensity", _ACQUISITION),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    width = max(map(len, STAGES))
    listed = "\n".join(
        f"  {name:<{width}}  {text} ({' | '.join(map(_options, kinds))})"
        for name, (text, kinds) in STAGES.items()
    )
    commands = argparse.ArgumentParser(
        prog="optic-stage",
        description="Run one stage of the pipeline. Snakemake runs the same line.",
        epilog=f"stages:\n{listed}\n\nexit codes: 0 fine, 2 usage or config, 3 data, 4 service",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands.add_argument("stage", choices=list(STAGES), metavar="STAGE", help="see below")
    commands.add_argument("--config", type=Path, help="configuration of the project")
    commands.add_argument("--slice", type=int, metavar="S")
    commands.add_argument("--mosaic", type=int, metavar="M")
    commands.add_argument("--batch", type=int, metavar="B")
    commands.add_argument("--acquisition", metavar="A", help="such as normal or tilted")
    commands.add_argument("--modality", metavar="X", help="of stitch_volume: dBI, R3D or O3D")
    commands.add_argument("--threads", type=int, default=1, metavar="N")
    commands.add_argument(
        "--force", action="store_true", help="do it again although its flag is there"
    )
    commands.add_argument(
        "--skip-if-running", action="store_true", help="do not wait for another run of the stage"
    )
    commands.add_argument("--verbose", action="store_true", help="log more")
    return commands


def _options(ids: Ids) -> str:
    return " ".join(f"--{name}" for name in ids)


def _needed_ids(arguments: argparse.Namespace) -> Ids:
    """The ids that a stage works by, all of them given."""
    _, kinds = STAGES[arguments.stage]
    given = [ids for ids in kinds if all(getattr(arguments, name) is not None for name in ids)]
    if len(given) == 1:
        return given[0]
    if given:
        raise ConfigError(
            f"optic-stage {arguments.stage} works by {' or '.join(map(_options, kinds))}, not both"
        )
    missing = [[name for name in ids if getattr(arguments, name) is None] for ids in kinds]
    needed = " or ".join(" and ".join(f"--{name}" for name in names) for names in missing)
    raise ConfigError(f"optic-stage {arguments.stage} needs {needed}")


def main() -> int:
    """Entry point of ``optic-stage``."""
    arguments = parser().parse_args()
    set_up_logging(verbose=arguments.verbose)
    return guard(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    needed = _needed_ids(arguments)
    _check_modality(arguments)
    if arguments.threads < 1:
        raise ConfigError(f"--threads {arguments.threads}: expected 1 or more")

    from opticstream_smk.config import find_config, load_config

    config = load_config(find_config(arguments.config))
    place = _place(config, arguments, needed)
    _protect_acquisition(config)
    _limit_threads(arguments.threads)
    if arguments.stage in ("qc_mosaic", "qc_slice", "qc_focus"):
        from opticstream_smk.plan import project_layout
        from opticstream_smk.qc import overview
        from opticstream_smk.stages.resources import hold_resources
        from opticstream_smk.state.job_files import stage_benchmark

        # As for stages with flags: an old one would have the picture drawn once more.
        stage_benchmark(project_layout(config), arguments.stage, place).unlink(missing_ok=True)
        with hold_resources(config, arguments.stage, place, threads=arguments.threads):
            if arguments.stage == "qc_mosaic":
                from opticstream_smk.qc.coordinates import write_coordinates_picture

                overview.write_mosaic_overview(config, arguments.mosaic)
                write_coordinates_picture(config, arguments.mosaic)
            elif arguments.stage == "qc_slice":
                overview.write_slice_overview(config, arguments.slice)
            else:
                from opticstream_smk.qc.focus import write_focus_picture

                write_focus_picture(config, arguments.acquisition)
        return 0

    from opticstream_smk.stages import find_stage
    from opticstream_smk.stages.stage import run_stage

    run_stage(
        find_stage(arguments.stage, place.level, arguments.modality),
        config,
        place,
        threads=arguments.threads,
        force=arguments.force,
        skip_if_running=arguments.skip_if_running,
    )
    return 0


def _check_modality(arguments: argparse.Namespace) -> None:
    from opticstream_smk.naming import VOLUME_MODALITIES

    modality = arguments.modality
    if modality is None:
        return
    if arguments.stage != "stitch_volume":
        raise ConfigError(f"optic-stage {arguments.stage} takes no --modality; leave it out")
    if modality not in VOLUME_MODALITIES:
        raise ConfigError(f"--modality {modality}: expected one of {', '.join(VOLUME_MODALITIES)}")


def _limit_threads(threads: int) -> None:
    """Have numerical libraries start no more; they look only when they are imported."""
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def _protect_acquisition(config: "Config") -> None:
    """Keep out of its way; before numerical libraries are imported, which start threads."""
    from opticstream_smk.host.affinity import settle_process
    from opticstream_smk.host.tokens import token_folder
    from opticstream_smk.io.throttle import limit_reading

    settle_process(config.run)
    limit_reading(
        config.run.read_limit_mb_s,
        token_folder(config.run),
        [source.dir for source in config.acquisition.sources],
    )


def _place(config: "Config", arguments: argparse.Namespace, needed: Ids) -> "Place":
    from opticstream_smk.state import places

    per_slice = config.acquisition.mosaics_per_slice
    if needed == ("acquisition",):
        if arguments.acquisition not in config.acquisition.labels:
            raise ConfigError(
                f"--acquisition {arguments.acquisition}: expected one of "
                f"{', '.join(config.acquisition.labels)}"
            )
        is_focus = arguments.stage in ("fit_focus", "qc_focus")
        make = places.focus_place if is_focus else places.tilemap_place
        return make(arguments.acquisition)
    if needed == ("slice",):
        return places.slice_place(arguments.slice)
    if needed == ("mosaic",):
        return places.mosaic_place(arguments.mosaic, per_slice)
    return places.batch_place(arguments.mosaic, arguments.batch, per_slice)
