"""Reads how long media must not have been accessed: ``12h``, ``2m``, ``30min``, or a date."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from swift_provider.errors import ConfigError

#: ``m`` is a month of 30 days, as in ``s3_media_upload``; minutes are ``min``.
_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "m": timedelta(days=30),
    "y": timedelta(days=365),
}
#: Longer than any media or any run has lasted; the time so long ago has a date.
_LONGEST = 1000 * _UNITS["y"]
_DURATION = re.compile(r"([0-9]{1,12})(s|min|h|d|w|m|y)")
_HELP = (
    "give a number with s, min, h, d, w, m (30 days) or y (365 days), such as 2m, "
    "or a date such as 2024-01-31"
)


def cut_off(text: str, now: datetime) -> datetime:
    """The time since which media must not have been accessed.

    :param now: the current local time, without zone.
    :returns: local time, without zone.
    :raises ConfigError: if the text is neither a duration nor a date, if the time lies in
        the future, or before the year 1.
    """
    match = _DURATION.fullmatch(text)
    try:
        if match is not None:
            return now - int(match[1]) * _UNITS[match[2]]
        then = datetime.fromisoformat(text)
        if then.tzinfo is not None:
            then = then.astimezone().replace(tzinfo=None)
    except OverflowError:
        raise ConfigError(f"{text!r} is too long ago: {_HELP}") from None
    except ValueError:
        raise ConfigError(f"{text[:40]!r} is not a duration: {_HELP}") from None
    if then > now:
        raise ConfigError(f"{text} lies in the future: {_HELP}")
    return then


def duration(text: str) -> timedelta:
    """A length of time, such as ``4h``; no date.

    :raises ConfigError: if the text is none, or if it is longer than 1000 years.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text[:40]!r} is not a duration such as 30min, 4h or 2d")
    unit = _UNITS[match[2]]
    if int(match[1]) > _LONGEST // unit:
        raise ConfigError(f"{text!r} is too long: the most are 1000 years (1000y)")
    return int(match[1]) * unit


def milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch, as in Synapse's ``…_ts`` columns; 0 for earlier times."""
    try:
        return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):  # The C library cannot convert that year.
        return 0
