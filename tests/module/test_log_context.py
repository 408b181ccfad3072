"""Which log context the package's log lines get."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator

import pytest
import requests
import yaml
from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context
from twisted.internet.defer import Deferred

from swift_provider.module.log_context import begin_for_caller, log_for_callers
from tests.module.conftest import Servers
from tests.module.homeservers import OUTAGE, there
from tests.servers.faults import Answer

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
    """The lines that the root logger gets."""
    root = logging.getLogger()
    handler = Lines()
    root.addHandler(handler)
    log_for_callers("here")
    yield handler
    root.removeHandler(handler)


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


@pytest.mark.parametrize("named", ["swift_provider", "swift_provider.test", "another"])
@pytest.mark.parametrize("disable", [True, False])
def test_log_configuration_is_read_again(lines: Lines, named: str, disable: bool) -> None:
    """Lines keep coming, with their log contexts, whatever a log configuration names."""
    root = logging.getLogger()
    before = {name: (known, known.disabled) for name, known in _loggers()}
    handlers, level = list(root.handlers), root.level
    try:
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": disable,
                "loggers": {named: {"level": "INFO"}},
            }
        )
        logger.warning("still here")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for known, disabled in before.values():
            known.disabled = disabled
        logging.getLogger(named).setLevel(logging.NOTSET)
    assert lines.seen == [("still here", "swift")]


def _loggers() -> list[tuple[str, logging.Logger]]:
    known = logging.root.manager.loggerDict.items()
    return [(name, logger) for name, logger in known if isinstance(logger, logging.Logger)]


def test_levels_apply(lines: Lines) -> None:
    """An administrator can still silence the package."""
    ours = logging.getLogger("swift_provider")
    ours.setLevel(logging.CRITICAL)
    try:
        logger.error("not wanted")
    finally:
        ours.setLevel(logging.NOTSET)
    assert lines.seen == []


async def test_sighup(servers: Servers) -> None:
    """After SIGHUP an error of an upload is still in Synapse's log, with its log context."""
    here = servers.here
    config = here.folder / "log.yaml"
    settings = yaml.safe_load(config.read_text())
    # Synapse has replaced sys.stderr since it started.
    settings["handlers"]["console"]["stream"] = "ext://sys.__stderr__"
    original = yaml.safe_dump(settings)
    settings["disable_existing_loggers"] = True
    for name in ("swift_provider", "synapse"):
        settings["loggers"][name] = {"level": "INFO"}
    config.write_text(yaml.safe_dump(settings))
    try:
        await there(here.reload_logging)
        here.new_log()
        servers.proxy.add(Answer(match=("PUT", servers.main), **OUTAGE))
        with pytest.raises(requests.HTTPError, match="HTTP 503"):
            await there(here.user.upload, b"not now")
        (line,) = [line for line in here.new_log() if " ERROR " in line and "swift" in line]
        assert " POST-" in line
    finally:
        config.write_text(original)
        await there(here.reload_logging)


def test_two_providers_log_each_line_once(lines: Lines) -> None:
    """The second provider of a process adds no second handler."""
    log_for_callers("here")
    logger.warning("once")
    assert lines.seen == [("once", "swift")]
