"""Ask snakemake for its jobs, finished ones included.

``snakemake --d3dag`` prints neither wildcards nor outputs and drops the edges that leave finished
jobs; ``--dag`` prints no outputs and only some wildcards. The DAG object has all of it, so it is
read from there, in a child process: building a DAG changes the working directory and ``sys.path``
and leaves temporary folders to the garbage collector.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opticstream_smk.errors import ConfigError, IncompleteInputError


@dataclass(frozen=True)
class PlannedJob:
    """One job as snakemake sees it.

    Attributes
    ----------
    id
        Snakemake's job number; only means something within its plan.
    rule
        Name of the rule.
    wildcards
        Values by name, as written in the paths (``{"mosaic": "01"}``).
    outputs
        Declared outputs, relative to the working directory. Empty for rules that only name goals.
    """

    id: int
    rule: str
    wildcards: dict[str, str]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All jobs that the targets need, and ``(before, after)`` pairs of job numbers."""

    jobs: tuple[PlannedJob, ...]
    edges: tuple[tuple[int, int], ...]


def plan_jobs(
    snakefile: Path,
    *,
    workdir: Path | None = None,
    configfiles: Iterable[Path] = (),
    config: Mapping[str, Any] | None = None,
    targets: Iterable[str] = (),
) -> Plan:
    """List the jobs for some targets without running, locking or changing anything.

    Takes about as long as a dry run: 1 s for the start of Python and snakemake, and some 10 ms per
    hundred jobs.

    Parameters
    ----------
    snakefile
        The workflow.
    workdir
        Where relative paths start; it wins over the Snakefile's own ``workdir:``. Default: the
        current folder.
    configfiles, config
        As ``--configfile`` and ``--config``.
    targets
        Flags or rules. Default: the first rule of the Snakefile.

    Raises
    ------
    IncompleteInputError
        A file that no rule makes is missing, as the ``.ready`` of a batch that has not arrived.
    ConfigError
        Snakemake refuses the workflow, the configuration or a target.
    """
    request = {
        "snakefile": str(Path(snakefile).resolve()),
        "workdir": str((workdir or Path.cwd()).resolve()),
        "configfiles": [str(Path(path).resolve()) for path in configfiles],
        "config": dict(config or {}),
        "targets": list(targets),
    }
    child = subprocess.run(
        [sys.executable, "-m", "opticstream_smk.dag.plan"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        raise ConfigError(
            f"snakemake could not read the workflow {snakefile}:\n{child.stderr.strip()}\n"
            "Run `snakemake -n` with the same configuration to see where it stops."
        )
    return _plan(json.loads(child.stdout))


def _plan(reply: dict[str, Any]) -> Plan:
    if "missing_input" in reply:
        raise IncompleteInputError(
            f"the plan needs files that are not there:\n{reply['missing_input']}\n"
            "Ask for targets whose batches have all arrived."
        )
    if "refused" in reply:
        raise ConfigError(
            f"snakemake cannot plan this:\n{reply['refused']}\n"
            "Check the targets and the configuration."
        )
    jobs = tuple(
        PlannedJob(job["id"], job["rule"], job["wildcards"], tuple(job["outputs"]))
        for job in reply["jobs"]
    )
    return Plan(jobs, tuple((before, after) for before, after in reply["edges"]))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Build the DAG in this process and describe it in plain values."""
    # Imported here: 0.5 s, and the parent process needs none of it.
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import MissingInputException, RuleException, WorkflowError
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        Quietness,
        RerunTrigger,
        ResourceSettings,
    )

    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(
                    config=request["config"],
                    configfiles=[Path(path) for path in request["configfiles"]],
                ),
                snakefile=Path(request["snakefile"]),
                workdir=Path(request["workdir"]),
            )
            settings = DAGSettings(
                targets=frozenset(request["targets"]),
                # Whether a job would run again is the caller's to decide; mtime is the cheapest.
                rerun_triggers=frozenset({RerunTrigger.MTIME}),
                # Input functions may cut what is finished off the DAG, but not from a picture.
                forceall=True,
            )
            # The public call that builds the DAG and neither locks nor complains about a driver
            # that is at work. What it prints is not used.
            workflow.dag(dag_settings=settings).printd3dag()
            # No public call gives the jobs themselves.
            return _describe(workflow._workflow.dag)
    except MissingInputException as error:
        return {"missing_input": str(error)}
    except (RuleException, WorkflowError) as error:
        return {"refused": str(error)}


def _describe(dag: Any) -> dict[str, Any]:
    jobs = sorted(dag.jobs, key=dag.jobid)
    planned = [
        PlannedJob(
            dag.jobid(job),
            job.rule.name,
            {name: str(value) for name, value in (job.wildcards_dict or {}).items()},
            tuple(str(output) for output in job.output),
        )
        for job in jobs
    ]
    edges = sorted(
        (dag.jobid(before), dag.jobid(job)) for job in jobs for before in dag.dependencies[job]
    )
    return {"jobs": [asdict(job) for job in planned], "edges": edges}


def _main() -> None:
    request = json.load(sys.stdin)
    # A Snakefile may print; the reply must stay alone on the standard output.
    with contextlib.redirect_stdout(sys.stderr):
        reply = _answer(request)
    json.dump(reply, sys.stdout)


if __name__ == "__main__":
    _main()
