"""Sends every request to Swift: slot, token, connection, retry.

One :meth:`Requester.perform` is one operation on one URL. Each attempt takes a slot and
the current token, has a fresh body, and releases the slot before the wait for the next
attempt. What a successful response means is for the caller to say: its ``handle`` reads
the response.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.web.http_headers import Headers

from swift_provider.client.answers import (
    ERROR_BODY_BYTES,
    ObjectInfo,
    error_for,
    excerpt,
    is_from_swift,
    means_what_it_says,
    missing_container,
    object_info,
    transaction_id,
)
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.http.transport import Transport
from swift_provider.client.identity.token import Authenticator, Authorization
from swift_provider.client.next_turn import next_turn
from swift_provider.client.observer import Observer, Progress
from swift_provider.client.request import Request, TakeSlot
from swift_provider.client.retry import Patience, Tries
from swift_provider.client.secrets_hidden import header_secrets
from swift_provider.client.seen_containers import SeenContainers
from swift_provider.client.slots import Lane, Slot, Slots
from swift_provider.errors import (
    AccessDeniedError,
    AuthUnavailableError,
    ConnectionFailedError,
    ContainerNotFoundError,
    ObjectNotFoundError,
    ObjectUnclearError,
    ServerBusyError,
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


class _UnsureNotFoundError(Exception):
    """Swift answered 404, and perhaps it could not ask the container, or the account."""

    def __init__(self, error: SwiftError) -> None:
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
        operation = self._attempts(request, handle, tries or Tries(self._patience, self.clock))
        if request.lane is Lane.READ:
            operation = self.within_limit(operation, request)
        try:
            return await operation
        except ObjectNotFoundError:
            raise  # an answer, not a failure
        except SwiftProviderError as error:
            error.mirror = error.mirror or self._mirror
            self.observer.failed(error)
            raise

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
        #: The 404 after which the container answered.
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
            except _UnsureNotFoundError as unsure:
                missing = unsure.error
                if before is not None and (missing.transaction_id or not before.transaction_id):
                    raise missing from None
                if missing.transaction_id is not None:
                    tries.progress.goes_on()
                if isinstance(missing, ContainerNotFoundError):
                    error = await self._check_account(request, missing, tries)
                elif not await self._check_container(request, missing, tries):
                    error = _not_from_swift(request, 404)
                elif request.method == "PUT":
                    error = _odd_404(request, missing)
                else:
                    # Perhaps Swift could not ask the container then, and now it can.
                    before = missing
                    tries.progress.goes_on()
                    continue
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
            raise _not_from_swift(request, exchange.status)
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
            error = self._not_found(request, exchange, body)
            if not self._is_sure(request, error, body, sent):
                raise _UnsureNotFoundError(error)
            raise error
        if not means_what_it_says(status, exchange.headers):
            raise _not_from_swift(request, status, body)
        is_conditional = b"If-None-Match" in request.headers or b"If-Match" in request.headers
        error = error_for(request.target, status, exchange.headers, body, is_conditional)
        if status == 401:
            raise _UnauthorizedError(authorization, error)
        raise error

    # What a 404 means

    def _not_found(self, request: Request, exchange: Exchange, body: bytes) -> SwiftError:
        details = {"status": 404, "transaction_id": transaction_id(exchange.headers)}
        container_is_missing = None
        if details["transaction_id"] is not None:  # no other sign of Swift belongs to a 404
            container_is_missing = missing_container(body)
        elif request.container is None or request.name is None:
            return _not_from_swift(request, 404)
        else:
            # Only the container can tell whether Swift is there at all.
            self._seen.forget(request.container)
        if request.container is None:
            return request.target.error(
                AccessDeniedError, "no such account: check the storage URL", **details
            )
        if request.name is None or container_is_missing is True:
            return _no_container(request, details)
        return request.target.error(ObjectNotFoundError, "there is no such object", **details)

    def _is_sure(self, request: Request, error: SwiftError, body: bytes, sent: float) -> bool:
        """Whether nothing else has to be asked to know what a 404 means."""
        if isinstance(error, ContainerNotFoundError):
            return missing_container(body) is True
        if not isinstance(error, ObjectNotFoundError):
            return True
        assert request.container is not None
        if request.method == "PUT":
            return False
        if error.transaction_id is not None and missing_container(body) is False:
            return True
        return request.method != "DELETE" and self._seen.recently(request.container, sent)

    async def _check_container(self, request: Request, missing: SwiftError, tries: Tries) -> bool:
        """Find out whether a 404 is about the object or about its container.

        Swift's proxy answers 404 also if it cannot ask the container: to PUT and DELETE always,
        to GET and HEAD if the container's storage policy is not the first one, because it then
        looks for the object in the wrong place (``get_container_info`` in its
        proxy/controllers/base.py).

        :param tries: of the operation.
        :returns: whether the 404 is Swift's; if not, the object may be there.
        :raises ContainerNotFoundError: if it is the container that is missing.
        :raises ObjectUnclearError: if the container cannot be asked, and this is no upload.
        :raises SwiftError: likewise, if it is one, or nothing shows that the 404 is Swift's.
        """
        assert request.container is not None
        # The slot of an upload is not held any more, and what took it may take another one.
        take_slot = request.take_slot if request.lane is Lane.READ else None
        asking = Request("HEAD", request.container, take_slot=take_slot)
        try:
            answered = await self.perform(asking, _transaction_id, tries=tries.another())
        except TemporaryError as error:
            if request.method == "PUT" or missing.transaction_id is None:
                raise
            raise request.target.error(
                ObjectUnclearError,
                "Swift says that there is no such object, and cannot be asked whether the "
                f"container is there: {error.text()}",
                status=404,
                transaction_id=missing.transaction_id,
                retry_after=error.retry_after,
            ) from error
        except ContainerNotFoundError:
            details = {"status": 404, "transaction_id": missing.transaction_id}
            raise _no_container(request, details) from None
        except AccessDeniedError:
            if missing.transaction_id is None:
                return False
            # This user may not look at the container, but Swift looked for the object,
            # so there is a container.
            self._seen.add(request.container, self._seen.storage_url)
            return True
        # A proxy that removes the ids removes them from both answers.
        return missing.transaction_id is not None or answered is None

    async def _check_account(
        self, request: Request, missing: SwiftError, tries: Tries
    ) -> SwiftError:
        """Find out whether a 404 is about the container or about its account.

        Swift's proxy answers 404 for each container also if it cannot ask the account
        (``GETorHEAD`` in its proxy/controllers/container.py); to HEAD of the account it then
        answers 503.

        :returns: why it is not known whether the container is there.
        :raises ContainerNotFoundError: ``missing``, if the account answers, or this user may
            not look at it.
        """
        take_slot = request.take_slot if request.lane is Lane.READ else None
        asking = Request("HEAD", None, take_slot=take_slot)
        try:
            await self.perform(asking, drained, self.new_tries(tries.progress, retry=False))
        except TemporaryError as error:
            return request.target.error(
                ServerBusyError,
                f"Swift says that there is no container '{request.container}', and cannot be "
                f"asked whether the account is there: {error.text()}",
                status=404,
                transaction_id=missing.transaction_id,
                retry_after=error.retry_after,
            )
        except SwiftProviderError:
            pass
        raise missing from None


async def _transaction_id(exchange: Exchange) -> str | None:
    await drained(exchange)
    return transaction_id(exchange.headers)


def _timed_out(error: BaseException) -> bool:
    if isinstance(error, SourceFailedError):
        error = error.error
    return isinstance(error, TimedOutError)


def _not_from_swift(request: Request, status: int, body: bytes = b"") -> SwiftError:
    redirects = "; it redirects, so check the storage URL" if 300 <= status < 400 else ""
    return request.target.error(
        ServerBusyError,
        "the answer is not Swift's: something in between answers in its place, such as a "
        f"proxy's maintenance page or a firewall{redirects}{excerpt(body)}",
        status=status,
    )


def _no_container(request: Request, details: dict[str, Any]) -> SwiftError:
    return request.target.error(
        ContainerNotFoundError,
        f"there is no container '{request.container}' here: create it, or set create_container "
        "and Synapse creates it when it starts; or check its name, the project and the region",
        **details,
    )


def _odd_404(request: Request, missing: SwiftError) -> SwiftError:
    """Ceph RGW answers 404 to an upload that was cut short on its way."""
    return request.target.error(
        ServerBusyError,
        "Swift answers 404 to an upload, though the container exists",
        status=404,
        transaction_id=missing.transaction_id,
    )


async def drained(exchange: Exchange) -> None:
    """Read a response's body and drop it. Its status and headers have said everything, so
    a body that breaks off is no failure.
    """
    with suppress(TemporaryError):
        await exchange.read(ERROR_BODY_BYTES)
