"""Locks that let one run at a time use a media store, and one a cache.

Both are ``flock``. The kernel releases it when the process ends, even if the process was
killed. A run that needs both takes the media store's first.

The cache's lock is on a file beside it. A lock on the cache itself would get in the way of
SQLite's own locks, because NFS does not keep the two kinds apart. The lock file is never
deleted: two runs could then each lock a file of the same name.

The media store's lock is on the folder itself: it needs no file in it, and works if the
folder may only be read.
"""

from __future__ import annotations

import fcntl
import logging
import os

from swift_provider.errors import ConfigError

logger = logging.getLogger(__name__)


class StoreLock:
    """Held from creation until :meth:`close`.

    Where a folder cannot be locked, as on NFS, there is no lock.

    :param base_path: Synapse's media store.
    :raises ConfigError: if another run holds the lock; the message names its process if
        the system tells it.
    """

    def __init__(self, base_path: str) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(base_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            self.close()
            raise ConfigError(
                f"another run is using the media store {base_path}"
                + (f" (process {holder})" if holder else "")
                + ": wait until it ends"
            ) from None
        except OSError as error:
            logger.info("%s cannot be locked: %s", base_path, error.strerror)
            self.close()

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _holder(descriptor: int | None) -> str | None:
    """The process that holds the lock of a file; ``None`` if Linux does not tell it."""
    if descriptor is None:
        return None
    found = os.fstat(descriptor)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    try:
        with open("/proc/locks", encoding="ascii") as lines:
            for line in lines:
                # "1: FLOCK ADVISORY WRITE <process> <device>:<inode> 0 EOF"
                parts = line.split()
                if parts[1] == "FLOCK" and parts[5] == f"{device}:{found.st_ino}":
                    return parts[4]
    except (OSError, ValueError, IndexError):
        pass
    return None


class RunLock:
    """Held from creation until :meth:`close`.

    :param cache_path: the cache; it need not exist.
    :raises ConfigError: if another run holds the lock; the message names its process. Or
        if the lock file cannot be created.
    """

    def __init__(self, cache_path: str) -> None:
        path = f"{cache_path}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise ConfigError(f"cannot lock the cache: {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            self.close()
            raise ConfigError(
                f"another run is using {cache_path}"
                + (f" (process {holder})" if holder else "")
                + ": wait until it ends, or choose another file with --cache-db"
            ) from None
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot lock the cache: {path}: {error.strerror}") from error
        self._write_process_id()

    def _write_process_id(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:  # The disk is full. Only the message of another run needs the number.
            pass

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)
