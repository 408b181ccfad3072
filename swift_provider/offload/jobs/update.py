"""The jobs that keep the cache true: ``update-db``, ``check-deleted``, ``write``. Blocking."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from swift_provider.offload.cache import Cache, Changes
from swift_provider.offload.database import Database
from swift_provider.offload.media_names import Media, UnsafeNameError, places, shown

PAGE_ROWS = 5000
_LINES_AT_ONCE = 10_000


def update_db(database: Database, cache: Cache, before_ms: int) -> Changes:
    """Fill the cache with the media that were not accessed since ``before_ms``.

    :param before_ms: milliseconds since the epoch.
    :raises DatabaseUnavailableError: and leaves the cache as it was.
    """
    return cache.replace(database.idle_local(before_ms), database.idle_remote(before_ms))


@dataclass
class Checked:
    """What ``check-deleted`` found; each counts media."""

    deleted: int = 0
    returned: int = 0
    unsafe: int = 0


def check_deleted(cache: Cache, base_path: str, advance: Callable[[int], None]) -> Checked:
    """Note which media are gone from the disk, and which are there again.

    :param advance: told how many more media were looked at.
    :raises OSError: if a folder cannot be read.
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
            if there == known_deleted:
                (back if there else gone).append(media)
        # A page at a time, so that a run that is stopped keeps what it found out.
        if gone or back:
            cache.mark(gone, deleted=True)
            cache.mark(back, deleted=False)
        checked.deleted += len(gone)
        checked.returned += len(back)
        advance(len(page))
    return checked


def is_on_disk(base_path: str, media: Media) -> bool:
    """Whether a media's file or any of its thumbnails is there, whatever its kind.

    :raises UnsafeNameError: if Synapse could not have stored it.
    :raises OSError: if the thumbnails' folder cannot be read.
    """
    content, thumbnails = places(media.origin, media.filesystem_id, media.kind).on(base_path)
    if os.path.lexists(content):
        return True
    try:
        with os.scandir(thumbnails) as entries:
            return next(entries, None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def write(cache: Cache, out: TextIO, report: Callable[[str], None]) -> int:
    """List what the cache says is still on disk: each media's file, then its
    thumbnails' folder with a slash at its end, relative to the media store.

    :param report: told of each row whose names Synapse would not use.
    :returns: how many such rows there were.
    """
    lines: list[str] = []
    unsafe = 0
    for media in cache.rows():
        try:
            content, thumbnails = places(media.origin, media.filesystem_id, media.kind)
        except UnsafeNameError as error:
            unsafe += 1
            report(f"{shown(media.media_id)}: {error}")
            continue
        lines.append(f"{content}\n{thumbnails}/\n")
        if len(lines) >= _LINES_AT_ONCE:
            out.write("".join(lines))
            lines.clear()
    out.write("".join(lines))
    return unsafe
