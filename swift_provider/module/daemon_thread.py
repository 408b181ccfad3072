"""A call that may block for ever, in a thread that delays nothing, not even the exit.

A disk on the network that hangs blocks a call for as long as it hangs. Threads of the
reactor's pool are few, and the reactor waits for them when it stops.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Result = TypeVar("Result")


def in_daemon_thread(
    reactor: Any, function: Callable[..., Result], *arguments: object
) -> Deferred[Result]:
    """Call a function in a thread of its own.

    :returns: fires with the result, on the reactor, without a log context; with OSError if
        there is no thread.
    """
    done: Deferred[Result] = Deferred()

    def work() -> None:
        try:
            result = function(*arguments)
        except BaseException:
            reactor.callFromThread(done.errback, Failure())
        else:
            reactor.callFromThread(done.callback, result)

    try:
        threading.Thread(target=work, name="swift_local_disk", daemon=True).start()
    except RuntimeError as error:  # The system has no more threads.
        done.errback(OSError(errno.EAGAIN, str(error)))
    return done
