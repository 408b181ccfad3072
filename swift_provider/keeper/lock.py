"""The lock that elects the process which keeps a media store's disk within its budget.

It is a ``flock`` on a file in the media store, so that processes which share a disk elect
one, and processes with a disk each hold one each. The kernel releases it when the process
ends, even if the process was killed. The module never deletes the file. A person may, or may
mount another disk in its place: so the holder checks now and then that its file is still the
one with that name.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os

logger = logging.getLogger(__name__)

#: In the media store. Synapse looks at none but its own folders there.
FOLDER = ".swift_provider"
_NAME = "local_disk.lock"
#: What a filesystem without such locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class KeeperLock:
    """Held from creation until :meth:`close`, also where there can be no lock.

    That is so where the filesystem has no locks, and on a full disk, where the file cannot be
    made: several processes then make room for it one after the other, because their runs
    exclude each other. Blocks if the disk does.

    :param media_store: Synapse's media store.
    :param holder: this process's name, for the messages of others.
    :raises BlockingIOError: if another process holds it.
    :raises OSError: if the file cannot be created.
    """

    def __init__(self, media_store: str, holder: str) -> None:
        self._media_store = media_store
        self._holder = holder
        self._descriptor: int | None = None
        self._is_locked = False
        self._warned = False
        self._take()

    def renew(self) -> bool:
        """Take the lock anew if its file was deleted or replaced, or could not be made before.

        :returns: whether that was necessary.
        :raises BlockingIOError: if another process holds it now. Then this one does not.
        :raises OSError: likewise, if the file cannot be created, or the disk fails.
        """
        try:
            if self._descriptor is not None and _is_at(
                self._descriptor, lock_path(self._media_store)
            ):
                self._lock_again(self._descriptor)
                return False
        except OSError:
            self.close()
            raise
        had_none = self._descriptor is None
        self.close()
        self._take()
        return not had_none

    def _lock_again(self, descriptor: int) -> None:
        """A file server forgets the locks of a host that it did not hear of."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # On SMB a lock that this process holds stands in its own way.
            if error.errno not in (*_NO_LOCKS, errno.EACCES):
                raise
        else:
            self._is_locked = True

    def close(self) -> None:
        """Release the lock. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if not self._is_locked:
                self._sign(descriptor, "")
            os.close(descriptor)

    def _take(self) -> None:
        self._is_locked = False
        try:
            self._descriptor = _open(self._media_store)
            _lock(self._descriptor, fcntl.LOCK_EX, self._media_store)
            self._is_locked = True
        except OSError as error:
            if error.errno not in (*_NO_LOCKS, *_FULL):
                self._let_go()
                raise
            self._warn(error)
        if self._descriptor is not None:
            try:
                is_there = _is_at(self._descriptor, lock_path(self._media_store))
            except OSError:
                self._let_go()
                raise
            if not is_there:
                self._let_go()
                raise BlockingIOError(
                    errno.EAGAIN, "replaced meanwhile", lock_path(self._media_store)
                )
            self._sign(self._descriptor, f"{self._holder}, process {os.getpid()}\n")

    def _let_go(self) -> None:
        """Close a file that is not ours: leave its text alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _warn(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "%s cannot be locked (%s): if several processes share it, each keeps it "
            "within its budget. Give only one of them local_disk",
            self._media_store,
            error.strerror,
        )

    @staticmethod
    def _sign(descriptor: int, text: str) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text.encode(), 0)
        except OSError:  # The disk is full. Only the messages of others need the name.
            pass


def lock_path(media_store: str) -> str:
    """The file's name."""
    return os.path.join(media_store, FOLDER, _NAME)


def _open(media_store: str) -> int:
    path = lock_path(media_store)
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o640)


def _lock(descriptor: int, how: int, media_store: str) -> None:
    """Take a lock without a wait.

    On SMB another's lock is answered like a missing permission (flock(2), "CIFS details"). A
    file that nobody has signed is held by nobody: there it is one.

    :raises BlockingIOError: if another process holds it.
    :raises PermissionError: if no process may lock it.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except PermissionError as error:
        if _is_empty(descriptor):
            reason = "locking it is forbidden, perhaps by AppArmor or SELinux"
            raise PermissionError(errno.EACCES, reason, lock_path(media_store)) from None
        raise BlockingIOError(errno.EAGAIN, "locked by another process") from error


def _is_empty(descriptor: int) -> bool:
    try:
        return not os.pread(descriptor, 1, 0)
    except OSError:  # On SMB nobody else can read a file that is locked.
        return False


def _is_at(descriptor: int, path: str) -> bool:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def holder_of(media_store: str) -> str | None:
    """Who holds the lock of a media store.

    :returns: such as ``"media_worker1, process 1234"``; ``None`` if nobody does, or nobody
        ever did. On a filesystem without locks, who took it last and has not ended in order.
    :raises OSError: if the file cannot be read.
    """
    try:
        descriptor = os.open(lock_path(media_store), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        _lock(descriptor, fcntl.LOCK_SH, media_store)
    except BlockingIOError:
        return _name_in(descriptor) or "a process of Synapse"
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return _name_in(descriptor)
    finally:
        os.close(descriptor)
    return None


def _name_in(descriptor: int) -> str | None:
    try:
        name = os.pread(descriptor, 200, 0)
    except OSError:  # On some network file systems a lock keeps others from reading.
        return None
    return name.decode("utf-8", "replace").strip() or None
