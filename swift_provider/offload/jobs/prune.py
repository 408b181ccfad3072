"""The job ``prune``: objects of media that Synapse does not know any more.

Reports them; deletes them only if told to. Two passes: the first lists the
container and sets the candidates aside, so that a database that looks wrong
is noticed before anything is deleted; the second asks the database and Swift
about each candidate once more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from swift_provider.client import ListedObject, SwiftClient
from swift_provider.errors import ConfigError, ObjectNotFoundError
from swift_provider.offload.database import Database
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import LOCAL, REMOTE, ROOTS, media_of_object, shown
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.plan import Candidate, Owner, Plan
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally

#: A media's object may be stored before its row, and a listing may be late.
YOUNG = timedelta(days=1)
PAGE_CANDIDATES = 400

LISTED = "Objects listed"
ORPHANS = "Of media that Synapse does not know"
DELETED = "Deleted"
LEFT = "Left alone, younger than a day"
KNOWN = "Left alone, known to Synapse by now"
FOREIGN = "Left alone, not named like media"


class LooksWrongError(ConfigError):
    """So much would be deleted that the database is more likely to be the wrong one."""


@dataclass(frozen=True)
class Options:
    """What is asked for.

    :param prefix: only objects below it are looked at.
    :param max_share: of the media's objects, the largest part that may go; 0 to 1.
    """

    container: str
    prefix: str
    delete: bool
    max_share: float


class Prune(Job[Tally]):
    """One run.

    :param show: told the name of each object that is, or would be, deleted.
    """

    def __init__(
        self,
        client: SwiftClient,
        database: Database,
        options: Options,
        progress: Progress,
        show: Callable[[str], None],
    ) -> None:
        super().__init__(client, options.container, progress, Tally())
        for name in (LISTED, ORPHANS, DELETED, LEFT, KNOWN, FOREIGN):
            self.summary.counts[name] = 0
        self._database = database
        self._options = options
        self._show = show
        self._oldest_young = datetime.now(timezone.utc) - YOUNG

    async def _work(self) -> None:
        with closing(Plan()) as plan:
            await self._list(plan)
            items = Items(self._candidates(plan))
            workers = self._client.settings.threadpool_size
            try:
                await in_parallel(workers, items.take, self._prune, self._is_stopping)
            finally:
                await items.close()

    async def _list(self, plan: Plan) -> None:
        """The first pass."""
        in_thread = self._client.run_in_thread
        if await in_thread(plan.read_all, self._database) == 0:
            raise LooksWrongError(
                "Synapse's database has no media at all: this looks like the wrong database"
            )
        await in_thread(plan.set_aside, ())
        for root in ROOTS:
            prefix = f"{self._options.prefix}{root}/"
            async for page in self._client.list_objects(self._container, prefix=prefix):
                if self._stopping:
                    return
                await in_thread(self._set_aside, plan, page)
                self.progress.advance(len(page))
        self._check_share()

    def _set_aside(self, plan: Plan, page: list[ListedObject]) -> None:
        """Note the objects of media that the database did not have; runs in a thread."""
        owners: dict[str, Owner] = {}
        for listed in page:
            self.summary.counts[LISTED] += 1
            owner = media_of_object(listed.name.removeprefix(self._options.prefix))
            if owner is None:
                self.summary.counts[FOREIGN] += 1
            else:
                owners[listed.name] = owner
        unknown = set(plan.unknown(set(owners.values())))
        found = [(name, *owner) for name, owner in owners.items() if owner in unknown]
        self.summary.counts[ORPHANS] += len(found)
        plan.set_aside(found)

    def _check_share(self) -> None:
        counts = self.summary.counts
        objects = counts[LISTED] - counts[FOREIGN]
        share = counts[ORPHANS] / objects if objects else 0.0
        if self._options.delete and share > self._options.max_share:
            raise LooksWrongError(
                f"{counts[ORPHANS]} of {objects} objects ({share:.0%}) belong to media that "
                f"Synapse does not know: is this the right database, and the right prefix? "
                f"If so, allow it with --max-share {share + 0.005:.2f}"
            )

    async def _candidates(self, plan: Plan) -> AsyncGenerator[list[Candidate], None]:
        pages = plan.aside(PAGE_CANDIDATES)
        while page := await self._client.run_in_thread(next, pages, None):
            yield await self._client.run_in_thread(self._still_unknown, page)

    def _still_unknown(self, page: list[Candidate]) -> list[Candidate]:
        """Ask the database again; runs in a thread."""
        left = []
        for kind in (LOCAL, REMOTE):
            of_kind = [one for one in page if one[1] == kind]
            known = self._database.known(kind, sorted({(one[2], one[3]) for one in of_kind}))
            left += [one for one in of_kind if (one[2], one[3]) not in known]
        self.summary.counts[KNOWN] += len(page) - len(left)
        return left

    async def _prune(self, candidate: Candidate) -> None:
        await self._attempt(candidate[0], self._delete(candidate[0]))

    async def _delete(self, name: str) -> None:
        try:
            info = await self._client.head_object(self._container, name)
        except ObjectNotFoundError:
            return
        if _moment(info.last_modified) > self._oldest_young:
            self.summary.counts[LEFT] += 1
            return
        self._show(shown(name))
        if self._options.delete and await self._client.delete_object(self._container, name):
            self.summary.counts[DELETED] += 1


def _moment(last_modified: str) -> datetime:
    """When an object was stored; the far future if that cannot be read, so that it is left."""
    try:
        moment = parsedate_to_datetime(last_modified)
    except (TypeError, ValueError):
        return datetime.max.replace(tzinfo=timezone.utc)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
