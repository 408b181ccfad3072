"""What is on the disk, whether it is what the database says, and how it is removed. Blocking."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from swift_provider.client import FileSource
from swift_provider.client.file_source import Fingerprint, fingerprint_of
from swift_provider.errors import FileChangedError, SwiftProviderError
from swift_provider.offload.database import Facts
from swift_provider.offload.media_names import Media, is_plain_name, places

_READ_BYTES = 256 * 1024


class DiskFullError(SwiftProviderError):
    """The local disk has no space left."""


class KeptError(Exception):
    """A file that is left as it is; the message says why."""


class Expected(NamedTuple):
    """A file that is there, and what the database says about it.

    :param path: relative to the media store; also the object's name, without prefix.
    :param lengths: bytes it may have; empty if the database does not know the file,
        which can happen to a thumbnail only.
    :param sha256: of its content, in hex; ``None`` if unknown.
    """

    path: str
    lengths: frozenset[int]
    sha256: str | None = None


def files_of(base_path: str, media: Media, facts: Facts) -> tuple[list[Expected], list[str]]:
    """The files of one media that are on disk, its thumbnails last and in order.

    :returns: the files, and the paths of those that Synapse could not have made.
    :raises UnsafeNameError: if the media's names would lead out of the media store.
    :raises OSError: if a folder cannot be read.
    """
    content, folder = places(media.origin, media.filesystem_id, media.kind)
    found, strange = [], []
    if _is_there(f"{base_path}/{content}"):
        lengths = frozenset() if facts.length is None else frozenset((facts.length,))
        found.append(Expected(content, lengths, facts.sha256))
    for name in sorted(_names_in(f"{base_path}/{folder}")):
        path = f"{folder}/{name}"
        if is_plain_name(name):
            found.append(Expected(path, frozenset(facts.thumbnails.get(name, ()))))
        else:
            strange.append(path)
    return found, strange


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _names_in(folder: str) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return ()


def open_checked(base_path: str, file: Expected) -> FileSource:
    """Open a file that is what the database says.

    Synapse writes a file under its final name: one that is shorter than the
    database says is being written at this moment, or was left so by a crash.

    :returns: the caller closes it.
    :raises KeptError: if it is something else.
    :raises FileNotFoundError: if it is gone by now.
    """
    try:
        source = FileSource.open(f"{base_path}/{file.path}")
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
            raise KeptError("not a regular file") from error
        raise KeptError(f"cannot be read: {error.strerror}") from error
    try:
        if file.lengths and source.size not in file.lengths:
            raise KeptError("its length is not the one in Synapse's database")
        if file.sha256 is not None and _sha256(source) != file.sha256.lower():
            raise KeptError("its SHA-256 is not the one in Synapse's database")
    except OSError as error:
        source.close()
        raise KeptError(f"cannot be read: {error.strerror}") from error
    except BaseException:
        source.close()
        raise
    return source


def _sha256(source: FileSource) -> str:
    digest = hashlib.sha256()
    for offset in range(0, source.size, _READ_BYTES):
        digest.update(source.read_at(offset, min(_READ_BYTES, source.size - offset)))
    return digest.hexdigest()


def remove(base_path: str, path: str, fingerprint: Fingerprint) -> None:
    """Delete a file that is still the very file of which Swift has shown a copy.

    Then its folders: at most the two that Synapse made from the media's id, and a
    thumbnail's own before them, each only if empty; never a server's, nor a root.

    :param fingerprint: of the file when it was opened and compared.
    :raises FileChangedError: if something else is there now.
    :raises OSError: if it cannot be deleted.
    """
    whole = f"{base_path}/{path}"
    status = os.lstat(whole)
    if not stat.S_ISREG(status.st_mode) or fingerprint_of(status) != fingerprint:
        raise FileChangedError(f"{whole} changed since it was compared with Swift")
    os.unlink(whole)
    folder = whole
    for _ in range(3 if path.startswith(("local_thumbnails/", "remote_thumbnail/")) else 2):
        folder = os.path.dirname(folder)
        try:
            os.rmdir(folder)
        except OSError:  # not empty, or made anew by Synapse at this moment
            return
