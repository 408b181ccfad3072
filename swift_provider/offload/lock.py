"""One run at a time for one cache.

The lock is ``flock`` on a file of its own beside the cache: it ends with the
process, however that ends, and does not meet SQLite's own locks on the cache
(on NFS both kinds are one). The file stays behind: to remove it would let two
runs lock two files of the same name.
"""

from __future__ import annotations

import fcntl
import os

from swift_provider.errors import ConfigError


class RunLock:
    """Held from creation until :meth:`close`.

    :param cache_path: the cache that must have one user only.
    :raises ConfigError: if another run has it, naming its process; or if the
        lock file cannot be made.
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
                + ": wait for its end, or give --cache-db another file"
            ) from None
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot lock the cache: {path}: {error.strerror}") from error
        self._write_process_id()

    def _write_process_id(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:  # a full disk; the number only serves another run's message
            pass

    def close(self) -> None:
        """Let the next run begin."""
        os.close(self._descriptor)
