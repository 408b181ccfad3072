"""The jobs ``update-db``, ``check-deleted`` and ``write``, which need no Swift.

All functions block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from swift_provider.errors import UnsafeNameError
from swift_provider.offload.cache import Cache, Changes
from swift_provider.offload.database import Database
from swift_provider.offload.disk import is_on_disk
from swift_provider.offload.media_names import Media, places, shown

PAGE_ROWS = 5000
_LINES_AT_ONCE = 10_000


def update_db(database: Database, cache: Cache, before_ms: int) -> Changes:
    """Fill the cache with the media that were not accessed since ``before_ms``.

    :param before_ms: milliseconds since the epoch.
    :raises DatabaseUnavailableError: if the database fails. The cache is unchanged then.
    """
    return cache.replace(database.idle_local(before_ms), database.idle_remote(before_ms))


@dataclass
class Checked:
    """What ``check-deleted`` found; each field counts media.

    :ivar deleted: no file of them is on disk any more.
    :ivar returned: a file of them is on disk again.
    :ivar unsafe: Synapse would not use their names in a path.
    :ivar unreadable: the disk does not tell whether they are there. They count as on disk,
        so that the next upload looks at them.
    """

    deleted: int = 0
    returned: int = 0
    unsafe: int = 0
    unreadable: int = 0


def check_deleted(
    cache: Cache,
    base_path: str,
    advance: Callable[[int], None],
    report: Callable[[str], None],
) -> Checked:
    """Record which media are gone from the disk, and which are on it again.

    :param advance: called with the number of media that were looked at since the last call.
    :param report: called with a message for each media that the disk does not tell about.
    """
    checked = Checked()
    for page in cache.pages(PAGE_ROWS):
        gone: list[Media] = []
        back: list[Media] = []
        for media, known_deleted in page:
            try:
                there = is_on_disk(base_path, media)
            except UnsafeNameError:
                checked.unsafe += 1
                continue
            except OSError as error:
                report(f"Failed: {media}: cannot be looked for: {error}")
                checked.unreadable += 1
                there = True
            if there == known_deleted:
                (back if there else gone).append(media)
        # Commit each page, so that an interrupted run keeps what it found.
        if gone or back:
            cache.mark(gone, deleted=True)
            cache.mark(back, deleted=False)
        checked.deleted += len(gone)
        checked.returned += len(back)
        advance(len(page))
    return checked


def write(cache: Cache, out: TextIO, report: Callable[[str], None]) -> None:
    """Print the media that are still on disk according to the cache.

    For each media there is a line with its file and one with the folder of its
    thumbnails, which ends in a slash. The paths are relative to the media store.

    :param report: called with a message for each row whose names Synapse would not use.
    """
    lines: list[str] = []
    for media in cache.rows():
        try:
            content, thumbnails = places(media.origin, media.filesystem_id, media.kind)
        except UnsafeNameError as error:
            report(f"{shown(media.media_id)}: {error}")
            continue
        lines.append(f"{content}\n{thumbnails}/\n")
        if len(lines) >= _LINES_AT_ONCE:
            out.write("".join(lines))
            lines.clear()
    out.write("".join(lines))
