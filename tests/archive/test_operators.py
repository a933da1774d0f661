"""Operators' commands where there is an archive."""

import subprocess
import sys
from pathlib import Path

import pytest

from opticstream_smk.report.look import Look
from opticstream_smk.stages.stage import Stage, TilesFailedError, run_stage
from opticstream_smk.state.failures import failures_in
from tests.report.flags import put, working


def run(bench, *words):
    trigger = Path(sys.executable).with_name("optic-trigger")
    config = bench.layout.root.parent / "project.yaml"
    command = [trigger, *map(str, words), "--config", config]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_archived_is_not_set_by_hand(bench):
    bench.archive()
    bench.layout.batch_flag(1, 1, "archived").unlink()
    done = run(bench, "state", "mark", "archived", "true", "--mosaic", 1, "--batch", 1)
    assert done.returncode == 2
    assert (
        "it is not set by hand. Run `optic-stage archive_batch --mosaic 1 --batch 1`" in done.stderr
    )
    assert bench.flag() is None
    bench.archive()
    done = run(bench, "state", "mark", "archived", "false", "--mosaic", 1, "--batch", 1)
    assert (done.returncode, bench.flag()) == (0, None)
    assert bench.file(1).exists()


def test_redo_leaves_every_file(bench):
    bench.everything()
    before = sorted(bench.folder.iterdir())
    done = run(bench, "redo", "--from", "archive_batch", "--mosaic", 2)
    assert done.stdout.count("withdrawn  ") == 2
    assert [bench.flag(m, b) is None for m in (1, 2) for b in (1, 2)] == [False] * 2 + [True] * 2
    assert sorted(bench.folder.iterdir()) == before


def fail_both(bench):
    bench.raw_file(1).unlink()
    with pytest.raises(TilesFailedError):
        bench.archive()

    def compute(_context):
        raise TilesFailedError("1 of 2 tiles failed", (1,), "data", 3)

    stage = Stage("process_tiles", "batch", "processed", lambda *_: {}, lambda _: [], compute)
    with pytest.raises(TilesFailedError):
        run_stage(stage, bench.config, bench.place())
    assert len(failures_in(bench.flag(state="failed"))) == 2


def test_retry_releases_both(bench):
    fail_both(bench)
    done = run(bench, "retry", "--all")
    assert "released mosaic 001 batch 001: process_tiles, attempt 1 of 3" in done.stdout
    assert bench.flag(state="failed") is None


def test_retry_leaves_what_is_being_tried_now(bench):
    fail_both(bench)
    with working(bench.config, bench.place(), "archived"):
        run(bench, "retry", "--all")
    (left,) = failures_in(bench.flag(state="failed"))
    assert left.extra["flag"] == "batch-001.archived"


def test_explain_tells_why_a_batch_is_not_archived(bench):
    fail_both(bench)
    done = run(bench, "explain", "--mosaic", 1, "--batch", 1)
    (line,) = [line for line in done.stdout.splitlines() if "archive_batch " in line]
    assert "failed   failed (data), attempt 1 of 3" in line
    assert "cannot be seen any more" in done.stdout
    put(bench.config, bench.place(), "archived", stage="archive_batch")
    look = Look(bench.config)
    assert [failure.stage for failure in look.failures()] == ["process_tiles"]


def test_the_picture_of_the_pipeline_has_it(bench, tmp_path):
    bench.archive()
    (bench.raw / "wave-pixel.mat").touch()
    done = run(bench, "dag", "-o", tmp_path / "dag.mmd")
    assert done.returncode == 0, done.stderr
    assert "archive_batch" in (tmp_path / "dag.mmd").read_text()
