"""The rest of a download, from whichever member of a mirror set delivers it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.downloads import Rest
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.mirrors.member import MORE_PATIENCE, Member
from swift_provider.client.mirrors.verdict import verdict
from swift_provider.client.observer import Observer, Progress
from swift_provider.client.retry import Tries
from swift_provider.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    SlowError,
    SwiftError,
    SwiftProviderError,
    Target,
)


class MirroredRest:
    """Requests the rest of a download.

    The bytes of another member count only if its object is known to be the same. The download
    goes on with the checksum that it began with, so all bytes together are checked.

    :param begun_at: the member where the download began.
    :param rest: requests the rest there.
    :param members: the members to ask, in order of preference.
    :param info: the object's facts.
    :ivar current: which member delivers now.
    :ivar can_move: whether another member may deliver faster.
    """

    def __init__(
        self,
        begun_at: Member,
        rest: Rest,
        members: Callable[[], list[Member]],
        path: str,
        info: ObjectInfo,
    ) -> None:
        self.current = begun_at
        self.can_move = True
        self._rests = {begun_at: rest}
        self._members = members
        self._path = path
        self._info = info
        self._offset = -1
        #: The members that did not get beyond the offset.
        self._tried: set[Member] = set()
        #: The members that delivered too slowly, and the members without the object.
        self.slow: dict[Member, SwiftError] = {}
        self._without: set[Member] = set()

    @property
    def target(self) -> Target:
        return self._rests[self.current].target

    @property
    def observer(self) -> Observer:
        return self._rests[self.current].observer

    async def resume(
        self, error: SwiftError | None, offset: int, tries: Tries, stop: int | None
    ) -> tuple[Exchange, int]:
        """Ask the members in turn. After a break the one that broke off comes last. Wait for a
        retry each time that none of them got any further.
        """
        if offset != self._offset:
            self._offset = offset
            self._tried.clear()
        errors: dict[Member, SwiftProviderError] = {}
        if error is not None:
            errors[self.current] = error
            self._tried.add(self.current)
            self._note(error)
        patience = 1.0
        while True:
            members = [member for member in self._in_turn() if member not in self._tried]
            for member in members:
                try:
                    request = partial(self._request, member, offset, stop)
                    begun = await member.ask_briefly(self._path, request, patience=patience)
                except SwiftProviderError as failed:
                    errors[member] = failed
                    self._tried.add(member)
                    if isinstance(failed, (ObjectNotFoundError, ObjectChangedError)):
                        self._without.add(member)
                else:
                    self.current = member
                    return begun
            self._tried.clear()
            patience *= MORE_PATIENCE
            for member in self._rests:
                member.breaker.probe_now()
            await self._wait(errors, tries)
            errors = {}

    async def _wait(self, errors: dict[Member, SwiftProviderError], tries: Tries) -> None:
        """Wait until it is worth asking the members again.

        :param errors: what those that were asked have said.
        :raises SwiftProviderError: if it is not.
        """
        left_out = [one for one in self._rests if one not in errors and not one.works]
        if not errors:
            left_out = left_out or [self.current]
        error = verdict(self._path, errors, left_out)
        if not left_out and not any(one.temporary for one in errors.values()):
            raise error
        await self.current.place.wait_to_retry(error, tries)

    def _note(self, error: SwiftError) -> None:
        """Blame a member for a break. Whether one that is slow is to blame, and not this
        server's own line, shows only when another one is faster.
        """
        if isinstance(error, SlowError):
            self.slow[self.current] = error
            self.can_move = not (self._without | set(self.slow)).issuperset(self._members())
        else:
            self.current.body_broke(self._path, error)

    def _in_turn(self) -> list[Member]:
        """The members to ask; first the one that delivers now, if it works."""
        members = self._members()
        if self.current in members:
            members.remove(self.current)
            members.insert(0, self.current)
        return members

    async def _request(
        self, member: Member, offset: int, stop: int | None, progress: Progress
    ) -> tuple[Exchange, int]:
        rest = self._rests.get(member)
        if rest is None:
            rest = await member.place.rest_of(self._path, self._info, progress)
            self._rests[member] = rest
        return await rest.request(offset, member.place.new_tries(progress, retry=False), stop)
