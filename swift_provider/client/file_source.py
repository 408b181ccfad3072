"""A local file to upload.

Reads by position (``pread``), so that several attempts and segments can read the same
open file at once, and a file that was unlinked meanwhile can still be read to its end.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType
from typing import NamedTuple

from swift_provider.errors import FileChangedError, ReadingsDifferError


class _Fingerprint(NamedTuple):
    """Changes when a file is written to or replaced."""

    size: int
    mtime_ns: int
    inode: int
    device: int


def _fingerprint_of(status: os.stat_result) -> _Fingerprint:
    return _Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


class FileSource:
    """An open regular file. Close it when the upload is over.

    :param descriptor: an open file descriptor; this object closes it.
    :param path: its name, for messages only.
    :ivar crc32: of the whole file, from a reading that was compared with something; each later
        reading has to have it, as the disk or the memory may be faulty. ``None`` if unknown.
    :raises OSError: ``EINVAL`` if it is not a regular file. The descriptor is closed then.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self.path = path
        self.crc32: int | None = None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
        except BaseException:
            self.close()
            raise
        self._fingerprint = _fingerprint_of(status)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FileSource:
        """Open a file by name; never waits on a fifo, never follows a final symbolic link.

        :raises OSError: as :func:`os.open`; ``ELOOP`` for a link, ``EINVAL`` for
            anything else that is not a regular file.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return cls(os.open(path, flags), os.fspath(path))

    @property
    def size(self) -> int:
        """Bytes, as when it was opened."""
        return self._fingerprint.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes.

        :raises FileChangedError: if the file is shorter by now.
        :raises OSError: if it cannot be read.
        """
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length:  # a signal or a network filesystem may cut a read short
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                raise FileChangedError(
                    f"{self.path} shrank while it was read: "
                    f"it had {self.size} bytes, now it ends at {offset + len(data)}"
                )
            data += more
        return data

    def check_unchanged(self) -> None:
        """:raises FileChangedError: if the file was written to since it was opened."""
        now = _fingerprint_of(os.fstat(self._descriptor))
        if now != self._fingerprint:
            raise FileChangedError(
                f"{self.path} changed while it was read: "
                f"{self.size} bytes before, {now.size} bytes now"
            )

    def check_same(self, crc32: int, earlier: int | None) -> None:
        """Compare a reading with an earlier one of the same bytes.

        :param earlier: its CRC-32; ``None`` if there was none.
        :raises ReadingsDifferError: if the CRC-32 is another one.
        """
        if earlier not in (None, crc32):
            raise ReadingsDifferError(
                f"{self.path} was read twice, and the second time it had other bytes: it was "
                "written to meanwhile, or the disk or the memory is faulty"
            )

    def is_still(self, path: str | os.PathLike[str]) -> bool:
        """Whether ``path`` names this very file, unchanged since it was opened.

        :raises OSError: if there is no such path.
        """
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and _fingerprint_of(status) == self._fingerprint

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)

    def __enter__(self) -> FileSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
