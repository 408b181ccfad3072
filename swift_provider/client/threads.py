"""A few threads of our own, for what blocks: Keystone, reading and hashing files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

Result = TypeVar("Result")

#: Hashing is bound by the processors, and signing in happens once: more would not help.
MOST_THREADS = 4


class _DaemonThread(threading.Thread):
    """Does not hold up the end of the process, whatever it waits for."""

    daemon = True


class _DaemonThreadPool(ThreadPool):
    threadFactory = _DaemonThread


class Threads:
    """A thread pool that starts with its first task."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool: ThreadPool | None = None

    def run(self, function: Callable[..., Result], *arguments: object) -> Deferred[Result]:
        """Call a function in a thread.

        :returns: fires with its result, on the reactor's thread. Cancelling it does not
            stop the function.
        """
        if self._pool is None:
            self._pool = _DaemonThreadPool(0, MOST_THREADS, "swift")
            self._pool.start()
        result: Deferred[Result] = deferToThreadPool(
            self._reactor, self._pool, function, *arguments
        )
        return result

    def stop(self) -> None:
        """Let the threads end as soon as they have nothing to do; waits for none of them."""
        pool, self._pool = self._pool, None
        if pool is not None:
            threading.Thread(target=pool.stop, name="swift-stop", daemon=True).start()
