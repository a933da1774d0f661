"""The event log as plain lines: when, what, where, how long, why it failed."""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.report.tail import last_lines
from opticstream_smk.report.times import local_time, parse_time
from opticstream_smk.trigger.progress import where


def event_files(layout: ProjectLayout) -> list[Path]:
    """Event logs of all hosts."""
    return sorted(layout.events.glob("*.jsonl"))


def last_events(layout: ProjectLayout, n_lines: int) -> list[str]:
    """The last events of all hosts in order of time, as lines."""
    lines: list[str] = []
    for path in event_files(layout):
        with contextlib.suppress(FileNotFoundError):
            lines += last_lines(path, n_lines)
    told = event_lines(lines)
    return told[-n_lines:] if n_lines else []


def event_lines(lines: Iterable[str]) -> list[str]:
    """Lines of event logs in order of time, for people; torn ones are left out."""
    events = [event for line in lines if (event := parse_event(line))]
    return [event_line(event) for event in sorted(events, key=lambda e: str(e.get("time", "")))]


def parse_event(line: str) -> dict[str, Any] | None:
    """An event of the log; None for a torn line."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def event_line(event: dict[str, Any]) -> str:
    """One event as a line: time, what, where, how long, by which stage, and the error."""
    at = parse_time(event.get("time"))
    name = " ".join(str(event["event"]).split(".")[-2:])
    place = where(event) or str(event.get("driver") or "")
    duration_s = event.get("duration_s")
    has_duration = isinstance(duration_s, int | float) and duration_s > 0
    took = f"{duration_s:8.1f} s" if has_duration else " " * 10
    by = str(event.get("stage") or event.get("rule") or "")
    parts = [local_time(at) if at else " " * 19, f"{name:<16}", f"{place:<20}", took, by]
    return "  ".join(parts).rstrip() + _error(event)


def _error(event: dict[str, Any]) -> str:
    lines = str(event.get("error") or "").splitlines()
    if not lines:
        return ""
    attempts = event.get("attempts")
    which = f" (attempt {attempts})" if attempts else ""
    more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
    return f"{which}: {lines[0]}{more}"
