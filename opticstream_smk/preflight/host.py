"""What stages need of this host: cores, memory, tokens, and the acquisition in peace."""

import os
import stat

from opticstream_smk.config import Config
from opticstream_smk.config.run import parse_cores
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.host.limits import host_limits, host_memory_mb
from opticstream_smk.host.priority import name_matches
from opticstream_smk.host.tokens import token_folder
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.check import Check, failed, failed_by, note, ok, warning
from opticstream_smk.stages.resources import stage_resources


def check_host(config: Config) -> list[Check]:
    """Everything but the disk."""
    checks = [_check_cores(config), _check_tokens(config)]
    if config.project.pipeline == "psoct":
        checks.insert(1, _check_memory(config))
    if config.watch.protect_process:
        checks.append(_check_process(config.watch.protect_process))
    return checks


def _check_cores(config: Config) -> Check:
    run, name = config.run, "cores"
    present, allowed = os.cpu_count() or 1, os.sched_getaffinity(0)
    if run.cpu_affinity is not None:
        wanted = parse_cores(run.cpu_affinity)
        missing = sorted(core for core in wanted if core >= present)
        if missing or not wanted & allowed:
            absent = ", ".join(map(str, missing or sorted(wanted)))
            return failed(
                "config",
                name,
                f"run.cpu_affinity {run.cpu_affinity}: this host has no core {absent} for us",
                f"some of {_ranges(allowed)}",
                "Correct run.cpu_affinity",
            )
    cores = host_limits(run).cores
    if cores > present:
        return warning(
            name,
            f"run.cores {cores}",
            f"at most the {present} cores of this host",
            "More jobs than cores only wait for each other; lower it",
        )
    return ok(name, f"{cores} of {present} for all projects of this host", cores=cores)


def _check_memory(config: Config) -> Check:
    name = "memory"
    total, limit = host_memory_mb(), host_limits(config.run).memory_mb
    tile = stage_resources(config, "process_tiles").memory_mb
    stages = ["solve_coordinates", "stitch_enface"]
    if config.registration.enabled:
        stages.append("register_slice")
    mosaic = max(stage_resources(config, stage).memory_mb for stage in stages)
    if limit > total:
        return warning(
            name,
            f"run.memory_mb {limit}",
            f"at most the {total} MB of this host",
            "Jobs beyond it are killed; lower it",
        )
    if max(tile, mosaic) > limit:
        return warning(
            name,
            f"{limit} MB for all jobs",
            f"{tile} MB for a tile, {mosaic} MB for a mosaic",
            "Such a job runs alone and may be killed; raise run.memory_mb or take another host",
        )
    at_once = limit // tile
    return ok(
        name,
        f"{limit} of {total} MB for all jobs; a tile needs {tile} MB, so "
        f"{at_once} fit at a time, and a mosaic {mosaic} MB",
        tile_jobs=at_once,
    )


def _check_tokens(config: Config) -> Check:
    folder = token_folder(config.run)
    name = f"token folder {folder}"
    try:
        is_folder = stat.S_ISDIR(folder.lstat().st_mode)
    except OSError:
        is_folder = True  # it is yet to be made; whether it can be is tried below
    if not is_folder:
        return failed(
            "config",
            name,
            "is a link or no folder",
            "a folder of its own",
            "Remove it, or set run.token_dir",
        )
    try:
        disk.probe(folder, links=False)
    except OpticStreamError as error:
        return failed_by(name, error)
    kind = disk.filesystem(folder)
    if disk.is_network(kind):
        return warning(
            name,
            f"lies on {kind}",
            "a local disk: tokens count the jobs of this host only",
            "Set run.token_dir to a local folder",
        )
    return ok(name, "writable, with locks")


def _check_process(wanted: str) -> Check:
    import psutil

    name = f"acquisition software {wanted}"
    found = [
        process.pid
        for process in psutil.process_iter(["name"])
        if name_matches(process.info["name"], wanted)
    ]
    if found:
        return ok(name, f"runs as process {', '.join(map(str, found))}")
    return note(
        name, "does not run now; the watcher looks for it again and again", "Check its name"
    )


def _ranges(cores: set[int]) -> str:
    ordered = sorted(cores)
    if ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(map(str, ordered))
