"""The signals that end the script.

SIGHUP, which comes when the terminal is closed, ends it as SIGTERM does. A signal that is
ignored when the script starts stays ignored: ``nohup`` does that with SIGHUP, and a shell with
the SIGINT of what it starts in the background.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handler`` called for each of these signals until the end of the block."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    try:
        for number, earlier in before.items():
            if earlier is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
