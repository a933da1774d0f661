"""Whether a stage that is asked for starts, starts over, or has nothing to do."""

from typing import Literal

from opticstream_smk.state.nodes import Status

Entry = Literal["started", "restarted", "skipped"]


def enter_stage(status: Status, *, force: bool = False, skip_if_running: bool = False) -> Entry:
    """Decide about a stage.

    Parameters
    ----------
    status
        State of the stage's flag: ``done`` when it is present, ``running`` when its lock is held.
    force
        Do it again although it is done or running.
    skip_if_running
        Leave a running stage alone instead of waiting for it.

    Returns
    -------
    {"started", "restarted", "skipped"}
        Only ``restarted`` and ``started`` withdraw flags and record a start.
    """
    if status == "done":
        return "restarted" if force else "skipped"
    if status == "running" and skip_if_running:
        return "restarted" if force else "skipped"
    return "started"
