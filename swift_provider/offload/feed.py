"""What an upload has to look at, prepared page by page, one page ahead.

A page is a few hundred media: their facts from the database, their files on
disk, and what the container's listing says about them. However many millions
the cache names, no more than two pages are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, DeferredLock

from swift_provider.client import SwiftClient
from swift_provider.offload.database import Database, Facts
from swift_provider.offload.disk import Expected, files_of
from swift_provider.offload.jobs.update import is_on_disk
from swift_provider.offload.listing import Hint, Listing
from swift_provider.offload.media_names import Media, UnsafeNameError

PAGE_MEDIA = 500

#: Told about what is left out: a path or a media's name, why, and whether it is a failure.
Report = Callable[[str, str, bool], None]


@dataclass
class MediaWork:
    """One media, its files on disk, and hints about their objects.

    :param left: something of it stays on disk, whatever becomes of the files.
    """

    media: Media
    files: list[Expected] = field(default_factory=list)
    hints: dict[str, Hint] = field(default_factory=dict)
    left: bool = False


class Feed:
    """Hands out work, one media at a time.

    :param pages: of media, in the order of their files' names; read in a thread.
    :param report: called on the reactor's thread.
    """

    def __init__(
        self,
        client: SwiftClient,
        database: Database,
        pages: Iterator[list[Media]],
        base_path: str,
        listing: Listing,
        report: Report,
    ) -> None:
        self._client = client
        self._database = database
        self._pages = pages
        self._base_path = base_path
        self._listing = listing
        self._report = report
        self._ready: deque[MediaWork] = deque()
        self._turn = DeferredLock()
        self._next: Deferred[list[MediaWork]] | None = None

    async def take(self) -> MediaWork | None:
        """The next media; ``None`` when there is no more.

        :raises DatabaseUnavailableError: and other errors that end the run.
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
        """Let the page that is being prepared come to its end, and forget it."""
        pending, self._next = self._next, None
        if pending is not None:
            pending.addErrback(lambda failure: None)
            await pending
        await self._listing.close()

    def _prepare(self) -> Deferred[list[MediaWork]]:
        return Deferred.fromCoroutine(self._prepared())

    async def _prepared(self) -> list[MediaWork]:
        left_out: list[tuple[str, str, bool]] = []
        page: list[MediaWork] = await self._client.run_in_thread(self._look, left_out)
        for item in left_out:
            self._report(*item)
        hints = await self._listing.look([file.path for work in page for file in work.files])
        for work in page:
            work.hints = {file.path: hints[file.path] for file in work.files}
        return page

    def _look(self, left_out: list[tuple[str, str, bool]]) -> list[MediaWork]:
        """The next page's media, in a thread; empty at the end."""
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
        reason = why_not(media, facts)
        try:
            if facts is None or reason is not None:
                # Of an upload that never came there is a row, but nothing to report.
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


def why_not(media: Media, facts: Facts | None) -> str | None:
    """Why a media is not to be touched; ``None`` if it may be."""
    if facts is None:
        return "Synapse does not know it any more"
    if facts.filesystem_id != media.filesystem_id:
        return "Synapse fetched it again since the last update"
    if facts.length is None:
        return "Synapse still waits for its upload"
    return None
