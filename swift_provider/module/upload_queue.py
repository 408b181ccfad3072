"""Uploads that Synapse does not wait for: how many wait, and how many run at once.

While Swift is unreachable or slow, uploads come faster than they end. So what waits is
bounded, and a waiting file holds no descriptor if its path will do.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from swift_provider.client import FileSource
from swift_provider.errors import FileChangedError
from swift_provider.module.metrics import Metrics

logger = logging.getLogger(__name__)

#: How many uploads may wait.
MAX_WAITING = 10_000
#: How many uploads may hold a descriptor where Synapse keeps no local media.
MAX_HELD = 500
#: At most one log line about dropped uploads in this time.
REPORT_SECONDS = 60.0
#: How many files a log line names.
NAMES = 10


class WaitingFile:
    """A file whose upload has not begun.

    Keep a path only if the file stays there. Otherwise keep the open file.

    :param local_path: the file's name.
    :param source: the open file; ``None`` to open it later.
    :raises OSError: without ``source``, if there is no such regular file.
    """

    def __init__(self, local_path: str, source: FileSource | None = None) -> None:
        self._local_path = local_path
        self._source = source
        if source is None:
            status = os.lstat(local_path)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", local_path)
            self._size = status.st_size
        else:
            self._size = source.size

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self._size

    def open(self) -> FileSource:
        """Open the file; the caller closes it.

        Only the size must be the same as before. Media do not change. But a file may have
        been deleted and pulled back meanwhile: then it has another inode and another time.

        :raises OSError: if it cannot be opened.
        :raises FileChangedError: if its size is another one.
        """
        source, self._source = self._source, None
        if source is not None:
            return source
        source = FileSource.open(self._local_path)
        if source.size != self._size:
            size = source.size
            source.close()
            raise FileChangedError(
                f"{self._local_path} changed while it waited for its upload: "
                f"{self._size} bytes before, {size} bytes now"
            )
        return source

    def close(self) -> None:
        """Close the file if it is open and :meth:`open` was not called."""
        source, self._source = self._source, None
        if source is not None:
            source.close()


class UploadQueue:
    """The uploads of one provider that Synapse does not wait for.

    :param width: how many run at once.
    :param upload: begins an upload, in no particular log context; fires when it has
        ended, and never fails. It may raise: then no more uploads begin.
    :param remedy: ends the log lines about files that are not stored.
    :param dropped: called for each file that is not stored.
    """

    def __init__(
        self,
        reactor: Any,
        width: int,
        upload: Callable[[str, WaitingFile], Deferred[None]],
        metrics: Metrics,
        remedy: str,
        dropped: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._width = width
        self._upload = upload
        self._metrics = metrics
        self._remedy = remedy
        self._on_drop = dropped
        self._waiting: OrderedDict[str, WaitingFile] = OrderedDict()
        self._running: set[str] = set()
        self._start_is_due = False
        self._stopped = False
        self._dropped: list[str] = []
        self._dropped_count = 0
        self._report_timer: Any = None

    @property
    def waiting(self) -> list[str]:
        """The paths that wait, the oldest first."""
        return list(self._waiting)

    def is_full(self, limit: int) -> bool:
        """Whether that many uploads wait or run, or no more are begun."""
        return self._stopped or len(self._waiting) + len(self._running) >= limit

    def add(self, path: str, file: WaitingFile) -> None:
        """Upload a file when its turn comes. A file with the same path that waits is replaced.

        :param path: relative to the media store.
        """
        if self._stopped:
            file.close()
            self._count_drop()
            logger.warning("Synapse stops. Not stored: %s. %s", _some_of([path], 1), self._remedy)
            return
        before = self._waiting.get(path)
        if before is not None:
            before.close()
        elif len(self._waiting) >= MAX_WAITING:
            file.close()
            self.drop(path)
            return
        self._waiting[path] = file
        self._start()

    def discard(self, path: str) -> None:
        """Do not upload a file that waits."""
        file = self._waiting.pop(path, None)
        if file is not None:
            file.close()
            self._metrics.uploads_waiting(len(self._waiting))

    def drop(self, path: str) -> None:
        """Count a file that was refused, and log it, with others, once in a while."""
        self._count_drop()
        self._dropped_count += 1
        if len(self._dropped) < NAMES:
            self._dropped.append(path)
        if self._report_timer is None:
            self._report()

    def stop(self, left: list[str]) -> None:
        """Begin no more uploads.

        :param left: the files that Synapse does not wait for any longer.
        """
        self._stopped = True
        if self._report_timer is not None:
            self._report_timer.cancel()
            self._report()
        if left:
            logger.warning(
                "Synapse stops before these files are uploaded to Swift: %s. %s",
                _some_of(left, len(left)),
                self._remedy,
            )

    def _start(self) -> None:
        self._start_is_due = False
        for _ in range(self._width - len(self._running)):
            # Two uploads of one path could end in the wrong order.
            path = next((one for one in self._waiting if one not in self._running), None)
            if path is None or self._stopped:
                break
            file = self._waiting[path]
            try:
                upload = self._upload(path, file)
            except Exception as error:
                # Once a homeserver was shut down, it begins no background process any more.
                self._give_up(error)
                break
            del self._waiting[path]
            self._running.add(path)
            upload.addBoth(self._ended, path)
        self._metrics.uploads_waiting(len(self._waiting))

    def _give_up(self, error: Exception) -> None:
        """Begin no more uploads, and drop those that wait."""
        logger.warning("No more uploads to Swift can begin: %s", error)
        left = list(self._waiting)
        for path in left:
            self.discard(path)
            self._count_drop()
        self.stop(left)

    def _ended(self, result: object, path: str) -> None:
        self._running.discard(path)
        if self._waiting and not self._start_is_due:
            # On the next turn, so that uploads that fail at once do not block the reactor.
            self._start_is_due = True
            # callLater(0) would wait for a clock that is set back meanwhile.
            self._reactor.callFromThread(self._start)

    def _count_drop(self) -> None:
        self._metrics.upload_dropped()
        self._on_drop()

    def _report(self) -> None:
        self._report_timer = None
        if not self._dropped_count:
            return
        logger.warning(
            "Too many uploads wait for Swift (%d). Not stored: %s. %s",
            len(self._waiting) + len(self._running),
            _some_of(self._dropped, self._dropped_count),
            self._remedy,
        )
        self._dropped, self._dropped_count = [], 0
        self._report_timer = self._reactor.callLater(REPORT_SECONDS, self._report)


def _some_of(paths: list[str], count: int) -> str:
    """A log line's list of files: how many, and the first of them."""
    more = ", …" if count > NAMES else ""
    noun = "file" if count == 1 else "files"
    return f"{count} {noun} ({', '.join(itertools.islice(paths, NAMES))}{more})"
