import subprocess
import sys
from pathlib import Path

import pytest

from opticstream_smk.dag import plan_jobs, restrict_to_slice, snakemake_graph
from opticstream_smk.dag.graph import State
from opticstream_smk.dag.plan import Plan, PlannedJob
from opticstream_smk.errors import ConfigError, IncompleteInputError

SNAKEFILE = """
print("a Snakefile may print")
BATCHES = [f"{b:03d}" for b in range(1, config.get("batches", 3) + 1)]

rule all:
    input:
        "state/slice-01.registered",
        expand("report/mosaic-{mosaic}.jpg", mosaic=["01", "02"]),

rule convert_complex:
    input: ancient("mosaic-{mosaic}/state/batch-{batch}.ready")
    output: "mosaic-{mosaic}/state/batch-{batch}.complex"
    shell: "touch {output}"

rule process_tiles:
    input: "mosaic-{mosaic}/state/batch-{batch}.complex"
    output: "mosaic-{mosaic}/state/batch-{batch}.processed"
    shell: "touch {output}"

rule solve_coordinates:
    input: expand("mosaic-01/state/batch-{batch}.processed", batch=BATCHES)
    output: "state/tilemap-{acquisition}.solved"
    shell: "touch {output}"

rule stitch_enface:
    input:
        expand("mosaic-{{mosaic}}/state/batch-{batch}.processed", batch=BATCHES),
        ancient("state/tilemap-normal.solved"),
    output: "mosaic-{mosaic}/state/mosaic-{mosaic}.stitched"
    shell: "touch {output}"

rule register_slice:
    input: expand("mosaic-{mosaic}/state/mosaic-{mosaic}.stitched", mosaic=["01", "02"])
    output: "state/slice-{slice}.registered"
    shell: "touch {output}"

rule qc_mosaic:
    input: "mosaic-{mosaic}/state/mosaic-{mosaic}.stitched"
    output: "report/mosaic-{mosaic}.jpg"
    shell: "touch {output}"
"""


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for mosaic in ("01", "02"):
        folder = tmp_path / "project" / f"mosaic-{mosaic}" / "state"
        folder.mkdir(parents=True)
        for batch in (1, 2, 3):
            (folder / f"batch-{batch:03d}.ready").touch()
    return tmp_path / "project"


def tree(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found if not name.startswith(".snakemake")}


def test_plan_of_a_slice_shows_finished_jobs_too(project):
    snakefile = project.parent / "Snakefile"
    subprocess.run(
        f"{sys.executable} -m snakemake -s {snakefile} -d {project} -c1 -q all "
        "-- mosaic-01/state/batch-001.processed".split(),
        check=True,
        capture_output=True,
    )
    before = tree(project)

    def state_of(outputs: tuple[str, ...]) -> State:
        return "done" if all((project / output).exists() for output in outputs) else "pending"

    graph = snakemake_graph(plan_jobs(snakefile, workdir=project), state_of)
    assert tree(project) == before

    node = {node.id: node for node in graph.nodes}
    assert len(node) == 6 + 6 + 1 + 2 + 1 + 2
    assert "all" not in {n.rule for n in graph.nodes}
    done = {n.id for n in graph.nodes if n.state == "done"}
    assert done == {f"mosaic-01/state/batch-001.{kind}" for kind in ("complex", "processed")}

    batch = node["mosaic-02/state/batch-003.processed"]
    assert (batch.rule, batch.level) == ("process_tiles", "batch")
    assert (batch.slice, batch.mosaic, batch.batch) == (1, 2, 3)
    assert batch.label == "process_tiles"
    assert batch.outputs == (batch.id,)
    template = node["state/tilemap-normal.solved"]
    assert (template.level, template.slice, template.mosaic) == ("project", None, None)
    assert template.label == "solve_coordinates\nnormal"
    assert node["report/mosaic-02.jpg"].level == "picture"
    assert node["report/mosaic-02.jpg"].mosaic == 2
    assert node["mosaic-01/state/mosaic-01.stitched"].level == "mosaic"
    assert node["state/slice-01.registered"].level == "slice"

    edges = set(graph.edges)
    finished = ("mosaic-01/state/batch-001.complex", "mosaic-01/state/batch-001.processed")
    assert finished in edges
    assert ("mosaic-01/state/batch-001.processed", template.id) in edges
    # batches -> process 6, -> template 3, -> stitch 6, template -> stitch 2, -> slice 2, -> qc 2
    assert len(edges) == 6 + 3 + 6 + 2 + 2 + 2


def test_targets_and_config_are_passed_on(project):
    target = "mosaic-02/state/mosaic-02.stitched"
    snakefile = project.parent / "Snakefile"
    settings = project.parent / "settings.yaml"
    settings.write_text("batches: 2\n")
    for given in ({"config": {"batches": 2}}, {"configfiles": [settings]}):
        plan = plan_jobs(snakefile, workdir=project, targets=[target], **given)
        assert sorted(job.rule for job in plan.jobs) == sorted(
            ["convert_complex", "process_tiles"] * 4 + ["solve_coordinates", "stitch_enface"]
        )


def test_what_snakemake_refuses_is_said(project):
    snakefile = project.parent / "Snakefile"
    with pytest.raises(IncompleteInputError, match=r"mosaic-07/state/batch-001\.ready"):
        plan_jobs(snakefile, workdir=project, targets=["mosaic-07/state/batch-001.complex"])
    with pytest.raises(ConfigError, match="no_such_rule"):
        plan_jobs(snakefile, workdir=project, targets=["no_such_rule"])
    snakefile.write_text("rule broken:\n    output: 1/0\n")
    with pytest.raises(ConfigError, match="division by zero"):
        plan_jobs(snakefile, workdir=project)


def job(number: int, rule: str, output: str, **wildcards: str) -> PlannedJob:
    return PlannedJob(number, rule, wildcards, (output,))


def test_slices_follow_from_mosaics():
    plan = Plan((job(1, "stitch_enface", "mosaic-05/state/mosaic-05.stitched", mosaic="05"),), ())
    assert snakemake_graph(plan, lambda _: "ready").nodes[0].slice == 3
    assert snakemake_graph(plan, lambda _: "ready", mosaics_per_slice=3).nodes[0].slice == 2


def test_light_sheet_jobs():
    plan = Plan(
        (
            job(
                1,
                "lsm_compress",
                "slice-02/channel-01/state/strip-0003.compressed",
                slice="02",
                channel="01",
                strip="0003",
            ),
        ),
        (),
    )
    graph = snakemake_graph(plan, lambda _: "running")
    assert graph.pipeline == "lsm"
    node = graph.nodes[0]
    assert (node.slice, node.mosaic, node.batch, node.level) == (2, 1, 3, "batch")


def test_one_slice_keeps_the_template_of_another():
    plan = Plan(
        (
            job(1, "process_tiles", "mosaic-01/state/b.processed", mosaic="01", batch="001"),
            job(2, "solve_coordinates", "state/tilemap-normal.solved", acquisition="normal"),
            job(3, "stitch_enface", "mosaic-05/state/mosaic-05.stitched", mosaic="05"),
            job(4, "stitch_enface", "mosaic-01/state/mosaic-01.stitched", mosaic="01"),
        ),
        ((1, 2), (2, 3), (2, 4), (1, 4)),
    )
    graph = restrict_to_slice(snakemake_graph(plan, lambda _: "done"), 3)
    assert graph.edges == (("state/tilemap-normal.solved", "mosaic-05/state/mosaic-05.stitched"),)
    assert len(graph.nodes) == 2
