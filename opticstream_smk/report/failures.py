"""What failed, how often, when it is tried again, and the one command to type."""

from dataclasses import dataclass
from datetime import datetime

from opticstream_smk import naming
from opticstream_smk.config import Config
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.report.stage_logs import STAGE_OF_FLAG
from opticstream_smk.report.times import duration, parse_time
from opticstream_smk.state.flags import Flag
from opticstream_smk.state.job_files import stage_log
from opticstream_smk.state.places import DONE, Place, flag_path, focus_place, tilemap_place


@dataclass(frozen=True)
class Failure:
    """Something that failed and stands in the way.

    Attributes
    ----------
    stage
        Stage that failed; ``watch`` or ``scan`` when raw files are wrong.
    flag
        Name of the flag that is not there because of it.
    kind
        ``data``, ``config``, ``service``, ``resource``, ``internal``; ``operator`` when marked by
        hand, ``stale`` when the raw files of finished work have changed.
    attempts, max_attempts
        Failures in a row, and after how many it is set aside; None where nothing is tried again.
    next_try
        When the watcher tries again; None when it waits for a person.
    about_raw
        Whether the raw files are wrong: the watcher takes them when they are right.
    tiles
        Images that failed.
    log
        Log file of the stage, if there is one.
    command, when
        The one command to type, and when. An empty command: nothing to type.
    """

    where: str
    slice: int
    mosaic: int | None
    batch: int | None
    stage: str
    flag: str
    kind: str
    attempts: int
    max_attempts: int | None
    next_try: datetime | None
    error: str
    about_raw: bool = False
    tiles: tuple[int, ...] = ()
    log: str | None = None
    command: str = ""
    when: str = ""

    @property
    def remedy(self) -> str:
        """The command with when to type it, for people."""
        return f"{self.command}   ({self.when})" if self.command else f"nothing: {self.when}"

    @property
    def is_set_aside(self) -> bool:
        """Whether nothing goes on without a person."""
        return self.next_try is None

    def told_next(self, at: datetime, *, watched: bool) -> str:
        """When it goes on, for people."""
        if self.kind == "stale":
            return "its results are kept"
        if self.about_raw:
            return "waits for its raw files"
        if self.next_try is None:
            return "set aside"
        if not watched:
            return "no watcher tries it again"
        left_s = (self.next_try - at).total_seconds()
        return f"next try in {duration(left_s)}" if left_s > 0 else "next try at once"

    def told_attempt(self) -> str:
        """Which attempt it was, for people."""
        of = f" of {self.max_attempts}" if self.max_attempts is not None else ""
        return f"attempt {self.attempts}{of}"


def ids_option(place: Place) -> str:
    """Options that name a place on the command line."""
    if place.level == "slice":
        return f"--slice {place.slice}"
    return f"--mosaic {place.mosaic}" + (f" --batch {place.batch}" if place.batch else "")


def read_failure(
    config: Config, layout: ProjectLayout, place: Place, record: Flag, *, watched: bool
) -> Failure:
    """The failure that a ``.failed`` record tells of.

    Parameters
    ----------
    watched
        Whether a watcher works on the project: it takes raw files that were mended by itself.
    """
    extra = record.extra
    kind = str(extra.get("kind", "internal"))
    name = str(extra.get("flag") or _done_flag(layout, place))
    flag = naming.parse_flag(name)
    about_raw = flag is not None and flag.state == "ready"
    stage, log = _stage_and_log(layout, place, flag, record.stage)
    error = str(extra.get("error") or "the record does not say why")
    command, when = _remedy(place, kind, error, about_raw=about_raw, watched=watched)
    tried_again = not about_raw and kind != "operator"
    return Failure(
        where=str(place),
        slice=place.slice or 0,
        mosaic=place.mosaic,
        batch=place.batch,
        stage=stage,
        flag=name,
        kind=kind,
        attempts=_number(extra.get("attempts")),
        max_attempts=config.run.retry.rule(kind).attempts if tried_again else None,
        next_try=parse_time(extra.get("next_try")),
        error=error,
        about_raw=about_raw,
        tiles=tuple(record.tiles.missing),
        log=log,
        command=command,
        when=when,
    )


def damaged_failure(layout: ProjectLayout, place: Place, error: str) -> Failure:
    """The failure of which the record itself cannot be read."""
    name = _done_flag(layout, place)
    stage, log = _stage_and_log(layout, place, naming.parse_flag(name), "unknown")
    return Failure(
        where=str(place),
        slice=place.slice or 0,
        mosaic=place.mosaic,
        batch=place.batch,
        stage=stage,
        flag=name,
        kind="internal",
        attempts=1,
        max_attempts=None,
        next_try=None,
        error=f"something failed, and its record cannot be read: {error}",
        log=log,
        command=f"optic-trigger retry {ids_option(place)}",
        when="after a look into the log",
    )


def stale_failure(layout: ProjectLayout, place: Place) -> Failure:
    """Raw files that have changed since their batch was processed."""
    return Failure(
        where=str(place),
        slice=place.slice or 0,
        mosaic=place.mosaic,
        batch=place.batch,
        stage="scan",
        flag=flag_path(layout, place, "ready").name,
        kind="stale",
        attempts=1,
        max_attempts=None,
        next_try=None,
        error="raw tiles have changed since the batch was processed; its results are kept",
        about_raw=True,
        command=f"optic-trigger redo --from scan {ids_option(place)}",
        when="to process the new files",
    )


def flag_place(place: Place, flag: naming.FlagName | None) -> Place:
    """Place of a flag whose failure is on record at a place.

    What is shared by slices has its failures recorded at the mosaic that it is made from.
    """
    if flag is not None and flag.level == "tilemap":
        return tilemap_place(str(flag.id))
    if flag is not None and flag.level == "focus":
        return focus_place(str(flag.id))
    return place


def _stage_and_log(
    layout: ProjectLayout, place: Place, flag: naming.FlagName | None, stage: str
) -> tuple[str, str | None]:
    """The stage that makes a flag, and its log; a watcher may have recorded its death."""
    about = flag_place(place, flag)
    state = flag.state if flag is not None else DONE[place.level]
    made_by = STAGE_OF_FLAG.get((about.level, state))
    if made_by is None:
        return stage, None
    log = stage_log(layout, made_by, about, state)
    return made_by, str(log) if log.is_file() else None


def _remedy(
    place: Place, kind: str, error: str, *, about_raw: bool, watched: bool
) -> tuple[str, str]:
    """The one command, and when to type it."""
    retry = f"optic-trigger retry {ids_option(place)}"
    if about_raw and watched:
        return "", "the watcher takes the raw files that the error names once they are mended"
    if about_raw or (kind == "data" and "optic-trigger scan" in error and not watched):
        return "optic-trigger scan", "once the raw files that the error names are mended"
    if kind == "config":
        return (
            f"optic-trigger config check && {retry}",
            "once the configuration is corrected as the error says",
        )
    return retry, _WHEN.get(kind, "once what the error names is mended")


# When to retry, by the kind of the failure.
_WHEN = {
    "internal": "after reporting the traceback in the log",
    "operator": "it was marked failed by hand; to have it done",
    "resource": "once it is known what ended it; if memory ran out, lower run.memory_mb or cores",
    "service": "once what the error names (disk, mount, network) is mended",
}


def _done_flag(layout: ProjectLayout, place: Place) -> str:
    return flag_path(layout, place, DONE[place.level]).name


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 1
