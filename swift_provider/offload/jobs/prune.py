"""The job ``prune``: finds the objects of media that Synapse does not know any more.

It prints their names, and deletes them only with ``--delete``. There are three passes.
The first lists all objects and remembers the candidates. The second asks Swift about each
candidate: who stored it, and when. It also looks for the segments of no object, see
:mod:`swift_provider.offload.jobs.leftovers`. Before the third, which deletes, the rules in
:mod:`swift_provider.offload.jobs.prune_rules` can refuse. The second and the third pass
ask the database again, and the third asks Swift again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timezone
from functools import partial
from typing import Any

from twisted.internet.defer import DeferredLock

from swift_provider.client import ListedObject, Place
from swift_provider.config import Settings
from swift_provider.errors import LooksWrongError, ObjectNotFoundError
from swift_provider.offload.contents import known_lengths
from swift_provider.offload.database import Database
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.leftovers import (
    Attempt,
    Leftovers,
    Verdict,
    attempts,
    listed_again,
)
from swift_provider.offload.jobs.prunable import (
    ELSEWHERE,
    OTHERS,
    UNMARKED,
    WANTED,
    Options,
    Prunable,
)
from swift_provider.offload.jobs.prune_rules import (
    OF_OBJECTS,
    Found,
    Wording,
    check_homeserver,
    doubt_everywhere,
    objection,
    other_homeserver,
)
from swift_provider.offload.media_names import LOCAL, REMOTE, ROOTS, media_of_object, shown
from swift_provider.offload.parallel import Item, Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import Candidate, Owner, SortedMedia
from swift_provider.offload.tally import Tally

PAGE_CANDIDATES = 400

LISTED = "Objects listed"
ORPHANS = "Of media that Synapse does not know"
DELETED = "Deleted"
#: In place of it, without ``--delete``.
WOULD_DELETE = "Would delete"
KNOWN = "Left alone, known to Synapse by now"
FOREIGN = "Left alone, not named like media"
SEGMENTS = "Segments of no object"
SEGMENTS_DELETED = "Segments deleted"


def _counts(options: Options) -> tuple[str, ...]:
    """What a run counts, in order."""
    deleted = (DELETED,) if options.delete else (WOULD_DELETE, DELETED)
    return (
        *(LISTED, ORPHANS, *deleted, options.left, KNOWN, FOREIGN, OTHERS, UNMARKED),
        *(SEGMENTS, SEGMENTS_DELETED, WANTED, ELSEWHERE),
    )


#: Called with what speaks against deleting anywhere, if anything does, once a run has
#: looked at everything; returns what other places have against deleting.
AskOthers = Callable[[str | None], Awaitable[str | None]]


async def nobody(doubt: str | None) -> str | None:
    """There are no other places to ask."""
    return None


def now() -> datetime:
    """The time; a test replaces it."""
    return datetime.now(timezone.utc)


class Prune(Job[Tally]):
    """One run.

    :param store: one place. For several see :mod:`swift_provider.offload.jobs.prune_each`.
    :param show: called with the name of each object that is, or would be, deleted.
    :param wording: of what speaks against it.
    :param configured: all places that Synapse's configuration names.
    :param ask_others: called before anything is deleted.
    """

    def __init__(
        self,
        reactor: Any,
        store: Place,
        database: Database,
        options: Options,
        progress: Progress,
        show: Callable[[str], None],
        wording: Wording = OF_OBJECTS,
        configured: Sequence[Settings] = (),
        ask_others: AskOthers = nobody,
    ) -> None:
        main = (LISTED, ORPHANS, DELETED if options.delete else WOULD_DELETE)
        super().__init__(reactor, store, progress, Tally(main=frozenset(main)))
        self._place = store
        self._wording = wording
        self.tally.counts.update(dict.fromkeys(_counts(options), 0))
        self._database = database
        self._options = options
        self._show = show
        self._ask_others = ask_others
        self._now = now()
        self._prunable = Prunable(store, options, self._now, configured)
        self._found = Found(others=self._prunable.others)
        self._plan_in_use = DeferredLock()

    @property
    def doubt(self) -> str | None:
        """What the objects so far say against deleting from any place, also if the run has
        stopped; ``None`` for nothing.
        """
        return other_homeserver(self._found, self._options)

    async def _work(self) -> None:
        in_thread = self.threads.lookups.run
        database = self._database
        owner = self._place.owner
        check_homeserver(owner, await in_thread(database.homeserver, owner), self._options)
        with closing(SortedMedia()) as plan:
            await self._list(plan)
            await self._each(self._unknown(plan.candidates), partial(self._look, plan))
            leftovers = Leftovers(self._place, self._prunable, partial(self._lengths, plan))
            await self._each(
                attempts(self._place.segments, self.progress.note),
                partial(self._look_at_attempt, plan, leftovers),
            )
            if self._stopping:
                return
            # As of now: a media that was looked at during the run has no older time any more.
            activity = await in_thread(database.newest_activity, now())
            self._found.known_by_day[LOCAL] = await in_thread(
                database.local_media_by_day, self._now
            )
            about = (self._found, activity, self._options, self._wording)
            elsewhere = await self._ask_others(doubt_everywhere(*about))
            if self._stopping:
                return
            if self._options.delete and self.tally.failures:
                # What could not be looked at may be what shows that the database is wrong.
                self.progress.note("Nothing was deleted: some objects could not be looked at")
                return
            reason = objection(*about) or elsewhere
            if reason is not None and self._options.delete:
                raise LooksWrongError(reason)
            if reason is not None:
                self.progress.note(f"With --delete, prune would refuse: {reason}")
            elif not self._options.delete and self.tally.counts[WOULD_DELETE]:
                self.progress.note("Nothing was deleted: prune deletes only with --delete")
            if self._options.delete:
                await self._each(self._unknown(plan.doomed), self._prune)
                await self._each(
                    self._read(plan.doomed_attempts), partial(self._prune_attempt, leftovers)
                )

    async def _each(
        self,
        pages: AsyncGenerator[list[Item], None],
        handle: Callable[[Item], Coroutine[Any, Any, None]],
    ) -> None:
        items = Items(pages)
        try:
            await in_parallel(self._place.width, items.take, handle, self._is_stopping)
        finally:
            await items.close()

    async def _unknown(
        self, read: Callable[[int], Iterator[list[Candidate]]]
    ) -> AsyncGenerator[list[Candidate], None]:
        """Pages of objects, without those whose media Synapse knows by now."""
        async for page in self._read(read):
            yield await self.threads.lookups.run(self._without_known, page)

    async def _read(
        self, read: Callable[[int], Iterator[list[Item]]]
    ) -> AsyncGenerator[list[Item], None]:
        """Pages of the plan."""
        pages = read(PAGE_CANDIDATES)
        while True:
            async with self._plan_in_use:
                page = await self.threads.lookups.run(next, pages, None)
            if not page:
                return
            yield page

    def _without_known(self, page: list[Candidate]) -> list[Candidate]:
        """Ask the database again; runs in a thread."""
        left = []
        for kind in (LOCAL, REMOTE):
            of_kind = [one for one in page if one[1] == kind]
            known = self._database.known(kind, sorted({(one[2], one[3]) for one in of_kind}))
            left += [one for one in of_kind if (one[2], one[3]) not in known]
        self.tally.counts[KNOWN] += len(page) - len(left)
        return left

    async def _lengths(self, plan: SortedMedia, path: str) -> frozenset[int] | None:
        async with self._plan_in_use:
            return await self.threads.lookups.run(known_lengths, self._database, plan, path)

    # The first pass

    async def _list(self, plan: SortedMedia) -> None:
        """List the objects and remember the candidates."""
        in_thread = self.threads.lookups.run
        await in_thread(plan.read_all_known, self._database)
        await in_thread(plan.add_candidates, ())
        await in_thread(plan.doom, ())
        await in_thread(plan.doom_attempts, ())
        for root in ROOTS:
            async for page in self._place.list(f"{root}/"):
                if self._stopping:
                    return
                await in_thread(self._add_candidates, plan, page)
                self.progress.advance(len(page))

    def _add_candidates(self, plan: SortedMedia, page: list[ListedObject]) -> None:
        """Remember the objects of media that are not planned; runs in a thread."""
        owners: dict[ListedObject, Owner] = {}
        for listed in page:
            self.tally.counts[LISTED] += 1
            owner = media_of_object(listed.name)
            if owner is None:
                self.tally.counts[FOREIGN] += 1
            else:
                owners[listed] = owner
        unknown = set(plan.unknown(set(owners.values())))
        candidates = []
        for listed, owner in owners.items():
            if owner in unknown:
                candidates.append((listed.name, *owner))
            else:
                self._found.add_known(owner[0], listed)
        self.tally.counts[ORPHANS] += len(candidates)
        plan.add_candidates(candidates)

    # The second pass

    async def _look(self, plan: SortedMedia, candidate: Candidate) -> None:
        name = self._place.object_name(candidate[0])
        await self._attempt(name, self._look_at(plan, candidate))

    async def _look_at(self, plan: SortedMedia, candidate: Candidate) -> None:
        path, kind, *_ = candidate
        try:
            info = await self._place.head(path, newest=True)
        except ObjectNotFoundError:
            return
        reason = self._prunable.why_not(info)
        if reason not in (OTHERS, UNMARKED):
            self._found.add_unknown(kind, path, info)
        if reason is not None:
            self.tally.counts[reason] += 1
            return
        self._found.add_doomed(kind, info)
        if self._options.delete:
            async with self._plan_in_use:
                await self.threads.lookups.run(plan.doom, [candidate])
        else:
            self.tally.counts[WOULD_DELETE] += 1
            self.tally.sizes[WOULD_DELETE] += info.size or 0
            self._show(self._place.object_name(path))

    async def _look_at_attempt(
        self, plan: SortedMedia, leftovers: Leftovers, attempt: Attempt
    ) -> None:
        await self._attempt(self._shown(attempt), self._judge(plan, leftovers, attempt))

    async def _judge(self, plan: SortedMedia, leftovers: Leftovers, attempt: Attempt) -> None:
        verdict = await leftovers.judge(attempt)
        if not self._may_go(attempt, verdict):
            return
        self.tally.counts[SEGMENTS] += len(verdict.names)
        owner = media_of_object(attempt.path)
        if verdict.orphan is not None and owner is not None:
            self._found.add_unknown(owner[0], attempt.path, verdict.orphan)
            self._found.add_doomed(owner[0], verdict.orphan)
        if self._options.delete:
            async with self._plan_in_use:
                doomed = [(attempt.path, attempt.attempt)]
                await self.threads.lookups.run(plan.doom_attempts, doomed)
        else:
            self._show(self._shown(attempt))

    def _may_go(self, attempt: Attempt, verdict: Verdict) -> bool:
        """Count the segments that must stay."""
        if verdict.reason is not None:
            self.tally.counts[verdict.reason] += len(attempt.names)
        if verdict.reason == WANTED:
            self.progress.note(
                f"Left alone: {shown(self._shown(attempt))}: Synapse knows the media, and Swift "
                "has no whole object of its length; these segments, joined, may be the file"
            )
        return bool(verdict.names)

    def _shown(self, attempt: Attempt) -> str:
        segments = self._place.segments
        return f"{segments.container}/{segments.object_name(attempt.folder)}/"

    # The third pass

    async def _prune(self, candidate: Candidate) -> None:
        path = candidate[0]
        await self._attempt(self._place.object_name(path), self._delete(path))

    async def _delete(self, path: str) -> None:
        try:
            info = await self._place.head(path, newest=True)
        except ObjectNotFoundError:
            return
        reason = self._prunable.why_not(info)
        if reason is not None:
            self.tally.counts[reason] += 1
            return
        self._show(self._place.object_name(path))
        if await self._place.delete(path):
            self.tally.counts[DELETED] += 1
            self.tally.sizes[DELETED] += info.size or 0

    async def _prune_attempt(self, leftovers: Leftovers, doomed: tuple[str, str]) -> None:
        name = self._shown(Attempt(*doomed))
        await self._attempt(name, self._delete_attempt(leftovers, *doomed))

    async def _delete_attempt(self, leftovers: Leftovers, path: str, number: str) -> None:
        segments = self._place.segments
        attempt = await listed_again(segments, path, number)
        verdict = await leftovers.judge(attempt)
        if not self._may_go(attempt, verdict):
            return
        self._show(self._shown(attempt))
        for name in verdict.names:
            if await segments.delete(name):
                self.tally.counts[SEGMENTS_DELETED] += 1
