"""Programs that a run needs: snakemake, its profile, SLURM where the profile submits to it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

import opticstream_smk
from opticstream_smk.errors import ConfigError
from opticstream_smk.preflight.check import Check, failed, note, ok, some, warning
from opticstream_smk.workflow import find_profile

_SLURM = ("sbatch", "squeue", "sacct", "scancel")
_LONGEST_START_S = 120


def check_software(profile: str) -> list[Check]:
    """Everything that is started.

    Parameters
    ----------
    profile
        Snakemake profile: a name, or a folder.
    """
    return [_check_snakemake(), *_check_profile(profile), _check_bytecode()]


def _check_snakemake() -> Check:
    name = "snakemake"
    command = [sys.executable, "-m", "snakemake", "--version"]
    remedy = "Install this package again with its dependencies (pip install opticstream-smk)"
    try:
        # In a process of its own: a defect in one of its many imports is then only reported.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST_START_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return failed("service", name, f"cannot be started ({error})", "a version", remedy)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return failed("service", name, f"cannot be started: {last}", "a version", remedy)
    return ok(name, f"version {done.stdout.strip()}")


def _check_profile(profile: str) -> list[Check]:
    name = f"profile {profile}"
    try:
        path = find_profile(profile) / "config.yaml"
    except ConfigError as error:
        return [failed("config", name, str(error), "a profile", "Correct --profile")]
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        return [failed("config", name, f"{path} cannot be read ({error})", "YAML", "Correct it")]
    executor = str(values.get("executor", "local")) if isinstance(values, dict) else "local"
    checks = [ok(name, f"{path}, jobs run {_where(executor)}", executor=executor)]
    if executor == "slurm":
        checks.append(_check_slurm())
    return checks


def _where(executor: str) -> str:
    return "on this host" if executor == "local" else f"by the executor {executor}"


def _check_slurm() -> Check:
    missing = [command for command in _SLURM if shutil.which(command) is None]
    plugin = "snakemake_executor_plugin_slurm"
    if importlib.util.find_spec(plugin) is None:
        missing.append(plugin)
    if missing:
        return failed(
            "service",
            "SLURM",
            f"{some(missing, 5)} not found",
            "its commands and snakemake's executor plugin",
            "Install them, or take a profile without SLURM",
        )
    return ok("SLURM", "its commands and snakemake's plugin are there")


def _check_bytecode() -> Check:
    """Compiled modules: every stage is a process of its own and would compile them anew."""
    name = "compiled modules"
    package = Path(opticstream_smk.__file__).parent
    if sys.dont_write_bytecode:
        return warning(
            name,
            "PYTHONDONTWRITEBYTECODE is set",
            "modules that are compiled once",
            "Unset it: else every stage compiles everything anew, about a second each",
        )
    lacking = [
        path
        for path in package.rglob("*.py")
        if not Path(importlib.util.cache_from_source(str(path))).exists()
    ]
    if not lacking:
        return ok(name, "there")
    if os.access(package, os.W_OK):
        return ok(name, "are made at the first use")
    return note(
        name,
        f"{len(lacking)} are missing, and {package} is not writable for this user",
        f"Have its owner run: {sys.executable} -m compileall {package}",
    )
