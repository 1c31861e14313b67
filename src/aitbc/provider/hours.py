"""When its owner wants this machine to work: a pause that a file says, and hours of the day."""

import re
from pathlib import Path
from typing import NamedTuple

PAUSE_FILE = "paused"
MAX_SPANS = 16

_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])\Z")
_DAY_MINUTES = 24 * 60


class Span(NamedTuple):
    """Minutes of the day; an end before its start is on the next day."""

    start: int
    end: int

    def holds(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def hours_of(text: str) -> list[Span]:
    """`22:00-06:00,12:00-13:30`. Raises ValueError that says what is allowed."""
    spans = []
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        match = _SPAN.match(part)
        if match is None:
            raise ValueError(f"{part!r} is no span of hours such as 22:00-06:00")
        start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if start == end or end > _DAY_MINUTES:
            raise ValueError(f"{part!r} is no span of hours such as 22:00-06:00")
        spans.append(Span(start, end))
    if len(parts) > MAX_SPANS:
        raise ValueError(f"at most {MAX_SPANS} spans of hours")
    return spans


def why_closed(*, data_dir: Path, hours: list[Span], minute: int) -> str:
    """Empty while work is welcome."""
    if (data_dir / PAUSE_FILE).exists():
        return "paused by its owner"
    if hours and not any(span.holds(minute) for span in hours):
        return "outside its working hours"
    return ""
