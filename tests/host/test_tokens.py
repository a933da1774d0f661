import logging
import os
import random
import signal
import stat
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from opticstream_smk.errors import ConfigError, ServiceError
from opticstream_smk.host import tokens
from opticstream_smk.host.tokens import living_tokens, take, token_folder

HOLDER = """
import sys, time
from pathlib import Path
from opticstream_smk.config.run import RunSection
from opticstream_smk.host.tokens import take
run = RunSection(token_dir=Path(sys.argv[1]), cores=4, memory_mb=1000)
with take(run, None, cores=4, memory_mb=100, label="the other job"):
    {inside}
    print("held", flush=True)
    time.sleep(60)
"""


def names(run) -> list[str]:
    return sorted(path.name for path in token_folder(run).iterdir() if path.suffix == ".token")


class Job:
    """A job in a thread: takes tokens, works until it is told to end."""

    def __init__(self, run, kind, cores, memory_mb, label, order):
        self.run = run
        self.works = threading.Event()
        self.end = threading.Event()

        def work():
            with take(run, kind, cores=cores, memory_mb=memory_mb, label=label):
                order.append(label)
                self.works.set()
                assert self.end.wait(20)

        self.thread = threading.Thread(target=work)
        self.thread.start()

    def is_waiting(self):
        """Whether it does not work in the time of some looks."""
        return not self.works.wait(0.12)


@pytest.fixture
def start():
    """Start jobs; they end with the test, when everything else was given back."""
    jobs, order = [], []

    def start_job(run, kind=None, *, cores=1, memory_mb=10, label="a job"):
        jobs.append(Job(run, kind, cores, memory_mb, label, order))
        return jobs[-1]

    start_job.order = order
    yield start_job
    for job in jobs:
        job.end.set()
    for job in jobs:
        job.thread.join(20)
    assert not any(job.thread.is_alive() for job in jobs)
    assert len(order) == len(jobs)


def wait_for_tokens(run, count):
    deadline = time.monotonic() + 10
    while len(living_tokens(token_folder(run))) != count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_token_says_what_its_job_takes(make_run):
    run = make_run()
    with take(run, "stitch", cores=2, memory_mb=300, label="stitch_enface mosaic 003"):
        ((token, label),) = living_tokens(token_folder(run)).items()
        assert (token.kind, token.cores, token.memory_mb) == ("stitch", 2, 300)
        assert (token.state, token.pid, label) == (
            "working",
            os.getpid(),
            "stitch_enface mosaic 003",
        )
        assert names(run) == [token.name]
    assert names(run) == []


def test_every_user_may_use_the_folder(make_run):
    run = make_run()
    before = os.umask(0o077)
    try:
        with take(run, None, cores=1, memory_mb=1):
            folder = token_folder(run)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
            modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
            assert modes == {0o666}
            assert len(names(run)) == 1
    finally:
        os.umask(before)


def test_the_default_folder_is_in_the_temporary_folder(make_run, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert token_folder(make_run(token_dir=None)) == tmp_path / "opticstream-tokens"


def test_the_number_of_jobs_of_a_kind_is_limited(make_run, start, caplog):
    caplog.set_level(logging.INFO)
    run = make_run(max_stitch_jobs=2)
    with take(run, "stitch", cores=1, memory_mb=1, label="the first"):
        second, other = start(run, "stitch"), start(run, "register")
        assert second.works.wait(10)
        assert other.works.wait(10)
        third = start(run, "stitch")
        wait_for_tokens(run, 4)
        assert third.is_waiting()
        second.end.set()
        assert third.works.wait(10)
    waiting, went_on = caplog.messages
    assert waiting.startswith("waiting for a place among 2 stitch jobs (run.max_stitch_jobs), held")
    assert f"process {os.getpid()} (the first)" in waiting
    assert went_on.startswith("waited 0.")


def test_tiles_are_limited_by_cores_alone_unless_configured(make_run, start):
    with ExitStack() as stack:
        run = make_run()
        for _ in range(4):
            stack.enter_context(take(run, "tile", cores=1, memory_mb=1))
        assert len(names(run)) == 4
    run = make_run(max_tile_jobs=1)
    with take(run, "tile", cores=1, memory_mb=1):
        assert start(run, "tile").is_waiting()


@pytest.mark.parametrize(("cores", "memory_mb"), [(2, 10), (1, 600)])
def test_cores_and_memory_are_limited_over_all_kinds(make_run, start, caplog, cores, memory_mb):
    caplog.set_level(logging.INFO)
    run = make_run()
    with take(run, "tile", cores=3, memory_mb=500, label="the first"):
        second = start(run, "register", cores=cores, memory_mb=memory_mb)
        wait_for_tokens(run, 2)
        assert second.is_waiting()
        waiting = caplog.messages[0]
    assert second.works.wait(10)
    assert f"waiting for cores ({cores}) and memory ({memory_mb} MB): 1 of 4 cores" in waiting
    assert "and 500 of 1000 MB (run.memory_mb) are free; held by" in waiting
    assert f"held by process {os.getpid()} (the first)" in waiting


def test_projects_with_other_limits_share_the_host(make_run, start):
    large, small = make_run(max_register_jobs=3), make_run(max_register_jobs=1)
    with take(large, "register", cores=1, memory_mb=1):
        assert start(large, "register").works.wait(10)
        assert start(small, "register").is_waiting()


def test_who_needs_much_is_not_overtaken(make_run, start):
    run = make_run()
    first = start(run, cores=2, label="first")
    assert first.works.wait(10)
    large = start(run, cores=4, label="large")
    wait_for_tokens(run, 2)
    # Two cores are free, and still it is not its turn.
    small = start(run, cores=1, label="small")
    wait_for_tokens(run, 3)
    assert small.is_waiting()
    first.end.set()
    assert large.works.wait(10)
    assert small.is_waiting()
    large.end.set()
    assert small.works.wait(10)
    assert start.order == ["first", "large", "small"]


def test_a_job_that_waits_for_its_kind_holds_up_no_other(make_run, start):
    run = make_run(max_stitch_jobs=1)
    with take(run, "stitch", cores=1, memory_mb=1):
        queued = start(run, "stitch", cores=4)
        wait_for_tokens(run, 2)
        assert [token.state for token in living_tokens(token_folder(run))] == ["working", "queued"]
        tile = start(run, "tile", cores=3)
        assert tile.works.wait(10)
        assert not queued.works.is_set()
        tile.end.set()


def test_a_job_larger_than_the_host_gets_all_of_it(make_run, start, caplog):
    run = make_run()
    with take(run, "stitch", cores=99, memory_mb=10**9, label="huge"):
        (token,) = living_tokens(token_folder(run))
        assert (token.cores, token.memory_mb) == (4, 1000)
        assert "huge is estimated to need 1000000000 MB" in caplog.text
        assert "1000 MB together (run.memory_mb)" in caplog.text
        assert start(run).is_waiting()


def test_jobs_under_slurm_take_none(make_run, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    run = make_run()
    with take(run, "stitch", cores=4, memory_mb=1000), take(run, None, cores=4, memory_mb=1000):
        assert not token_folder(run).exists()


def test_an_error_gives_the_token_back(make_run):
    run = make_run()
    with pytest.raises(ZeroDivisionError), take(run, "tile", cores=4, memory_mb=1):
        raise ZeroDivisionError
    assert names(run) == []


def test_the_kernel_frees_the_token_of_the_dead(make_run, start, child):
    run = make_run()
    process = child(HOLDER.format(inside="pass"), token_folder(run))
    assert process.stdout.readline() == "held\n"
    job = start(run, cores=4)
    assert job.is_waiting()
    process.kill()
    assert job.works.wait(10)
    assert len(names(run)) == 1  # that of the dead one is cleared away


@pytest.mark.parametrize(
    "inside",
    [
        "import os; os.fork() or time.sleep(60)",
        "import subprocess; subprocess.Popen(['sleep', '60'], close_fds=False)",
    ],
    ids=["fork", "exec"],
)
def test_a_process_started_meanwhile_keeps_nothing(make_run, start, child, inside):
    run = make_run()
    process = child(HOLDER.format(inside=inside), token_folder(run), start_new_session=True)
    try:
        while process.stdout.readline() != "held\n":
            assert process.poll() is None
        assert len(living_tokens(token_folder(run))) == 1
        process.kill()
        process.wait()
        assert start(run, cores=4).works.wait(10)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_another_user_shares_the_folder(make_run, open_folder, somebody_else):
    run = make_run(token_dir=open_folder / "tokens")
    with take(run, "stitch", cores=1, memory_mb=1), somebody_else():
        assert len(living_tokens(token_folder(run))) == 1
        with ExitStack() as stack:
            stack.enter_context(take(run, None, cores=1, memory_mb=1))
            holder = tokens._Holder(
                token_folder(run),
                tokens.Token(0, "queued", None, 4, 1, os.getpid()),
                tokens.host_limits(run),
                "",
            )
            stack.callback(holder.release)
            assert ": 2 of 4 cores (run.cores)" in holder._look()
    assert names(run) == []


def test_dead_tokens_of_others_count_for_nothing(make_run, open_folder, somebody_else):
    run = make_run(token_dir=open_folder / "tokens")
    with take(run, None, cores=1, memory_mb=1):
        pass
    dead = tokens.Token(5, "working", None, 4, 1000, 99999)
    (token_folder(run) / dead.name).touch()
    with somebody_else(), take(run, None, cores=4, memory_mb=1000):
        assert (token_folder(run) / dead.name).exists()
    with take(run, None, cores=4, memory_mb=1000):
        assert not (token_folder(run) / dead.name).exists()


def test_a_folder_of_somebody_else_that_is_closed_to_us(make_run, open_folder, somebody_else):
    run = make_run(token_dir=open_folder / "tokens")
    (open_folder / "tokens").mkdir(mode=0o755)
    with somebody_else(), pytest.raises(ServiceError, match="no permission") as caught:
        take(run, None, cores=1, memory_mb=1).__enter__()
    assert str(open_folder / "tokens") in str(caught.value)


def test_a_link_in_place_of_the_folder(make_run, tmp_path):
    run = make_run()
    (tmp_path / "elsewhere").mkdir()
    token_folder(run).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"symbolic link.*run\.token_dir"):
        take(run, None, cores=1, memory_mb=1).__enter__()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_place_of_the_folder(make_run):
    run = make_run()
    token_folder(run).write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        take(run, None, cores=1, memory_mb=1).__enter__()


@pytest.mark.parametrize("trap", ["link", "hard link", "pipe"])
def test_traps_in_place_of_the_gate(make_run, tmp_path, trap):
    run = make_run()
    with take(run, None, cores=1, memory_mb=1):
        pass
    gate, victim = token_folder(run) / "gate.lock", tmp_path / "victim"
    gate.unlink()
    victim.write_text("precious")
    if trap == "pipe":
        os.mkfifo(gate)
    elif trap == "link":
        gate.symlink_to(victim)
    else:
        os.link(victim, gate)
    with pytest.raises(ServiceError, match=r"cannot write .*gate\.lock"):
        take(run, None, cores=1, memory_mb=1).__enter__()
    assert victim.read_text() == "precious"


def test_other_files_in_the_folder_are_left_alone(make_run):
    run = make_run()
    folder = token_folder(run)
    folder.mkdir()
    strangers = ["notes.txt", f"{7:020d}-sleeping-tile-1cores-1MB-5.token",
                 f"{7:020d}-working-magic-1cores-1MB-5.token"]  # fmt: skip
    for name in strangers:
        (folder / name).touch()
    with take(run, None, cores=4, memory_mb=1000):
        assert {*strangers} < {path.name for path in folder.iterdir()}


def test_a_gate_that_is_removed_while_it_is_waited_for(make_run):
    # Cleaners of temporary folders do that; two gates would let two jobs in.
    from opticstream_smk.io.shared import hold_shared

    gate = make_run().token_dir.parent / "gate.lock"
    entered = threading.Event()

    def enter():
        with hold_shared(gate):
            entered.set()

    with hold_shared(gate):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.1)
        gate.unlink()
        with hold_shared(gate):
            pass
    thread.join(10)
    assert entered.is_set()
    assert gate.exists()


def test_a_token_that_was_cleared_away_does_not_stop_its_job(make_run, start):
    run = make_run()
    with take(run, None, cores=4, memory_mb=1):
        job = start(run)
        wait_for_tokens(run, 2)
        for path in token_folder(run).glob("*-next-*"):
            path.unlink()
        assert job.is_waiting()
    assert job.works.wait(10)


def test_many_jobs_end_and_never_exceed_the_limits(make_run, monkeypatch):
    monkeypatch.setattr(tokens, "FIRST_LOOK_S", 0.002)
    monkeypatch.setattr(tokens, "LONGEST_LOOK_S", 0.01)
    run = make_run(max_stitch_jobs=1, max_tile_jobs=2)
    dice = random.Random(3)
    asked = [
        (dice.choice(["tile", "stitch", None]), dice.randint(1, 3), dice.randint(1, 700))
        for _ in range(24)
    ]
    working, most, lock, done = [], [], threading.Lock(), []

    def work(share):
        for kind, cores, memory_mb in share:
            with take(run, kind, cores=cores, memory_mb=memory_mb):
                with lock:
                    working.append((kind, cores, memory_mb))
                    most.append(list(working))
                time.sleep(0.002)
                with lock:
                    working.remove((kind, cores, memory_mb))
            done.append(kind)

    threads = [threading.Thread(target=work, args=(asked[i::6],)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == len(asked)
    for together in most:
        assert sum(cores for _, cores, _ in together) <= 4
        assert sum(memory_mb for _, _, memory_mb in together) <= 1000
        assert sum(kind == "stitch" for kind, _, _ in together) <= 1
        assert sum(kind == "tile" for kind, _, _ in together) <= 2
    assert names(run) == []


def test_a_full_disk_leaves_the_token_nameless(make_run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens.os, "pwrite", full)
    run = make_run()
    with take(run, None, cores=1, memory_mb=1, label="a job"):
        ((token, label),) = living_tokens(Path(token_folder(run))).items()
        assert (token.cores, label) == (1, "")
