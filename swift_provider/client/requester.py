"""Every request to Swift goes through here: slot, token, connection, another try.

One :meth:`Requester.perform` is one operation on one URL. Each try takes a slot
and the current token, has a fresh body and gives the slot back before it
waits for the next. What it does not know is what the answers mean to the
operation: that is the ``handle`` it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.web.http_headers import Headers

from swift_provider.client.answers import (
    ERROR_BODY_BYTES,
    ObjectInfo,
    error_for,
    missing_container,
    object_info,
    transaction_id,
)
from swift_provider.client.bodies import Body
from swift_provider.client.http.exchange import Exchange, Target
from swift_provider.client.http.transport import Transport
from swift_provider.client.identity.token import Authenticator, Authorization
from swift_provider.client.observer import Observer
from swift_provider.client.retry import Patience, Tries
from swift_provider.client.slots import Lane, Slots
from swift_provider.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    ContainerNotFoundError,
    ObjectNotFoundError,
    ServerBusyError,
    SwiftError,
    SwiftProviderError,
    TemporaryError,
    TimedOutError,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: For so long a container that was seen is taken to exist, and a 404 inside it
#: to be the object's.
CONTAINER_SEEN_SECONDS = 30.0

#: The second 401 with a token just issued is final. With a token that others had
#: replaced meanwhile it says nothing; but even so there is an end.
_MOST_401 = 4


@dataclass(frozen=True)
class Request:
    """One request, to be sent as often as needed.

    :param container: ``None`` for a request to the storage URL itself.
    :param query: without ``?``, percent-encoded.
    :param make_body: makes the body for one attempt.
    :param size: bytes of the body, for the operation's time limit.
    :param accepts: statuses besides 2xx which are an answer, not an error.
    """

    method: str
    container: str | None
    name: str | None = None
    query: str = ""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    lane: Lane = Lane.READ
    make_body: Callable[[], Body] | None = None
    size: int = 0
    accepts: frozenset[int] = frozenset()

    @property
    def target(self) -> Target:
        """What its errors are about."""
        return Target(self.method, self.container, self.name)

    def url(self, storage_url: str) -> bytes:
        """The whole URL. The storage URL is taken as it is."""
        url = storage_url
        if self.container is not None:
            url += "/" + quote(self.container, safe="")
        if self.name is not None:
            url += "/" + quote(self.name, safe="/~")
        if self.query:
            url += "?" + self.query
        return url.encode("ascii")


class _UnauthorizedError(Exception):
    """Swift answered 401."""

    def __init__(self, authorization: Authorization, error: SwiftError) -> None:
        super().__init__()
        self.authorization = authorization
        self.error = error


class _StaleConnectionError(Exception):
    """A persistent connection was lost before the first byte of an answer.

    Mostly the server had closed it while it was idle: nobody's fault.
    """

    def __init__(self, error: ConnectionFailedError) -> None:
        super().__init__()
        self.error = error


class Requester:
    """Sends requests until they are answered or nothing can be hoped for any more.

    :param patience: how long that is.
    """

    def __init__(
        self,
        transport: Transport,
        authenticator: Authenticator,
        slots: Slots,
        patience: Patience,
        observer: Observer,
    ) -> None:
        self._transport = transport
        self._clock = transport.reactor
        self._authenticator = authenticator
        self._slots = slots
        self._patience = patience
        self._observer = observer
        self._containers_seen: dict[str, float] = {}
        self._hurried = False
        self._sleepers: set[Deferred[None]] = set()

    async def head(self, container: str, name: str) -> ObjectInfo:
        """Ask for an object's facts.

        :raises ObjectNotFoundError: if there is no such object.
        :raises SwiftProviderError: if it failed for good.
        """

        async def handle(exchange: Exchange) -> ObjectInfo:
            await drained(exchange)
            return object_info(name, exchange.headers)

        return await self.perform(Request("HEAD", container, name), handle)

    def new_tries(self) -> Tries:
        """The tries of an operation that begins now."""
        return Tries(self._patience, self._clock)

    async def sleep(self, seconds: float) -> None:
        """Wait, unless in a hurry; may be cancelled."""
        waiting: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(seconds, waiting.callback, None)
        self._sleepers.add(waiting)
        try:
            await waiting
        except CancelledError:
            if not self._hurried:
                raise
        finally:
            self._sleepers.discard(waiting)

    def hurry(self) -> None:
        """From now on what fails is not tried again; what waits for another try ends now."""
        self._hurried = True
        for sleeper in list(self._sleepers):
            sleeper.cancel()

    async def perform(
        self,
        request: Request,
        handle: Callable[[Exchange], Awaitable[Result]],
        *,
        tries: Tries | None = None,
        keep: bool = False,
    ) -> Result:
        """Send a request, again if need be, until ``handle`` returns.

        A read is limited in time as a whole. An upload's limit begins with its
        slot: however long the queue, what is in it gets its turn.

        :param handle: given the exchange of each answer that is not an error.
        :param tries: those of an operation which this request is a part of.
        :param keep: the exchange belongs to the result, which will close it.
        :raises SwiftProviderError: the last error, once no further try is worth it.
        """
        operation = self._tried(request, handle, tries or self.new_tries(), keep)
        if request.lane is Lane.READ:
            operation = self._limited(operation, request)
        try:
            return await operation
        except ObjectNotFoundError:
            raise  # an answer, not a failure
        except SwiftProviderError as error:
            self._observer.failed(error)
            raise

    async def storage_url(self) -> str:
        """Where requests go; signs in to find out, if need be.

        :raises AuthError: if that fails.
        """
        return (await self._authenticator.authorize()).storage_url

    async def _limited(
        self, operation: Coroutine[Deferred[Any], Any, Result], request: Request
    ) -> Result:
        limit = self._patience.operation_limit(request.size)
        try:
            return await ensureDeferred(operation).addTimeout(limit, self._clock)
        except DeferredTimeoutError:
            raise request.target.error(
                TimedOutError, f"not done within {limit:.0f} seconds"
            ) from None

    async def _tried(
        self,
        request: Request,
        handle: Callable[[Exchange], Awaitable[Result]],
        tries: Tries,
        keep: bool,
    ) -> Result:
        error: SwiftProviderError
        refused = refused_though_current = 0
        stale = False
        while True:
            try:
                return await self._once(request, handle, tries, keep)
            except _UnauthorizedError as unauthorized:
                refused += 1
                if self._authenticator.is_current(unauthorized.authorization):
                    refused_though_current += 1
                self._authenticator.reject(unauthorized.authorization)
                if refused_though_current == 2 or refused == _MOST_401:
                    raise unauthorized.error from None
                await self.sleep(0)  # until its connection is out of the pool
                continue
            except ObjectNotFoundError as missing:
                await self._blame_container(request, missing)
                if request.method != "PUT":
                    raise
                error = _odd_404(request, missing)
            except _StaleConnectionError as lost:
                error = lost.error
                self._transport.drop_idle()
                if not stale:
                    stale = True
                    self._observer.retried(error)
                    continue
            except SwiftProviderError as failed:
                error = failed
            delay = tries.delay_after(error)
            if delay is None or self._hurried:
                raise error
            self._observer.retried(error)
            logger.info("%s; next try in %.1f seconds", error, delay)
            await self.sleep(delay)
            if self._hurried:
                raise error

    async def _once(
        self,
        request: Request,
        handle: Callable[[Exchange], Awaitable[Result]],
        tries: Tries,
        keep: bool,
    ) -> Result:
        asked = self._clock.seconds()
        lease = await self._slots.acquire(request.lane)
        began = self._clock.seconds()
        tries.excuse(began - asked)
        exchange = Exchange(self._transport, lease, request.target, self._observer.sent)
        answered = self._answered(request, exchange, handle)
        if request.lane is Lane.WRITE:
            answered = self._limited(answered, request)
        try:
            result = await answered
        except BaseException as error:
            exchange.close()
            if not isinstance(error, TimedOutError):
                spent = self._clock.seconds() - began
                tries.excuse(min(spent, self._patience.sending_limit(request.size)))
            raise
        if not keep:
            exchange.close()
        if request.container is not None and 200 <= exchange.status < 300:
            self._containers_seen[request.container] = self._clock.seconds()
        return result

    async def _answered(
        self,
        request: Request,
        exchange: Exchange,
        handle: Callable[[Exchange], Awaitable[Result]],
    ) -> Result:
        authorization = await self._authenticator.authorize()
        try:
            await self._send(request, exchange, authorization)
        except ConnectionFailedError as error:
            if exchange.reused and not exchange.answered:
                raise _StaleConnectionError(error) from None
            raise
        if not 200 <= exchange.status < 300 and exchange.status not in request.accepts:
            await self._refused(request, exchange, authorization)
        return await handle(exchange)

    async def _send(
        self, request: Request, exchange: Exchange, authorization: Authorization
    ) -> None:
        body = request.make_body() if request.make_body is not None else None
        headers = Headers()
        for some in (authorization.headers, request.headers):
            for key, value in some.items():
                headers.setRawHeaders(key, [value])
        if body is not None and body.declared_md5 is not None:
            headers.setRawHeaders(b"ETag", [body.declared_md5.encode("ascii")])
        url = request.url(authorization.storage_url)
        began = self._clock.seconds()
        status = None
        try:
            await exchange.send(request.method, url, headers, body)
            status = exchange.status
        finally:
            seconds = self._clock.seconds() - began
            self._observer.exchange_finished(request.method, status, seconds)

    async def _refused(
        self, request: Request, exchange: Exchange, authorization: Authorization
    ) -> None:
        """:raises SwiftError: what the status stands for."""
        status = exchange.status
        try:
            body = await exchange.read(ERROR_BODY_BYTES)
        except TemporaryError:
            body = b""  # cut off or silent, but the status has been said
        for secret in filter(None, authorization.headers.values()):
            body = body.replace(secret, b"...")  # some gateways show the request they refuse
        if status in (408, 499) or request.size:
            # The server has lost its place in this connection; or it may not have
            # read, and may never read, what it was sent of a body it refused.
            exchange.abort_after()
        if status == 404:
            raise self._not_found(request, exchange, body)
        error = error_for(request.target, status, exchange.headers, body)
        if status == 401:
            raise _UnauthorizedError(authorization, error)
        raise error

    # What a 404 means

    def _not_found(self, request: Request, exchange: Exchange, body: bytes) -> SwiftError:
        details = {"status": 404, "transaction_id": transaction_id(exchange.headers)}
        if request.container is None:
            return request.target.error(
                AccessDeniedError, "no such account: check the storage URL", **details
            )
        if request.name is None or missing_container(body) is True:
            return _no_container(request, details)
        if missing_container(body) is False and request.method != "PUT":
            self._containers_seen[request.container] = self._clock.seconds()
        return request.target.error(ObjectNotFoundError, "there is no such object", **details)

    async def _blame_container(self, request: Request, missing: ObjectNotFoundError) -> None:
        """Swift answers 404 alike for a missing object and a missing container.

        :raises ContainerNotFoundError: if it is the container that is missing.
        """
        assert request.container is not None
        seen = self._containers_seen.get(request.container)
        recently = seen is not None and self._clock.seconds() - seen < CONTAINER_SEEN_SECONDS
        if recently and request.method != "PUT":
            return
        try:
            await self.perform(Request("HEAD", request.container), drained)
        except ContainerNotFoundError:
            details = {"status": 404, "transaction_id": missing.transaction_id}
            raise _no_container(request, details) from None
        except AccessDeniedError:
            # Whoever may not look at the container was let through to the
            # object, so there is a container.
            self._containers_seen[request.container] = self._clock.seconds()


def _no_container(request: Request, details: dict[str, Any]) -> SwiftError:
    return request.target.error(
        ContainerNotFoundError,
        f"there is no container '{request.container}' here: create it "
        "(or set create_container), or check its name, the project and the region",
        **details,
    )


def _odd_404(request: Request, missing: ObjectNotFoundError) -> SwiftError:
    """Ceph RGW answers 404 to an upload that was cut short on its way."""
    return request.target.error(
        ServerBusyError,
        "Swift answers 404 to an upload, though the container exists",
        status=404,
        transaction_id=missing.transaction_id,
    )


async def drained(exchange: Exchange) -> None:
    """Read an answer's body and forget it."""
    await exchange.read(ERROR_BODY_BYTES)
