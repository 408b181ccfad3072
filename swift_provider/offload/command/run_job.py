"""Runs one asynchronous job from start to end, as a program does.

The first SIGINT or SIGTERM asks the job to finish what it has begun, the second
ends the process at once; nothing is lost by that, only the work in flight.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Result = TypeVar("Result")

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    reactor: Any,
    job: Callable[[], Coroutine[Any, Any, Result]],
    stop: Callable[[], None],
    last_words: Callable[[], None],
) -> Result:
    """Start the reactor, run a job, stop the reactor.

    :param stop: asks the job to end soon.
    :param last_words: called just before the process ends at a second signal.
    :returns: what the job returned; raises what it raised.
    """
    ends: list[Result | Failure] = []
    signals = 0

    def ended(result: Result | Failure) -> None:
        ends.append(result)
        reactor.stop()

    def interrupted() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            print("Stopping after the files in work; again to stop at once", file=sys.stderr)
            stop()
            return
        last_words()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)

    def on_signal(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(interrupted)  # wakes the reactor as well

    def begin() -> None:
        Deferred.fromCoroutine(job()).addBoth(ended)

    _collect_less_often()
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        reactor.callWhenRunning(begin)
        reactor.run(installSignalHandlers=False)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    end = ends[0]
    if isinstance(end, Failure):
        end.raiseException()
    return end


def _collect_less_often() -> None:
    """Spare the garbage collector the modules, and most of its looks at what is in work.

    A fifth of a small file's processor time goes into it otherwise. Memory stays
    flat: what is left to it are the few cycles of a request, some KB each.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
