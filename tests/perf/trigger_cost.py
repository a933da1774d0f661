"""What a trigger costs on day 1 and on day 30: snakemake for one goal, 1 and 100 finished slices.

CPU seconds of `snakemake -n` (the start-up and the plan, which is all that could grow), medians of
runs that alternate between both projects.

    PYTHONPATH=. python tests/perf/trigger_cost.py [--slices 100] [--repeats 7]
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from opticstream_smk.config import load_config
from tests.history import History, write_config

REPO = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
LIMIT = 1.2


def build(folder: Path, slices: int) -> tuple[Path, dict[str, str]]:
    """A project with so many finished slices, and a batch, a mosaic and a slice to be made."""
    path = write_config(folder)
    history = History(load_config(path))
    plan, layout = history.plan, history.layout
    history.finish(slices)
    mosaic, arriving = plan.mosaics(slices + 1)
    history.process(mosaic)
    history.enter(arriving, 1)
    history.stitch(slices + 2)
    return path, {
        "new batch": layout.relative(layout.batch_flag(arriving, 1, "processed")),
        "mosaic": layout.relative(layout.mosaic_flag(mosaic, "stitched")),
        "slice": layout.relative(layout.slice_flag(slices + 2, "registered")),
    }


def cpu_s(config: Path, goal: str) -> float:
    """CPU seconds of one dry run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [SNAKEMAKE, "--profile", "profiles/zircon", "--configfile", config, "-n", "--", goal],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0 or "total" not in done.stdout + done.stderr:
        sys.exit(f"snakemake made no plan for {goal}:\n{done.stdout}{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Print the table; 1 when a goal costs more than it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        young = build(Path(folder, "young"), 1)
        old = build(Path(folder, "old"), arguments.slices)
        for config, goals in (young, old):
            cpu_s(config, goals["new batch"])  # compiles, fills the page cache
        print(f"CPU s of a trigger, median of {arguments.repeats}")
        print(f"{'goal':<12}{'1 slice':>10}{f'{arguments.slices} slices':>12}{'ratio':>8}")
        worst = 0.0
        for goal in young[1]:
            found: tuple[list[float], list[float]] = ([], [])
            for _ in range(arguments.repeats):
                for (config, goals), times in zip((young, old), found, strict=True):
                    times.append(cpu_s(config, goals[goal]))
            first, last = map(statistics.median, found)
            worst = max(worst, last / first)
            print(f"{goal:<12}{first:>10.2f}{last:>12.2f}{last / first:>8.2f}")
    print(f"limit {LIMIT}: {'kept' if worst <= LIMIT else 'EXCEEDED'}")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
