"""Finds the files of media on the disk, and deletes them.

All functions block. This module does not import the Swift client, so that the commands
that need no Swift start at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from swift_provider.errors import FileChangedError
from swift_provider.offload.database import Facts
from swift_provider.offload.media_names import ROOTS, Media, is_plain_name, places

if TYPE_CHECKING:
    from swift_provider.client import FileSource

#: Synapse writes a thumbnail before its row. It takes seconds, or as long as an upload of the
#: module with ``store_synchronous``.
YOUNG_SECONDS = 86_400


#: The clocks of Synapse and of its disk's server may differ by less than this.
CLOCKS_DIFFER_SECONDS = 3600.0
#: ``st_blocks`` counts these on Linux (stat(2)).
_BLOCK_BYTES = 512


class Expected(NamedTuple):
    """A file of a media, and what the database says about it.

    :ivar path: relative to the media store; also the path of its object in Swift.
    :ivar lengths: the lengths in bytes that the file may have; empty for a thumbnail that
        the database does not mention.
    :ivar sha256: of the content, in hex; ``None`` if unknown.
    """

    path: str
    lengths: frozenset[int]
    sha256: str | None = None


def files_of(base_path: str, media: Media, facts: Facts) -> tuple[list[Expected], list[str]]:
    """The files of one media that are on disk: its content, then its thumbnails, sorted.

    :returns: the files, and the paths of files whose names Synapse would not use.
    :raises UnsafeNameError: if Synapse would not use the media's names in a path.
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
    """Unlike :func:`os.path.lexists`, raises an error that does not say "no such file"."""
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


def is_on_disk(base_path: str, media: Media) -> bool:
    """Whether the content of a media is there, or any thumbnail; files of any type count.

    :raises UnsafeNameError: if Synapse would not use the media's names in a path.
    :raises OSError: if that cannot be told, because the disk or a folder cannot be read.
    """
    content, thumbnails = places(media.origin, media.filesystem_id, media.kind).on(base_path)
    if _is_there(content):
        return True
    try:
        with os.scandir(thumbnails) as entries:
            return next(entries, None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def stamp(base_path: str, path: str) -> tuple[int, ...] | None:
    """Changes when a file is written to or replaced; ``None`` if there is none to look at."""
    try:
        found = os.lstat(f"{base_path}/{path}")
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def is_mounted(base_path: str) -> bool:
    """Whether a folder still looks like a media store: its disk may have been unmounted."""
    return any(os.path.isdir(f"{base_path}/{root}") for root in ROOTS)


def taken_by(status: os.stat_result) -> int:
    """The bytes that a file takes on the disk, as ``du`` counts."""
    # Some file systems say 0 for a file whose blocks are not yet allocated.
    return status.st_blocks * _BLOCK_BYTES or status.st_size


def is_thumbnail(path: str) -> bool:
    """Whether a path relative to the media store is that of a thumbnail."""
    return path.startswith(("local_thumbnails/", "remote_thumbnail/"))


def is_young(base_path: str, path: str, seconds: float = YOUNG_SECONDS) -> bool:
    """Whether a file was written to so recently.

    :raises FileNotFoundError: if there is no such file.
    """
    return time.time() - written_at(os.lstat(f"{base_path}/{path}")) < seconds


def written_at(status: os.stat_result) -> float:
    """When a file was last written to, in seconds since the epoch.

    A time further ahead than clocks differ is wrong; what came with it was copied long ago.
    """
    written = status.st_mtime
    return written if written <= time.time() + CLOCKS_DIFFER_SECONDS else 0.0


def remove(base_path: str, path: str, source: FileSource) -> int:
    """Delete a file, unless it changed since it was opened; then its empty folders.

    :param source: the file, as it was opened and compared with the object in Swift. It is closed
        if the file has not changed: NFS keeps a deleted file in its folder while it is open.
    :returns: the bytes that it took on the disk.
    :raises FileChangedError: if the path names another file now, or the file was written to.
    :raises FileNotFoundError: if there is no such file any more.
    :raises OSError: if the file cannot be deleted.
    """
    whole = f"{base_path}/{path}"
    if not source.is_still(whole):
        raise FileChangedError(f"{whole} changed since it was compared with Swift")
    source.close()
    return unlink(base_path, path)


def unlink(base_path: str, path: str) -> int:
    """Delete a file, and then the folders that Synapse made from the media's id, as far as
    they are empty: two for the content, three for a thumbnail. The folders of remote servers
    and the roots stay.

    :returns: the bytes that it took on the disk.
    :raises OSError: if the file cannot be deleted.
    """
    whole = f"{base_path}/{path}"
    taken = taken_by(os.lstat(whole))
    os.unlink(whole)
    folder = whole
    for _ in range(3 if is_thumbnail(path) else 2):
        folder = os.path.dirname(folder)
        try:
            os.rmdir(folder)
        except OSError:  # not empty, or Synapse has just deleted it or made it again
            break
    return taken
