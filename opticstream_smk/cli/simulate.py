"""``optic-trigger simulate``: an acquisition, synthetic or repeated, and how well it went."""

import argparse
import logging
from pathlib import Path

from opticstream_smk.cli.options import add_config, add_format, given_config, print_json
from opticstream_smk.errors import ConfigError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    psoct = actions.add_parser(
        "psoct", help="write raw PS-OCT tiles, calibration and truth; grid and tiles as configured"
    )
    add_config(psoct)
    psoct.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    psoct.add_argument("--slices", type=int, default=1, metavar="N")
    psoct.add_argument("--seed", type=int, default=0, metavar="S")
    psoct.add_argument(
        "--interval-s", type=float, default=0.0, metavar="T", help="pause before each tile"
    )
    psoct.add_argument(
        "--slow-writes", action="store_true", help="let files grow in place, with pauses"
    )
    psoct.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    _add_replay(actions)
    compare = actions.add_parser(
        "compare", help="compare the products of a project with the truth of its acquisition"
    )
    add_config(compare)
    add_format(compare)
    compare.add_argument(
        "--truth", type=Path, metavar="FILE", help="truth.npz; else that of the first source"
    )


def _add_replay(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    replay = actions.add_parser(
        "replay",
        help="let the raw tiles of a recorded acquisition arrive again in another folder",
    )
    replay.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the acquisition; it is only read",
    )
    replay.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    replay.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="name the tiles as this configuration does; else as the preset that fits most files",
    )
    replay.add_argument("--limit", type=int, metavar="N", help="the first N tiles only")
    replay.add_argument("--seed", type=int, default=0, metavar="S", help="of all that is by chance")
    how = replay.add_argument_group("how files are written")
    how.add_argument(
        "--interval-s", type=float, default=0.0, metavar="T", help="pause before each tile"
    )
    how.add_argument("--rate-mb-s", type=float, metavar="R", help="10^6 bytes per second at most")
    how.add_argument(
        "--slow-writes", action="store_true", help="let files grow in pieces, with pauses"
    )
    how.add_argument(
        "--renames",
        nargs="?",
        const=".tmp",
        choices=(".tmp", ".part"),
        metavar="SUFFIX",
        help="write under a temporary name, then rename; SUFFIX .tmp (as given without) or .part",
    )
    odd = replay.add_argument_group("what may happen")
    odd.add_argument(
        "--shuffle",
        type=int,
        default=0,
        metavar="N",
        help="out of order: each tile fewer than N places from its own",
    )
    odd.add_argument(
        "--duplicates",
        type=int,
        default=0,
        metavar="N",
        help="N tiles are written again later, in place, with the same content",
    )
    odd.add_argument(
        "--twins",
        type=int,
        default=0,
        metavar="N",
        help="N tiles get a second file with another number at its end: an error to be reported",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command. ``compare`` exits with 3 when a limit is missed."""
    actions = {"psoct": _simulate, "replay": _replay, "compare": _compare}
    return actions[arguments.action](arguments)


def _simulate(arguments: argparse.Namespace) -> int:
    from opticstream_smk.simulate import AcquisitionSettings, simulate_psoct

    config = given_config(arguments)
    scan = config.acquisition
    if scan.grid_type != "snake-by-columns" or scan.grid_order != "up-right":
        raise ConfigError(
            f"acquisition.grid_type {scan.grid_type}, grid_order {scan.grid_order}: the simulated "
            "stage moves snake-by-columns, up-right; set these to simulate"
        )
    x_mm, y_mm, z_mm = scan.scan_resolution_3d_mm
    settings = AcquisitionSettings(
        n_slices=arguments.slices,
        saving_type=scan.tile_saving_type,
        complex_z_order=scan.complex_z_order,
        mosaics_per_slice=scan.mosaics_per_slice,
        grid_rows_tilted=scan.grid_size_y_tilted,
        seed=arguments.seed,
        grid_columns=scan.grid_size_x_normal,
        grid_columns_tilted=scan.grid_size_x_tilted,
        grid_rows=scan.grid_size_y,
        alines=scan.tile_size_x_normal,
        alines_tilted=scan.tile_size_x_tilted,
        blines=scan.tile_size_y,
        samples=scan.samples_per_aline,
        tile_overlap_percent=scan.tile_overlap_percent,
        voxel_um=(x_mm * 1000, y_mm * 1000, z_mm * 1000),
        wavelength_um=scan.wavelength_um,
        gamma_deg=config.registration.gamma_deg,
        phase_offset_deg=config.processing.phase_offset_deg,
        slice_thickness_um=scan.slice_thickness_um,
    )
    result = simulate_psoct(
        settings,
        arguments.out,
        interval_s=arguments.interval_s,
        slow_writes=arguments.slow_writes,
        workers=arguments.workers,
        progress=lambda done, total: log.info("tile %d of %d", done, total),
    )
    print(f"{arguments.out}: {len(result.tiles)} tiles, {len(result.written)} files written")
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from opticstream_smk.simulate.replay import ReplaySettings, replay

    names = None
    if arguments.config is not None:
        from opticstream_smk.config.acquisition import input_names

        names = input_names(given_config(arguments).acquisition)
    settings = ReplaySettings(
        interval_s=arguments.interval_s,
        slow_writes=arguments.slow_writes,
        temporary_suffix=arguments.renames,
        shuffle=arguments.shuffle,
        duplicates=arguments.duplicates,
        twins=arguments.twins,
        rate_mb_s=arguments.rate_mb_s,
        limit=arguments.limit,
        seed=arguments.seed,
    )
    done = replay(arguments.source, arguments.out, settings, names=names)
    print(
        f"{arguments.out}: {done.n_tiles} tiles, {len(done.companions)} other files, "
        f"{done.n_duplicates} written again, {done.n_twins} second files; "
        f"{done.n_bytes / 1e6:.1f} MB in {done.duration_s:.1f} s"
    )
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from opticstream_smk.simulate.judge import judge_project

    config = given_config(arguments)
    truth = arguments.truth or config.acquisition.sources[0].dir / "truth.npz"
    rows = judge_project(config, truth)
    exit_code = 0 if all(comparison.passed for _, comparison in rows) else 3
    if arguments.format == "json":
        print_json([{"where": where, **asdict(comparison)} for where, comparison in rows])
        return exit_code
    width = max(len(where) for where, _ in rows)
    for where, row in rows:
        verdict = "ok" if row.passed else "MISSED"
        print(
            f"{where:<{width}}  {row.name:<15} {row.value:8.3f} {row.unit:<12} "
            f"limit {row.limit:<6g} {verdict:<7} limited by: {row.limited_by}"
        )
    return exit_code
