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
import time

from swift_provider.errors import ConfigError
from swift_provider.keeper import holder_of, lock_path
from swift_provider.offload.file_owner import remedy_of_owner
from swift_provider.offload.lock_holder import LOCAL_DISK, holder_of_flock, what_runs

logger = logging.getLogger(__name__)

#: A pass of ``local_disk`` takes seconds, as a rule; the first one may take hours.
PASS_SECONDS = 600.0
POLL_SECONDS = 0.1


class BusyError(ConfigError):
    """Another run uses the media store.

    :param process: its number; ``None`` if the system does not tell it.
    :ivar who: what it is, as of :func:`.what_runs`.
    :ivar is_pass: whether it is a pass of Synapse's ``local_disk``, or may be one.
    """

    def __init__(self, base_path: str, process: str | None) -> None:
        self.who = what_runs(process)
        self.is_pass = self.who == LOCAL_DISK or (process is None and _may_be_kept(base_path))
        number = f" (process {process})" if process else ""
        super().__init__(
            f"{self.who} is using the media store {base_path}{number}: wait until it ends"
        )


class StoreLock:
    """Held from creation until :meth:`close`.

    Where a folder cannot be locked, as on NFS, there is no lock.

    :param base_path: Synapse's media store.
    :raises BusyError: if another run holds the lock; the message names its command and its
        process if the system tells them. See :func:`lock_between_passes`.
    """

    def __init__(self, base_path: str) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(base_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = None if self._descriptor is None else holder_of_flock(self._descriptor)
            self.close()
            raise BusyError(base_path, holder) from None
        except OSError as error:
            logger.info("%s cannot be locked: %s", base_path, error.strerror)
            self.close()

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def lock_between_passes(base_path: str) -> StoreLock:
    """Lock a media store; wait while a pass of Synapse's ``local_disk`` uses it.

    Nobody can know when such a pass begins. Any other run was started by the operator.

    :raises BusyError: if another run uses it, or the pass takes more than ten minutes.
    """
    deadline = time.monotonic() + PASS_SECONDS
    seen = ""
    while True:
        try:
            return StoreLock(base_path)
        except BusyError as error:
            # A pass that ends while its name is looked for has none: so look twice.
            if time.monotonic() >= deadline or (error.who == seen and not error.is_pass):
                raise
            seen = error.who
        time.sleep(POLL_SECONDS)


def _may_be_kept(base_path: str) -> bool:
    try:
        return holder_of(base_path) is not None
    except OSError:
        return False


def check_not_kept(base_path: str, command: str) -> None:
    """Refuse a command that works against Synapse's ``local_disk``.

    :raises ConfigError: if Synapse keeps the media store within its budget itself.
    """
    try:
        holder = holder_of(base_path)
    except OSError as error:
        raise ConfigError(
            f"cannot read {error.filename} ({error.strerror}): run as the user that Synapse runs as"
        ) from error
    if holder is not None:
        raise ConfigError(
            f"Synapse itself decides what stays in {base_path} (local_disk, {holder}), so "
            f"{command} is not needed, or would be undone: remove local_disk from the entry, and "
            "restart Synapse, to run it all the same. If no process of Synapse runs, delete "
            f"{lock_path(base_path)}"
        )


class RunLock:
    """Held from creation until :meth:`close`.

    :param cache_path: the cache; it need not exist.
    :raises ConfigError: if another run holds the lock; the message names its command and its
        process. Or if the lock file cannot be created.
    """

    def __init__(self, cache_path: str) -> None:
        path = f"{cache_path}.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            denied = isinstance(error, PermissionError)
            remedy = remedy_of_owner(cache_path, path) if denied else ""
            raise ConfigError(f"cannot lock the cache: {path}: {error.strerror}{remedy}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            self.close()
            raise ConfigError(
                f"{what_runs(holder)} is using {cache_path}"
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
