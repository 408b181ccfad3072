"""The messages between the module and the process that keeps the disk within its budget."""

from __future__ import annotations

import datetime

import pytest

from swift_provider.config import parse_settings
from swift_provider.keeper import BadMessageError, Order, Report, Task, Trouble

OPTIONS = {
    "container": "media",
    "auth": {"password": "hunter2", "user_domain_id": datetime.date(2024, 1, 31)},
    "auth_type": "password",
    "prefix": "a/",
    "redirect": {"key": "hunter3"},
    "local_disk": {"max_size": "50G", "min_free": "5%", "older_than": "30d", "prune": True},
}


def an_order() -> Order:
    settings = parse_settings(OPTIONS)
    assert settings.local_disk is not None
    return Order(
        version="1.0",
        environment={"OS_PASSWORD": "hunter4"},
        settings=settings,
        limits=settings.local_disk,
        server_name="example.org",
        media_store="/srv/media",
        database={"name": "psycopg2", "args": {"password": "hunter5"}},
        tasks=frozenset({Task.KEEP, Task.PRUNE}),
        repair_kinds=frozenset({"local"}),
        quiet_seconds=600.0,
        young_seconds=86400.0,
        written_since=1.5,
    )


def test_an_order_arrives_as_it_was_sent() -> None:
    """A date in a credential arrives as text; the options of redirect are not sent."""
    order = an_order()
    line = order.to_line()
    assert line.count(b"\n") == 1
    assert b"hunter3" not in line
    there = Order.from_line(line)
    assert there.settings.auth == {"password": "hunter2", "user_domain_id": "2024-01-31"}
    assert (there.settings.container, there.settings.prefix) == ("media", "a/")
    assert there.settings.redirect is None
    for name in ("version", "environment", "limits", "database", "tasks", "repair_kinds"):
        assert getattr(there, name) == getattr(order, name)


def test_an_order_does_not_show_its_secrets() -> None:
    """The repr of an order may come into a log."""
    assert "hunter" not in repr(an_order())


def test_a_report_arrives_as_it_was_sent() -> None:
    """All fields survive."""
    report = Report(
        final=True,
        removed=3,
        freed=12,
        failed={"too large": 1},
        on_disk=5,
        done=[Task.KEEP],
        troubles={Trouble.SWIFT: "away"},
    )
    assert Report.from_line(report.to_line()) == report


def test_a_report_of_another_version() -> None:
    """What is new in it is left out: the rest tells that Synapse has to be restarted."""
    line = Report(final=True, troubles={Trouble.VERSION: "restart"}).to_line()
    report = Report.from_line(line.replace(b"{", b'{"new": 1, ', 1))
    assert (report.final, report.troubles) == (True, {Trouble.VERSION: "restart"})


@pytest.mark.parametrize(
    "field",
    [
        '"seconds": "x"',
        '"seconds": NaN',
        '"idle": 1e400',
        '"failed": 3',
        '"failed": {"x": "y"}',
        '"freed": -1',
        '"removed": null',
        '"on_disk": []',
        '"final": 1',
        '"answered": ["x"]',
        '"looked_at": ' + "[" * 100_000,
    ],
)
def test_a_report_with_nonsense(field: str) -> None:
    """It is none: what reads it may calculate with its figures."""
    assert Report.from_line(b'{"done": [], "troubles": {}}') == Report()
    with pytest.raises(BadMessageError):
        Report.from_line(f'{{"done": [], "troubles": {{}}, {field}}}'.encode())


@pytest.mark.parametrize("line", [b"", b"hunter2", b"[]", b"{}", b'{"done": 1}', b"\xff\n"])
def test_anything_else_is_refused(line: bytes) -> None:
    """The message does not quote the line: an order holds secrets."""
    for kind in (Order, Report):
        with pytest.raises(BadMessageError) as caught:
            kind.from_line(line)
        assert "hunter2" not in str(caught.value)
