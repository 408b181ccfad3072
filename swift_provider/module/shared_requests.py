"""The requests for objects that are in flight, so that others who want the same may join."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic

from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.defer import ensureDeferred

from swift_provider.client import Asking, give_up
from swift_provider.module.shared_download import SharedDownload, Wanted

#: How long ago a request may have been sent when another coroutine joins it, so that this one
#: does not fail with a request that has used up its retries. And how long Swift may leave it
#: without an answer: then those that have joined it share a second one, for the connection may
#: hang. While the request is retried they wait, because their own would fail like it.
SHARE_SECONDS = 5.0


class SharedRequests(Generic[Wanted]):
    """The requests of one kind, by path.

    :param ask: sends a request.
    :param clock: the reactor.
    """

    def __init__(
        self,
        ask: Callable[[str, SharedDownload[Wanted]], Coroutine[Any, Any, Wanted]],
        clock: Any,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._requests: dict[str, SharedDownload[Wanted]] = {}

    async def get(self, path: str) -> tuple[Wanted | None, bool]:
        """Send a request, or wait for one in flight. Call it through ``begin_for_caller``.

        :returns: the result, and whether others shared it; ``None`` as
            :meth:`SharedDownload.join` says.
        :raises Exception: what ``ask`` raised.
        """
        request, joins = self._request_for(path)
        waiting = ensureDeferred(request.join())
        if joins:
            give_up(waiting, SHARE_SECONDS, request.asking.silent, self._clock)
        try:
            return await waiting, joins
        except DeferredTimeoutError:
            request, joins = self._request_for(path, hanging=request)
            return await request.join(), joins

    def may_be_joined(self, path: str, request: SharedDownload[Wanted]) -> bool:
        """Whether a request is still the one that others join: nothing was dropped meanwhile."""
        return self._requests.get(path) is request

    def drop(self, path: str) -> None:
        """Let nobody join a request in flight: the object is being deleted or replaced."""
        self._requests.pop(path, None)

    def _request_for(
        self, path: str, hanging: SharedDownload[Wanted] | None = None
    ) -> tuple[SharedDownload[Wanted], bool]:
        """:returns: a request, not ``hanging``; and whether others wait for it already."""
        request = self._requests.get(path)
        if (
            request is not None
            and request is not hanging
            and request.asking.spent() <= SHARE_SECONDS
        ):
            return request, True
        request = self._requests[path] = SharedDownload(
            lambda request: self._ask(path, request),
            lambda request: self._ended(path, request),
            Asking(self._clock),
        )
        return request, False

    def _ended(self, path: str, request: SharedDownload[Wanted]) -> None:
        if self.may_be_joined(path, request):
            del self._requests[path]
