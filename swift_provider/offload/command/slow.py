"""Says on what a command waits that blocks, once it has lasted for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from swift_provider.offload.command.stalls import Stalls
from swift_provider.offload.progress import Progress

SECONDS = 10.0
LOOK_SECONDS = 1.0


@contextmanager
def told_if_slow(
    text: str, note: Callable[[str], None] | None, seconds: float = SECONDS
) -> Iterator[None]:
    """Print a line if the block takes longer.

    :param note: called in a thread of its own; ``None`` to print nothing.
    """
    if note is None:
        yield
        return
    timer = threading.Timer(seconds, note, [text])
    timer.daemon = True  # Ctrl-C does not wait for it.
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def told_if_stalled(progress: Progress, what: Callable[[], str]) -> Iterator[None]:
    """Show what the block waits for, once it has made no progress for a while.

    :param what: as of :class:`.Stalls`; called in a thread of its own.
    """
    stalls = Stalls(progress, what, time.monotonic)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            stalls.look()

    watching = threading.Thread(target=watch, daemon=True)  # Ctrl-C does not wait for it.
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        progress.waits("")
