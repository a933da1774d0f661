"""From the look that finds a batch stable to its first stage, and what a trigger costs.

A real watcher on a synthetic acquisition whose batches arrive one by one: alone, and while a
driver works on the same mosaic. Wall seconds from `.ready` to `.started`, which the first stage
writes (its own start included). Limit: 1.5 s on a quiet machine. Then CPU seconds of one driver,
without its stages, against `snakemake` started anew in the same run. Limit: 0.5 s.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from opticstream_smk.config import load_config
from opticstream_smk.plan import project_layout
from opticstream_smk.state.flags import read_flag
from opticstream_smk.trigger.drive import read_record
from opticstream_smk.trigger.drivers import Drivers
from opticstream_smk.trigger.ready import scan
from opticstream_smk.workflow import workflow_folder

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LATENCY_S, START_CPU_S = 1.5, 0.5


def make_project(folder: Path) -> Path:
    values = yaml.safe_load((REPO / "config/demo.yaml").read_text())
    values["project"] = {"name": "latency", "dir": "project"}
    values["acquisition"] |= {
        "sources": [{"dir": "raw"}],
        "calibration_file": "raw/wave-pixel.mat",
        "dispersion_file": "raw/dispersion.bin",
    }
    config = folder / "project.yaml"
    config.write_text(yaml.safe_dump(values))
    command = ["simulate", "psoct", "--config", config, "--out", folder / "all", "--workers", "2"]
    subprocess.run([BIN / "optic-trigger", *command], check=True, capture_output=True)
    (folder / "raw").mkdir()
    for name in ("wave-pixel.mat", "dispersion.bin"):
        os.link(folder / "all" / name, folder / "raw" / name)
    return config


def arrive(folder: Path, mosaic: int, batch: int) -> None:
    for image in range(3 * batch - 2, 3 * batch + 1):
        name = f"mosaic_{mosaic:03d}_image_{image:04d}_spectral_{image:04d}.nii"
        os.link(folder / "all" / name, folder / "raw" / name)


def wait_for(path: Path, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > end:
            sys.exit(f"{path} did not come within {timeout_s} s")
        time.sleep(0.01)


def latency_s(layout, mosaic: int, batch: int) -> float:
    wait_for(layout.batch_flag(mosaic, batch, "started"))
    ready = read_flag(layout.batch_flag(mosaic, batch, "ready"))
    started = read_flag(layout.batch_flag(mosaic, batch, "started"))
    return (started.started - ready.finished).total_seconds()


def latencies(folder: Path, config: Path) -> dict[str, list[float]]:
    layout = project_layout(load_config(config))
    command = ["watch", "--config", config, "--stability-seconds", "0", "--poll-interval", "0.2"]
    found: dict[str, list[float]] = {"alone": [], "beside another driver of the mosaic": []}
    with (folder / "watch.log").open("wb") as log:
        watcher = subprocess.Popen([BIN / "optic-trigger", *command], stdout=log, stderr=log)
        try:
            wait_for(layout.control / "watcher.json")
            time.sleep(3)  # the server imports snakemake once, long before a night's first batch
            for mosaic in (1, 2):
                arrive(folder, mosaic, 1)
                found["alone"].append(latency_s(layout, mosaic, 1))
                arrive(folder, mosaic, 2)  # the first batch has only begun
                found["beside another driver of the mosaic"].append(latency_s(layout, mosaic, 2))
                wait_for(layout.batch_flag(mosaic, 2, "qc"))
                time.sleep(1.5)
                arrive(folder, mosaic, 3)
                found["alone"].append(latency_s(layout, mosaic, 3))
                wait_for(layout.mosaic_picture(mosaic))
                time.sleep(1.5)
        finally:
            watcher.terminate()
            watcher.wait()
    return found


def start_cpu_s(config_path: Path) -> list[float]:
    """CPU of drivers whose goals are there: start, Snakefile, plan, end."""
    config = load_config(config_path)
    layout = project_layout(config)
    scan(config, assume_stable=True)
    profile = workflow_folder() / "profiles" / "zircon"
    drivers = Drivers(layout, config.project.name, config_path, profile)
    drivers.warm_up()
    found = []
    for _ in range(5):
        goal = layout.relative(layout.batch_flag(1, 1, "processed"))
        driver = drivers.start("compute", [goal], None)
        while driver.lives():
            time.sleep(0.02)
        record = read_record(driver.record)
        assert record is not None
        assert record["code"] == 0
        found.append(float(record["cpu_s"]))
        drivers.reap()
    return found


def anew_cpu_s(config: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["--profile", "profiles/zircon", "--configfile", config, "--quiet", "all", "--"]
    goal = "mosaic-01/state/batch-001.processed"
    subprocess.run([BIN / "snakemake", *command, goal], cwd=REPO, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = make_project(folder)
        found = latencies(folder, config)
        starts, anew = start_cpu_s(config), anew_cpu_s(config)
    for what, times in found.items():
        listed = ", ".join(f"{seconds:.2f}" for seconds in times)
        print(f"ready to first stage, {what:<36} median {median(times):.2f} s ({listed})")
    # The first one also waits for the server's imports.
    cpu = median(starts[1:])
    print(f"driver {cpu:.2f} CPU s, snakemake anew {anew:.2f} CPU s: {cpu / anew:.2f} x")
    slow = any(median(times) > LATENCY_S for times in found.values())
    ok = not slow and cpu <= START_CPU_S
    print("within the limits" if ok else f"BEYOND THE LIMITS ({LATENCY_S} s, {START_CPU_S} CPU s)")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
