"""The jobs that keep the disk within its limits: remove what goes first, upload what is missing.

Both are run for the module (:mod:`swift_provider.offload.keeper`), not by a command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from swift_provider.client import Store
from swift_provider.errors import ObjectNotFoundError
from swift_provider.keeper import JUST_WRITTEN
from swift_provider.offload.batches import Batches
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected, is_thumbnail, is_young, written_at
from swift_provider.offload.disk_plan import DiskPlan, Need, Victim, Why
from swift_provider.offload.feed import PAGE_MEDIA, Feed, Hints, MediaWork, NoHints
from swift_provider.offload.jobs.member_hints import MemberHints
from swift_provider.offload.jobs.members import Member
from swift_provider.offload.jobs.offloading import Offloading
from swift_provider.offload.listing_hints import Hint, Unlisted
from swift_provider.offload.media_ages import quiet
from swift_provider.offload.media_names import Media
from swift_provider.offload.parallel import in_parallel
from swift_provider.offload.progress import Progress

#: Media that are looked at ahead of those in work. Few, because what is known about them
#: grows old.
VICTIMS_AHEAD = 100


class Keep(Offloading):
    """Removes media from the disk, those first that nobody has accessed for the longest.

    :param database: for the facts about media.
    :param ages: another connection to the same database, for the last look before a file goes.
    :param plan: with the media on the disk.
    """

    #: Nothing may go that one of them does not hold.
    needs_every_member = True

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        ages: Database,
        plan: DiskPlan,
        base_path: str,
        need: Need,
        progress: Progress,
    ) -> None:
        super().__init__(
            reactor,
            store,
            progress,
            base_path,
            delete=True,
            proof=True,
            young_seconds=need.young_seconds,
        )
        self._database = database
        self._plan = plan
        self._need = need
        self._queue = _Queue(plan.victims(need, VICTIMS_AHEAD), self._is_enough)
        self._ages = ages
        self._quiet = Batches(self._ask_quiet)

    async def _ask_quiet(self, media: set[Media]) -> set[Media]:
        before_ms = self._need.quiet_before_ms()
        return await self.threads.lookups.run(quiet, self._ages, list(media), before_ms)

    async def _may_go(self, media: Media, file: Expected) -> bool:
        seconds = self._need.quiet_seconds
        if await self._quiet.answer(media) and not await self.threads.lookups.run(
            is_young, self._base_path, file.path, seconds
        ):
            return True
        self.tally.skipped["accessed just now"] += 1
        return False

    async def _work(self) -> None:
        # A round ends when what it has handed out is enough. Some of it may fail.
        while not self._stopping and not self._queue.is_empty:
            await self._round()

    async def _round(self) -> None:
        lookups = self.threads.lookups
        pages = self._queue.round()
        feed = Feed(lookups, self._database, pages, self._base_path, NoHints(), self._leave_out)
        try:
            await in_parallel(self._store.width, feed.take, self._handle, self._is_stopping)
        finally:
            await feed.close()

    def _is_enough(self, in_work: int) -> bool:
        return self.tally.freed + in_work >= self._need.space

    async def _handle(self, work: MediaWork) -> None:
        try:
            await self._remove(work, self._queue.why(work.media))
        finally:
            self._queue.finished(work.media)
        self.progress.advance(1, self.tally.found, self.tally.failures, self.tally.uploaded_bytes)

    async def _remove(self, work: MediaWork, why: Why) -> None:
        self.tally.media += 1
        for file in work.files:
            if self._stopping:
                return
            # Synapse brings a content back to make a thumbnail, which is wanted longer.
            if why is Why.BROUGHT_BACK and is_thumbnail(file.path):
                continue
            await self._attempt(file.path, self._offload(work.media, file, work.hints[file.path]))


class _Queue:
    """Hands out victims until what is in work is enough.

    :param pages: the victims; those that go for space come last.
    :param is_enough: whether enough is freed once so many bytes more are.
    """

    def __init__(self, pages: Iterator[list[Victim]], is_enough: Callable[[int], bool]) -> None:
        self._victims = (victim for page in pages for victim in page)
        self._is_enough = is_enough
        self._next: Victim | None = None
        self._in_work: dict[Media, Victim] = {}
        # Each of the two is changed by one thread only: the one that prepares pages, and the
        # reactor's.
        self._handed_out = 0
        self._finished = 0
        self.is_empty = False

    def why(self, media: Media) -> Why:
        """Why a media goes that was handed out."""
        return self._in_work[media].why

    def finished(self, media: Media) -> None:
        """A media that was handed out is gone, or will not go."""
        self._finished += self._in_work.pop(media).taken

    def round(self) -> Iterator[list[Media]]:
        """The next media, page by page; runs in a thread.

        Call it again once all of them are finished.
        """
        while page := list(self._page()):
            self._handed_out += sum(victim.taken for victim in page)
            self._in_work.update((victim.media, victim) for victim in page)
            yield [victim.media for victim in page]

    def _page(self) -> Iterator[Victim]:
        taken = self._handed_out - self._finished
        for _ in range(VICTIMS_AHEAD):
            if self._next is None:
                self._next = next(self._victims, None)
            victim = self._next
            if victim is None or (victim.why is Why.SPACE and self._is_enough(taken)):
                self.is_empty = victim is None or taken == 0
                return
            self._next = None
            taken += victim.taken
            yield victim


class Repair(Offloading):
    """Uploads the media on the disk that Swift lacks. Removes nothing.

    :param plan: with the media on the disk.
    :param kinds: ``local``, ``remote``: which media.
    :param written_before: seconds since the epoch; the module is still busy with the files that
        were written later.
    """

    #: The others get what they lack, although no person has seen the mistake yet.
    leaves_out_mistakes = True

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        plan: DiskPlan,
        base_path: str,
        kinds: frozenset[str],
        written_before: float,
        progress: Progress,
    ) -> None:
        super().__init__(reactor, store, progress, base_path, delete=False, proof=True)
        self._database = database
        self._plan = plan
        self._kinds = kinds
        self._written_before = written_before

    async def _work(self) -> None:
        listing: Hints = MemberHints(self.members)
        pages = self._plan.by_name(self._kinds, PAGE_MEDIA)
        feed = Feed(
            self.threads.lookups, self._database, pages, self._base_path, listing, self._leave_out
        )
        try:
            await in_parallel(self._store.width, feed.take, self._handle, self._is_stopping)
        finally:
            await feed.close()

    async def _handle(self, work: MediaWork) -> None:
        self.tally.media += 1
        for file in work.files:
            if self._stopping:
                return
            await self._attempt(file.path, self._repair(work.media, file, work.hints[file.path]))
        self.progress.advance(1, self.tally.found, self.tally.failures, self.tally.uploaded_bytes)

    async def _repair(self, media: Media, file: Expected, hints: Mapping[Member, Hint]) -> None:
        """Upload one file to each place that has no object for it.

        An object is not compared with the file: that would read the whole disk each day. It is
        compared before the file is removed; and before another place gets the file, if nothing
        else tells whether the file is right.
        """
        unlisted = [
            member
            for member in self.members.all
            if isinstance(hints.get(member, Unlisted.UNKNOWN), Unlisted)
        ]
        ask = partial(self._ask, file, hints)
        answers = await self.members.each(ask, unlisted, shows_health=False)
        absent = {member: hint for member, hint in answers.results.items() if hint is not None}
        self._note_errors(answers.errors)
        if len(answers.errors) == len(self.members.all):
            answers.or_fail()
        self._lacking(file.path, answers.errors)
        if not absent:
            return
        if await self.threads.lookups.run(self._is_new, file):
            self.tally.skipped[JUST_WRITTEN] += 1
        else:
            holders = [
                member
                for member in self.members.all
                if member not in absent and member not in answers.errors
            ]
            await self._offload(media, file, absent, absent, holders=holders)

    def _is_new(self, file: Expected) -> bool:
        """Blocking. A media may have new thumbnails, and a content whose upload failed."""
        with suppress(FileNotFoundError):
            status = os.lstat(f"{self._base_path}/{file.path}")
            return written_at(status) >= self._written_before
        return False

    async def _ask(
        self, file: Expected, hints: Mapping[Member, Hint], member: Member
    ) -> Hint | None:
        """``None`` if a place has an object after all."""
        hint = hints.get(member, Unlisted.UNKNOWN)
        if hint is Unlisted.UNKNOWN:
            try:
                await member.place.head(file.path, newest=True)
            except ObjectNotFoundError:
                return Unlisted.ABSENT
            member.works()
            return None
        return hint
