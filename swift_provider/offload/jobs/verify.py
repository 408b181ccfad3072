"""The job ``verify``: for each media that Synapse knows, is there a whole copy, and where?

Compares the database with the disk and with Swift, object by object: a
listing would not do. Thumbnails are left out, as Synapse makes missing ones
again from the media.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from dataclasses import dataclass

from swift_provider.client import FileSource, ObjectInfo, SwiftClient
from swift_provider.errors import ObjectNotFoundError
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected, KeptError, open_checked
from swift_provider.offload.feed import PAGE_MEDIA, why_not
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import Media, UnsafeNameError, places, shown
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.plan import Plan
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally

BOTH_EQUAL = "On disk and in Swift"
ONLY_DISK = "Only on disk"
ONLY_SWIFT = "Only in Swift"
BOTH_DIFFERENT = "On disk and in Swift but different"
NOWHERE = "Nowhere"
#: What Synapse cannot serve, or may serve wrongly.
HOLES = (BOTH_DIFFERENT, NOWHERE)


@dataclass(frozen=True)
class Where:
    """Where one server's media are.

    :param base_path: Synapse's media store.
    :param prefix: goes before each object's name.
    """

    base_path: str
    container: str
    prefix: str


class Verify(Job[Tally]):
    """One run; ``summary.counts`` has the media by where a whole copy is."""

    def __init__(
        self,
        client: SwiftClient,
        database: Database,
        where: Where,
        progress: Progress,
    ) -> None:
        super().__init__(client, where.container, progress, Tally())
        for outcome in (BOTH_EQUAL, ONLY_DISK, ONLY_SWIFT, BOTH_DIFFERENT, NOWHERE):
            self.summary.counts[outcome] = 0
        self._database = database
        self._where = where

    @property
    def holes(self) -> int:
        """Media that Synapse cannot serve, or may serve wrongly."""
        return sum(self.summary.counts[outcome] for outcome in HOLES)

    async def _work(self) -> None:
        workers = self._client.settings.threadpool_size
        items = Items(self._pages())
        try:
            await in_parallel(workers, items.take, self._verify, self._is_stopping)
        finally:
            await items.close()

    async def _pages(self) -> AsyncGenerator[list[Expected], None]:
        media = self._media()
        while page := await self._client.run_in_thread(next, media, None):
            yield await self._client.run_in_thread(self._expected, page)

    def _media(self) -> Iterator[list[Media]]:
        with closing(Plan()) as plan:
            plan.read_all(self._database)
            yield from plan.pages(PAGE_MEDIA)

    def _expected(self, page: list[Media]) -> list[Expected]:
        """The files that should be somewhere; runs in a thread."""
        facts = self._database.facts(page)
        expected = []
        for media in page:
            known = facts.get((media.origin, media.media_id))
            if known is None or why_not(media, known) is not None:
                self._pass_over("Synapse waits for it, or purges it at this moment")
                continue
            try:
                path = places(media.origin, media.filesystem_id, media.kind).content
            except UnsafeNameError:
                self._pass_over("a name that Synapse would not use")
                continue
            lengths = frozenset() if known.length is None else frozenset((known.length,))
            expected.append(Expected(path, lengths, known.sha256))
        return expected

    def _pass_over(self, reason: str) -> None:
        self.summary.skipped[reason] += 1

    async def _verify(self, file: Expected) -> None:
        outcome = await self._attempt(file.path, self._look(file))
        if outcome is not None:
            self.summary.counts[outcome] += 1
            if outcome in HOLES:
                self.progress.note(f"{outcome}: {shown(file.path)}")
        self.progress.advance(1, sum(self.summary.counts.values()), self.summary.failures)

    async def _look(self, file: Expected) -> str:
        info = await self._whole_object(file)
        source = await self._whole_file(file)
        if source is None:
            return NOWHERE if info is None else ONLY_SWIFT
        with source:
            if info is None:
                return ONLY_DISK
            same = await self._client.same_content(info, self._where.container, source)
            return BOTH_EQUAL if same else BOTH_DIFFERENT

    async def _whole_object(self, file: Expected) -> ObjectInfo | None:
        """The object, if it has the media's length."""
        name = self._where.prefix + file.path
        try:
            info = await self._client.head_object(self._where.container, name)
        except ObjectNotFoundError:
            return None
        if info.size is not None and info.size not in file.lengths:
            self.progress.note(f"In Swift with a wrong length: {shown(file.path)}")
            return None
        return info

    async def _whole_file(self, file: Expected) -> FileSource | None:
        """The file on disk, if it is what the database says; the caller closes it."""
        try:
            source: FileSource = await self._client.run_in_thread(
                open_checked, self._where.base_path, file
            )
        except FileNotFoundError:
            return None
        except KeptError as error:
            self.progress.note(f"On disk, but {error}: {shown(file.path)}")
            return None
        return source
