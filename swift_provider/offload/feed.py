"""Prepares the work of an upload page by page, one page ahead.

A page has a few hundred media: what the database says about them, their files on disk,
and what the listing of the container says about their objects. At most two pages are in
memory, however many media the cache lists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredLock

from swift_provider.client import Threads
from swift_provider.errors import UnsafeNameError
from swift_provider.offload.database import Database, Facts, reason_to_skip
from swift_provider.offload.disk import Expected, files_of, is_on_disk
from swift_provider.offload.jobs.members import Member
from swift_provider.offload.listing_hints import Hint
from swift_provider.offload.media_names import Media

PAGE_MEDIA = 500

#: Called for what is left out, with a path or a media's name, the reason, and whether it
#: counts as a failure.
Report = Callable[[str, str, bool], None]


@dataclass
class MediaWork:
    """One media, and what to do about it.

    :ivar files: its files on disk.
    :ivar hints: what the listing of each place says about each file's object, by the file's path.
        No hint means that nothing is known.
    :ivar left: whether files of the media stay on disk that are not in ``files``.
    """

    media: Media
    files: list[Expected] = field(default_factory=list)
    hints: dict[str, Mapping[Member, Hint]] = field(default_factory=dict)
    left: bool = False


class Hints(Protocol):
    """What is known about objects before Swift is asked about each."""

    async def look(self, paths: list[str]) -> Mapping[str, Mapping[Member, Hint]]:
        """The hints for each of these paths, by place."""

    async def close(self) -> None:
        """No more paths will come."""


class NoHints:
    """Nothing is known, so Swift is asked about each object."""

    async def look(self, paths: list[str]) -> Mapping[str, Mapping[Member, Hint]]:
        return {path: {} for path in paths}

    async def close(self) -> None:
        pass


class Feed:
    """Hands out the work, one media at a time.

    :param lookups: threads for the database and the disk.
    :param pages: the media, read in a thread; for :class:`.MemberHints` they must be sorted by
        the names of their files.
    :param report: called on the reactor's thread.
    """

    def __init__(
        self,
        lookups: Threads,
        database: Database,
        pages: Iterator[list[Media]],
        base_path: str,
        listing: Hints,
        report: Report,
    ) -> None:
        self._lookups = lookups
        self._database = database
        self._pages = pages
        self._base_path = base_path
        self._listing = listing
        self._report = report
        self._ready: deque[MediaWork] = deque()
        self._turn = DeferredLock()
        self._next: Deferred[list[MediaWork]] | None = None

    async def take(self) -> MediaWork | None:
        """The next media; ``None`` at the end.

        :raises DatabaseUnavailableError: if the database fails.
        :raises CacheError: if the cache or the plan cannot be read.
        :raises SwiftError: if the listing fails for good.
        """
        async with self._turn:
            while not self._ready:
                page = await (self._next or self._prepare())
                self._next = None
                if not page:
                    return None
                self._ready.extend(page)
                self._next = self._prepare()
            return self._ready.popleft()

    async def close(self) -> None:
        """Wait for the page in preparation, drop it, and close the listing."""
        pending, self._next = self._next, None
        if pending is not None:
            pending.addErrback(lambda failure: None)
            await pending
        await self._listing.close()

    def _prepare(self) -> Deferred[list[MediaWork]]:
        return Deferred.fromCoroutine(self._prepared())

    async def _prepared(self) -> list[MediaWork]:
        left_out: list[tuple[str, str, bool]] = []
        page = await self._lookups.run(self._look, left_out)
        for item in left_out:
            self._report(*item)
        hints = await self._listing.look([file.path for work in page for file in work.files])
        for work in page:
            work.hints = {file.path: hints[file.path] for file in work.files}
        return page

    def _look(self, left_out: list[tuple[str, str, bool]]) -> list[MediaWork]:
        """The media of the next page; empty at the end. Runs in a thread.

        :param left_out: gets the arguments of each call of :data:`Report` to make.
        """
        page = next(self._pages, [])
        facts = self._database.facts(page)
        return [
            self._look_at(media, facts.get((media.origin, media.media_id)), left_out)
            for media in page
        ]

    def _look_at(
        self, media: Media, facts: Facts | None, left_out: list[tuple[str, str, bool]]
    ) -> MediaWork:
        work = MediaWork(media)
        reason = reason_to_skip(media, facts)
        try:
            if facts is None or reason is not None:
                # An upload that was never finished may have a row and no file: no report.
                work.left = is_on_disk(self._base_path, media)
                if work.left:
                    left_out.append((str(media), str(reason), False))
                return work
            work.files, strange = files_of(self._base_path, media, facts)
        except UnsafeNameError:
            work.left = True
            left_out.append((str(media), "a name that Synapse would not use", False))
            return work
        except OSError as error:
            work.left = True
            left_out.append((str(media), f"cannot be listed: {error.strerror}", True))
            return work
        for path in strange:
            work.left = True
            left_out.append((path, "a name that Synapse would not use", False))
        return work
