"""The job ``prune``: finds the objects of media that Synapse does not know any more.

It prints their names, and deletes them only with ``--delete``. There are two passes. The
first lists all objects and remembers the candidates. So if the database looks like the
wrong one, the job ends before it deletes anything. The second pass asks the database and
Swift about each candidate again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from swift_provider.client import ListedObject, Store
from swift_provider.errors import LooksWrongError, ObjectNotFoundError
from swift_provider.offload.database import Database
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import LOCAL, REMOTE, ROOTS, media_of_object, shown
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import Candidate, Owner, Plan
from swift_provider.offload.tally import Tally

#: Synapse may store an object before it writes the media's row.
YOUNG = timedelta(days=1)
PAGE_CANDIDATES = 400

LISTED = "Objects listed"
ORPHANS = "Of media that Synapse does not know"
DELETED = "Deleted"
LEFT = "Left alone, younger than a day"
KNOWN = "Left alone, known to Synapse by now"
FOREIGN = "Left alone, not named like media"


@dataclass(frozen=True)
class Options:
    """The options of the command.

    :ivar delete: delete the objects instead of only printing their names.
    :ivar max_share: the largest share of all media's objects that may be deleted; 0 to 1.
    """

    delete: bool
    max_share: float


class Prune(Job[Tally]):
    """One run.

    :param show: called with the name of each object that is, or would be, deleted.
    """

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        options: Options,
        progress: Progress,
        show: Callable[[str], None],
    ) -> None:
        super().__init__(reactor, store, progress, Tally())
        for name in (LISTED, ORPHANS, DELETED, LEFT, KNOWN, FOREIGN):
            self.tally.counts[name] = 0
        self._database = database
        self._options = options
        self._show = show
        self._oldest_young = datetime.now(timezone.utc) - YOUNG

    async def _work(self) -> None:
        with closing(Plan()) as plan:
            await self._list(plan)
            items = Items(self._candidates(plan))
            try:
                await in_parallel(self._store.width, items.take, self._prune, self._is_stopping)
            finally:
                await items.close()

    async def _list(self, plan: Plan) -> None:
        """The first pass: list the objects and remember the candidates."""
        in_thread = self.threads.lookups.run
        if await in_thread(plan.read_all, self._database) == 0:
            raise LooksWrongError(
                "Synapse's database has no media at all, so it is probably the wrong database"
            )
        await in_thread(plan.add_candidates, ())
        for root in ROOTS:
            async for page in self._store.list(f"{root}/"):
                if self._stopping:
                    return
                await in_thread(self._add_candidates, plan, page)
                self.progress.advance(len(page))
        self._check_share()

    def _add_candidates(self, plan: Plan, page: list[ListedObject]) -> None:
        """Remember the objects of media that are not planned; runs in a thread."""
        owners: dict[str, Owner] = {}
        for listed in page:
            self.tally.counts[LISTED] += 1
            owner = media_of_object(listed.name)
            if owner is None:
                self.tally.counts[FOREIGN] += 1
            else:
                owners[listed.name] = owner
        unknown = set(plan.unknown(set(owners.values())))
        found = [(path, *owner) for path, owner in owners.items() if owner in unknown]
        self.tally.counts[ORPHANS] += len(found)
        plan.add_candidates(found)

    def _check_share(self) -> None:
        counts = self.tally.counts
        objects = counts[LISTED] - counts[FOREIGN]
        share = counts[ORPHANS] / objects if objects else 0.0
        if self._options.delete and share > self._options.max_share:
            raise LooksWrongError(
                f"{counts[ORPHANS]} of {objects} objects ({share:.0%}) belong to media that "
                f"Synapse does not know: is this the right database, and the right prefix? "
                f"If so, give --max-share {share + 0.005:.2f}"
            )

    async def _candidates(self, plan: Plan) -> AsyncGenerator[list[Candidate], None]:
        pages = plan.candidates(PAGE_CANDIDATES)
        in_thread = self.threads.lookups.run
        while page := await in_thread(next, pages, None):
            yield await in_thread(self._still_unknown, page)

    def _still_unknown(self, page: list[Candidate]) -> list[Candidate]:
        """Ask the database again; runs in a thread."""
        left = []
        for kind in (LOCAL, REMOTE):
            of_kind = [one for one in page if one[1] == kind]
            known = self._database.known(kind, sorted({(one[2], one[3]) for one in of_kind}))
            left += [one for one in of_kind if (one[2], one[3]) not in known]
        self.tally.counts[KNOWN] += len(page) - len(left)
        return left

    async def _prune(self, candidate: Candidate) -> None:
        path = candidate[0]
        await self._attempt(self._store.object_name(path), self._delete(path))

    async def _delete(self, path: str) -> None:
        try:
            info = await self._store.head(path)
        except ObjectNotFoundError:
            return
        if _stored_at(info.last_modified) > self._oldest_young:
            self.tally.counts[LEFT] += 1
            return
        self._show(shown(self._store.object_name(path)))
        if self._options.delete and await self._store.delete(path):
            self.tally.counts[DELETED] += 1


def _stored_at(last_modified: str) -> datetime:
    """When an object was stored; the far future if unreadable, so that it counts as young."""
    try:
        moment = parsedate_to_datetime(last_modified)
    except (TypeError, ValueError):
        return datetime.max.replace(tzinfo=timezone.utc)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
