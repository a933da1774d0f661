"""The watcher: looks at the source folders, enters what has settled, starts snakemake for it.

Its state is on disk: what it holds in memory (how long a file has been quiet, when a failure is
tried again) may be lost at any moment and only costs time.
"""

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from opticstream_smk.config import Config
from opticstream_smk.errors import ConfigError, OpticStreamError, ServiceError
from opticstream_smk.host.priority import PriorityKeeper, system_priority
from opticstream_smk.io.atomic import write_error
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.state import locks
from opticstream_smk.state.flags import now
from opticstream_smk.trigger.counts import StateCounter
from opticstream_smk.trigger.dispatch import Dispatcher
from opticstream_smk.trigger.drivers import Drivers, Ended
from opticstream_smk.trigger.goals import Goals
from opticstream_smk.trigger.options import WatchOptions, load_with
from opticstream_smk.trigger.progress import Progress, open_progress
from opticstream_smk.trigger.refresh import Refresher, find_refresh
from opticstream_smk.trigger.settle import Domain, Intake, Settler
from opticstream_smk.trigger.snapshot import Snapshot, Tracked, new_snapshot, write_snapshot
from opticstream_smk.trigger.sources import SourceFolder
from opticstream_smk.trigger.wake import Sleeper, beat, notify_systemd, observe

log = logging.getLogger(__name__)

# Events come in bursts; they make looks more frequent, but not more than this.
_SHORTEST_LOOK_S = 1.0
# Drivers of an earlier watcher cannot be waited for, only looked at.
_ADOPTED_LOOK_S = 0.5
_DOCTOR_LOOK_S = 0.1
_LOG_BYTES = 20_000_000


def _of_intake(config: Config) -> tuple[object, ...]:
    """What decides about raw files: a change of it starts looking afresh."""
    return config.acquisition, config.watch, config.lsm, config.mosaic.allow_missing_tiles


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Log into a file too; it is kept small, so that a project of months has a readable one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise write_error(path, error) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("opticstream_smk")
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()


class Watcher:
    """The watcher of one project.

    Parameters
    ----------
    config_path
        Configuration file; read again whenever it changes.
    """

    def __init__(self, config_path: Path, options: WatchOptions) -> None:
        self._path = config_path
        self._options = options
        self._config_stamp = self._stamp()
        self.config = load_with(config_path, options.overrides)
        self._refresh_hook = find_refresh(
            self.config.watch.refresh, self.config.watch.refresh_hooks
        )
        self._refresher = Refresher()
        self._layout = project_layout(self.config)
        self._sleeper = Sleeper()
        self._stops = 0
        self._event = False
        self._snapshot = new_snapshot(now().isoformat())
        self._written: Snapshot | None = None
        self._busy_at = self._looked_at = time.monotonic()
        self._trouble: str | None = None
        self._wrong: dict[str, str] = {}
        self._intake = self._new_intake(force=options.force)
        self._dispatcher = self._new_dispatcher() if options.direct else None
        self._counter = StateCounter(self.config)
        self._progress: Progress | None = None

    # ---------------------------------------------------------------------------------- settings
    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _new_intake(self, *, force: bool) -> Intake[Any]:
        domain: Domain[Any]
        if self.config.project.pipeline == "lsm":
            from opticstream_smk.trigger.lsm import LsmStrips

            domain = LsmStrips(self.config, force=force)
        else:
            from opticstream_smk.trigger.psoct import PsoctBatches

            domain = PsoctBatches(
                self.config,
                force=force,
                replace_results=self._options.replace_results,
                allow_missing=self._options.allow_missing,
            )
        return Intake(domain, Settler())

    def _new_dispatcher(self) -> Dispatcher:
        drivers = Drivers(self._layout, self.config.project.name, self._path, self._options.profile)
        return Dispatcher(self.config, drivers, Goals(self.config))

    def _reread(self) -> None:
        """Take a changed configuration; a wrong one is reported and the last one stays."""
        stamp = self._stamp()
        if stamp == self._config_stamp:
            return
        self._config_stamp = stamp
        try:
            config = load_with(self._path, self._options.overrides)
            if config.project != self.config.project:
                raise ConfigError(
                    f"{self._path}: section project was changed; end the watcher and start it again"
                )
            Plan(config, self._layout).check_grid()
            find_refresh(config.watch.refresh, config.watch.refresh_hooks)
        except OpticStreamError as error:
            self._trouble = str(error)
            log.error("%s (the watcher goes on with the configuration that it has)", error)
            return
        self._trouble = None
        log.info("%s has changed and is read again", self._path)
        before, self.config = self.config, config
        if _of_intake(before) != _of_intake(config):
            # What was forced before has been, and is not forced again.
            self._intake = self._new_intake(force=False)
        self._refresh_hook = find_refresh(config.watch.refresh, config.watch.refresh_hooks)
        self._counter = StateCounter(config)
        if self._dispatcher:
            self._dispatcher.use(config)

    # -------------------------------------------------------------------------------------- run
    def stop(self) -> None:
        """First call: take no more work, let jobs finish. Second call: end them."""
        self._stops += 1

    def run(self) -> int:
        """Watch until stopped, or until idle. Returns the exit code."""
        with ExitStack() as stack:
            stack.callback(self._sleeper.close)
            stack.enter_context(self._only_one())
            stack.enter_context(self._sleeper.signals(self.stop))
            stack.enter_context(_log_file(self._layout.watcher_log))
            self._check_sources()
            notify_systemd("READY=1")
            self._progress = open_progress(self._layout)
            stack.callback(self._progress.close)
            self._recover()
            stack.enter_context(self._observer())
            stack.enter_context(self._priority())
            stack.callback(self._refresher.wait)
            self._loop()
        return 3 if self._options.until_idle_s is not None and self._has_failures() else 0

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        lock = self._layout.watcher_lock
        with ExitStack() as stack:
            if not stack.enter_context(locks.try_hold(lock)):
                raise ServiceError(
                    f"{self._layout.root} is being watched by {locks.describe_holder(lock)}; one "
                    "watcher works on a project. End that one first, or leave it at work."
                )
            yield

    def _check_sources(self) -> None:
        """Refuse a source that cannot be listed, unless it could once: a disk may come back."""
        known = self._layout.mosaics() or self._layout.channels()
        for source in () if known else self.config.acquisition.sources:
            folder = SourceFolder(source.dir)
            if folder.entries() is None:
                raise ConfigError(f"{folder.message} Nothing of it has been seen before.")

    @contextmanager
    def _observer(self) -> Iterator[None]:
        def wake() -> None:
            self._event = True
            self._sleeper.wake()

        folders = [source.dir for source in self.config.acquisition.sources]
        with observe(folders, self.config.watch.observer, wake):
            yield

    @contextmanager
    def _priority(self) -> Iterator[None]:
        """Keep up the priority of the acquisition software."""
        watch = self.config.watch
        if watch.protect_process is None:
            yield
            return
        keeper = PriorityKeeper(watch.protect_process, system_priority(watch.protect_priority))
        keeper.start()
        try:
            yield
        finally:
            keeper.stop()

    def _recover(self) -> None:
        """Take over what an earlier watcher left, and have what is not true made again."""
        Plan(self.config, self._layout).check_grid()
        if self._dispatcher is None:
            return
        self._dispatcher.drivers.warm_up()
        self._dispatcher.drivers.recover()
        self._doctor()

    def _doctor(self) -> None:
        """Have the doctor withdraw what is not true; its own process, as it reads every flag."""
        trigger = str(Path(sys.executable).with_name("optic-trigger"))
        command = [trigger, "doctor", "--fix", "--config", str(self._path)]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None and not self._stops:
                    notify_systemd("WATCHDOG=1")
                    self._sleeper.sleep(_DOCTOR_LOOK_S)
            finally:
                process.terminate()
                process.wait()
            output.seek(0)
            lines = output.read().splitlines()
        for line in lines:
            if line.startswith(("withdrawn", "mended", "PROBLEM")):
                log.warning("doctor: %s", line)
        if process.returncode not in (0, 3) and not self._stops:
            log.error("the doctor ended with %d: %s", process.returncode, "\n".join(lines[-5:]))

    def _loop(self) -> None:
        next_look = 0.0
        finishing = False
        while True:
            if self._stops and not finishing:
                finishing = True
                self._finish()
            if finishing and (not self._dispatcher or not self._dispatcher.drivers.living):
                break
            if self._stops > 1 and self._dispatcher:
                self._dispatcher.drivers.end()
            if not finishing and time.monotonic() >= next_look:
                self._looked_at = time.monotonic()
                next_look = self._looked_at + self.config.watch.poll_interval_s
                self._guarded("look", self._look)
            self._guarded("reap", self._reap)
            if not finishing:
                self._guarded("dispatch", self._dispatch)
            self._guarded("publish", self._publish)
            if not finishing and self._is_idle():
                log.info("idle for %g s: the watcher ends", self._options.until_idle_s)
                break
            notify_systemd("WATCHDOG=1")
            self._sleep(next_look)
            if self._event:
                self._event = False
                next_look = min(next_look, self._looked_at + self._shortest_look_s)

    @property
    def _shortest_look_s(self) -> float:
        return min(_SHORTEST_LOOK_S, self.config.watch.poll_interval_s)

    def _finish(self) -> None:
        drivers = self._dispatcher.drivers.living if self._dispatcher else ()
        if drivers:
            log.info(
                "stopping: no more work is taken, %d snakemake runs finish what they have begun "
                "(a second signal ends them)",
                len(drivers),
            )
            assert self._dispatcher is not None
            self._dispatcher.drivers.finish()

    def _guarded(self, name: str, step: Callable[[], None]) -> None:
        """Run a step of the loop, which outlives what goes wrong in it; told once in a row."""
        try:
            step()
        except (OpticStreamError, OSError) as error:
            if self._wrong.get(name) != str(error):
                log.error("%s", error)
            self._wrong[name] = str(error)
        except Exception as error:
            if self._wrong.get(name) != repr(error):
                log.exception("internal error of the watcher (%s); it goes on", name)
            self._wrong[name] = repr(error)
        else:
            self._wrong.pop(name, None)

    def _look(self) -> None:
        """Look at the configuration and at the source folders."""
        self._reread()
        if self._options.heartbeat:
            beat(self._options.heartbeat)
        if self._intake.look() or self._intake.settler.is_busy:
            self._busy_at = time.monotonic()

    def _reap(self) -> None:
        if self._dispatcher is None:
            return
        for end in self._dispatcher.reap():
            self._refresh(end)
        if self._dispatcher.drivers.living:
            self._busy_at = time.monotonic()

    def _dispatch(self) -> None:
        if self._dispatcher is None:
            return
        self._dispatcher.dispatch()
        if self._dispatcher.drivers.living or (
            self._dispatcher.queued and not self._dispatcher.holds
        ):
            self._busy_at = time.monotonic()

    def _refresh(self, end: Ended) -> None:
        batches = any("/batch-" in goal for goal in end.driver.goals)
        if end.code == 0 and batches and end.driver.kind == "compute":
            self._refresher.run(self._refresh_hook)

    def _sleep(self, next_look: float) -> None:
        at = time.monotonic()
        until = next_look if not self._stops else at + _ADOPTED_LOOK_S
        sentinels: list[int] = []
        if self._dispatcher:
            sentinels = self._dispatcher.drivers.sentinels
            if any(driver.is_adopted for driver in self._dispatcher.drivers.living):
                until = min(until, at + _ADOPTED_LOOK_S)
            if self._dispatcher.next_try is not None:
                until = min(until, max(self._dispatcher.next_try, at + 0.05))
        if self._progress and self._progress.refresh_s is not None:
            until = min(until, at + self._progress.refresh_s)
        self._sleeper.sleep(until - at, sentinels)

    def _is_idle(self) -> bool:
        limit = self._options.until_idle_s
        return limit is not None and time.monotonic() - self._busy_at >= limit

    def _has_failures(self) -> bool:
        layout = self._layout
        folders = [layout.state, *map(layout.mosaic_state, layout.mosaics())]
        folders += [layout.channel_state(*channel) for channel in layout.channels()]
        return any(any(folder.glob("*.failed")) for folder in folders)

    # ---------------------------------------------------------------------------------- telling
    def _publish(self) -> None:
        """Replace the snapshot if anything in it has changed."""
        settler = self._intake.settler
        tracked = tuple(
            Tracked(
                where=self._intake.domain.describe(key),
                unchanged_since=settler.unchanged_since(key),
                quiet_s=sight.quiet_s,
                note=sight.note,
            )
            for key, sight in self._intake.last.sights.items()
        )
        dispatcher = self._dispatcher
        holds = (self._trouble,) if self._trouble else ()
        snapshot = self._snapshot.model_copy(
            update={
                "tracked": tracked,
                "queued": dispatcher.queued if dispatcher else (),
                "waiting": dispatcher.waiting if dispatcher else (),
                "drivers": dispatcher.running if dispatcher else (),
                "holds": (*holds, *(dispatcher.holds if dispatcher else ())),
            }
        )
        if snapshot != self._written:
            write_snapshot(self._layout, snapshot)
            self._written = snapshot
        if self._progress:
            self._progress.update(snapshot, self._counter.count())
