"""Sends every request to Swift: slot, token, connection, retry.

One :meth:`Requester.perform` is one operation on one URL. Each attempt takes a slot and
the current token, has a fresh body, and releases the slot before the wait for the next
attempt. What a successful response means is for the caller to say: its ``handle`` reads
the response.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.web.http_headers import Headers

from swift_provider.client.answers import (
    ERROR_BODY_BYTES,
    ObjectInfo,
    error_for,
    is_from_swift,
    means_what_it_says,
    object_info,
)
from swift_provider.client.drained import drained
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.http.transport import Transport
from swift_provider.client.identity.token import Authenticator, Authorization
from swift_provider.client.next_turn import next_turn
from swift_provider.client.not_found import NotFound, UnsureNotFoundError, not_from_swift
from swift_provider.client.observer import Observer, Progress
from swift_provider.client.request import Request, TakeSlot
from swift_provider.client.retry import Patience, Tries
from swift_provider.client.secrets_hidden import header_secrets
from swift_provider.client.seen_containers import SeenContainers
from swift_provider.client.slots import Lane, Slot, Slots
from swift_provider.errors import (
    AuthUnavailableError,
    ConnectionFailedError,
    ObjectNotFoundError,
    SourceFailedError,
    SwiftError,
    SwiftProviderError,
    Target,
    TemporaryError,
    TimedOutError,
)

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Ask all replicas, and no cache in between.
NEWEST = {b"X-Newest": b"true", b"Cache-Control": b"no-cache"}

#: The second 401 with the current token is final. A 401 for a token that has since been
#: replaced does not count; this cap ends the loop anyway.
_MOST_401 = 4


class _UnauthorizedError(Exception):
    """Swift answered 401."""

    def __init__(self, authorization: Authorization, error: SwiftError) -> None:
        super().__init__()
        self.authorization = authorization
        self.error = error


class _StaleConnectionError(Exception):
    """The server closed an idle keep-alive connection just as we reused it.

    Retry at once; it does not count as a failure.
    """

    def __init__(self, error: ConnectionFailedError) -> None:
        super().__init__()
        self.error = error


class Requester:
    """Sends requests, and retries them for as long as that can help.

    :param patience: how long to retry.
    :param mirror: put before every error; empty if there is only one place.
    :ivar clock: the reactor, or a clock in its place.
    :ivar observer: told about the work of everything that uses this requester.
    """

    def __init__(
        self,
        transport: Transport,
        authenticator: Authenticator,
        slots: Slots,
        patience: Patience,
        observer: Observer,
        mirror: str = "",
    ) -> None:
        self._mirror = mirror
        self.clock = transport.reactor
        self.observer = observer
        self._transport = transport
        self._authenticator = authenticator
        self._slots = slots
        self._patience = patience
        self._seen = SeenContainers(self.clock)
        self._not_found = NotFound(self._performed, self._seen)
        self._reached = False
        self._hurried = False
        self._sleepers: set[Deferred[None]] = set()

    async def head(
        self,
        container: str,
        name: str,
        *,
        newest: bool = False,
        retry: bool = True,
        progress: Progress | None = None,
        take_slot: TakeSlot | None = None,
    ) -> ObjectInfo:
        """Ask for an object's facts.

        :param newest: ask all replicas (``X-Newest``), not only the first that answers.
        :param retry: what is worth a retry.
        :param progress: is told what this is doing.
        :param take_slot: as of :class:`Request`.
        :raises ObjectNotFoundError: if there is no such object.
        :raises SwiftProviderError: if it failed for good.
        """

        async def handle(exchange: Exchange) -> ObjectInfo:
            await drained(exchange)
            return object_info(name, exchange.headers)

        headers = NEWEST if newest else {}
        request = Request("HEAD", container, name, headers=headers, take_slot=take_slot)
        return await self.perform(request, handle, tries=self.new_tries(progress, retry=retry))

    def new_tries(self, progress: Progress | None = None, *, retry: bool = True) -> Tries:
        """A count of attempts for an operation that begins now.

        :param progress: is told what the operation is doing.
        :param retry: whether there is to be more than one attempt.
        """
        patience = self._patience if retry else self._patience.once()
        return Tries(patience, self.clock, progress=progress)

    def tries_for_slow_answers(self) -> Tries:
        """The same for a request that Swift may be slow to answer: the first timeout does
        not use up the time for retries.
        """
        return Tries(self._patience, self.clock, timeouts=self._transport.limits.response)

    async def wait_to_retry(self, error: SwiftProviderError, tries: Tries) -> None:
        """Wait until the next attempt may begin. May be cancelled.

        :raises SwiftProviderError: ``error``, if no retry is worth it, or in a hurry.
        """
        error.mirror = error.mirror or self._mirror
        reached = self._reached or (isinstance(error, AuthUnavailableError) and error.reached)
        delay = tries.delay_after(error, reached=reached)
        if delay is None or self._hurried:
            raise error
        self.observer.retried(error)
        self.observer.retry_waits(error, self._patience.limit(reached=reached))
        tries.progress.retry_waits(error)
        logger.info("%s; retrying in %.1f seconds", error, delay)
        await self._sleep(delay)
        if self._hurried:
            raise error

    async def _sleep(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self.clock.callLater(seconds, waiting.callback, None)
        self._sleepers.add(waiting)
        try:
            await waiting
        except CancelledError:
            if not self._hurried:
                raise
        finally:
            self._sleepers.discard(waiting)

    def hurry(self) -> None:
        """Retry nothing from now on, and end every wait for a retry."""
        self._hurried = True
        for sleeper in list(self._sleepers):
            sleeper.cancel()

    def end_hurry(self) -> None:
        """Retry as usual again; call it when nothing is in flight."""
        self._hurried = False

    async def perform(
        self,
        request: Request,
        handle: Callable[[Exchange], Awaitable[Result]],
        tries: Tries | None = None,
    ) -> Result:
        """Send a request, and retry it, until ``handle`` returns.

        A read has a time limit as a whole. The limit of an upload begins when it gets
        its slot, so that a long queue does not use it up.

        :param handle: reads each response that is not an error. The exchange is closed
            when it returns, unless it called :meth:`Exchange.keep`.
        :param tries: of the operation which this request is a part of; ``None`` to begin anew.
        :raises SwiftProviderError: the last error, once no retry is worth it.
        """
        tries = tries or Tries(self._patience, self.clock)
        try:
            return await self._performed(request, handle, tries)
        except ObjectNotFoundError:
            raise  # an answer, not a failure
        except SwiftProviderError as error:
            error.mirror = error.mirror or self._mirror
            self.observer.failed(error)
            raise

    async def _performed(
        self,
        request: Request,
        handle: Callable[[Exchange], Awaitable[Result]],
        tries: Tries,
    ) -> Result:
        """As :meth:`perform`, for a part of an operation: tells the observer of no failure."""
        operation = self._attempts(request, handle, tries)
        if request.lane is Lane.READ:
            operation = self.within_limit(operation, request)
        return await operation

    async def storage_url(self) -> str:
        """Where requests go; signs in to find out, if need be.

        :raises AuthError: if that fails.
        """
        return (await self._authenticator.authorize()).storage_url

    async def ask_without_token(
        self, url: bytes, target: Target, headers: Headers, transport: Transport | None = None
    ) -> tuple[int, Headers]:
        """Send one request without a token, and read its answer; retries nothing but a stale
        connection. For a URL that carries its own permission, on whatever host.

        :param url: percent-encoded. No error or log line has it.
        :param target: for the errors; its operation is the request's method.
        :param transport: makes the connection; ``None`` for the one of all other requests.
        :returns: status and headers.
        :raises SwiftError: if no answer came.
        :raises TimedOutError: likewise, also if no slot became free.
        """
        limits = self._transport.limits
        seconds = limits.connect + limits.response
        asking = self._without_token(url, target, headers, transport or self._transport)
        try:
            return await ensureDeferred(asking).addTimeout(seconds, self.clock)
        except DeferredTimeoutError:
            raise target.error(TimedOutError, f"not done within {seconds:.0f} seconds") from None

    async def _without_token(
        self, url: bytes, target: Target, headers: Headers, transport: Transport
    ) -> tuple[int, Headers]:
        while True:
            lease = await self._slots.acquire(Lane.READ)
            exchange = Exchange(transport, lease, target, self.observer.sent)
            try:
                await exchange.send(target.operation, url, headers)
                await drained(exchange)
            except ConnectionFailedError:
                if not exchange.reused or exchange.answered:
                    raise
                transport.drop_idle()
                continue
            finally:
                exchange.close()
            return exchange.status, exchange.headers

    async def within_limit(
        self, operation: Coroutine[Deferred[Any], Any, Result], request: Request
    ) -> Result:
        """Wait for an operation, for as long as this request may take as a whole.

        :raises TimedOutError: if it takes longer. It is cancelled then.
        """
        limit = self._operation_limit(request)
        try:
            return await ensureDeferred(operation).addTimeout(limit, self.clock)
        except DeferredTimeoutError:
            raise request.target.error(
                TimedOutError, f"not done within {limit:.0f} seconds"
            ) from None

    def _operation_limit(self, request: Request) -> float:
        # No shorter than one attempt with the limits that were configured.
        limits = self._transport.limits
        one_attempt = limits.connect + limits.response
        if request.lane is Lane.WRITE:
            # The other uploads may share one line with this one.
            sending = self._patience.sending_limit(request.size * self._slots.for_uploads)
            return max(self._patience.operation_limit(), one_attempt) + sending
        return max(self._patience.operation_limit(), one_attempt + self._patience.total_seconds)

    async def _attempts(
        self,
        request: Request,
        handle: Callable[[Exchange], Awaitable[Result]],
        tries: Tries,
    ) -> Result:
        error: SwiftProviderError
        refused = refused_though_current = 0
        stale = False
        #: The 404 after which the container, or the account, answered.
        before: SwiftError | None = None
        while True:
            try:
                return await self._attempt(request, handle, tries)
            except _UnauthorizedError as unauthorized:
                refused += 1
                if self._authenticator.is_current(unauthorized.authorization):
                    refused_though_current += 1
                self._authenticator.reject(unauthorized.authorization)
                if refused_though_current == 2 or refused == _MOST_401:
                    raise unauthorized.error from None
                await next_turn(self.clock)  # until its connection is out of the pool
                continue
            except UnsureNotFoundError as unsure:
                missing = unsure.error
                if before is not None and (missing.transaction_id or not before.transaction_id):
                    raise missing from None
                if missing.transaction_id is not None:
                    tries.progress.goes_on()
                unclear = await self._not_found.unclear(request, missing, tries)
                if unclear is None:
                    # Perhaps Swift could not ask the container, or the account, then.
                    before = missing
                    tries.progress.goes_on()
                    continue
                error = unclear
            except _StaleConnectionError as lost:
                error = lost.error
                self._transport.drop_idle()
                if not stale:
                    stale = True
                    self.observer.retried(error)
                    continue
            except SwiftProviderError as failed:
                error = failed
            before = None
            await self.wait_to_retry(error, tries)

    async def _attempt(
        self,
        request: Request,
        handle: Callable[[Exchange], Awaitable[Result]],
        tries: Tries,
    ) -> Result:
        asked = self.clock.seconds()
        if request.take_slot is None:
            slot: Slot = await self._slots.acquire(request.lane)
        else:
            slot = await request.take_slot(self._slots)
        began = self.clock.seconds()
        tries.excuse(began - asked)
        tries.progress.attempt_begins()
        exchange = Exchange(self._transport, slot, request.target, self.observer.sent)
        answered = self._answered(request, exchange, handle)
        if request.lane is Lane.WRITE:
            answered = self.within_limit(answered, request)
        try:
            result = await answered
        except BaseException as error:
            exchange.close()
            spent = self.clock.seconds() - began
            if _timed_out(error):
                tries.excuse_timeout(spent)
            else:
                tries.excuse(min(spent, self._patience.sending_limit(request.size)))
            raise
        if not exchange.kept:
            exchange.close()
        return result

    async def _answered(
        self,
        request: Request,
        exchange: Exchange,
        handle: Callable[[Exchange], Awaitable[Result]],
    ) -> Result:
        authorization = await self._authenticator.authorize()
        self._seen.use(authorization.storage_url)
        sent = self.clock.seconds()
        try:
            await self._send(request, exchange, authorization)
        except ConnectionFailedError as error:
            if exchange.reused and not exchange.answered:
                raise _StaleConnectionError(error) from None
            raise
        self._reached = self._reached or is_from_swift(exchange.headers)
        if not 200 <= exchange.status < 300 and exchange.status not in request.accepts:
            await self._refused(request, exchange, authorization, sent)
        if request.container is not None and not is_from_swift(exchange.headers):
            raise not_from_swift(request, exchange.status)
        result = await handle(exchange)
        # Swift serves an object also if it cannot ask the container.
        if request.container is not None and request.name is None and exchange.status < 300:
            self._seen.add(request.container, authorization.storage_url)
        return result

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
        began = self.clock.seconds()
        status = None
        try:
            await exchange.send(request.method, url, headers, body)
            status = exchange.status
        finally:
            seconds = self.clock.seconds() - began
            self.observer.exchange_finished(request.method, status, seconds)

    async def _refused(
        self, request: Request, exchange: Exchange, authorization: Authorization, sent: float
    ) -> None:
        """:raises SwiftError: what the status stands for."""
        status = exchange.status
        try:
            body = await exchange.read(ERROR_BODY_BYTES)
        except TemporaryError:
            body = b""  # cut off or silent, but the status is known
        if status == 407:
            body = b""  # the proxy's, which may repeat the password for the proxy
        # Some gateways repeat the request that they refuse.
        shown = [*authorization.headers.values()]
        proxy = self._transport.proxy_authorization(request.url(authorization.storage_url))
        secrets = header_secrets([*shown, proxy] if proxy else shown)
        body = secrets.hidden(body.decode("utf-8", "replace")).encode("utf-8")
        if status in (408, 499) or request.size:
            # After 408 and 499 the server has lost the framing of this connection. And a
            # server may never read the rest of a body that it refused.
            exchange.distrust_connection()
        if status == 404:
            raise self._not_found.error(request, exchange, body, sent)
        if not means_what_it_says(status, exchange.headers):
            raise not_from_swift(request, status, body)
        is_conditional = b"If-None-Match" in request.headers or b"If-Match" in request.headers
        error = error_for(request.target, status, exchange.headers, body, is_conditional)
        if status == 401:
            raise _UnauthorizedError(authorization, error)
        raise error


def _timed_out(error: BaseException) -> bool:
    if isinstance(error, SourceFailedError):
        error = error.error
    return isinstance(error, TimedOutError)
