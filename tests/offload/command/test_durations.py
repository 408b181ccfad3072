"""Durations and dates on the command line."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from swift_provider.errors import ConfigError
from swift_provider.offload.command.durations import cut_off, duration, milliseconds

NOW = datetime(2024, 6, 30, 12, 0, 0)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("0d", timedelta()),
        ("30s", timedelta(seconds=30)),
        ("30min", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("5d", timedelta(days=5)),
        ("1w", timedelta(days=7)),
        ("2m", timedelta(days=60)),
        ("1y", timedelta(days=365)),
    ],
)
def test_durations(text: str, ago: timedelta) -> None:
    """A number and a unit count back from now; m is a month of 30 days."""
    assert cut_off(text, NOW) == NOW - ago


def test_dates() -> None:
    """A date stands for its first moment, a time with zone for itself."""
    assert cut_off("2024-01-31", NOW) == datetime(2024, 1, 31)
    assert cut_off("2024-01-31T10:00:00", NOW) == datetime(2024, 1, 31, 10)
    moment = milliseconds(cut_off("2024-01-31T10:00:00+02:00", NOW))
    assert moment == 1706688000000


@pytest.mark.parametrize(
    "text",
    ["", "5", "d", "5 d", "-5d", "5W", "1.5d", "5D", "٥d", "2025-01-01", "9" * 12 + "y", "5d" * 99],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is refused, with what would be right."""
    with pytest.raises(ConfigError, match=r"give a number with s, min, h, d, w"):
        cut_off(text, NOW)


@pytest.mark.parametrize("text", ["3000y", "0001-01-01T00:00:00+14:00"])
def test_before_the_year_1(text: str) -> None:
    """There is no such time, in whatever zone."""
    with pytest.raises(ConfigError, match="too long ago"):
        cut_off(text, NOW)


def test_a_length_of_time() -> None:
    """Up to 1000 years, of which the beginning still has a date."""
    assert duration("4h") == timedelta(hours=4)
    assert NOW - duration("1000y") == NOW - duration("365000d") == datetime(1025, 2, 28, 12)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("4", "not a duration"),
        ("2024-01-31", "not a duration"),
        ("1001y", "too long"),
        ("3000y", "too long"),
        ("9" * 12 + "y", "too long"),
        ("9" * 12 + "s", "too long"),
    ],
)
def test_what_is_no_length_of_time_is_refused(text: str, why: str) -> None:
    """Also what the calendar does not reach back to."""
    with pytest.raises(ConfigError, match=why):
        duration(text)


def test_long_ago_is_the_epoch() -> None:
    """A date before 1970 finds nothing, rather than failing."""
    assert milliseconds(cut_off("0001-01-01", NOW)) == 0
