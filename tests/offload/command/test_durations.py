"""Durations and dates on the command line."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from swift_provider.errors import ConfigError
from swift_provider.offload.command.durations import cut_off, milliseconds

NOW = datetime(2024, 6, 30, 12, 0, 0)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("0d", timedelta()),
        ("30s", timedelta(seconds=30)),
        ("30min", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("5d", timedelta(days=5)),
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
    ["", "5", "d", "5 d", "-5d", "5w", "1.5d", "5D", "٥d", "2025-01-01", "9" * 12 + "y", "5d" * 99],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is refused, with what would be right."""
    with pytest.raises(ConfigError, match=r"give a number with s, min, h, d"):
        cut_off(text, NOW)


def test_long_ago_is_the_epoch() -> None:
    """A date before 1970 finds nothing, rather than failing."""
    assert milliseconds(cut_off("0001-01-01", NOW)) == 0
