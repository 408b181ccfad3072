"""What every test needs: the Twisted reactor, the real services, and a look at what is left.

A test fails that leaves a timer on the reactor or a failure that nobody
handled. In CI (``CI=true``) a skipped test fails as well.

A test that waits for ever fails, too, and the next one begins. pytest-timeout cannot do that
while the reactor waits: what its signal raises is caught there. So an ``async`` test is
cancelled. What even that does not end, ``faulthandler_timeout`` in ``setup.cfg`` does, together
with its process.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import inspect
import os
import re
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

pytest_plugins = ["tests.servers.fixtures"]

#: What is being closed when a test ends may take this long.
GRACE_SECONDS = 0.5
GRACE_STEP_SECONDS = 0.01
#: Which Synapse a test needs, as its parameter ``both`` says.
_PAIR = re.compile(r"\[(ours|\d+\.\d+\.\d+)[]-]")
#: An ``async`` test ends by itself after this share of pytest-timeout's limit.
OWN_SHARE = 0.8

#: Tests with many processes under load, some of which must keep up with it. No two at once.
HEAVY = (
    "tests/module/test_disk_",
    "tests/module/test_local_disk.py",
    "tests/test_demo.py",
    "tests/test_soak.py",
)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Children have to feel Ctrl-C, also if this process was started to ignore it (``… &``)."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:  # There is none in a process of pytest-xdist.
        config.pluginmanager.register(_NameFailures(terminal))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """``async def test_…`` needs no decorator."""
    for item in items:
        function = getattr(item, "obj", None)
        if inspect.iscoroutinefunction(function):
            item.obj = _limited(function, _seconds_of(item))  # type: ignore[attr-defined]
    if hasattr(config, "workerinput"):
        # The shortest groups come last, so that all processes end at about the same time.
        items.sort(key=lambda item: item.location[0].startswith("tests/client/"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process of pytest-xdist gets whole groups of tests, one after the other."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


def _seconds_of(item: pytest.Item) -> float:
    """How long an ``async`` test may take, its fixtures aside."""
    marker = item.get_closest_marker("timeout")
    limit = item.config.getoption("timeout") or item.config.getini("timeout")
    return OWN_SHARE * float(marker.args[0] if marker else limit or 0)


def _limited(
    function: Callable[..., Coroutine[Any, Any, None]], seconds: float
) -> Callable[..., Deferred[None]]:
    """The test as a function that returns a Deferred, which fails after ``seconds``.

    A thread waits for that: tests set the reactor's clock.
    """
    from twisted.internet import reactor  # pytest-twisted chooses it

    @functools.wraps(function)
    def run(**fixtures: Any) -> Deferred[None]:
        is_late = False

        def stop() -> None:
            nonlocal is_late
            is_late = True
            running.cancel()

        def end(result: object) -> Any:
            timer.cancel()
            if not is_late:
                return result
            waits = result.getTraceback() if isinstance(result, Failure) else result
            raise AssertionError(f"not over after {seconds:.0f} s; it waited here:\n{waits}")

        timer = threading.Timer(seconds, reactor.callFromThread, [stop])
        timer.daemon = True
        if seconds:
            timer.start()  # The test may see to it that no thread can start.
        running = ensureDeferred(function(**fixtures))
        return running.addBoth(end)

    return run


def group_of(nodeid: str) -> str:
    """What one process of pytest-xdist runs, one test after the other: a file, as a rule.

    The tests with the two homeservers of ``tests/module/conftest.py`` are two groups, one for
    each Synapse, so that each pair is started once.
    """
    file, _, test = nodeid.partition("::")
    pair = _PAIR.search(test)
    if pair and file.startswith("tests/module/"):
        return f"homeservers, {pair[1]}"
    return "heavy" if file.startswith(HEAVY) else file


def pytest_collection_finish() -> None:
    """What was imported stays: the collection after each test need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _skip_fails_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _skip_fails_in_ci((yield))


class _NameFailures:
    """Names each failure at once: a run that is ended from outside prints no summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            why = report.longreprtext.strip().rpartition("\n")[2]
            self._terminal.ensure_newline()
            self._terminal.line(f"{report.nodeid} ({report.when}): {why}")


def _skip_fails_in_ci(report: Any) -> Any:
    # An expected failure is reported as skipped, too.
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure in CI: {report.longrepr[2]}"
    return report


@pytest.fixture(autouse=True)
def _alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """While a test marked ``alone`` runs, the other processes of pytest-xdist run none."""
    if not hasattr(request.config, "workerinput"):
        yield
        return
    how = fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH
    folder = tmp_path_factory.getbasetemp().parent
    with (folder / "alone.lock").open("w") as lock:
        # While a test waits to be alone, no other begins.
        with (folder / "turn.lock").open("w") as turn:
            fcntl.flock(turn, how)
            fcntl.flock(lock, how)
        yield


@pytest.fixture
def unhandled_failures() -> Iterator[list[LogEvent]]:
    """Critical failures logged so far; a test that means one looks at it and clears the list."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event and event.get("log_level") == LogLevel.critical:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


@pytest.fixture(autouse=True)
def _nothing_left(unhandled_failures: list[LogEvent]) -> Iterator[None]:
    from twisted.internet import reactor  # pytest-twisted chooses it

    before = set(reactor.getDelayedCalls())
    yield
    deadline = reactor.seconds() + GRACE_SECONDS
    while set(reactor.getDelayedCalls()) - before and reactor.seconds() < deadline:
        _turn_reactor(reactor)
    timers = set(reactor.getDelayedCalls()) - before
    for timer in timers:
        timer.cancel()
    assert not timers, f"the test left timers on the reactor: {timers}"
    gc.collect()  # an unhandled failure is logged once its Deferred is gone
    texts = [formatEvent(e) + "\n" + e["log_failure"].getTraceback() for e in unhandled_failures]
    assert not texts, "the test left failures that nobody handled:\n" + "\n".join(texts)


def _turn_reactor(reactor: Any) -> None:
    from twisted.internet.task import deferLater

    pytest_twisted.blockon(deferLater(reactor, GRACE_STEP_SECONDS, lambda: None))
