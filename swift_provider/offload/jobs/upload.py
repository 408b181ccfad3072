"""The job ``upload``: what is on disk goes to Swift, and then, if asked for, off the disk.

A local file is deleted only after this run has seen Swift's own proof that it
holds the same bytes (see :mod:`swift_provider.offload.placing`), and only if it
is still the file that was compared. So the process can be killed at any
moment, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from swift_provider.client import SwiftClient
from swift_provider.offload.cache import Cache
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected, open_checked, remove
from swift_provider.offload.feed import PAGE_MEDIA, Feed, MediaWork
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.listing import Hint, Listing
from swift_provider.offload.media_names import Media
from swift_provider.offload.parallel import in_parallel
from swift_provider.offload.placing import Outcome, Placing
from swift_provider.offload.plan import Plan
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Summary

#: Media that are noted as deleted in one transaction.
MARK_MEDIA = 500


@dataclass(frozen=True)
class Options:
    """What is asked for.

    :param base_path: Synapse's media store.
    :param delete: remove each local file that Swift is proven to hold.
    :param dry_run: count, but neither upload nor delete.
    :param everything: all that is on disk, not only what the cache names.
    """

    base_path: str
    container: str
    prefix: str
    delete: bool = False
    dry_run: bool = False
    everything: bool = False


class Upload(Job[Summary]):
    """One run; its figures are in ``summary``.

    :param database: used in threads, from one at a time.
    """

    def __init__(
        self,
        client: SwiftClient,
        database: Database,
        cache: Cache,
        options: Options,
        progress: Progress,
    ) -> None:
        super().__init__(client, options.container, progress, Summary(dry_run=options.dry_run))
        self._cache = cache
        self._database = database
        self._options = options
        self._placing = Placing(
            client,
            options.container,
            options.prefix,
            proof=options.delete,
            dry_run=options.dry_run,
        )
        self._gone: list[Media] = []

    async def _work(self) -> None:
        options = self._options
        listing = Listing(self._client, options.container, options.prefix)
        feed = Feed(
            self._client,
            self._database,
            self._pages(),
            options.base_path,
            listing,
            self._leave_out,
        )
        workers = self._client.settings.threadpool_size
        try:
            await in_parallel(workers, feed.take, self._media, self._is_stopping)
        finally:
            await feed.close()
            await self._mark(everything=True)

    def _pages(self) -> Iterator[list[Media]]:
        """The media to look at; runs in a thread."""
        with closing(Plan()) as plan:
            if self._options.everything:
                plan.read_all(self._database)
            else:
                plan.read(self._cache.rows())
            yield from plan.pages(PAGE_MEDIA)

    async def _media(self, work: MediaWork) -> None:
        gone = 0
        for file in work.files:
            if self._stopping:
                return
            gone += bool(await self._attempt(file.path, self._offload(file, work.hints[file.path])))
        self.summary.media += 1
        if gone == len(work.files) and not work.left and not self._options.dry_run:
            self._gone.append(work.media)
            await self._mark()
        self.progress.advance(
            1, self.summary.found, self.summary.failures, self.summary.uploaded_bytes
        )

    async def _offload(self, file: Expected, hint: Hint) -> bool:
        """Upload and delete one file, as far as asked for.

        :returns: whether it is gone from the disk.
        """
        base_path = self._options.base_path
        self.summary.found += 1
        try:
            source = await self._client.run_in_thread(open_checked, base_path, file)
        except FileNotFoundError:
            self.summary.skipped["gone from the disk meanwhile"] += 1
            return True
        with source:
            self._count(await self._placing.ensure(file, source, hint), source.size)
            if not self._options.delete:
                return False
            if not self._options.dry_run:
                await self._client.run_in_thread(remove, base_path, file.path, source.fingerprint)
            self.summary.deleted += 1
            self.summary.deleted_bytes += source.size
        return True

    def _count(self, outcome: Outcome, size: int) -> None:
        if outcome is Outcome.PRESENT:
            self.summary.present += 1
            return
        self.summary.uploaded += 1
        self.summary.uploaded_bytes += size
        if outcome is Outcome.REPLACED:
            self.summary.replaced += 1

    def _leave_out(self, what: str, reason: str, is_failure: bool) -> None:
        if is_failure:
            self._fail(what, reason)
        else:
            self._skip(what, reason)

    async def _mark(self, *, everything: bool = False) -> None:
        """Note in the cache what is gone from the disk, many media at a time."""
        if not self._gone or (len(self._gone) < MARK_MEDIA and not everything):
            return
        gone, self._gone = self._gone, []
        await self._client.run_in_thread(self._mark_deleted, gone)

    def _mark_deleted(self, gone: list[Media]) -> None:
        self._cache.mark(gone, deleted=True)
