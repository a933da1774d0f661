"""Real snakemake runs with ``--logger optic``."""

import json
import os
import subprocess
import sys
import time
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.events import read_events
from tests.conftest import REPO
from tests.e2e.conftest import Project

BIN = Path(sys.executable).parent
SNAKEFILE = """
rule all:
    input: "mosaic-01/batch-001.done", "slice-02.done"

rule process:
    output: "mosaic-{mosaic}/batch-{batch}.done"
    log: "logs/process/mosaic-{mosaic}_batch-{batch}.log"
    threads: 2
    shell: "test ! -e wait || while [ ! -e go ]; do sleep 0.05; done; touch {output:q}"

rule register:
    input: "mosaic-01/batch-001.done"
    output: "slice-{slice}.done"
    log: "logs/register/slice-{slice}.log"
    shell: "test ! -e bad; touch {output:q}"
"""


class Workflow:
    """A small workflow in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "Snakefile").write_text(SNAKEFILE)

    def start(self, *options, **environment):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OPTIC_")}
        return subprocess.Popen(
            [BIN / "snakemake", "--logger", "optic", "-c2", *options],
            cwd=self.folder,
            env={**clean, "PYTHONPATH": str(REPO), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options, **environment):
        process = self.start(*options, **environment)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    @property
    def events(self):
        return read_events(ProjectLayout(self.folder))

    @property
    def told(self):
        """Level and state of every event, with the rule of a job."""
        return [
            " ".join([event["event"].split(".", 2)[2], event.get("rule", "")]).strip()
            for event in self.events
        ]


@pytest.fixture
def workflow(tmp_path):
    return Workflow(tmp_path / "a block")


def test_a_run_that_succeeds(workflow):
    done = workflow.run("--quiet", "all")
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert workflow.told == [
        "driver.started",
        "job.started process",
        "job.finished process",
        "job.started register",
        "job.finished register",
        "job.started all",
        "job.finished all",
        "driver.finished",
    ]
    started, job, job_done, *_, finished = workflow.events
    assert started["jobs"] == {"all": 1, "process": 1, "register": 1}
    assert started["progress"] == {"done": 0, "total": 3}
    assert job["event"] == "linc.oct.job.started"
    assert (job["mosaic_id"], job["batch_id"], job["threads"]) == (1, 1, 2)
    assert job["log"] == "logs/process/mosaic-01_batch-001.log"
    assert job_done["progress"] == {"done": 1, "total": 3}
    assert job_done["jobid"] == job["jobid"]
    assert 0 <= job_done["duration_s"] < 60
    assert finished["progress"] == {"done": 3, "total": 3}
    assert finished["failed_jobs"] == 0
    assert "error" not in finished
    drivers = {event["driver"] for event in workflow.events}
    assert drivers == {f"snakemake-{started['pid']}"}
    assert {event["project_name"] for event in workflow.events} == {"a block"}
    assert all(a["time"] <= b["time"] for a, b in pairwise(workflow.events))


def test_a_job_that_fails(workflow):
    (workflow.folder / "bad").touch()
    assert workflow.run("--retries", "1").returncode == 1
    assert workflow.told == [
        "driver.started",
        "job.started process",
        "job.finished process",
        "job.started register",
        "job.failed register",
        "job.started register",
        "job.failed register",
        "driver.finished",
    ]
    failed, finished = workflow.events[-2:]
    assert failed["slice_id"] == 2
    assert "mosaic_id" not in failed
    assert failed["log"] == "logs/register/slice-02.log"
    assert failed["progress"] == {"done": 1, "total": 3}
    assert finished["failed_jobs"] == 2
    assert "test ! -e bad" in finished["error"]


def test_the_watcher_says_whose_run_it_is(workflow, tmp_path):
    project = tmp_path / "elsewhere"
    done = workflow.run(
        "mosaic-03/batch-002.done",
        OPTIC_PROJECT_DIR=str(project),
        OPTIC_PROJECT_NAME="I55",
        OPTIC_DRIVER="run-7",
    )
    assert done.returncode == 0, done.stderr
    events = read_events(ProjectLayout(project))
    assert len(events) == 4
    assert {(event["project_name"], event["driver"]) for event in events} == {("I55", "run-7")}
    assert {event["project_base_path"] for event in events} == {str(project)}
    assert not (workflow.folder / "state").exists()


def test_a_run_that_cannot_begin(workflow):
    assert workflow.run("no-such-file").returncode == 1
    assert workflow.events == []
    assert not (workflow.folder / "state").exists()
    workflow.run("no-such-file", OPTIC_PROJECT_DIR=str(workflow.folder), OPTIC_DRIVER="run-8")
    assert workflow.told == ["driver.failed"]
    assert "no-such-file" in workflow.events[0]["error"]
    assert workflow.events[0]["driver"] == "run-8"


def test_nothing_to_do_and_dry_runs_leave_no_event(workflow):
    dry = workflow.run("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "process" in dry.stdout
    assert not (workflow.folder / "state").exists()
    workflow.run()
    before = workflow.events
    workflow.run()
    assert workflow.events == before


def test_events_come_while_jobs_run(workflow):
    (workflow.folder / "wait").touch()
    process = workflow.start("--quiet", "all")
    try:
        until = time.monotonic() + 60
        while workflow.told[-1:] != ["job.started process"] and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        assert workflow.told == ["driver.started", "job.started process"]
    finally:
        (workflow.folder / "go").touch()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert workflow.told[-1] == "driver.finished"


def test_a_log_that_cannot_be_written_is_told_once_and_the_work_goes_on(workflow):
    (workflow.folder / "state").write_text("a file in place of the folder")
    done = workflow.run("--quiet", "all")
    assert done.returncode == 0
    assert (workflow.folder / "slice-02.done").exists()
    assert done.stderr.count("--logger optic") == 1
    assert f"{workflow.folder}/state/events" in done.stderr


def test_a_missing_events_folder_comes_back(workflow):
    workflow.run("mosaic-01/batch-001.done")
    log = next((workflow.folder / "state/events").iterdir())
    log.unlink()
    log.parent.rmdir()
    workflow.run("slice-02.done")
    assert workflow.told[1] == "job.started register"


_COST = """
import logging, resource, sys, time
from snakemake.cli import main
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent

before = time.process_time()
from snakemake_logger_plugin_optic import LogHandler
handler = LogHandler(OutputSettings(), None)
for event in (LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, None):
    record = logging.makeLogRecord({"msg": "Nothing to be done", "event": event})
    handler.handle(record)
handler.close()
heavy = "opticstream_smk" in sys.modules
print(time.process_time() - before, heavy)
"""


def test_a_run_without_work_costs_nothing(tmp_path):
    costs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", _COST],
            cwd=tmp_path, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )  # fmt: skip
        cost, imported = done.stdout.split()
        assert imported == "False"
        costs.append(float(cost))
    assert min(costs) < 0.02
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def project(tmp_path):
    """One slice of the smallest mosaics that can be processed."""
    one = {"grid_size_x_normal": 1, "grid_size_x_tilted": 1, "grid_size_y": 2}
    overrides = {f"acquisition__{key}": value for key, value in one.items()}
    made = Project(tmp_path, tmp_path / "raw", overrides)
    made.trigger("simulate psoct", "--out", made.raw)
    made.trigger("scan", "--assume-stable")
    return made


def test_a_real_project(project):
    project.snakemake("--logger", "optic", "--", "mosaic-01/state/batch-001.qc")
    events = read_events(ProjectLayout(project.dir))
    told = [(event["event"].removeprefix("linc.oct."), event.get("rule")) for event in events]
    # Flags tell of themselves, between the start and the end of the job that writes them.
    chain = ["job.started", "job.finished"]
    for rule, flag in [
        ("convert_complex", "batch.complex"),
        ("process_tiles", "batch.processed"),
        ("qc_tiles", "batch.qc"),
    ]:
        places = [told.index((state, rule)) for state in chain]
        places.insert(1, told.index((flag, None)))
        assert places == sorted(places), told
    assert told[-1] == ("driver.finished", None)
    jobs = [event for event in events if event["event"].startswith("linc.oct.job.")]
    assert {(event["mosaic_id"], event["batch_id"]) for event in jobs} == {(1, 1)}
    assert {event["project_base_path"] for event in jobs} == {str(project.dir)}
    assert (project.dir / jobs[0]["log"]).is_file()


def test_a_real_project_with_a_bad_tile(project):
    spoilt = next(project.raw.glob("mosaic_002*spectral*"))
    spoilt.write_bytes(spoilt.read_bytes()[:-100])
    done = project.snakemake(
        "--logger", "optic", "--", "mosaic-02/state/batch-001.processed", check=False
    )
    assert done.returncode == 1
    events = read_events(ProjectLayout(project.dir))
    failed = next(event for event in events if event["event"] == "linc.oct.job.failed")
    assert (failed["rule"], failed["mosaic_id"], failed["batch_id"]) == ("convert_complex", 2, 1)
    assert spoilt.name in (project.dir / failed["log"]).read_text()
    assert events[-1]["event"] == "linc.oct.driver.finished"
    assert events[-1]["failed_jobs"] == 1


def test_lines_are_whole(workflow):
    """Several runs append to one log at the same time."""
    running = [workflow.start("--nolock", f"mosaic-0{n}/batch-001.done") for n in (1, 2, 3)]
    for process in running:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    log = next((workflow.folder / "state/events").glob("*.jsonl"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 3 * 4
    assert len({line["driver"] for line in lines}) == 3


def test_the_package_is_in_the_wheel():
    built = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert "snakemake_logger_plugin_optic" in built["targets"]["wheel"]["packages"]
