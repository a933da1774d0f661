"""Times and durations for people."""

from datetime import datetime


def duration(seconds: float) -> str:
    """A duration in at most two units, such as ``4 s``, ``12 min``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def local_time(at: datetime) -> str:
    """Date and time on the clock of this host."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def parse_time(text: object) -> datetime | None:
    """Time of a record; None when it has none that can be read."""
    if isinstance(text, datetime):
        return text
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else at.astimezone()
