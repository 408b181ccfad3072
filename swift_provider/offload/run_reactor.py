"""Runs the reactor of a process that has one job to do, and nothing else."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet._resolver import GAIResolver
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

Result = TypeVar("Result")


def run_reactor(reactor: Any, job: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Start the reactor, run a job, stop the reactor. A process can do this once.

    :returns: the job's result.
    :raises Exception: any error of the job.
    """
    ends: list[Result | Failure] = []

    def ended(result: Result | Failure) -> None:
        ends.append(result)
        reactor.stop()

    def begin() -> None:
        Deferred.fromCoroutine(job()).addBoth(ended)

    _collect_less_often()
    _ignore_changes_of_the_clock(reactor)
    _do_not_wait_for_names(reactor)
    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    end = ends[0]
    if isinstance(end, Failure):
        end.raiseException()
    return end


def _ignore_changes_of_the_clock(reactor: Any) -> None:
    """Make the reactor count by a clock that nobody sets.

    Twisted's reactor goes by the wall clock: if that is set back by an hour, as NTP does after
    a boot, each time limit and each wait for a retry takes an hour longer. The reactor asks
    its own ``seconds`` for every time that it compares with another (``ReactorBase``), so all
    that is needed is another ``seconds``, before the first timer.
    """
    assert not reactor.getDelayedCalls(), "timers by two clocks"
    reactor.seconds = time.monotonic


class _DaemonThread(threading.Thread):
    daemon = True


class _DaemonThreadPool(ThreadPool):
    threadFactory = _DaemonThread


def _do_not_wait_for_names(reactor: Any) -> None:
    """Make the reactor look for addresses in threads that do not keep the process from ending.

    It stops only when its own threads are idle, and a name server that does not answer keeps
    one busy for half a minute, long after the connection was given up. Twisted offers no public
    way to say so: this is the resolver that it installs itself (``ReactorBase``).
    """
    pool = _DaemonThreadPool(0, name="names")
    pool.start()
    reactor.installNameResolver(GAIResolver(reactor, lambda: pool))


def _collect_less_often() -> None:
    """Make the garbage collector skip the loaded modules and run less often.

    With Python's defaults it takes a fifth of the processor time of a small file. Memory
    stays flat, because a request leaves only a few cycles of some KB.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
