import os

import psutil
import pytest

from opticstream_smk.config.run import RunSection
from opticstream_smk.host.limits import host_limits, host_memory_mb, under_slurm

GIB = 2**30


def test_what_is_configured_counts():
    run = RunSection(cores=3, memory_mb=5000, max_tile_jobs=7, max_stitch_jobs=1)
    limits = host_limits(run)
    assert (limits.cores, limits.memory_mb) == (3, 5000)
    assert limits.jobs == {"tile": 7, "stitch": 1, "volume": 2, "register": 2, "upload": 2}


def test_by_default_all_cores_and_most_of_the_memory():
    limits = host_limits(RunSection())
    assert limits.cores == len(os.sched_getaffinity(0))
    total = psutil.virtual_memory().total / 2**20
    assert 0 < limits.memory_mb <= 0.85 * total
    assert limits.jobs["tile"] is None


def test_only_cores_that_stages_may_use_count():
    core = min(os.sched_getaffinity(0))
    assert host_limits(RunSection(cpu_affinity=f"{core}")).cores == 1
    # Cores that are not there are named when a stage starts; here they only must not be 0.
    assert host_limits(RunSection(cpu_affinity="4000")).cores == 1


@pytest.fixture
def control_groups(tmp_path):
    """Write what a process reads about its control groups."""

    def write(line, **limits):
        (tmp_path / "cgroup").write_text(f"12:cpu,cpuacct:/x\n{line}\n")
        for place, limit in limits.items():
            path = tmp_path.joinpath("fs", *place.split("__"))
            path.mkdir(parents=True, exist_ok=True)
            for name in ("memory.max", "memory.limit_in_bytes"):
                (path / name).write_text(f"{limit}\n")
        return host_memory_mb(tmp_path / "cgroup", tmp_path / "fs")

    return write


def test_a_control_group_limits_memory(control_groups):
    assert control_groups("0::/a/b", a=GIB, a__b=2 * GIB) == 1024
    assert control_groups("0::/a/b", a=GIB, a__b=GIB // 2) == 512


def test_a_control_group_of_version_1(control_groups):
    assert control_groups("4:memory:/job", memory__job=GIB // 4) == 256


def test_a_control_group_without_limit(control_groups):
    total = psutil.virtual_memory().total // 2**20
    assert control_groups("0::/a", a="max") == total
    # Version 1 writes a number that no machine has.
    assert control_groups("4:memory:/job", memory__job=2**63 - 4096) == total


def test_inside_a_container_only_the_root_is_there(control_groups, tmp_path):
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/memory.max").write_text(str(GIB))
    assert control_groups("0::/docker/123") == 1024


def test_a_host_without_control_groups(tmp_path):
    assert host_memory_mb(tmp_path / "no", tmp_path) == psutil.virtual_memory().total // 2**20


def test_under_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert not under_slurm()
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert under_slurm()
