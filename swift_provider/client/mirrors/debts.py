"""What the members of a mirror set lack, or have too much: it is made up for in the background.

The debts are in memory only. A process may die, so :attr:`.MirrorSet.on_debt` tells of new
ones, and ``swift_media_upload`` (``upload``, ``sync``, ``prune``) finds all of them itself.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from swift_provider.client.mirrors.breaker import OF_THE_PLACE, Background, begin
from swift_provider.client.mirrors.member import Member
from swift_provider.client.mirrors.moments import ended, not_later
from swift_provider.client.mirrors.repaying import Debt, repay
from swift_provider.errors import (
    DamagedError,
    InsufficientStorageError,
    ObjectExistsError,
    ObjectNotFoundError,
    RequestRefusedError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)

#: How many objects may be owed to one member by another. Further ones are left to the script.
MOST_OWED = 10_000

#: How many are copied at once from one member to another, so that users' requests find slots.
AT_ONCE = 4

#: The pause after a failure: at first, at most if a place fails, at most if an object does.
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_OBJECT_PAUSE_SECONDS = 600.0

#: After so many attempts it counts as an object that the holder cannot deliver.
MOST_UNREADABLE = 12

#: After so many refusals of the same object, while others were not refused, it counts as one
#: that cannot be copied or deleted.
MOST_REFUSALS = 20

#: For how many objects it is remembered that they were given up.
_MOST_GIVEN_UP = 1000


class Debts:
    """The debts of one set.

    :param background: does the work.
    :param repays: whether there is any: else nothing is ever owed.
    """

    def __init__(
        self, members: Sequence[Member], clock: Any, background: Background, *, repays: bool
    ) -> None:
        self._members = members
        self._repays = repays
        self._accounts = {
            member: {
                holder: _Account(self, member, holder, clock, background)
                for holder in (None, *members)
                if holder is not member
            }
            for member in members
        }
        for member in members:
            member.on_change = self._wake

    def owe(self, member: Member, debt: Debt) -> None:
        """A member lacks an object, or has one that shall not be there any more."""
        if self._repays:
            self._accounts[member][debt.holder].owe(debt)
            self.changed(member)

    @property
    def any(self) -> bool:
        """Whether anything is owed."""
        return any(self._owed(member) for member in self._members)

    def owes(self, member: Member, path: str) -> bool:
        """Whether anything is owed to a member of an object."""
        return any(account.has(path) for account in self._accounts[member].values())

    def owes_deletion(self, member: Member, path: str) -> bool:
        """Whether a member has an object only because it has not been deleted there yet."""
        return self._accounts[member][None].has(path)

    async def forget(self, path: str, forgotten: list[tuple[Member, Debt]]) -> None:
        """Nothing is owed of an object any more: it is being stored or deleted now.

        A copy of it that is in flight is cancelled, and has ended when this returns.

        :param forgotten: gets what was owed.
        """
        for member, accounts in self._accounts.items():
            for account in accounts.values():
                debt = account.take(path)
                if debt is not None:
                    forgotten.append((member, debt))
                    self.changed(member)
                await account.cancel(path)

    def keep_time(self) -> None:
        """Let no timer fire late because the clock was set back."""
        for accounts in self._accounts.values():
            for account in accounts.values():
                account.keep_time()

    def changed(self, member: Member) -> None:
        """Tell how much is owed to a member."""
        member.place.observer.owed(self._owed(member))

    def report(self) -> None:
        """Log what is owed, because the process is about to end."""
        for member in self._members:
            owed = self._owed(member)
            if owed:
                logger.warning(
                    "Swift %s: %d objects are still to be copied to it, or to be deleted there. "
                    "Run swift_media_upload sync, and prune",
                    member.name,
                    owed,
                )

    async def stop(self) -> None:
        """Copy nothing any more; log what is left."""
        self.report()
        for accounts in self._accounts.values():
            for account in accounts.values():
                await account.stop()

    def _owed(self, member: Member) -> int:
        return sum(account.count for account in self._accounts[member].values())

    def _wake(self) -> None:
        for accounts in self._accounts.values():
            for account in accounts.values():
                account.wake()


@dataclass(eq=False)
class _Owed:
    """A debt, and how it failed so far.

    :ivar waits: seconds from the latest failure to the next attempt.
    :ivar due: when the next attempt begins.
    :ivar unreadable: how often the holder's object came damaged, or not at all.
    :ivar refusals: how often it was refused although others were not.
    :ivar seen: where it was refused the latest time, and :meth:`_Account._worked` then.
    """

    debt: Debt
    waits: float = 0.0
    due: float = 0.0
    unreadable: int = 0
    refusals: int = 0
    seen: tuple[Member, int] | None = None

    def left(self, now: float) -> float:
        """Seconds until the next attempt; 0 also if the clock was set back."""
        left = self.due - now
        return left if 0 < left <= self.waits else 0.0

    def wait(self, now: float) -> None:
        """Begin no attempt for a while."""
        longer = max(FIRST_PAUSE_SECONDS, 2 * self.waits)
        self.waits = min(longer, LONGEST_OBJECT_PAUSE_SECONDS)
        self.due = now + self.waits


class _Account:
    """What is owed to one member by another, or what is to be deleted from it.

    An object that fails alone waits alone, and behind all that have not failed yet. If a place
    fails, all wait.
    """

    def __init__(
        self,
        debts: Debts,
        member: Member,
        holder: Member | None,
        clock: Any,
        background: Background,
    ) -> None:
        self._debts = debts
        self._member = member
        self._holder = holder
        self._clock = clock
        self._background = background
        #: Those that have not failed yet, and those that have.
        self._fresh: OrderedDict[str, _Owed] = OrderedDict()
        self._again: OrderedDict[str, _Owed] = OrderedDict()
        self._in_work: dict[str, Deferred[None]] = {}
        self._given_up: OrderedDict[str, None] = OrderedDict()
        #: How many were copied or deleted.
        self._done = 0
        #: :meth:`_worked` of the member when it failed the latest time.
        self._worked_then: int | None = None
        self._pause = self._waits = FIRST_PAUSE_SECONDS
        #: Whether all wait, because a place fails.
        self._at_rest = False
        self._call: Any = None
        self._said_full = False
        self._stopped = False

    @property
    def count(self) -> int:
        """How many objects."""
        return len(self._fresh) + len(self._again)

    def has(self, path: str) -> bool:
        """Whether this object is one of them."""
        return path in self._fresh or path in self._again

    def owe(self, debt: Debt) -> None:
        found_again = not debt.stored and debt.holder is not None
        known = self.has(debt.path) or debt.path in self._given_up
        if self._stopped or (found_again and known):
            return
        if not self.has(debt.path) and self.count >= MOST_OWED:
            if not self._said_full:
                self._said_full = True
                logger.warning(
                    "Swift %s lacks more than %d objects that its mirrors have. Run "
                    "swift_media_upload sync when it works again",
                    self._member.name,
                    MOST_OWED,
                )
            return
        self._given_up.pop(debt.path, None)
        self._again.pop(debt.path, None)
        self._fresh[debt.path] = _Owed(debt)
        self.wake()

    def take(self, path: str) -> Debt | None:
        owed = self._fresh.pop(path, None) or self._again.pop(path, None)
        return None if owed is None else owed.debt

    async def cancel(self, path: str) -> None:
        working = self._in_work.get(path)
        if working is not None:
            working.cancel()
            await ended(working)

    def keep_time(self) -> None:
        self._call = not_later(self._call, self._clock, self._waits)

    async def stop(self) -> None:
        self._stopped = True
        self._fresh.clear()
        self._again.clear()
        self._end_call()
        for working in list(self._in_work.values()):
            working.cancel()
            await ended(working)

    def wake(self) -> None:
        """Begin as much as may be in work."""
        self.keep_time()
        if self._at_rest or self._stopped or not self._member.works:
            return
        if self._holder is not None and not self._holder.works:
            return
        now = self._clock.seconds()
        ready = (
            owed
            for owed in chain(self._fresh.values(), self._again.values())
            if owed.debt.path not in self._in_work and not owed.left(now)
        )
        for owed in list(islice(ready, AT_ONCE - len(self._in_work))):
            if not begin(self._background, "swift_repay_mirror", partial(self._repay, owed)):
                return
        if len(self._in_work) < AT_ONCE and not self._at_rest:
            waits = [left for owed in self._again.values() if (left := owed.left(now))]
            if waits:
                self._wake_in(min(waits))

    def _wake_in(self, seconds: float) -> None:
        self._end_call()
        self._waits = seconds
        self._call = self._clock.callLater(seconds, self._called)

    def _called(self) -> None:
        self._call = None
        self._at_rest = False
        self.wake()

    def _end_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def _repay(self, owed: _Owed) -> None:
        path = owed.debt.path
        if path in self._in_work or not self._still(owed):
            return
        working = self._in_work[path] = ensureDeferred(self._try(owed))
        try:
            await working
        except CancelledError:
            pass  # It was taken, and may be owed anew.
        finally:
            del self._in_work[path]
        self.wake()

    async def _try(self, owed: _Owed) -> None:
        try:
            done = await repay(owed.debt, self._member, self._debts.owes_deletion)
        except SwiftProviderError as error:
            place = self._member
            if self._holder is not None and error.mirror == self._holder.name:
                place = self._holder
            elif isinstance(error, DamagedError):
                owed.debt = replace(owed.debt, damaged=True)
            fails = await place.fails_too(error)
            if self._still(owed):
                self._failed(owed, error, place, fails)
        else:
            self._done += done
            self._pause = FIRST_PAUSE_SECONDS
            self._end(owed)

    def _still(self, owed: _Owed) -> bool:
        """Whether it is owed, and was not owed anew."""
        path = owed.debt.path
        return owed in (self._fresh.get(path), self._again.get(path))

    def _end(self, owed: _Owed) -> None:
        """It is owed no more."""
        if self._still(owed):
            self.take(owed.debt.path)
            self._debts.changed(self._member)
        if not self.count:
            self._said_full = False

    # Failures

    def _failed(self, owed: _Owed, error: SwiftProviderError, place: Member, fails: bool) -> None:
        """Try again after a while, unless no retry can help.

        :param place: which of the two failed.
        :param fails: whether it fails with another object, too.
        """
        if not fails and self._is_hopeless(owed, error, place):
            self._give_up(owed.debt, error)
            self._end(owed)
            return
        what = "deletion from" if self._holder is None else "copy to"
        logger.info("A %s Swift %s failed for now: %s", what, self._member.name, error)
        self.take(owed.debt.path)
        self._again[owed.debt.path] = owed
        if place is self._member:
            # A place that is full or read-only answers, but takes nothing.
            worked = self._worked(place)
            fails = fails or worked == self._worked_then
            self._worked_then = worked
        if fails:
            self._rest()
        else:
            owed.wait(self._clock.seconds())

    def _rest(self) -> None:
        if not self._at_rest and not self._stopped:
            self._at_rest = True
            self._wake_in(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _worked(self, place: Member) -> int:
        """Grows each time that the place did with another object what can fail here."""
        is_copied_to = place is self._member and self._holder is not None
        return place.writes if is_copied_to else self._done

    def _is_hopeless(self, owed: _Owed, error: SwiftProviderError, place: Member) -> bool:
        """Whether no retry can help, although the place works."""
        wrong = isinstance(error, (DamagedError, ObjectNotFoundError))
        if wrong and place is self._holder:
            owed.unreadable += 1
            return owed.unreadable >= MOST_UNREADABLE
        refused = isinstance(error, RequestRefusedError) and not isinstance(
            error, ObjectExistsError
        )
        if wrong or refused:
            # The place may be read-only for a while; or it is the object.
            worked = self._worked(place)
            if owed.seen is not None and owed.seen[0] is place and owed.seen[1] < worked:
                owed.refusals += 1
            owed.seen = (place, worked)
            return owed.refusals >= MOST_REFUSALS
        return not error.temporary and not isinstance(
            error, (*OF_THE_PLACE, InsufficientStorageError)
        )

    def _give_up(self, debt: Debt, error: SwiftProviderError) -> None:
        """It is the object that cannot be copied, or deleted."""
        self._given_up[debt.path] = None
        if len(self._given_up) > _MOST_GIVEN_UP:
            self._given_up.popitem(last=False)
        if self._holder is None:
            logger.warning(
                "%s was deleted, but Swift %s still has it, and refuses to delete it: %s. "
                "swift_media_upload prune finds it",
                debt.path,
                self._member.name,
                error,
            )
        else:
            logger.warning(
                "Swift %s lacks %s, and it cannot be copied from a mirror: %s. If the file is on "
                "the disk, swift_media_upload upload --all uploads it. verify --deep shows which "
                "copies are damaged",
                self._member.name,
                debt.path,
                error,
            )
