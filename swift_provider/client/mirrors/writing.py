"""Does one thing in all members of a mirror set at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.python.failure import Failure

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.file_source import FileSource
from swift_provider.client.mirrors.member import Member
from swift_provider.client.mirrors.moments import not_later
from swift_provider.client.next_turn import call_next_turn
from swift_provider.client.observer import Progress
from swift_provider.client.place import Place
from swift_provider.errors import (
    DamagedError,
    FileChangedError,
    SwiftProviderError,
    TimedOutError,
)

Result = TypeVar("Result")
#: What is done in one place; tells what it is doing.
Operation = Callable[[Place, Progress], Coroutine[Any, Any, Result]]

#: Once one member has a file, the upload to the others may take this long, and
#: :data:`LATER_SHARE` times as long as the first one took. The rest is owed to them.
LATER_SECONDS = 10.0
LATER_SHARE = 3
#: A member that takes this many times as long as the first one fails, and is not only slow.
FAILS_SHARE = 10


class Everyone(Generic[Result]):
    """One operation in some members, at once.

    :param asked: the members.
    :param earlier: the same operation in other members, all of which failed.
    :ivar done: the results of the members that did it.
    :ivar failed: the errors of the others, with their names; also of the earlier ones.
    """

    def __init__(
        self,
        asked: Sequence[Member],
        path: str,
        operation: Operation[Result],
        earlier: Everyone[Result] | None = None,
    ) -> None:
        self.done: dict[Member, Result] = {}
        self.failed: dict[Member, SwiftProviderError] = dict(earlier.failed) if earlier else {}
        #: What was cancelled, and may not have ended yet.
        self.cancelled: dict[Member, Deferred[None]] = {}
        self._over: Deferred[None] = Deferred()
        self._left: dict[Member, Deferred[None]] = {}
        for member in asked:
            asking = member.ask(path, partial(operation, member.place), self._progress(member))
            self._left[member] = ensureDeferred(self._ask(member, asking))
        for member, working in list(self._left.items()):
            working.addBoth(self._ended, member)

    async def wait(self) -> None:
        """Until it is over. What is in flight then is cancelled, and all if this is cancelled.

        :raises FileChangedError: if the file changed meanwhile.
        :raises OSError: if it cannot be read.
        """
        try:
            await self._over
        finally:
            for member in list(self._left):
                self._cancel(member)
            self._clean_up()

    async def _ask(self, member: Member, asking: Coroutine[Any, Any, Result]) -> None:
        try:
            self.done[member] = await asking
        except FileChangedError:
            raise  # the file's own error
        except SwiftProviderError as error:
            self.failed[member] = error
            self._failed(member, error)
        else:
            self._succeeded(member)

    def _cancel(self, member: Member) -> None:
        working = self._left.pop(member)
        self.cancelled[member] = working
        working.cancel()

    def _ended(self, result: object, member: Member) -> None:
        if self._left.pop(member, None) is None:
            return  # cancelled
        if self._over.called:
            return
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._over.errback(result)
        elif not self._left:
            self._over.callback(None)

    def _succeeded(self, member: Member) -> None:
        """A member has done it."""

    def _failed(self, member: Member, error: SwiftProviderError) -> None:
        """A member has failed."""

    def _progress(self, member: Member) -> Progress:
        """Is told what a member is doing."""
        return Progress()

    def _clean_up(self) -> None:
        """It is over."""


class Uploads(Everyone[ObjectInfo]):
    """The uploads of one file.

    The first member that has it decides how long the others are waited for. None is waited
    for whose attempt failed: a retry in the background is as good.
    """

    def __init__(
        self,
        asked: Sequence[Member],
        path: str,
        source: FileSource,
        clock: Any,
        earlier: Uploads | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._began = clock.seconds()
        #: How long the first member took, and how much longer the others may take.
        self._took: float | None = None
        self._later = 0.0
        self._call: Any = None
        #: The members in which an attempt may have left a damaged object.
        self.damaged: set[Member] = set() if earlier is None else set(earlier.damaged)
        #: The members that wait for a retry, and why.
        self.retrying: dict[Member, SwiftProviderError] = {}
        super().__init__(
            asked,
            path,
            lambda place, progress: place.put(path, source, progress=progress),
            earlier,
        )

    def keep_time(self) -> None:
        """Let the timer not fire late because the clock was set back."""
        self._call = not_later(self._call, self._clock, self._later)

    def _progress(self, member: Member) -> Progress:
        return _Attempts(self, member)

    def _succeeded(self, member: Member) -> None:
        member.written()
        if self._took is not None or self._over.called:
            return
        # The clock may have been set back meanwhile.
        self._took = max(0.0, self._clock.seconds() - self._began)
        self._later = max(LATER_SECONDS, LATER_SHARE * self._took)
        self._call = self._clock.callLater(self._later, self._leave_all)
        self._leave_retrying()

    def _failed(self, member: Member, error: SwiftProviderError) -> None:
        self._note_damage(member, error)
        member.not_written(error)

    def retry_waits(self, member: Member, error: SwiftProviderError) -> None:
        """An attempt failed."""
        self.retrying[member] = error
        self._note_damage(member, error)
        if self._took is not None:
            # Not now: it is the member's own upload that says so.
            call_next_turn(self._clock, self._leave_retrying)

    def _note_damage(self, member: Member, error: SwiftProviderError) -> None:
        if isinstance(error, DamagedError):
            self.damaged.add(member)

    def _leave_retrying(self) -> None:
        for member, error in list(self.retrying.items()):
            if member in self._left:
                member.failed(error)
                self._leave(member, error, fails=True)

    def _leave_all(self) -> None:
        """The other members get the file later."""
        self._call = None
        took = self._took or 0.0
        passed = max(took + self._later, self._clock.seconds() - self._began)
        reason = f"not done within {passed:.0f} seconds; a mirror took {took:.0f}"
        for member in list(self._left):
            late = member.error(self._path, reason, TimedOutError)
            self._leave(member, late, fails=passed > FAILS_SHARE * took)

    def _leave(self, member: Member, error: SwiftProviderError, *, fails: bool) -> None:
        """Wait for a member no longer.

        :param fails: whether that is a failure of the member.
        """
        if member not in self._left:
            return
        self.failed[member] = error
        if fails:
            member.not_written(error)
        self._cancel(member)
        if not self._left and not self._over.called:
            self._over.callback(None)

    def _clean_up(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


class _Attempts(Progress):
    """Tells which members wait for a retry."""

    def __init__(self, uploads: Uploads, member: Member) -> None:
        self._uploads = uploads
        self._member = member

    def attempt_begins(self) -> None:
        self._uploads.retrying.pop(self._member, None)

    def retry_waits(self, error: SwiftProviderError) -> None:
        self._uploads.retry_waits(self._member, error)
