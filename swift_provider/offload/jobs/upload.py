"""The job ``upload``: uploads files, and then deletes them from the disk if asked to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from swift_provider.client import Store
from swift_provider.errors import DiskGoneError
from swift_provider.offload.bandwidth import Bandwidth
from swift_provider.offload.cache import Cache
from swift_provider.offload.database import Database
from swift_provider.offload.disk import is_mounted
from swift_provider.offload.feed import PAGE_MEDIA, Feed, MediaWork
from swift_provider.offload.jobs.member_hints import MemberHints
from swift_provider.offload.jobs.offloading import Offloading
from swift_provider.offload.media_names import Media
from swift_provider.offload.parallel import in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import SortedMedia

#: Media to mark as deleted in one transaction.
MARK_MEDIA = 500


@dataclass(frozen=True)
class Options:
    """The options of the command.

    :ivar base_path: Synapse's media store.
    :ivar delete: delete each local file that Swift is proven to hold.
    :ivar enough: how many of several places have to be proven to hold it; ``None`` for all.
    :ivar dry_run: count, but neither upload nor delete.
    :ivar everything: handle all media on disk, not only those in the cache.
    """

    base_path: str
    delete: bool = False
    dry_run: bool = False
    everything: bool = False
    enough: int | None = None


class Upload(Offloading):
    """One run."""

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        cache: Cache,
        options: Options,
        progress: Progress,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        super().__init__(
            reactor,
            store,
            progress,
            options.base_path,
            delete=options.delete,
            enough=options.enough,
            # A repair with --all looks for objects that were lost: a listing may still have them.
            proof=options.delete or options.everything,
            dry_run=options.dry_run,
            bandwidth=bandwidth,
        )
        self._cache = cache
        self._database = database
        self._options = options
        self._gone: list[Media] = []
        self._total: int | None = None

    async def _work(self) -> None:
        feed = Feed(
            self.threads.lookups,
            self._database,
            self._pages(),
            self._options.base_path,
            MemberHints(self.members),
            self._leave_out,
        )
        try:
            await in_parallel(self._store.width, feed.take, self._handle, self._is_stopping)
        finally:
            await feed.close()
            await self._mark()

    def _pages(self) -> Iterator[list[Media]]:
        """The media to look at; runs in a thread."""
        with closing(SortedMedia()) as plan:
            if self._options.everything:
                self._total = plan.read_all(self._database)
            else:
                plan.read(self._cache.rows())
            yield from plan.pages(PAGE_MEDIA)

    async def _handle(self, work: MediaWork) -> None:
        if self._total is not None:
            self.progress.expect(self._total)
            self._total = None
        gone = 0
        for file in work.files:
            if self._stopping:
                return
            offload = self._offload(work.media, file, work.hints[file.path])
            gone += bool(await self._attempt(file.path, offload))
        self.tally.media += 1
        if gone == len(work.files) and not work.left and not self._options.dry_run:
            self._gone.append(work.media)
            if len(self._gone) >= MARK_MEDIA:
                await self._mark()
        self.progress.advance(1, self.tally.found, self.tally.failures, self.tally.uploaded_bytes)

    async def _mark(self) -> None:
        """Mark the media that are gone from the disk as deleted in the cache."""
        gone, self._gone = self._gone, []
        if not gone:
            return
        if not await self.threads.lookups.run(is_mounted, self._options.base_path):
            self._stop_for(DiskGoneError(f"{self._options.base_path} is no media store any more"))
            return
        await self.threads.lookups.run(partial(self._cache.mark, gone, deleted=True))
