"""The job ``verify``: counts for each media that Synapse knows where an intact copy is.

It compares the database with the disk and with Swift. It asks Swift about each object,
because a listing may be late, and about each segment of a large one. It compares the
content of an object with the file on disk; if there is none, only the length with the
database. If asked to, it also downloads each object and compares its content with the
database. Thumbnails are left out, because Synapse can make them again from the media.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

from swift_provider.client import ObjectInfo, Store
from swift_provider.errors import KeptError, ObjectNotFoundError
from swift_provider.offload.checked_object import content_flaw
from swift_provider.offload.contents import DELETED_MEANWHILE, KnownMedia
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import shown
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import SortedMedia
from swift_provider.offload.tally import Tally

BOTH_EQUAL = "On disk and in Swift"
ONLY_DISK = "Only on disk"
ONLY_SWIFT = "Only in Swift"
BOTH_DIFFERENT = "On disk and in Swift but different"
BAD_FILE = "Wrong or unreadable on disk, whole in Swift"
BAD_OBJECT = "Wrong in Swift, not on disk"
NOWHERE = "Nowhere"
#: Synapse cannot serve these media, or may serve wrong bytes.
HOLES = (BOTH_DIFFERENT, BAD_FILE, BAD_OBJECT, NOWHERE)
DOWNLOADED_BYTES = "Downloaded bytes"


class Verify(Job[Tally]):
    """One run; ``tally.counts`` has the media by where an intact copy is.

    :param base_path: Synapse's media store.
    :param deep: download the objects.
    """

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        base_path: str,
        progress: Progress,
        *,
        deep: bool = False,
    ) -> None:
        super().__init__(reactor, store, progress, Tally())
        self._outcomes = [BOTH_EQUAL, ONLY_DISK, ONLY_SWIFT, *HOLES]
        if not deep:
            self._outcomes.remove(BAD_OBJECT)
        for outcome in self._outcomes:
            self.tally.counts[outcome] = 0
        if deep:
            self.tally.counts[DOWNLOADED_BYTES] = 0
        self._database = database
        self._base_path = base_path
        self._deep = deep

    @property
    def holes(self) -> int:
        """How many media Synapse cannot serve, or may serve wrongly."""
        return sum(self.tally.counts[outcome] for outcome in HOLES)

    async def _work(self) -> None:
        with closing(SortedMedia()) as plan:
            known = KnownMedia(self.threads.lookups, self._database, plan)
            items = Items(known.contents(self._pass_over))
            verify = partial(self._verify, known)
            try:
                await in_parallel(self._store.width, items.take, verify, self._is_stopping)
            finally:
                await items.close()

    def _pass_over(self, reason: str) -> None:
        self.tally.skipped[reason] += 1

    async def _verify(self, known: KnownMedia, file: Expected) -> None:
        outcome = await self._attempt(file.path, self._judge(known, file))
        if outcome is not None:
            self.tally.counts[outcome] += 1
            if outcome in HOLES:
                self.progress.note(f"{outcome}: {shown(file.path)}")
        counts = self.tally.counts
        files = sum(counts[outcome] for outcome in self._outcomes)
        self.progress.advance(1, files, self.tally.failures, counts[DOWNLOADED_BYTES])

    async def _judge(self, known: KnownMedia, file: Expected) -> str | None:
        """The outcome; ``None`` for a hole that is none, because Synapse deleted the media."""
        outcome = await self._look(file)
        if outcome in HOLES and not await known.still_has(file):
            self._pass_over(DELETED_MEANWHILE)
            return None
        return outcome

    async def _look(self, file: Expected) -> str:
        # The disk first: an upload may move the file to Swift meanwhile, where it is seen
        # then. In the other order it could be missed in both places.
        try:
            source = await self.threads.open_checked(self._base_path, file)
        except FileNotFoundError:
            return await self._look_without_file(file, ONLY_SWIFT, BAD_OBJECT)
        except KeptError as error:
            # Synapse serves what is on its disk, whatever Swift has.
            self.progress.note(f"On disk, but {error}: {shown(file.path)}")
            return await self._look_without_file(file, BAD_FILE, NOWHERE)
        with source:
            info, wrong = await self._look_at_object(file)
            if info is None:
                return ONLY_DISK
            if wrong:
                return BOTH_DIFFERENT
            same = await self._store.same_content(info, source)
            return BOTH_EQUAL if same else BOTH_DIFFERENT

    async def _look_without_file(self, file: Expected, if_whole: str, if_wrong: str) -> str:
        info, wrong = await self._look_at_object(file)
        if info is None:
            return NOWHERE
        return if_wrong if wrong else if_whole

    async def _look_at_object(self, file: Expected) -> tuple[ObjectInfo | None, bool]:
        """The object, as of :meth:`_whole_object`, and whether its content is wrong."""
        info = await self._whole_object(file)
        wrong = False
        if self._deep and info is not None:
            try:
                wrong = await self._has_wrong_content(file)
            except ObjectNotFoundError:
                # Swift puts a replica aside if it finds damage in it while it is read.
                self.progress.note(f"No longer in Swift after it was read: {shown(file.path)}")
                info = None
        return info, wrong

    async def _has_wrong_content(self, file: Expected) -> bool:
        flaw = await content_flaw(self._store, file, self._downloaded)
        if flaw is not None:
            self.progress.note(f"In Swift, but {flaw}: {shown(file.path)}")
        return flaw is not None

    def _downloaded(self, count: int) -> None:
        self.tally.counts[DOWNLOADED_BYTES] += count

    async def _whole_object(self, file: Expected) -> ObjectInfo | None:
        """The object; ``None`` if there is none, or if it is not whole or will not last."""
        try:
            info = await self._store.head(file.path, newest=True)
        except ObjectNotFoundError:
            return None
        if info.size not in file.lengths:
            flaw = "with a wrong length"
        elif info.dynamic_large:
            # Swift joins what a listing names at that moment.
            flaw = "as a dynamic large object, whose content nothing proves"
        elif (found := await self._store.flaw(info)) is not None:
            flaw = f"but {found}"
        else:
            return info
        self.progress.note(f"In Swift {flaw}: {shown(file.path)}")
        return None
