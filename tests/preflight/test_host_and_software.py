import os
import sys
from pathlib import Path

import psutil
import pytest

from opticstream_smk.preflight import disk, software
from opticstream_smk.preflight.host import check_host
from opticstream_smk.preflight.software import check_software


def named(checks, name):
    (check,) = [check for check in checks if check.name.startswith(name)]
    return check


def test_a_host_as_it_is(make_config, tmp_path):
    checks = check_host(make_config(run__token_dir=str(tmp_path / "tokens")))
    assert [check.verdict for check in checks] == ["ok", "ok", "ok"]
    assert not (tmp_path / "tokens").exists()


def test_cores_that_are_not_there(make_config):
    missing = os.cpu_count() + 3
    check = named(check_host(make_config(run__cpu_affinity=f"0,{missing}")), "cores")
    assert check.exit_code == 2
    assert f"no core {missing}" in check.found
    check = named(check_host(make_config(run__cores=os.cpu_count() + 1)), "cores")
    assert check.verdict == "warning"


def test_memory(make_config):
    assert named(check_host(make_config(run__memory_mb=10**9)), "memory").verdict == "warning"
    config = make_config(
        run__memory_mb=1000,
        acquisition__tile_size_x_normal=3500,
        acquisition__tile_size_y=3500,
    )
    check = named(check_host(config), "memory")
    assert check.verdict == "warning"
    assert "raise run.memory_mb" in check.remedy
    assert "MB for a tile" in check.expected


def test_the_token_folder(make_config, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    config = make_config(run__token_dir=str(tmp_path / "link"))
    assert named(check_host(config), "token folder").exit_code == 2
    config = make_config(run__token_dir=str(tmp_path / "tokens"))
    monkeypatch.setattr(disk, "filesystem", lambda _folder: "nfs")
    check = named(check_host(config), "token folder")
    assert (check.verdict, check.found) == ("warning", "lies on nfs")


def test_the_acquisition_software(make_config):
    me = psutil.Process().name()
    check = named(check_host(make_config(watch__protect_process=me)), "acquisition software")
    assert check.verdict == "ok"
    assert str(os.getpid()) in check.found
    config = make_config(watch__protect_process="NoSuchAcquisition")
    assert named(check_host(config), "acquisition software").verdict == "note"


# --------------------------------------------------------------------------------- software
def test_snakemake_and_its_profile():
    checks = check_software("zircon")
    version = named(checks, "snakemake")
    assert (version.verdict, version.found.split()[0]) == ("ok", "version")
    assert named(checks, "profile zircon").numbers["executor"] == "local"


def test_a_snakemake_that_cannot_be_started(tmp_path, monkeypatch):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no module named pulp >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    check = named(check_software("zircon"), "snakemake")
    assert check.exit_code == 4
    assert "no module named pulp" in check.found


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(software, "_check_snakemake", lambda: software.ok("snakemake", "there"))


def test_an_unknown_profile(quick):
    check = named(check_software("zirkon"), "profile zirkon")
    assert check.exit_code == 2
    assert "zircon" in check.found


def test_a_profile_that_submits_to_slurm(quick, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("executor: slurm\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda _name: None)
    check = named(check_software(str(tmp_path)), "SLURM")
    assert check.exit_code == 4
    assert "sbatch, squeue, sacct, scancel, snakemake_executor_plugin_slurm" in check.found
    for command in ("sbatch", "squeue", "sacct", "scancel"):
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda _name: object())
    assert named(check_software(str(tmp_path)), "SLURM").verdict == "ok"


def test_a_broken_profile(quick, tmp_path):
    (tmp_path / "config.yaml").write_text("executor: [local\n")
    assert named(check_software(str(tmp_path)), "profile").exit_code == 2


def test_modules_that_are_compiled_anew(quick, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    check = named(check_software("zircon"), "compiled modules")
    assert (check.verdict, "Unset it" in check.remedy) == ("warning", True)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert named(check_software("zircon"), "compiled modules").verdict == "ok"


def test_modules_that_nobody_compiled(quick, tmp_path, monkeypatch):
    package = tmp_path / "opticstream_smk"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(software.opticstream_smk, "__file__", str(package / "__init__.py"))
    assert named(check_software("zircon"), "compiled modules").found == "are made at the first use"
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != package)
    check = named(check_software("zircon"), "compiled modules")
    assert check.verdict == "note"
    assert f"compileall {package}" in check.remedy
