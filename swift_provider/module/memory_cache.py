"""Small files in memory: how many bytes they take, which are admitted, and which leave first.

A file is admitted when it is asked for a second time within a while. Most media are asked
for once, or once by each homeserver in a room. A crawler asks for each of them once: it
must not push out the pictures that users look at.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from sys import getsizeof

from swift_provider.client import ObjectInfo, WholeDownload
from swift_provider.module.metrics import Metrics

#: A file counts with its content and its texts, and this for all else that it takes: its
#: place in the dictionary (of which a part is empty), the objects that hold it together
#: and numbers. Measured with tracemalloc for 2000 to 200,000 files: up to 430 bytes, Python
#: 3.11. The rest is for other versions of Python.
ENTRY_BYTES = 464

#: A file is admitted if it was asked for before within this time, as one of the last so
#: many files that were asked for once. People who enter a room load its pictures within
#: minutes. Each of these records takes 180 bytes, 2 MB in all, which are not counted.
AGAIN_SECONDS = 3600.0
MAX_FIRST_REQUESTS = 10_000


@dataclass(slots=True)
class MemoryFile:
    """A file in memory. Its bytes are those of the object that :attr:`info` describes.

    :ivar proven_at: when Swift last showed that the object is there, in the clock's seconds.
    :ivar cost: the bytes that the file counts with.
    """

    info: ObjectInfo
    content: bytes
    proven_at: float
    cost: int

    def download(self) -> WholeDownload:
        """A download of the shared bytes."""
        return WholeDownload(self.info, self.content)


class MemoryCache:
    """Files up to a number of bytes. The least recently used leaves first.

    :param limit: bytes, with what Python needs beside the files' content; 0 to keep nothing.
    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._files: OrderedDict[str, MemoryFile] = OrderedDict()
        self._bytes = 0
        #: By the hash of the path: it is smaller. Two paths with one hash only admit a
        #: file too early.
        self._first_requests: OrderedDict[int, float] = OrderedDict()

    def get(self, path: str) -> MemoryFile | None:
        """The file, which now is the most recently used; ``None`` if it is not here."""
        file = self._files.get(path)
        if file is not None:
            self._files.move_to_end(path)
        return file

    def offer(self, path: str, download: WholeDownload, now: float, again: bool = False) -> None:
        """Keep a file if it is asked for again. One with the same path is replaced.

        :param download: of the file, before it is delivered.
        :param now: when Swift was asked for it, in the clock's seconds.
        :param again: more than one coroutine asks for it.
        """
        cost = _cost(path, download)
        if cost > self._limit or not (self._was_requested(path, now) or again):
            return
        self._remove(path)
        self._files[path] = MemoryFile(download.info, download.content, now, cost)
        self._bytes += cost
        while self._bytes > self._limit:
            self._remove(next(iter(self._files)))
        self._tell()

    def drop(self, path: str) -> None:
        """Forget a file."""
        self._remove(path)
        self._tell()

    def _was_requested(self, path: str, now: float) -> bool:
        """Whether the file was asked for before; from now on it was."""
        key = hash(path)
        before = self._first_requests.pop(key, None)
        self._first_requests[key] = now
        if len(self._first_requests) > MAX_FIRST_REQUESTS:
            self._first_requests.popitem(last=False)
        return before is not None and now - before <= AGAIN_SECONDS

    def _remove(self, path: str) -> None:
        file = self._files.pop(path, None)
        if file is not None:
            self._bytes -= file.cost

    def _tell(self) -> None:
        self._metrics.memory_changed(self._bytes, len(self._files))


def _cost(path: str, download: WholeDownload) -> int:
    info = download.info
    texts = [path, *(text for text in vars(info).values() if isinstance(text, str))]
    return ENTRY_BYTES + getsizeof(download.content) + sum(map(getsizeof, texts))
