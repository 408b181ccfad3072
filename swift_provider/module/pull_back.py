"""Keeps a file that Synapse pulls back out of sight until it is whole.

``ensure_media_is_in_local_cache`` in Synapse's ``synapse/media/media_storage.py`` opens the
file's final name with mode ``wb``, and then lets the responder write to that file. A reader
would take the part for the whole, and after kill -9 the part would stay for ever. So:

1. :meth:`PullBack.protect`, just before Synapse opens the file, moves a file that already
   has the final name aside. Another pull-back has finished meanwhile, and Synapse's ``wb``
   would truncate its file while others read it.
2. :meth:`PullBack.begin`, just after Synapse has opened the file, moves the empty file to a
   temporary name beside the final one, and moves the other file back. The file object that
   Synapse writes to stays valid.
3. :meth:`PullBack.publish` gives the whole file its final name.

Steps 1 and 2 run within one call from the reactor, so no other coroutine sees what is
between them. A lock (``flock``) on the folder keeps out the threads and the processes that
pull back the same file. It is held from step 1 to the end of step 2, and for the rename in
step 3: for microseconds each. NFS has no such lock. There two workers may come to write the
same file, the same bytes; the one that renamed it publishes it, once it has written all of it.

A killed Synapse leaves the temporary file. The next pull-back of the same file removes it.
Nothing searches for it at start: the media store may have millions of files, and all that
is lost is disk space. A lock (``flock``) on each temporary file tells a leftover from the
pull-back of another worker.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import stat
import time

logger = logging.getLogger(__name__)

#: How often to try for the lock on the folder, and how long to wait in between. It is held
#: for microseconds, so only a stopped process (SIGSTOP) keeps it longer.
LOCK_ATTEMPTS = 50
LOCK_SECONDS = 0.001

#: Follows the final name in a temporary file's name; random characters follow it.
MARK = "~pulling-back-"


class PullBack:
    """One file, on its way back to the disk. Every method blocks, but only :meth:`publish`
    waits for the disk.

    :param final: the name under which Synapse keeps the file.
    """

    def __init__(self, final: str) -> None:
        self._final = final
        self._temporary = f"{final}{MARK}{secrets.token_hex(4)}"
        self._aside = f"{final}{MARK}{secrets.token_hex(4)}"
        self._is_aside = False
        self._descriptor = -1
        self._folder = -1

    def protect(self) -> None:
        """Move a file that has the final name aside, until :meth:`unprotect`.

        An empty file stays. Synapse's ``wb`` takes nothing from it, and where the folder
        cannot be locked, another worker may have opened it just now: back under the final
        name, it would show what that worker writes.
        """
        with contextlib.suppress(OSError):  # mostly FileNotFoundError
            self._folder = _locked(os.path.dirname(self._final))
            if os.lstat(self._final).st_size:
                os.rename(self._final, self._aside)
                self._is_aside = True

    def unprotect(self) -> None:
        """Undo :meth:`protect`; may be called again."""
        try:
            if self._is_aside:
                os.replace(self._aside, self._final)
        except OSError as error:
            logger.error("Cannot rename %s to %s: %s", self._aside, self._final, error)
        finally:
            self._is_aside = False
            folder, self._folder = self._folder, -1
            if folder != -1:
                os.close(folder)

    def begin(self) -> None:
        """Give the empty file, which Synapse has just opened, a temporary name.

        Does nothing if there is no such file: this Synapse writes somewhere else.

        :raises OSError: if that cannot be done. The empty file is removed then.
        """
        try:
            descriptor = os.open(self._final, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if os.fstat(descriptor).st_size:
                os.close(descriptor)
                return
            self._descriptor = descriptor
            # Some network filesystems have no locks. Leftovers stay there.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(self._final, self._temporary)
        except FileNotFoundError:
            self._close()
        except OSError:
            self._close()
            _remove(self._final)
            raise
        finally:
            self.unprotect()

    def publish(self) -> None:
        """Give the file its final name, once all its bytes are on the disk.

        A file that has the final name is replaced. Coroutines that read it still get its bytes.

        :raises OSError: if that cannot be done.
        """
        if self._descriptor == -1:
            return
        os.fsync(self._descriptor)
        folder = _locked(os.path.dirname(self._final))
        try:
            os.replace(self._temporary, self._final)
            try:
                self._remove_leftovers()
                fcntl.flock(folder, fcntl.LOCK_UN)
                os.fsync(folder)
            except OSError as error:  # the file itself is in its place
                logger.warning(
                    "%s is on the disk again, but its folder could not be tidied: %s",
                    self._final,
                    error,
                )
        finally:
            os.close(folder)

    def end(self) -> None:
        """Remove the temporary file, if :meth:`publish` has not renamed it. Always call this."""
        self.unprotect()
        if self._descriptor != -1:
            _remove(self._temporary)
            self._close()

    def _remove_leftovers(self) -> None:
        """Remove temporary files of this file that no process has locked."""
        folder, name = os.path.split(self._final)
        with os.scandir(folder) as entries:
            names = [entry.path for entry in entries if entry.name.startswith(name + MARK)]
        for leftover in names:
            if not _is_locked(leftover):
                logger.info("Removing %s, which an earlier Synapse left incomplete", leftover)
                _remove(leftover)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)


def _locked(folder: str) -> int:
    """Open a folder and lock it, as far as its filesystem has locks.

    :returns: a descriptor; closing it releases the lock.
    :raises OSError: if there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # This may block the reactor, for 50 ms at most: steps 1 and 2 have to be one call.
            time.sleep(LOCK_SECONDS)
        except OSError:
            break
        else:
            return descriptor
    logger.warning("%s cannot be locked while a file is pulled back to it", folder)
    return descriptor


def _is_locked(path: str) -> bool:
    """Whether a pull-back is writing this file. Also true if that cannot be found out."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return True
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _remove(path: str) -> None:
    """Remove a file; log a failure. A missing file counts as removed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("Cannot remove the incomplete file %s: %s", path, error)
