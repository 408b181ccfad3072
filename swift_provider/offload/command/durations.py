"""Reads "not accessed for how long": ``12h``, ``2m``, ``30min``, or a date."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from swift_provider.errors import ConfigError

#: ``m`` is a month of 30 days, as in the sibling script; minutes are ``min``.
_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "m": timedelta(days=30),
    "y": timedelta(days=365),
}
_DURATION = re.compile(r"([0-9]{1,12})(s|min|h|d|m|y)")
_HELP = (
    "give a number with s, min, h, d, m (30 days) or y (365 days), such as 2m, "
    "or a date such as 2024-01-31"
)


def cut_off(text: str, now: datetime) -> datetime:
    """The moment before which a media must have been accessed last.

    :param now: the present, as local time without zone.
    :returns: local time without zone.
    :raises ConfigError: if the text is neither a duration nor a date, or lies
        in the future or before the calendar.
    """
    match = _DURATION.fullmatch(text)
    try:
        if match is not None:
            return now - int(match[1]) * _UNITS[match[2]]
        then = datetime.fromisoformat(text)
    except OverflowError:
        raise ConfigError(f"{text!r} is too long ago: {_HELP}") from None
    except ValueError:
        raise ConfigError(f"{text[:40]!r} is not a duration: {_HELP}") from None
    if then.tzinfo is not None:
        then = then.astimezone().replace(tzinfo=None)
    if then > now:
        raise ConfigError(f"{text} lies in the future: {_HELP}")
    return then


def milliseconds(moment: datetime) -> int:
    """Since the epoch, as Synapse's ``…_ts`` columns count; 0 for anything earlier."""
    try:
        return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):  # a year that the C library cannot convert
        return 0
