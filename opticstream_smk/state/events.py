"""Events: a log for people, boards and notifiers. Decisions come from flags."""

import fcntl
import json
import os
from typing import Any, Literal

from opticstream_smk.errors import ConfigError
from opticstream_smk.io.atomic import write_error
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.flags import Flag, now
from opticstream_smk.state.host import host_name

Pipeline = Literal["psoct", "lsm"]
_PREFIXES: dict[Pipeline, str] = {"psoct": "linc.oct", "lsm": "linc.opticstream.lsm"}

# Where OpticStream's code names an event otherwise than its OCT design document.
_CODE_NAMES = {
    "batch.complex": "batch.complexed",
    "batch.processed": "batch.enface_processed",
    "mosaic.stitched": "mosaic.enface_stitched",
}
# What only the record of a failure says.
_FAILURE_KEYS = ("error", "kind", "attempts", "next_try")


def event_name(level: str, state: str, pipeline: Pipeline = "psoct") -> str:
    """Name of an event: as the OCT design document spells it, or for LSM as OpticStream does."""
    return f"{_PREFIXES[pipeline]}.{level}.{state}"


def _aliases(level: str, state: str, pipeline: Pipeline) -> list[str]:
    """Names that OpticStream's code has for an event beside the one of the design document."""
    if pipeline == "lsm":
        return []
    return [f"linc.opticstream.psoct.{_CODE_NAMES.get(f'{level}.{state}', f'{level}.{state}')}"]


def append_event(
    layout: ProjectLayout,
    level: str,
    state: str,
    *,
    project: str,
    ids: dict[str, int | None],
    payload: dict[str, Any] | None = None,
    pipeline: Pipeline = "psoct",
) -> None:
    """Append one line to the log of this host.

    Raises
    ------
    ConfigError
        When ``payload`` would override a base key.
    ServiceError
        When the log cannot be written.
    """
    event: dict[str, Any] = {
        "event": event_name(level, state, pipeline),
        "aliases": _aliases(level, state, pipeline),
        "time": now().isoformat(),
        "host": host_name(),
        "project_name": project,
        "project_base_path": str(layout.root),
        **{f"{key}_id": value for key, value in ids.items() if value is not None},
    }
    clash = event.keys() & (payload or {}).keys()
    if clash:
        raise ConfigError(f"event payload may not override {', '.join(sorted(clash))}")
    line = json.dumps({**event, **(payload or {})}, ensure_ascii=False) + "\n"
    path = layout.events / f"{host_name()}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o664)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if torn else b"") + line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise write_error(path, error) from error


def flag_payload(flag: Flag) -> dict[str, Any]:
    """What an event says about the flag that caused it."""
    return {
        "stage": flag.stage,
        "duration_s": flag.duration_s,
        "tiles": flag.tiles.model_dump(mode="json"),
        "outputs": [output.path for output in flag.outputs],
        "numbers": dict(flag.numbers),
        **{key: flag.extra[key] for key in _FAILURE_KEYS if key in flag.extra},
    }


def read_events(layout: ProjectLayout) -> list[dict[str, Any]]:
    """All events of all hosts in order of time; torn lines are ignored."""
    events = []
    for path in sorted(layout.events.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                events.append(event)
    return sorted(events, key=_time)


def _time(event: dict[str, Any]) -> str:
    return str(event.get("time", ""))
