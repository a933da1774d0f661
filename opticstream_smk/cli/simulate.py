"""``optic-trigger simulate``: a synthetic acquisition, and how well it was processed."""

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
    compare = actions.add_parser(
        "compare", help="compare the products of a project with the truth of its acquisition"
    )
    add_config(compare)
    add_format(compare)
    compare.add_argument(
        "--truth", type=Path, metavar="FILE", help="truth.npz; else that of the first source"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command. ``compare`` exits with 3 when a limit is missed."""
    return _simulate(arguments) if arguments.action == "psoct" else _compare(arguments)


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
