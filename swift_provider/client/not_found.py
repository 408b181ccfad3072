"""What a 404 means: Swift answers so also if it cannot ask the container, or the account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from swift_provider.client.answers import (
    BUSY_STATUSES,
    excerpt,
    missing_container,
    transaction_id,
)
from swift_provider.client.drained import drained
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.client.retry import Tries
from swift_provider.client.seen_containers import SeenContainers
from swift_provider.client.slots import Lane
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    ObjectNotFoundError,
    ObjectUnclearError,
    ServerBusyError,
    SwiftError,
    SwiftProviderError,
    TemporaryError,
)

#: Sends a request and reads its answer, as :meth:`.Requester.perform`.
Perform = Callable[[Request, Callable[[Exchange], Awaitable[Any]], Tries], Awaitable[Any]]


#: What is no sign of a Swift that fails.
_ANSWERS = frozenset(range(300, 500)) - BUSY_STATUSES


class UnsureNotFoundError(Exception):
    """Swift answered 404, and perhaps it could not ask the container, or the account."""

    def __init__(self, error: SwiftError) -> None:
        super().__init__()
        self.error = error


class NotFound:
    """Finds out what a 404 means.

    :param seen: the containers that exist.
    """

    def __init__(self, perform: Perform, seen: SeenContainers) -> None:
        self._perform = perform
        self._seen = seen

    def error(self, request: Request, exchange: Exchange, body: bytes, sent: float) -> Exception:
        """What to raise after a 404.

        :param body: of the answer.
        :param sent: when the request was sent.
        :returns: :class:`UnsureNotFoundError` if something else has to be asked first.
        """
        error = self._error(request, exchange, body)
        return error if self._is_sure(request, error, body, sent) else UnsureNotFoundError(error)

    async def unclear(
        self, request: Request, missing: SwiftError, tries: Tries
    ) -> SwiftError | None:
        """Ask what has to be asked after a 404 that may not be about what it seems to be about.

        :param missing: of the :class:`UnsureNotFoundError`.
        :param tries: of the operation.
        :returns: why it is still not known; ``None`` if the container, or the account, answers
            now: a second 404 is then the truth.
        :raises SwiftProviderError: if it is known, or cannot be known.
        """
        if isinstance(missing, ContainerNotFoundError):
            return await self._check_account(request, missing, tries)
        if not await self._check_container(request, missing, tries):
            return not_from_swift(request, 404)
        return _odd_404(request, missing) if request.method == "PUT" else None

    def _error(self, request: Request, exchange: Exchange, body: bytes) -> SwiftError:
        details = {"status": 404, "transaction_id": transaction_id(exchange.headers)}
        container_is_missing = None
        if details["transaction_id"] is not None:  # no other sign of Swift belongs to a 404
            container_is_missing = missing_container(body)
        elif request.container is None or request.name is None:
            return not_from_swift(request, 404)
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
            answered = await self._perform(asking, _transaction_id, tries.another())
        except TemporaryError as error:
            if request.method == "PUT" or missing.transaction_id is None:
                raise
            raise request.target.error(
                ObjectUnclearError,
                "Swift says that there is no such object, and cannot be asked whether the "
                f"container is there: {_why(error)}",
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
    ) -> SwiftError | None:
        """Find out whether a 404 is about the container or about its account.

        Swift's proxy answers 404 for each container also if it cannot ask the account
        (``GETorHEAD`` in its proxy/controllers/container.py); to HEAD of the account it then
        answers 503.

        :returns: why it is not known whether the container is there; ``None`` if the account
            answers. That is any answer of which a failing Swift has another one: this user may
            have no right to look at it, or a proxy in between lets nobody.
        :raises SwiftProviderError: if it cannot be asked, and a retry does not help.
        """
        take_slot = request.take_slot if request.lane is Lane.READ else None
        asking = Request("HEAD", None, accepts=_ANSWERS, take_slot=take_slot)
        try:
            await self._perform(asking, drained, tries.once())
        except SwiftProviderError as error:
            if not error.temporary:
                raise
            return request.target.error(
                ServerBusyError,
                f"Swift says that there is no container '{request.container}', and cannot be "
                f"asked whether the account is there: {_why(error)}",
                status=404,
                transaction_id=missing.transaction_id,
                retry_after=getattr(error, "retry_after", None),
            )
        return None


def _why(error: SwiftProviderError) -> str:
    """The text for another error. Errors of one kind are counted together, so without an id."""
    return error.text_without_id() if isinstance(error, SwiftError) else error.text()


async def _transaction_id(exchange: Exchange) -> str | None:
    await drained(exchange)
    return transaction_id(exchange.headers)


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


def not_from_swift(request: Request, status: int, body: bytes = b"") -> SwiftError:
    redirects = "; it redirects, so check the storage URL" if 300 <= status < 400 else ""
    return request.target.error(
        ServerBusyError,
        "the answer is not Swift's: something in between answers in its place, such as a "
        f"proxy's maintenance page or a firewall{redirects}{excerpt(body)}",
        status=status,
    )
