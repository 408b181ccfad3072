"""The job ``upload``: uploads files, and then deletes them from the disk if asked to.

A local file is deleted only after Swift has shown in this run that it holds the same
bytes and will go on holding them (see :mod:`swift_provider.offload.upload_if_missing`),
and only if the file has not changed since it was compared. So the process can be killed
at any time without loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from swift_provider.client import Store
from swift_provider.errors import DiskGoneError
from swift_provider.offload.cache import Cache
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected, is_mounted, is_young, remove
from swift_provider.offload.feed import PAGE_MEDIA, Feed, MediaWork
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.upload_tally import UploadTally
from swift_provider.offload.listing_hints import Hint, ListingHints
from swift_provider.offload.media_names import Media
from swift_provider.offload.parallel import in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import SortedMedia
from swift_provider.offload.upload_if_missing import Outcome, UploadIfMissing

#: Media to mark as deleted in one transaction.
MARK_MEDIA = 500


@dataclass(frozen=True)
class Options:
    """The options of the command.

    :ivar base_path: Synapse's media store.
    :ivar delete: delete each local file that Swift is proven to hold.
    :ivar dry_run: count, but neither upload nor delete.
    :ivar everything: handle all media on disk, not only those in the cache.
    """

    base_path: str
    delete: bool = False
    dry_run: bool = False
    everything: bool = False


class Upload(Job[UploadTally]):
    """One run."""

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        cache: Cache,
        options: Options,
        progress: Progress,
    ) -> None:
        super().__init__(reactor, store, progress, UploadTally(dry_run=options.dry_run))
        self._cache = cache
        self._database = database
        self._options = options
        # A repair with --all looks for objects that were lost: a listing may still have them.
        proof = options.delete or options.everything
        self._upload_if_missing = UploadIfMissing(store, proof=proof, dry_run=options.dry_run)
        self._gone: list[Media] = []

    async def _work(self) -> None:
        feed = Feed(
            self.threads.lookups,
            self._database,
            self._pages(),
            self._options.base_path,
            ListingHints(self._store),
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
                plan.read_all(self._database)
            else:
                plan.read(self._cache.rows())
            yield from plan.pages(PAGE_MEDIA)

    async def _handle(self, work: MediaWork) -> None:
        gone = 0
        for file in work.files:
            if self._stopping:
                return
            gone += bool(await self._attempt(file.path, self._offload(file, work.hints[file.path])))
        self.tally.media += 1
        if gone == len(work.files) and not work.left and not self._options.dry_run:
            self._gone.append(work.media)
            if len(self._gone) >= MARK_MEDIA:
                await self._mark()
        self.progress.advance(1, self.tally.found, self.tally.failures, self.tally.uploaded_bytes)

    async def _offload(self, file: Expected, hint: Hint) -> bool:
        """Upload one file, then delete it if asked to.

        :returns: whether it is gone from the disk.
        """
        base_path = self._options.base_path
        self.tally.found += 1
        try:
            # No length means a thumbnail without a row.
            if not file.lengths and await self.threads.lookups.run(is_young, base_path, file.path):
                self._skip(file.path, "a thumbnail that Synapse may be making just now")
                return False
            source = await self.threads.open_checked(base_path, file)
        except FileNotFoundError:
            return self._gone_meanwhile()
        with source:
            self._count(await self._upload_if_missing.ensure(file, source, hint), source.size)
            if not self._options.delete:
                return False
            if not self._options.dry_run:
                try:
                    await self.threads.lookups.run(remove, base_path, file.path, source)
                except FileNotFoundError:
                    return self._gone_meanwhile()
            self.tally.deleted += 1
            self.tally.deleted_bytes += source.size
        return True

    def _gone_meanwhile(self) -> bool:
        """Synapse, or another run, has deleted the file."""
        self.tally.skipped["gone from the disk meanwhile"] += 1
        return True

    def _count(self, outcome: Outcome, size: int) -> None:
        if outcome is Outcome.PRESENT:
            self.tally.present += 1
            return
        self.tally.uploaded += 1
        self.tally.uploaded_bytes += size
        if outcome is Outcome.REPLACED:
            self.tally.replaced += 1

    def _leave_out(self, what: str, reason: str, is_failure: bool) -> None:
        if is_failure:
            self._fail(what, reason)
        else:
            self._skip(what, reason)

    async def _mark(self) -> None:
        """Mark the media that are gone from the disk as deleted in the cache."""
        gone, self._gone = self._gone, []
        if not gone:
            return
        if not await self.threads.lookups.run(is_mounted, self._options.base_path):
            self._stop_for(DiskGoneError(f"{self._options.base_path} is no media store any more"))
            return
        await self.threads.lookups.run(partial(self._cache.mark, gone, deleted=True))
