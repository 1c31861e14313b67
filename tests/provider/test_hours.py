"""When a machine works: spans of hours, over midnight too, and a file that says pause."""

from pathlib import Path

import pytest

from aitbc.provider.hours import PAUSE_FILE, hours_of, why_closed


@pytest.mark.parametrize(
    ("hours", "clock", "works"),
    [
        ("", "03:00", True),
        ("22:00-06:00", "21:59", False),
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("09:00-12:00, 13:00-24:00", "12:30", False),
        ("09:00-12:00, 13:00-24:00", "23:59", True),
    ],
)
def test_working_hours(tmp_path: Path, hours: str, clock: str, works: bool) -> None:
    minute = int(clock[:2]) * 60 + int(clock[3:])
    why = why_closed(data_dir=tmp_path, hours=hours_of(hours), minute=minute)
    assert why == ("" if works else "outside its working hours")


def test_a_pause_wins(tmp_path: Path) -> None:
    (tmp_path / PAUSE_FILE).touch()
    assert why_closed(data_dir=tmp_path, hours=[], minute=0) == "paused by its owner"


@pytest.mark.parametrize(
    "text", ["all day", "22:00", "25:00-26:00", "09:00-09:00", "09:00-24:01", "9:00-10:00"]
)
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="no span of hours"):
        hours_of(text)


def test_so_many_spans_are_no_plan() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        hours_of(",".join(["09:00-10:00"] * 17))
