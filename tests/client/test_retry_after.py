"""Reading ``Retry-After``: numbers, the three date formats of HTTP, and nonsense."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from twisted.web.http_headers import Headers

from swift_provider.client.answers import retry_after
from swift_provider.client.retry import retry_after_seconds

#: Sun, 06 Nov 1994 08:49:37 GMT, the example date of RFC 9110.
EXAMPLE = 784111777


@pytest.fixture
def _an_hour_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock shows one hour before the example date."""
    monkeypatch.setattr("time.time", lambda: float(EXAMPLE - 3600))


@pytest.fixture
def _zone_of_auckland(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's local time is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "NZST-12")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("3600000000", 3.6e9)]
)
def test_a_number_is_seconds(value: str, seconds: float) -> None:
    """A decimal number is taken as seconds, with or without spaces around it."""
    assert retry_after_seconds(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 09:49:37 +0100",
    ],
)
@pytest.mark.usefixtures("_an_hour_before", "_zone_of_auckland")
def test_a_date_is_a_time_from_now(value: str) -> None:
    """Every date format of RFC 9110 is read; without a zone the date is in UTC."""
    assert retry_after_seconds(value) == 3600.0


@pytest.mark.parametrize(
    "value",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 01 Jan 1904 00:00:00 GMT", "1 Jan 0001 00:00:00 -0000"],
)
def test_a_past_date_is_no_wait(value: str) -> None:
    """A date in the past asks for no wait at all."""
    assert retry_after_seconds(value) == 0.0


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "soon",
        "-5",
        "1.5",
        "²",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -9999",
        "Fri, 31 Dec 9999 23:59:59 -99999999999999",
        "Fri, 31 Dec 9999999999999999999999 23:59:59 GMT",
    ],
)
def test_nonsense_is_no_wish(value: str) -> None:
    """An empty or unreadable value, or one with an absurd year or zone, raises nothing."""
    assert retry_after_seconds(value) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, None), ({"Retry-After": ["30"]}, 30.0), ({"Retry-After": ["soon"]}, None)],
)
def test_the_header_of_an_answer(headers: dict[str, list[str]], seconds: float | None) -> None:
    """An answer without the header asks for nothing."""
    assert retry_after(Headers(headers)) == seconds
