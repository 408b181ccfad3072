"""The exit status of ``swift_media_upload``."""

from __future__ import annotations

from swift_provider.offload.tally import Tally

DONE = 0
SOME_FAILED = 1
WRONG_USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130


def status_of(summary: Tally) -> int:
    """What a job's summary comes to."""
    if summary.interrupted:
        return INTERRUPTED
    if summary.stopped is not None:
        return UNREACHABLE
    return SOME_FAILED if summary.failures else DONE
