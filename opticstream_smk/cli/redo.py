"""``optic-trigger redo``: withdraw flags, so that snakemake does the work again."""

import argparse

from opticstream_smk.cli.options import add_config, given_config
from opticstream_smk.errors import ConfigError, IncompleteInputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_config(parser)
    parser.add_argument(
        "--from",
        dest="stage",
        required=True,
        metavar="STAGE",
        help="first stage to do again, as optic-stage names it; `scan` takes new raw files",
    )
    parser.add_argument("--slice", type=int, metavar="S", help="only this slice")
    parser.add_argument("--mosaic", type=int, metavar="M", help="only this mosaic")
    parser.add_argument("--batch", type=int, metavar="B", help="only this batch of --mosaic")
    parser.add_argument("--acquisition", metavar="A", help="only this template or focus plane")
    parser.add_argument("--modality", metavar="X", help="only this volume: dBI, R3D or O3D")
    parser.add_argument("--dry-run", action="store_true", help="list, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from opticstream_smk.naming import VOLUME_MODALITIES
    from opticstream_smk.plan import project_state
    from opticstream_smk.stages import NAMES, find_stages
    from opticstream_smk.state.places import Place

    config = given_config(arguments)
    if arguments.stage == "scan":
        made = {("batch", "ready")}
    elif arguments.stage in NAMES:
        made = {
            (stage.level, stage.flag)
            for stage in find_stages(arguments.stage)
            if arguments.modality in (None, stage.modality)
        }
    else:
        raise ConfigError(
            f"--from {arguments.stage}: no such stage; expected scan, {', '.join(NAMES)}"
        )
    if not made or (arguments.modality is not None and arguments.stage == "scan"):
        known = ", ".join(VOLUME_MODALITIES)
        raise ConfigError(
            f"--modality {arguments.modality} with --from {arguments.stage}: expected one of "
            f"{known} with --from stitch_volume"
        )
    if arguments.batch is not None and arguments.mosaic is None:
        raise ConfigError("--batch needs --mosaic: batches of all mosaics have the same numbers")
    asked = {
        name: value
        for name in ("slice", "mosaic", "batch", "acquisition")
        if (value := getattr(arguments, name)) is not None
    }

    def is_asked(place: Place) -> bool:
        return all(getattr(place, name) == value for name, value in asked.items())

    wanted = set(made)
    if arguments.stage == "scan" and arguments.batch is None:
        # New raw files of whole mosaics: what the old ones lacked says nothing about them.
        wanted.add(("mosaic", "closed"))
    if arguments.stage == "solve_coordinates":
        # An earlier version stitched without coordinates of the mosaic itself.
        wanted.add(("mosaic", "stitched"))
    with project_state(config).open_project() as project:
        for place, name in project.present():
            if (place.level, name) in wanted and is_asked(place):
                project.node(place).withdraw(name)
        withdrawn = [
            node.path(name) for node in project.changed() for name in sorted(node.withdrawn)
        ]
        if not withdrawn:
            flags = " or ".join(f".{flag} flag of a {level}" for level, flag in sorted(made))
            raise IncompleteInputError(
                f"nothing to redo: no {flags} fits "
                f"{' '.join(f'--{k} {v}' for k, v in asked.items()) or 'this project'}"
            )
        if arguments.dry_run:
            project.forget()
    for path in withdrawn:
        print(f"{'would withdraw' if arguments.dry_run else 'withdrawn'}  {path}")
    if not arguments.dry_run:
        again = "optic-trigger scan, then " if arguments.stage == "scan" else ""
        print(f"next: {again}snakemake --profile zircon")
    return 0
