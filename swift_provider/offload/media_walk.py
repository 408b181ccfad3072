"""All files of media that are on the disk, found by walking through the media store.

Synapse keeps media in folders of a fixed depth (``synapse/media/filepath.py``), so only
these are looked into. Everything in it that Synapse would not name so is passed over: it is
not media, and no job removes it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from swift_provider.offload.disk import taken_by, written_at
from swift_provider.offload.media_names import media_of_object

logger = logging.getLogger(__name__)

#: NFS keeps a deleted file under such a name while somebody has it open.
_OPEN_ON_NFS = ".nfs"

#: How many folders are between a root and its files.
_DEPTHS = {
    "local_content": 2,
    "local_thumbnails": 3,
    "remote_content": 3,
    "remote_thumbnail": 4,
}


class FoundFile(NamedTuple):
    """One file of a media.

    :ivar kind: as in :class:`.Media`, like ``origin`` and ``filesystem_id``.
    :ivar taken: bytes that it takes on the disk; 0 if it is ``elsewhere``.
    :ivar written_ms: when it was last written to, in milliseconds since the epoch.
    :ivar is_content: whether it is the media's content; otherwise it is a thumbnail.
    :ivar elsewhere: it lies on another disk, behind a link or a mount: removing it would make
        no room on this one.
    """

    kind: str
    origin: str
    filesystem_id: str
    taken: int
    written_ms: int
    is_content: bool
    elsewhere: bool = False


class SizedFile(NamedTuple):
    """One file of a media, and its length.

    :ivar size: bytes of its content.
    :ivar taken: bytes that it takes on its disk, whichever that is.
    """

    path: str
    size: int
    taken: int
    file: FoundFile


def walk(base_path: str, report: Callable[[str, str], None]) -> Iterator[FoundFile]:
    """All files of media below a media store, in no particular order. Blocks.

    A file that is deleted meanwhile is passed over.

    :param report: called with the path and the reason for each folder that cannot be read.
    """
    return (sized.file for sized in walk_with_sizes(base_path, report))


def walk_with_sizes(base_path: str, report: Callable[[str, str], None]) -> Iterator[SizedFile]:
    """As :func:`walk`, with each file's path and length."""
    try:
        disk = os.stat(base_path).st_dev
    except FileNotFoundError:
        return
    for root, depth in _DEPTHS.items():
        is_content = root.endswith("_content")
        elsewhere = 0
        for path, status in _files(base_path, root, depth, report):
            owner = media_of_object(path)
            if owner is not None:
                is_here = status.st_dev == disk
                elsewhere += not is_here
                taken = taken_by(status)
                written_ms = int(written_at(status) * 1000)
                here = taken if is_here else 0
                file = FoundFile(*owner, here, written_ms, is_content, not is_here)
                yield SizedFile(path, status.st_size, taken, file)
        if elsewhere:
            logger.info(
                "%d files of %s/%s stay, because they are on another disk",
                elsewhere,
                base_path,
                root,
            )


def _files(
    base_path: str, folder: str, depth: int, report: Callable[[str, str], None]
) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files that are exactly so deep below a folder."""
    try:
        # Entry by entry: a folder may have a million.
        with os.scandir(f"{base_path}/{folder}") as entries:
            for entry in entries:
                if entry.name.startswith(_OPEN_ON_NFS):
                    continue
                path = f"{folder}/{entry.name}"
                if depth:
                    yield from _files(base_path, path, depth - 1, report)
                elif (status := _status(entry, path, report)) is not None:
                    yield path, status
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        report(folder, f"cannot be listed: {error.strerror}")


def _status(
    entry: os.DirEntry[str], path: str, report: Callable[[str, str], None]
) -> os.stat_result | None:
    """Of a regular file; ``None`` for anything else, and for what is gone."""
    try:
        if entry.is_file(follow_symlinks=False):
            return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        pass
    except OSError as error:
        report(path, f"cannot be read: {error.strerror}")
    return None
