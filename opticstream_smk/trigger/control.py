"""What operators tell the watcher by files: pause and resume, which survive restarts."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opticstream_smk.io.atomic import write_error, write_json
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.flags import now
from opticstream_smk.state.host import operator


@dataclass(frozen=True)
class Paused:
    """A project that nothing is started in.

    Attributes
    ----------
    since
        UTC; None when the file cannot be understood.
    by
        ``user@host``.
    reason
        As the operator gave it; may be empty.
    problem
        Why the file cannot be understood; empty when it can.
    """

    since: datetime | None
    by: str
    reason: str
    problem: str = ""

    def __str__(self) -> str:
        if self.since is None:
            return self.problem
        told = f": {self.reason}" if self.reason else ""
        return f"since {self.since.astimezone():%Y-%m-%d %H:%M:%S} by {self.by}{told}"


def pause_path(layout: ProjectLayout) -> Path:
    """The file whose presence pauses the watcher."""
    return layout.control / "paused.json"


def pause(layout: ProjectLayout, reason: str = "") -> Paused:
    """Have the watcher start nothing new. A project that is paused stays as it was paused.

    Raises
    ------
    ServiceError
        The file cannot be written.
    """
    before = paused(layout)
    if before is not None and not before.problem:
        return before
    record = Paused(now(), operator(), reason)
    assert record.since is not None
    content = {"since": record.since.isoformat(), "by": record.by, "reason": record.reason}
    write_json(pause_path(layout), content)
    return record


def resume(layout: ProjectLayout) -> bool:
    """Let the watcher start work again.

    Returns
    -------
    bool
        Whether the project was paused.

    Raises
    ------
    ServiceError
        The file cannot be removed: the project stays paused.
    """
    path = pause_path(layout)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise write_error(path, error) from error
    return True


def paused(layout: ProjectLayout) -> Paused | None:
    """Who paused the project and why; None when it is not paused.

    A file that cannot be understood pauses too: somebody wanted it, and going on by mistake may do
    harm where waiting by mistake does not.
    """
    path = pause_path(layout)
    try:
        content = json.loads(path.read_bytes())
        since = datetime.fromisoformat(content["since"])
        return Paused(since, str(content["by"]), str(content["reason"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = error.strerror if isinstance(error, OSError) else "damaged"
        return Paused(
            None, "", "", f"{path} cannot be understood ({what}); `optic-trigger resume` removes it"
        )
