import json
import os

import pytest

from opticstream_smk.config.run import RunSection
from opticstream_smk.errors import ConfigError
from opticstream_smk.host import affinity
from opticstream_smk.host.affinity import settle_process

SETTLED = """
import json, os, sys
from opticstream_smk.config.run import RunSection
from opticstream_smk.host.affinity import settle_process
os.nice(int(sys.argv[2]))
for _ in range(2):
    settle_process(RunSection(**json.loads(sys.argv[1])))
print(json.dumps([sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)]))
"""
CORE = min(os.sched_getaffinity(0))


def settled(child, values, *, nice=0, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "SLURM_JOB_ID"}
    process = child(SETTLED, json.dumps(values), nice, env={**clean, **environment})
    out, error = process.communicate()
    assert process.returncode == 0, error
    return tuple(json.loads(out))


def test_a_stage_is_confined_and_nice(child):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    values = {"cpu_affinity": str(CORE), "nice": min(own + 3, 19)}
    assert settled(child, values) == ([CORE], min(own + 3, 19))


def test_without_configuration_nothing_changes(child):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert settled(child, {}) == (sorted(os.sched_getaffinity(0)), own)


def test_a_nicer_process_stays_so(child):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert settled(child, {"nice": 1}, nice=9)[1] == min(own + 9, 19)


def test_slurm_chooses_the_cores_of_its_jobs(child):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    values = {"cpu_affinity": "4000", "nice": min(own + 2, 19)}
    found = settled(child, values, SLURM_JOB_ID="4")
    assert found == (sorted(os.sched_getaffinity(0)), min(own + 2, 19))


def test_cores_that_do_not_exist_are_named(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match=r"4000-4001: this host has no core 4000, 4001; it has"):
        settle_process(RunSection(cpu_affinity="4000-4001"))


def test_cores_that_this_process_may_not_use(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(affinity, "present_cores", lambda: frozenset(range(64)))
    monkeypatch.setattr(affinity.os, "sched_getaffinity", lambda _: {2, 3})
    with pytest.raises(ConfigError, match=r"14-27: this process may only use the cores 2, 3"):
        settle_process(RunSection(cpu_affinity="14-27"))


def test_cores_partly_allowed(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    chosen = []
    monkeypatch.setattr(affinity, "present_cores", lambda: frozenset(range(64)))
    monkeypatch.setattr(affinity.os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(affinity.os, "sched_setaffinity", lambda _, cores: chosen.append(cores))
    settle_process(RunSection(cpu_affinity="14-27"))
    assert chosen == [{14, 15}]


def test_this_host_has_the_cores_that_it_runs_on():
    assert os.sched_getaffinity(0) <= affinity.present_cores()
