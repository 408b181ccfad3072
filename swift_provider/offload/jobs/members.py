"""The places in Swift that a run works with, and which of them it has given up.

A run does the same with each place, side by side, so that a file is opened and compared with
the database once. The failure of one place concerns that place only: the others go on without
it once it counts as down. Where there is only one place, its errors are the run's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall

from swift_provider.client import Place, SeenPlace, Store, same_place
from swift_provider.errors import (
    AccessDeniedError,
    AuthError,
    ConfigError,
    ContainerNotFoundError,
    InsufficientStorageError,
    KeptError,
    NewerObjectError,
    SwiftError,
    SwiftProviderError,
    TemporaryError,
    TimedOutError,
)
from swift_provider.offload.tally import MemberTally, Tally

#: After this many temporary errors without a success in between, Swift counts as down. The
#: client has retried each of them for minutes.
TEMPORARY_ERRORS_IN_A_ROW = 20
#: After this many objects denied without a success in between, Swift counts as denying all.
#: One object alone may be denied, by a proxy or by a rule of the cluster.
DENIALS_IN_A_ROW = 5
#: Errors of Swift that would fail every other file too.
SWIFT_CONCERNS_ALL = (AuthError, ContainerNotFoundError, InsufficientStorageError)
#: Once one place can be used, a run waits this long for the others before it begins.
START_SECONDS = 30.0

#: What the places themselves raise.
OF_SWIFT = (SwiftError, AuthError)

Result = TypeVar("Result")


@dataclass(eq=False)
class Member:
    """One place.

    :ivar may_check: whether this user may look at its container.
    :ivar made: see :attr:`.SeenPlace.made`.
    :ivar left_out: why the run gave it up; ``None`` if it did not.
    :ivar hurries: whether nothing is retried there until the run ends.
    """

    place: Place
    may_check: bool = True
    made: str = ""
    left_out: SwiftProviderError | None = None
    failures_in_a_row: int = 0
    denials_in_a_row: int = 0
    hurries: bool = False

    @property
    def name(self) -> str:
        """What people call the place."""
        return self.place.name

    def works(self) -> None:
        """It has done for an object what the run is for."""
        self.failures_in_a_row = self.denials_in_a_row = 0


@dataclass
class Answers(Generic[Result]):
    """What came of the same work with each place.

    :ivar results: of the places where it was done.
    :ivar errors: of Swift, by the others; also those that the run has given up.
    """

    results: dict[Member, Result] = field(default_factory=dict)
    errors: dict[Member, SwiftProviderError] = field(default_factory=dict)

    def or_fail(self) -> Answers[Result]:
        """:raises NoMemberError: if it was done nowhere."""
        if not self.results and self.errors:
            raise NoMemberError(list(self.errors.values()))
        return self


class NoMemberError(SwiftProviderError):
    """None of several places did what was asked.

    :param errors: one of each place.
    """

    def __init__(self, errors: list[SwiftProviderError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.reason = "; ".join(map(reason_of, errors))
        self.temporary = any(error.temporary for error in errors)


def reason_of(error: SwiftProviderError) -> str:
    """The reason to count a failure under, without the file's name."""
    reason = getattr(error, "reason", None)
    if reason is None:
        return str(error)
    return f"{error.mirror}: {reason}" if error.mirror else str(reason)


def without_name(error: SwiftProviderError) -> str:
    """An error's text, for a line that names the place already."""
    return str(error).removeprefix(f"{error.mirror}: ")


class Members:
    """The places of one run.

    :param tally: gets what each of several places did not do.
    :param note: prints a line.
    :param on_left_out: called with the error when one of several places is given up.
    :ivar all: the places, in the order of the configuration.
    :ivar several: whether there is more than one.
    """

    def __init__(
        self,
        reactor: Any,
        store: Store,
        tally: Tally,
        note: Callable[[str], None],
        on_left_out: Callable[[SwiftProviderError], None],
    ) -> None:
        self.all = tuple(Member(place) for place in store.members)
        self.several = len(self.all) > 1
        self._reactor = reactor
        self._tally = tally
        self._note = note
        self._on_left_out = on_left_out
        if self.several:
            tally.members.update((member.name, MemberTally()) for member in self.all)

    @property
    def in_use(self) -> tuple[Member, ...]:
        """Those that the run has not given up."""
        return tuple(member for member in self.all if member.left_out is None)

    async def check(self, *, leave_out_mistakes: bool) -> None:
        """Ask whether the containers can be used. One that is unreachable is left out.

        :param leave_out_mistakes: also leave out one that cannot be used because of a mistake in
            the configuration.
        :raises ConfigError: if two of them lead to the same objects.
        :raises SwiftProviderError: if none can be used; or because of such a mistake.
        """
        if not self.several:
            await self._check(self.all[0])
            return
        errors = await self._checks()
        for error in () if leave_out_mistakes else errors.values():
            temporary = isinstance(error, AuthError) and error.temporary
            if isinstance(error, (ContainerNotFoundError, AuthError)) and not temporary:
                raise error
        if len(errors) == len(self.all):
            raise NoMemberError(list(errors.values()))
        seen = [SeenPlace(one.place, one.made) for one in self.all if one not in errors]
        objection = await same_place(seen)
        if objection is not None:
            raise ConfigError(objection)
        for member, error in errors.items():
            self.leave_out(member, error)

    async def _check(self, member: Member) -> None:
        # An ACL may allow this user the objects and not the container. If it allows
        # neither, the first few objects fail and end the run.
        try:
            member.made = await member.place.check()
        except AccessDeniedError:
            member.may_check = False

    async def _checks(self) -> dict[Member, SwiftProviderError]:
        """Check all places at the same time; the errors of those that fail."""
        checks = {member: Deferred.fromCoroutine(self._check(member)) for member in self.all}
        timers: list[IDelayedCall] = []

        def give_up() -> None:
            for check in checks.values():
                check.cancel()

        def wait_no_longer(result: None) -> None:
            if not timers:
                timers.append(self._reactor.callLater(START_SECONDS, give_up))

        for check in checks.values():
            check.addCallback(wait_no_longer)
        ended: list[tuple[bool, Any]] = await DeferredList(
            list(checks.values()), consumeErrors=True
        )
        for timer in timers:
            if timer.active():
                timer.cancel()
        errors: dict[Member, SwiftProviderError] = {}
        for member, (succeeded, result) in zip(checks, ended, strict=True):
            if not succeeded:
                errors[member] = self._named(member, _no_answer(member, result.value))
        return errors

    async def each(
        self,
        work: Callable[[Member], Coroutine[Any, Any, Result]],
        of: Collection[Member] | None = None,
        *,
        shows_health: bool = True,
    ) -> Answers[Result]:
        """Do the same with each place, side by side.

        :param of: with these only.
        :param shows_health: whether a success shows that the place does its work. A place may
            list its objects, and take none.
        :returns: once all have ended.
        :raises KeptError: and any other error that is not Swift's, of the first place that
            raised one.
        :raises SwiftProviderError: what was raised, if there is only one place.
        """
        wanted = self.all if of is None else [member for member in self.all if member in of]
        answers: Answers[Result] = Answers()
        if not self.several:
            for member in wanted:
                answers.results[member] = await work(member)
            return answers
        for member in wanted:
            if member.left_out is not None:
                answers.errors[member] = member.left_out
        at_work = [member for member in wanted if member.left_out is None]
        ended: list[tuple[bool, Any]] = await DeferredList(
            [Deferred.fromCoroutine(work(member)) for member in at_work], consumeErrors=True
        )
        others: list[BaseException] = []
        for member, (succeeded, result) in zip(at_work, ended, strict=True):
            if succeeded:
                if shows_health:
                    member.works()
                answers.results[member] = result
            elif isinstance(result.value, OF_SWIFT):
                error = answers.errors[member] = self._named(member, result.value)
                await self._failed(member, error)
            else:
                others.append(self._named(member, result.value))
        if others:
            raise others[0]
        return answers

    def answered(self, mirror: str) -> None:
        """The set of all places has got an object from one of them.

        :param mirror: see :attr:`.ObjectInfo.mirror`.
        """
        for member in self.all:
            if member.name == (mirror or self.all[0].name):
                member.works()

    async def _failed(self, member: Member, error: SwiftProviderError) -> None:
        """One file failed in one of several places: leave it out if it seems to fail all."""
        if isinstance(error, SWIFT_CONCERNS_ALL):
            self.leave_out(member, error)
        elif isinstance(error, AccessDeniedError):
            member.denials_in_a_row += 1
            if member.denials_in_a_row >= DENIALS_IN_A_ROW:
                self.leave_out(member, error)
            elif member.may_check and member.left_out is None:
                try:
                    await member.place.check()
                except SwiftProviderError as refused:
                    self.leave_out(member, self._named(member, refused))
        elif isinstance(error, (TemporaryError, NewerObjectError)):
            member.failures_in_a_row += 1
            if member.failures_in_a_row >= TEMPORARY_ERRORS_IN_A_ROW:
                self.leave_out(member, error)

    def leave_out(self, member: Member, error: SwiftProviderError) -> None:
        """Give up one of several places for the rest of the run."""
        if member.left_out is not None or self._tally.interrupted:
            return
        member.left_out = error = self._named(member, error)
        reason = self._tally.members[member.name].left_out = without_name(error)
        self._note(f"{member.name} is left out of the rest of this run: {reason}")
        if error.temporary:
            # What still waits for it would wait for minutes.
            member.hurries = True
            member.place.hurry()
        self._on_left_out(error)

    def finish(self) -> None:
        """The run has ended: the next one with these places retries as usual."""
        for member in self.all:
            if member.hurries:
                member.place.end_hurry()

    def _named(self, member: Member, error: Any) -> Any:
        if self.several and isinstance(error, (OF_SWIFT, KeptError)):
            error.mirror = member.name
        return error


def _no_answer(member: Member, error: BaseException) -> SwiftProviderError:
    if isinstance(error, SwiftProviderError):
        return error
    if not isinstance(error, CancelledError):
        raise error
    return TimedOutError(
        f"no answer within {START_SECONDS:.0f} seconds",
        operation="HEAD",
        container=member.place.container,
    )
