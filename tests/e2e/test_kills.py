"""A hundred kills at random: watcher, driver and stage by turns, while two slices are made."""

import random
import time

import psutil
import yaml

from tests.e2e.conftest import Project
from tests.e2e.watching import Watch, events, flags, kill, products, session

KILLS = 100


def victims(watch, kind):
    """Processes of a kind that can be killed now."""
    drivers = watch.drivers()
    if kind == "driver":
        return [psutil.Process(pid) for pid in drivers if psutil.pid_exists(pid)]
    return [
        process
        for pid in drivers
        for process in session(pid)
        if process.pid != pid and "optic-stage" in " ".join(command_line(process))
    ]


def command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def names(folder):
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def strike(watch, kind, chance):
    """Kill one process of a kind; a watcher is started again, as systemd would."""
    if kind == "watcher":
        watch.process.kill()
        watch.process.wait()
        watch.start()
        return True
    found = victims(watch, kind)
    return bool(found) and kill(chance.choice(found))


def test_a_hundred_kills_lose_and_repeat_nothing(finished_session, raw, tmp_path):
    project = Project(tmp_path, raw)
    values = yaml.safe_load(project.config.read_text())
    values["run"] |= {
        # Killed stages are tried again soon, and never set aside.
        "retry": {"resource": {"first_s": 0.2, "longest_s": 1, "attempts": 1000}}
    }
    project.config.write_text(yaml.safe_dump(values))
    chance = random.Random(4)
    struck = {"watcher": 0, "driver": 0, "stage": 0}
    wanted = flags(finished_session.dir)
    options = ("--stability-seconds", 0, "--poll-interval", 0.3)
    with Watch(project, *options) as watch:
        end = time.monotonic() + 900
        rounds = 0
        while sum(struck.values()) < KILLS and time.monotonic() < end:
            kind = ("stage", "driver", "watcher")[rounds % 3]
            # A watcher needs a moment before it can do anything at all.
            time.sleep(chance.uniform(1.5, 4.0) if kind == "stage" else chance.uniform(0.1, 1.5))
            if strike(watch, kind, chance):
                struck[kind] += 1
                rounds += 1
            elif not watch.drivers() and flags(project.dir) >= wanted:
                # All is made: have a slice made again, receipts and all.
                project.trigger("redo", "--from", "convert_complex", "--slice", 1)
        assert sum(struck.values()) == KILLS, struck
        assert min(struck.values()) >= KILLS // 4, struck
        pictures = names(finished_session.dir / "report")

        def is_done():
            has_all = flags(project.dir) >= wanted and names(project.dir / "report") >= pictures
            return has_all and not watch.drivers()

        watch.until(is_done, 300, 0.5)
        code, _ = watch.stop()
        assert code == 0
    made, undisturbed = products(project.dir), products(finished_session.dir)
    different = {
        name for name in made.keys() | undisturbed.keys() if made.get(name) != undisturbed.get(name)
    }
    assert not different, sorted(different)
    assert not list(project.dir.rglob("*.failed"))
    assert not list((project.dir / "state/control/drivers").iterdir())
    # Nothing was done twice: each .processed was announced once, or withdrawn in between, or
    # removed by snakemake because its stage was killed after it had written it. (A stage that is
    # killed between its flag and the event announces nothing.)
    announced = len(events(project.dir, "linc.oct.batch.processed"))
    withdrawn = len(list((project.dir / "state/withdrawn").glob("*/*.processed")))
    removed = sum(
        log.read_text(errors="replace").count("output files of failed job process_tiles")
        for log in (project.dir / "logs/drivers").iterdir()
    )
    assert announced - withdrawn - removed <= 12
    assert project.trigger("doctor", check=False).returncode == 0
