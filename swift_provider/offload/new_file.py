"""Writes a media's file into the media store, as Synapse itself would.

A file gets its final name only when it is complete, is what the database says and was
flushed to the disk, because Synapse serves any file with that name. Owner and mode come
from the media store's folder, so that Synapse can read and delete the file.

Two runs on two hosts may restore the same file, because a media store on NFS cannot be
locked. So each run has a temporary name of its own. A lock (``flock``) on the temporary file
tells the file of another run from the leftover of a killed one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import suppress

from swift_provider.errors import FileChangedError, KeptError
from swift_provider.offload.disk import Expected
from swift_provider.offload.disk_access import name_of
from swift_provider.offload.media_names import ROOTS

#: No media has a name with such an end, so Synapse and ``upload`` ignore such files. Random
#: characters follow the first one.
RESTORING = "~restoring-"
BAD = "~bad"

#: What a filesystem answers that does not know an operation, such as vfat, CIFS or FUSE.
#: Linux says EPERM for a hard link, EINVAL for the fsync of a folder.
_UNKNOWN = (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


class MediaStore:
    """The media store's folder, and whose the files in it shall be.

    :param base_path: an existing folder.
    """

    def __init__(self, base_path: str) -> None:
        self.base_path = base_path
        self._may_give_away = os.geteuid() == 0
        status = os.stat(base_path)
        if self._may_give_away and status.st_uid == 0:
            status = _of_a_root(base_path) or status
        self._mode = stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH
        self._owner = (status.st_uid, status.st_gid)

    @property
    def complaint(self) -> str | None:
        """Why restored files will not be Synapse's; ``None`` if they will be."""
        if self._may_give_away and self._owner[0] == 0:
            return (
                f"Restored files will belong to root, as {self.base_path} does. If Synapse runs as "
                f"another user, give them to that user afterwards: chown -R USER: {self.base_path}"
            )
        if self._may_give_away or self._owner[0] == os.geteuid():
            return None
        return (
            f"Restored files will belong to {name_of(os.geteuid())}, and {self.base_path} belongs "
            f"to {name_of(self._owner[0])}: run this command as Synapse's user, or as root"
        )

    def make_folders(self, path: str) -> None:
        """Make the folders of a file, as far as they do not exist."""
        folder = os.path.dirname(path)
        if not folder or os.path.isdir(f"{self.base_path}/{folder}"):
            return
        self.make_folders(folder)
        whole = f"{self.base_path}/{folder}"
        with suppress(FileExistsError):
            os.mkdir(whole)
            descriptor = os.open(whole, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                self._adopt(descriptor, self._mode)
            finally:
                os.close(descriptor)

    def adopt_file(self, descriptor: int) -> None:
        """Give an open file the owner of the media store, and the mode of Synapse's files."""
        self._adopt(descriptor, self._mode & 0o644)

    def _adopt(self, descriptor: int, mode: int) -> None:
        if self._may_give_away:
            os.fchown(descriptor, *self._owner)
        os.fchmod(descriptor, mode)


def _of_a_root(base_path: str) -> os.stat_result | None:
    """Of a root that belongs to another user than root, if there is one."""
    for root in ROOTS:
        with suppress(OSError):
            status = os.stat(os.path.join(base_path, root))
            if status.st_uid != 0:
                return status
    return None


class NewFile:
    """Has a temporary name until :meth:`keep`. Everything about it blocks.

    :ivar size: how many bytes were written.

    :raises OSError: if it cannot be created.
    """

    def __init__(self, store: MediaStore, file: Expected) -> None:
        self._store = store
        self._file = file
        self._path = f"{store.base_path}/{file.path}"
        self._temporary = f"{self._path}{RESTORING}{secrets.token_hex(4)}"
        self._sha256 = hashlib.sha256()
        self.size = 0
        store.make_folders(file.path)
        _remove_leftovers(self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._open = os.fdopen(os.open(self._temporary, flags, 0o600), "wb")
        try:
            _lock(self._open.fileno())
            store.adopt_file(self._open.fileno())
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        """:raises OSError: if the disk fails."""
        self._open.write(data)
        if self._file.sha256 is not None:
            self._sha256.update(data)
        self.size += len(data)

    def keep(self, *, keep_bad: bool) -> str | None:
        """Flush the file to the disk, then give it its final name.

        :param keep_bad: keep the file that has the name now, under another one.
        :returns: the other name, relative to the media store; ``None`` if there is none.
        :raises KeptError: if the file is not what the database says.
        :raises FileChangedError: if the temporary name is not this file's any more.
        :raises OSError: if the disk fails.
        """
        check_length(self._file, self.size)
        wanted = self._file.sha256
        if wanted is not None and self._sha256.hexdigest() != wanted.lower():
            raise KeptError(_not_synapses("SHA-256"))
        self._open.flush()
        os.fsync(self._open.fileno())
        if not self._has_temporary_name():
            raise FileChangedError(f"{self._temporary} was removed or replaced")
        aside = _set_aside(self._path) if keep_bad else None
        try:
            os.rename(self._temporary, self._path)
        except OSError:
            if aside is not None and not os.path.lexists(self._path):
                os.rename(aside, self._path)
            raise
        _sync_folder(os.path.dirname(self._path))
        return None if aside is None else os.path.relpath(aside, self._store.base_path)

    def close(self) -> None:
        """Close the file, and delete it unless it was kept."""
        try:
            if self._has_temporary_name():
                os.unlink(self._temporary)
        finally:
            self._open.close()

    def _has_temporary_name(self) -> bool:
        try:
            named = os.lstat(self._temporary)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._open.fileno()))


def check_length(file: Expected, size: int | None) -> None:
    """Compare a length with the database's.

    :param size: ``None`` if it is not known yet.
    :raises KeptError: if the file cannot have it.
    """
    if size is not None and file.lengths and size not in file.lengths:
        raise KeptError(_not_synapses("length"))


def _lock(descriptor: int) -> bool:
    """Lock an open file, until it is closed.

    :returns: ``False`` if another run has locked it, or its filesystem has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_leftovers(path: str) -> None:
    """Remove the temporary files of a file that no run is writing."""
    folder, name = os.path.split(path)
    with os.scandir(folder) as entries:
        names = [entry.path for entry in entries if entry.name.startswith(name + RESTORING)]
    # NFS locks only files that are open for writing.
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for leftover in names:
        with suppress(OSError):
            descriptor = os.open(leftover, flags)
            try:
                if _lock(descriptor):
                    os.unlink(leftover)
            finally:
                os.close(descriptor)


def _not_synapses(what: str) -> str:
    return f"not Synapse's file: the object's {what} is not the one in Synapse's database"


def _set_aside(path: str) -> str:
    """Give a file a second name, whole.

    It keeps the first one until another file takes it. Where the filesystem has no hard
    links, it loses the first one: there is no such file until another one takes it.

    :returns: the second name.
    """
    aside = f"{path}{BAD}"
    number = 1
    while True:
        try:
            _link_or_rename(path, aside)
        except FileExistsError:
            number += 1
            aside = f"{path}{BAD}{number}"
        else:
            return aside


def _link_or_rename(path: str, aside: str) -> None:
    """:raises FileExistsError: if there is a file with the second name."""
    try:
        os.link(path, aside, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        # A rename would replace a file that another run makes just now, but not this one.
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.rename(path, aside)


def _sync_folder(path: str) -> None:
    """Flush the names in a folder to the disk, if its filesystem can do that.

    :raises OSError: if the disk fails.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    finally:
        os.close(folder)
