"""A lock that lets one run at a time use a cache.

The lock is ``flock`` on a file beside the cache. The kernel releases it when the process
ends, even if the process was killed. A lock on the cache itself would get in the way of
SQLite's own locks, because NFS does not keep the two kinds apart. The lock file is never
deleted: two runs could then each lock a file of the same name.
"""

from __future__ import annotations

import fcntl
import os

from swift_provider.errors import ConfigError


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
