"""Says on what a command waits that blocks, once it has lasted for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 10.0


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
