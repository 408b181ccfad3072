"""Several places in Swift that hold the same objects under the same paths.

Reading asks one member after the other, in the order of the configuration, and writing goes
to all. What a member lacks afterwards is owed to it, see
:mod:`swift_provider.client.mirrors.debts`. A member that fails is left out until it works
again, see :mod:`swift_provider.client.mirrors.breaker`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from twisted.internet.defer import Deferred

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.direct_access import DirectAccess
from swift_provider.client.downloads import Download, Rest, StreamedDownload
from swift_provider.client.file_source import FileSource
from swift_provider.client.mirrors.breaker import Background
from swift_provider.client.mirrors.debts import Debts
from swift_provider.client.mirrors.member import MORE_PATIENCE, Member, soonest
from swift_provider.client.mirrors.moments import ended
from swift_provider.client.mirrors.repaying import Debt
from swift_provider.client.mirrors.rest import MirroredRest
from swift_provider.client.mirrors.verdict import verdict
from swift_provider.client.mirrors.writing import Everyone, Uploads
from swift_provider.client.observer import Progress
from swift_provider.client.place import Place
from swift_provider.config import RedirectSettings
from swift_provider.errors import (
    DamagedError,
    ObjectNotFoundError,
    ObjectUnclearError,
    SwiftProviderError,
    Target,
    TimedOutError,
    WrongLengthError,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: For how many objects it is remembered that a member delivered wrong bytes.
_MOST_DOUBTS = 1000


class MirrorSet:
    """The places, used as one.

    The methods are those of :class:`Place`, with the same meanings.

    :param places: in order of preference for reading; at least two.
    :param clock: the reactor.
    :param background: runs work that nobody waits for.
    :param repays: whether to make up in the background for what a member lacks.
    :ivar owner: see :class:`Place`.
    :ivar on_debt: called when a member lacks an object that another has just got.
    """

    def __init__(
        self, places: list[Place], clock: Any, background: Background, *, repays: bool = True
    ) -> None:
        self.owner = places[0].owner
        self.on_debt: Callable[[], object] = lambda: None
        self._clock = clock
        self._members = [Member(place, clock, background) for place in places]
        self._debts = Debts(self._members, clock, background, repays=repays)
        #: How often a member had, or delivered, wrong bytes of an object.
        self._doubted: OrderedDict[tuple[str, Member], int] = OrderedDict()
        #: The objects that are being stored or deleted.
        self._changing: Counter[str] = Counter()
        #: Uploads in flight.
        self._uploads: set[Uploads] = set()
        #: Uploads that were cancelled, and may not have ended.
        self._leaving: WeakSet[Deferred[None]] = WeakSet()

    @property
    def members(self) -> tuple[Place, ...]:
        """The places, in order of preference for reading."""
        return tuple(member.place for member in self._members)

    @property
    def container(self) -> str:
        """The first member's."""
        return self.members[0].container

    @property
    def width(self) -> int:
        """The first member's."""
        return self.members[0].width

    # Reading

    async def get(
        self,
        path: str,
        *,
        length: int | None = None,
        prove: bool = False,
        progress: Progress | None = None,
    ) -> Download:
        """See :meth:`Place.get`. A download goes on in another member if one fails for good.

        :param length: a member whose object has another one is passed over.
        """

        def begin(place: Place, progress: Progress) -> Coroutine[Any, Any, Download]:
            return place.get(path, length=length, prove=prove, retry=False, progress=progress)

        member, download = await self._first(path, begin, progress)
        download.info = self._from(member, download.info)
        if isinstance(download, StreamedDownload):
            assert isinstance(download.rest, Rest)
            members = partial(self._in_turn, path)
            rest = MirroredRest(member, download.rest, members, path, download.info)
            download.rest = rest
            download.on_end = partial(self._delivered, path, rest)
        else:
            member.breaker.delivered()
        return download

    async def head(
        self,
        path: str,
        *,
        length: int | None = None,
        newest: bool = False,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """See :meth:`Place.head`, and :meth:`get`."""

        def ask(place: Place, progress: Progress) -> Coroutine[Any, Any, ObjectInfo]:
            return place.head(path, length=length, newest=newest, retry=False, progress=progress)

        member, info = await self._first(path, ask, progress)
        member.breaker.succeeded()
        return self._from(member, info)

    def _from(self, member: Member, info: ObjectInfo) -> ObjectInfo:
        return info if member is self._members[0] else replace(info, mirror=member.name)

    async def _first(
        self,
        path: str,
        operation: Callable[[Place, Progress], Coroutine[Any, Any, Result]],
        progress: Progress | None,
    ) -> tuple[Member, Result]:
        """Ask one member after the other until one answers; if none does, again after a while.

        :raises ObjectNotFoundError: if every member says that there is no such object.
        """
        tries = self.members[0].new_tries(progress)
        late: set[Member] = set()
        patience = 1.0
        while True:
            errors: dict[Member, SwiftProviderError] = {}
            in_turn = (
                sorted(self._in_turn(path), key=late.__contains__)
                if late
                else (self._in_turn(path))
            )
            late = set()
            # As of now: what a member owes it may have deleted by the end.
            left_out = [one for one in self._members if self._may_have(one, path, in_turn)]
            for member in in_turn:
                ask = partial(operation, member.place)
                try:
                    result = await member.ask_briefly(path, ask, progress, patience)
                except SwiftProviderError as error:
                    errors[member] = error
                    if isinstance(error, (TimedOutError, ObjectUnclearError)):
                        late.add(member)
                else:
                    self._found(path, member, errors)
                    return member, result
            if not errors and not left_out:
                raise self._deleted(path)
            failed = verdict(path, errors, left_out)
            if not any(error.temporary for error in errors.values()):
                raise failed
            patience *= MORE_PATIENCE
            for member in self._members:
                member.breaker.probe_now()
            await self.members[0].wait_to_retry(failed, tries)

    def _may_have(self, member: Member, path: str, asked: list[Member]) -> bool:
        """Whether a member that was not asked may have an object."""
        return member not in asked and not self._debts.owes_deletion(member, path)

    def _deleted(self, path: str) -> SwiftProviderError:
        """Every member that has the object is to delete it."""
        name = self.members[0].object_name(path)
        return Target("GET", self.container, name).error(ObjectNotFoundError, "it was deleted")

    def _found(self, path: str, member: Member, errors: dict[Member, SwiftProviderError]) -> None:
        """A member has an object.

        :param errors: those of the members that were asked before.
        """
        for other, error in errors.items():
            if isinstance(error, ObjectNotFoundError) and path not in self._changing:
                self._debts.owe(other, Debt(path, member))
            elif isinstance(error, WrongLengthError):
                self._doubt(path, other)
                logger.warning(
                    "%s comes from %s, because another place has a wrong object: %s. "
                    "swift_media_upload verify names all such media",
                    path,
                    member.name,
                    error,
                )

    def _in_turn(self, path: str) -> list[Member]:
        """The members worth asking for an object, in turn; all of them, if none works.

        Those that delivered wrong bytes, or get a newer object, come last.
        """
        self._keep_time()
        working = [member for member in self._members if member.works] or self._members
        if not self._doubted and not self._debts.any:
            return list(working)
        return sorted(
            (member for member in working if not self._debts.owes_deletion(member, path)),
            key=lambda member: (
                self._debts.owes(member, path),
                self._doubted.get((path, member), 0),
            ),
        )

    def _keep_time(self) -> None:
        """Let no timer fire late because the clock was set back."""
        for uploads in self._uploads:
            uploads.keep_time()
        if self._debts.any:
            self._debts.keep_time()

    def _delivered(self, path: str, rest: MirroredRest, error: BaseException | None) -> None:
        """A download has ended."""
        if error is None:
            if rest.current not in rest.slow:
                for member, slow in rest.slow.items():
                    member.body_broke(path, slow)
            rest.current.breaker.delivered()
        elif isinstance(error, (DamagedError, WrongLengthError)):
            self._doubt(path, rest.current)

    def _doubt(self, path: str, member: Member) -> None:
        """A member has wrong bytes under a path."""
        self._doubted[path, member] = self._doubted.pop((path, member), 0) + 1
        if len(self._doubted) > _MOST_DOUBTS:
            self._doubted.popitem(last=False)

    # Writing

    async def put(self, path: str, source: FileSource) -> ObjectInfo:
        """Upload a file to all members. On return at least one has it, proven.

        What the others lack is owed to them. See :meth:`Place.put`.
        """
        forgotten: list[tuple[Member, Debt]] = []
        self._keep_time()
        asked = [member for member in self._members if member.works and member.may_write()]
        with self._change(path):
            try:
                await self._debts.forget(path, forgotten)
                uploads = await self._upload(path, source, asked or self._members)
                if not uploads.done and 0 < len(asked) < len(self._members):
                    # One that was left out may work again.
                    others = [member for member in self._members if member not in asked]
                    uploads = await self._upload(path, source, others, uploads)
            except BaseException:
                self._restore(path, forgotten)
                raise
            if not uploads.done:
                self._restore(path, forgotten, uploads.damaged)
                raise soonest(list(uploads.failed.values()))
        return next(iter(uploads.done.values()))

    async def _upload(
        self, path: str, source: FileSource, asked: list[Member], earlier: Uploads | None = None
    ) -> Uploads:
        """Upload a file to some members; what they and the others lack then is owed.

        :param earlier: the uploads to other members, which failed.
        """
        uploads = Uploads(asked, path, source, self._clock, earlier)
        self._uploads.add(uploads)
        try:
            await uploads.wait()
        finally:
            self._uploads.discard(uploads)
            self._leaving.update(uploads.cancelled.values())
            if uploads.done:
                self._owe_rest(path, uploads)
        return uploads

    def _owe_rest(self, path: str, uploads: Uploads) -> None:
        """Owe a file to the members that lack it."""
        holder = next(iter(uploads.done))
        lacking = [member for member in self._members if member not in uploads.done]
        for member in lacking:
            error = uploads.failed.get(member) or member.unreachable(path)
            logger.info("%s gets %s later: %s", member.name, path, error.text())
            after = uploads.cancelled.get(member)
            damaged = member in uploads.damaged
            self._debts.owe(member, Debt(path, holder, stored=True, damaged=damaged, after=after))
        if lacking:
            self.on_debt()

    async def delete(self, path: str) -> bool:
        """Delete an object from all members. May be called again.

        A member that cannot be reached gets the deletion when it works again, as far as this
        process lives. Otherwise ``prune`` finds the object.

        :returns: whether any member had it.
        :raises SwiftProviderError: if no member could be asked.
        """
        forgotten: list[tuple[Member, Debt]] = []
        since = time.time()
        self._keep_time()
        asked = [member for member in self._members if member.works] or self._members
        with self._change(path):
            try:
                await self._debts.forget(path, forgotten)
                deletions = await self._delete(path, asked, since)
                if not deletions.done and len(asked) < len(self._members):
                    others = [member for member in self._members if member not in asked]
                    deletions = await self._delete(path, others, since, deletions)
            except BaseException:
                self._restore(path, forgotten)
                raise
            if not deletions.done:
                self._restore(path, forgotten)
                raise soonest(list(deletions.failed.values()))
        return any(deletions.done.values())

    async def _delete(
        self,
        path: str,
        asked: list[Member],
        since: float,
        earlier: Everyone[bool] | None = None,
    ) -> Everyone[bool]:
        """Delete an object from some members; the others get the deletion later.

        :param earlier: the deletions from other members, which failed.
        """
        deletions: Everyone[bool] = Everyone(
            asked, path, lambda place, _: place.delete(path), earlier
        )
        try:
            await deletions.wait()
        finally:
            self._leaving.update(deletions.cancelled.values())
            if deletions.done:
                for member in self._members:
                    if member not in deletions.done:
                        error = deletions.failed.get(member) or member.unreachable(path)
                        logger.warning("%s is not deleted yet from a mirror: %s", path, error)
                        self._debts.owe(member, Debt(path, None, since=since))
        return deletions

    def _restore(
        self,
        path: str,
        forgotten: list[tuple[Member, Debt]],
        damaged: Collection[Member] = (),
    ) -> None:
        """What was owed is owed still, unless the operation was done in some member: then each
        member that is owed something now, be it a deletion, is no holder of the right object,
        and a member that is owed nothing has what it should have.

        :param damaged: may have got a damaged object.
        """
        owed_now = {member for member in self._members if self._debts.owes(member, path)}
        for member, debt in forgotten:
            if owed_now and (debt.holder is None or {member, debt.holder} & owed_now):
                continue
            self._debts.owe(member, replace(debt, damaged=debt.damaged or member in damaged))

    @contextmanager
    def _change(self, path: str) -> Iterator[None]:
        """An object is being stored or deleted: what a reader finds meanwhile may be old."""
        self._changing[path] += 1
        try:
            yield
        finally:
            self._changing[path] -= 1
            if not self._changing[path]:
                del self._changing[path]

    # The rest

    def direct_access(self, settings: RedirectSettings, keys: tuple[bytes, ...]) -> DirectAccess:
        """Temporary URLs of the objects in the first member. See :meth:`Place.direct_access`."""
        return self.members[0].direct_access(settings, keys)

    def report_debts(self) -> None:
        """Log what is owed to the members, before the process ends."""
        self._debts.report()

    def hurry(self) -> None:
        """See :meth:`Place.hurry`."""
        for place in self.members:
            place.hurry()

    async def close(self) -> None:
        """See :meth:`Place.close`."""
        for leaving in list(self._leaving):
            await ended(leaving)
        for member in self._members:
            await member.stop()
        await self._debts.stop()
        for place in self.members:
            await place.close()
