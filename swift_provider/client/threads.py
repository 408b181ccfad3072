"""Thread pools for what blocks: signing in, reading files, hashing files.

Each kind of work has a pool of its own, so that short work never queues behind long
work: four whole-file hashes on a slow disk must not hold up a sign-in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

Result = TypeVar("Result")

#: The work is bound by processors and disk: more threads would not finish sooner.
THREADS = 4


class _DaemonThread(threading.Thread):
    """Does not keep the process from ending."""

    daemon = True


class _DaemonThreadPool(ThreadPool):
    threadFactory = _DaemonThread


class Threads:
    """A thread pool that starts with its first task.

    :param reactor: whose thread gets the results.
    :param name: of the threads, for debuggers.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._pool: ThreadPool | None = None

    def run(self, function: Callable[..., Result], *arguments: object) -> Deferred[Result]:
        """Call a function in a thread.

        :returns: fires with its result, on the reactor's thread. Cancelling it does not
            stop the function.
        """
        if self._pool is None:
            self._pool = _DaemonThreadPool(0, THREADS, self._name)
            self._pool.start()
        result: Deferred[Result] = deferToThreadPool(
            self._reactor, self._pool, function, *arguments
        )
        return result

    def stop(self) -> None:
        """End the threads once they are idle. Does not wait for them; may be called again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            threading.Thread(target=pool.stop, name=f"{self._name}-stop", daemon=True).start()
