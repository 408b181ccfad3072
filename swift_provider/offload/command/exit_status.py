"""The exit status of ``swift_media_upload``."""

from __future__ import annotations

from swift_provider.offload.tally import Tally

DONE = 0
SOME_FAILED = 1
WRONG_USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130
#: The reader of standard output went away; a shell reports other tools' SIGPIPE like that.
READER_GONE = 141


def status_of(tally: Tally) -> int:
    """The exit status for the figures of a job."""
    if tally.interrupted:
        return INTERRUPTED
    if tally.stopped is not None:
        return UNREACHABLE
    return SOME_FAILED if tally.failures or tally.incomplete else DONE
