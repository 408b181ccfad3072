"""Runs the reactor for one asynchronous job, with signals.

The first SIGINT, SIGTERM or SIGHUP asks the job to finish what is in flight. A second SIGINT
or SIGTERM ends the process at once: work in flight is lost, but no file is. SIGHUP never does:
when a terminal is closed, the kernel and the shell each send it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from swift_provider.offload.command.exit_status import INTERRUPTED
from swift_provider.offload.command.signals import ending_signals
from swift_provider.offload.run_reactor import run_reactor

Result = TypeVar("Result")


def run(
    reactor: Any,
    job: Callable[[], Coroutine[Any, Any, Result]],
    stop: Callable[[], None],
    last_words: Callable[[], None],
    note: Callable[[str], None],
) -> Result:
    """Start the reactor, run a job, stop the reactor.

    :param stop: asks the job to end soon.
    :param last_words: called before a second SIGINT or SIGTERM ends the process.
    :param note: prints a line to standard error, beside a progress bar.
    :returns: the job's result.
    :raises Exception: any error of the job.
    """
    stopping = False
    requests = 0  # other signals than SIGHUP

    def interrupted(number: int) -> None:
        nonlocal stopping, requests
        requests += number != signal.SIGHUP
        if not stopping:
            stopping = True
            note("Finishing current files. Ctrl-C again stops now")
            stop()
        if requests < 2:
            return
        try:
            last_words()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(INTERRUPTED)

    def on_signal(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(interrupted, number)  # Also wakes the reactor.

    with ending_signals(on_signal):
        return run_reactor(reactor, job)
