"""Which log context the package's log lines get."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context
from twisted.internet.defer import Deferred

from swift_provider.module.log_context import begin_for_caller, log_for_callers

logger = logging.getLogger("swift_provider.test")


class Lines(logging.Handler):
    """Each line that the root logger gets, with its log context."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append((record.getMessage(), str(current_context())))


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines of ``swift_provider``; its logger is afterwards as it was."""
    ours, root = logging.getLogger("swift_provider"), logging.getLogger()
    propagate, handlers = ours.propagate, list(ours.handlers)
    ours.propagate = True
    ours.handlers.clear()
    handler = Lines()
    root.addHandler(handler)
    log_for_callers("here")
    yield handler
    root.removeHandler(handler)
    ours.handlers[:] = handlers
    ours.propagate = propagate


async def _operation(pause: Deferred[None]) -> None:
    logger.warning("first")
    await pause
    logger.warning("second")


def test_lines_get_the_caller(lines: Lines) -> None:
    """An operation that resumes from the reactor still logs for the caller that began it."""
    pauses: list[Deferred[None]] = [Deferred(), Deferred()]
    with (
        LoggingContext(name="GET-1", server_name="here") as one,
        LoggingContext(name="GET-2", server_name="here") as two,
    ):
        for caller, pause in zip((one, two), pauses, strict=True):
            with PreserveLoggingContext(caller):
                begin_for_caller(_operation, pause)
                assert current_context() is caller
        with PreserveLoggingContext():
            for pause in reversed(pauses):
                pause.callback(None)
    assert lines.seen == [
        ("first", "GET-1"),
        ("first", "GET-2"),
        ("second", "GET-2"),
        ("second", "GET-1"),
    ]


def test_lines_without_a_caller(lines: Lines) -> None:
    """A line about what all operations share has a log context too."""
    logger.warning("a new token")
    assert lines.seen == [("a new token", "swift")]


def test_two_providers_log_each_line_once(lines: Lines) -> None:
    """The second provider of a process adds no second handler."""
    log_for_callers("here")
    logger.warning("once")
    assert lines.seen == [("once", "swift")]
