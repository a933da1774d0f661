"""What a stage is, and how one runs: lock, withdraw, compute, flag."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.errors import OpticStreamError
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import Plan, project_state
from opticstream_smk.stages.guard import enter_stage
from opticstream_smk.stages.resources import hold_resources
from opticstream_smk.state import locks
from opticstream_smk.state.failures import (
    add_failure,
    drop_failure,
    earlier_attempts,
    failure_extra,
)
from opticstream_smk.state.flags import (
    Flag,
    InputFile,
    TileCount,
    canonical_sha256,
    file_outputs,
    now,
    read_flag,
)
from opticstream_smk.state.host import identity
from opticstream_smk.state.job_files import stage_benchmark
from opticstream_smk.state.nodes import Status
from opticstream_smk.state.places import Level, Place, flag_path
from opticstream_smk.state.psoct import OctState

log = logging.getLogger(__name__)


class TilesFailedError(OpticStreamError):
    """Some tiles of a batch cannot be used; the others are done and kept."""

    def __init__(self, message: str, images: tuple[int, ...], kind: str, exit_code: int) -> None:
        super().__init__(message)
        self.images = images
        self.kind = kind
        self.exit_code = exit_code


@dataclass(frozen=True)
class StageContext:
    """What a stage computes from.

    Attributes
    ----------
    place
        The node whose flag is written.
    params_sha256
        Hash over the values that the stage declares it reads.
    """

    config: Config
    layout: ProjectLayout
    place: Place
    params_sha256: str
    threads: int = 1

    @property
    def plan(self) -> Plan:
        """What is ready, read now."""
        return Plan(self.config, self.layout)

    @property
    def mosaic(self) -> int:
        """Mosaic of the place."""
        assert self.place.mosaic is not None
        return self.place.mosaic

    @property
    def tiles(self) -> TileCount:
        """Tiles of the batch, as its ``.ready`` lists them; all of its column without one."""
        assert self.place.batch is not None
        ready = read_flag(self.layout.batch_flag(self.mosaic, self.place.batch, "ready"))
        if ready is not None:
            return ready.tiles
        rows = self.config.acquisition.rows(self.acquisition)
        return TileCount(done=tuple(naming.images_of_batch(self.place.batch, rows)))

    @property
    def images(self) -> tuple[int, ...]:
        """Tiles of the batch that are there."""
        return self.tiles.done

    @property
    def acquisition(self) -> str:
        """Acquisition of the place."""
        if self.place.acquisition is not None:
            return self.place.acquisition
        return naming.acquisition_of_mosaic(self.mosaic, self.config.acquisition.mosaics_per_slice)


@dataclass(frozen=True)
class Outcome:
    """What a stage did.

    Attributes
    ----------
    warnings
        What people should look at although the products are complete; ``status`` repeats it.
    """

    inputs: tuple[InputFile, ...]
    outputs: tuple[Path, ...]
    tiles: TileCount = field(default_factory=TileCount)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes
    ----------
    name
        Name of the command, the rule, the log folder and the benchmark.
    level, flag
        Level that it works on and the flag that it writes.
    params
        The values of the configuration that it reads, for an acquisition.
    products
        Everything that it leaves when it succeeds.
    compute
        Does the work; everything that it leaves is complete.
    starts_level
        Whether it is the first stage of its level, which writes ``.started``.
    modality
        Of a volume, where each has a flag of its own.
    resources
        Name by which `stages.resources` knows what it takes; empty: its own.
    """

    name: str
    level: Level
    flag: str
    params: Callable[[Config, str], Mapping[str, Any]]
    products: Callable[[StageContext], list[Path]]
    compute: Callable[[StageContext], Outcome]
    starts_level: Callable[[Config], bool] = field(default=lambda _config: True)
    modality: str | None = None
    resources: str = ""

    def params_sha256(self, config: Config, acquisition: str) -> str:
        """Hash over the values that the stage reads."""
        return canonical_sha256(self.params(config, acquisition))


def stage_context(stage: Stage, config: Config, place: Place, *, threads: int = 1) -> StageContext:
    """What a stage computes from at a place."""
    acquisition = place.acquisition or (
        naming.acquisition_of_mosaic(place.mosaic, config.acquisition.mosaics_per_slice)
        if place.mosaic
        else naming.NORMAL
    )
    return StageContext(
        config,
        ProjectLayout(config.project.dir),
        place,
        stage.params_sha256(config, acquisition),
        threads,
    )


def run_stage(
    stage: Stage,
    config: Config,
    place: Place,
    *,
    threads: int = 1,
    force: bool = False,
    skip_if_running: bool = False,
) -> Flag | None:
    """Run a stage at a place and write its flag.

    A stage whose flag is present has nothing to do, unless it is forced. Otherwise everything
    downstream of the flag is withdrawn first, so that flags stay true while the products change.
    A second run of the same stage at the same place waits for the first and returns its flag, or
    with ``skip_if_running`` returns None at once. What the stage takes of its host is waited for
    only then, so that whoever waits for a flag holds nothing that others need.

    Raises
    ------
    OpticStreamError
        The stage failed. There is no flag; a ``.failed`` record says why.
    """
    state = project_state(config)
    layout = state.layout
    path = flag_path(layout, place, stage.flag)
    asked = now()
    lock = layout.lock(path)
    try:
        context = stage_context(stage, config, place, threads=threads)
    except OpticStreamError as error:
        # A file that the configuration names cannot be read. What is done stays done.
        if not path.exists() and not locks.is_held(lock):
            _Run(stage, StageContext(config, layout, place, ""), state).refuse(error)
        raise
    status: Status = "running" if locks.is_held(lock) else "pending"
    if enter_stage(status, force=force, skip_if_running=skip_if_running) == "skipped":
        log.info("%s %s is left to %s", stage.name, place, locks.describe_holder(lock))
        return None
    with locks.hold(lock) as waited:
        done = read_flag(path)
        meanwhile = waited and done is not None and done.finished > asked
        entry = enter_stage("done" if done else "pending", force=force and not meanwhile)
        if done is not None and entry == "skipped":
            by = "by another process meanwhile" if meanwhile else "before; --force does it again"
            log.info("%s %s was done %s", stage.name, place, by)
            return done
        run = _Run(stage, context, state)
        run.start()
        try:
            needed = stage.resources or stage.name
            with hold_resources(config, needed, place, threads=threads):
                outcome = stage.compute(context)
            return run.finish(outcome)
        except Exception as error:
            run.fail(error)
            raise


class _Run:
    """The flags of one run of a stage."""

    def __init__(self, stage: Stage, context: StageContext, state: OctState) -> None:
        self.stage = stage
        self.context = context
        self.state = state
        self.started = now()
        self._clock = time.monotonic()
        self._attempt = 1

    def refuse(self, error: Exception) -> None:
        """Record why the stage cannot even start; nothing is withdrawn."""
        with self.state.open(self._record_place()) as node:
            self._attempt = earlier_attempts(node.get("failed"), self._flag_name) + 1
        self.fail(error)

    def start(self) -> None:
        """Withdraw the flag and all downstream, and record the start."""
        # Snakemake dates a job by its benchmark too. One of an earlier run, left when this run is
        # killed after its flag, would have it done once more.
        layout = self.context.layout
        stage, place = self.stage, self.context.place
        stage_benchmark(layout, stage.name, place, stage.flag).unlink(missing_ok=True)
        with self.state.open(self._record_place()) as node:
            self._attempt = earlier_attempts(node.get("failed"), self._flag_name) + 1
            if self.stage.starts_level(self.context.config):
                node.add("started", self._flag("started", extra=self._attempt_record()))
        with self.state.open(self.context.place) as node:
            node.withdraw(self.stage.flag)

    def fail(self, error: Exception) -> None:
        """Record what went wrong and how often it has been tried."""
        images = error.images if isinstance(error, TilesFailedError) else ()
        kind = error.kind if isinstance(error, OpticStreamError) else "internal"
        extra = {
            **self._attempt_record(),
            **failure_extra(
                self.context.config.run.retry,
                flag=self._flag_name,
                kind=kind,
                error=str(error) or type(error).__name__,
                attempts=self._attempt,
            ),
        }
        record = self._flag("failed", tiles=TileCount(missing=images), extra=extra)
        try:
            with self.state.open(self._record_place()) as node:
                add_failure(node, record)
        except OpticStreamError as unrecorded:
            # A full disk must not hide what made the stage fail.
            log.error("the failure could not be recorded: %s", unrecorded)

    def finish(self, outcome: Outcome) -> Flag:
        """Write the flag and remove the record of an earlier failure."""
        for warning in outcome.warnings:
            log.warning("%s: %s", self.context.place, warning)
        noted = {"warnings": list(outcome.warnings)} if outcome.warnings else {}
        flag = self._flag(
            self.stage.flag,
            params_sha256=self.context.params_sha256,
            inputs=outcome.inputs,
            outputs=file_outputs(self.context.layout, outcome.outputs),
            tiles=outcome.tiles,
            numbers=outcome.numbers,
            extra={**outcome.extra, **noted},
        )
        with self.state.open_project() as project:
            drop_failure(project.node(self._record_place()), self._flag_name)
            project.node(self.context.place).add(self.stage.flag, flag)
        log.info("%s %s done in %.1f s", self.stage.name, self.context.place, flag.duration_s)
        return flag

    @property
    def _flag_name(self) -> str:
        return flag_path(self.context.layout, self.context.place, self.stage.flag).name

    def _record_place(self) -> Place:
        """Where started and failed are recorded: of what slices share, at its template mosaic."""
        place = self.context.place
        if place.level not in ("tilemap", "focus"):
            return place
        mosaic = self.context.plan.template_mosaic(self.context.acquisition)
        per_slice = self.context.config.acquisition.mosaics_per_slice
        return Place("mosaic", naming.slice_of_mosaic(mosaic or 1, per_slice)[0], mosaic or 1)

    def _attempt_record(self) -> dict[str, Any]:
        return {**identity(), "stage": self.stage.name, "attempt": self._attempt}

    def _flag(self, state: str, **content: Any) -> Flag:
        place = self.context.place
        finished: datetime = now()
        return Flag(
            flag=flag_path(self.context.layout, place, state).name,
            project=self.context.config.project.name,
            **place.ids,
            stage=self.stage.name,
            started=self.started,
            finished=finished,
            duration_s=round(time.monotonic() - self._clock, 3),
            **content,
        )
