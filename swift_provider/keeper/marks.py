"""Empty files in the media store by which processes tell each other what was done, or is wanted.

Each has one meaning, and any process may write it at any time: no other process's words are
lost, as they would be in a file with several values.
"""

from __future__ import annotations

import contextlib
import os
import time
from enum import Enum

from swift_provider.keeper.lock import FOLDER


class Mark(str, Enum):
    """The name of a file."""

    #: Uploads failed: Swift may lack files of this disk.
    REPAIR = "repair"
    #: Its time is when objects were last pruned.
    PRUNED = "pruned"


def set_mark(media_store: str, mark: Mark) -> None:
    """Make the file, with the time of now. Blocking.

    :raises OSError: if it cannot be written.
    """
    path = _path(media_store, mark)
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    os.close(os.open(path, flags, 0o640))
    # Not the time of a file server, whose clock may differ: it is compared with this one.
    now = time.time_ns()
    os.utime(path, ns=(now, now), follow_symlinks=False)


def mark_time(media_store: str, mark: Mark) -> int | None:
    """When it was set, in nanoseconds since the epoch; ``None`` if it is not. Blocking."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # By opening it: NFS shows the time that another host has set only then.
        descriptor = os.open(_path(media_store, mark), flags)
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
    except OSError:
        return None


def seconds_of(mark_ns: int) -> float:
    """A mark's time in seconds; now, if the clock was ahead when it was set."""
    return min(time.time(), mark_ns / 1e9)


def clear_mark(media_store: str, mark: Mark, seen: int | None) -> None:
    """Remove the file, unless it was set again meanwhile. Blocking.

    :param seen: its time when it was seen.
    """
    if seen is not None and mark_time(media_store, mark) == seen:
        with contextlib.suppress(OSError):
            os.unlink(_path(media_store, mark))


def _path(media_store: str, mark: Mark) -> str:
    return os.path.join(media_store, FOLDER, mark.value)
