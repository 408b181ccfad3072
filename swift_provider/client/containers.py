"""What a container and its account say of themselves, for people who set one up.

See the headers of a container in Swift's API reference, and the middlewares
``container_quotas``, ``account_quotas`` and ``versioned_writes``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from twisted.web.http_headers import Headers

from swift_provider.client.answers import clock_skew, header
from swift_provider.client.drained import drained
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.place import Place
from swift_provider.client.request import Request


@dataclass(frozen=True)
class Quota:
    """How much may be stored, and how much is; ``None`` if it does not say.

    :ivar most_bytes: the limit; ``None`` also if there is none.
    :ivar most_objects: likewise.
    """

    most_bytes: int | None
    most_objects: int | None
    used_bytes: int | None
    used_objects: int | None


@dataclass(frozen=True)
class ContainerFacts:
    """The headers of a container.

    :ivar policy: its storage policy; ``""`` if it does not say.
    :ivar keeps_versions: what is overwritten or deleted stays, in a place of its own.
    :ivar skew: how many seconds Swift's clock is ahead of this machine's.
    :ivar made: as what :meth:`.Place.check` returns.
    """

    policy: str
    keeps_versions: bool
    quota: Quota
    skew: float
    made: str


async def container_facts(place: Place) -> ContainerFacts:
    """Ask the container of a place.

    :raises ContainerNotFoundError: if there is no such container.
    :raises AccessDeniedError: if this user may not look at it.
    :raises SwiftProviderError: if it failed for good.
    """
    headers = await _head(place, place.container)
    enabled = header(headers, b"X-Versions-Enabled").lower() == "true"
    older = (b"X-Versions-Location", b"X-History-Location")
    return ContainerFacts(
        header(headers, b"X-Storage-Policy"),
        enabled or any(header(headers, name) for name in older),
        _quota(headers, b"X-Container-"),
        clock_skew(headers, time.time()),
        header(headers, b"X-Timestamp"),
    )


async def account_quota(place: Place) -> Quota:
    """Ask the account of a place.

    :raises SwiftProviderError: if it failed for good. A user of the container alone may not
        look at the account.
    """
    return _quota(await _head(place, None), b"X-Account-")


async def _head(place: Place, container: str | None) -> Headers:
    async def handle(exchange: Exchange) -> Headers:
        await drained(exchange)
        return exchange.headers

    return await place.client.requester.perform(Request("HEAD", container), handle)


def _quota(headers: Headers, kind: bytes) -> Quota:
    def number(name: bytes) -> int | None:
        # Swift writes no sign; a quota of less than nothing is none.
        value = header(headers, kind + name)
        return int(value) if value.isascii() and value.isdigit() and len(value) < 30 else None

    return Quota(
        number(b"Meta-Quota-Bytes"),
        number(b"Meta-Quota-Count"),
        number(b"Bytes-Used"),
        number(b"Object-Count"),
    )
