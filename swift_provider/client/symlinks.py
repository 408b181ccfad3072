"""Which objects are links to other objects; see Swift's "Symlink".

If the target of a link is gone, Swift answers 404 to a HEAD or GET. But the link is there, so a PUT
with ``If-None-Match`` gets 412.
"""

from __future__ import annotations

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.drained import drained
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.client.requester import NEWEST, Requester
from swift_provider.errors import ObjectExistsError, ObjectNotFoundError, SwiftError, Target


def is_symlink(info: ObjectInfo, container: str, storage_url: str) -> bool:
    """Whether Swift followed a link and sent the facts of another object.

    :param container: in which the object was asked for.
    """
    if not info.content_location:
        return False
    # A storage URL without an account is that of a proxy, which adds it.
    account = storage_url.rstrip("/").partition("/v1/")[2]
    own = "/".join(part for part in (account, container, info.name) if part)
    return not info.content_location.endswith(f"/{own}")


async def hidden_object(requester: Requester, container: str, name: str) -> SwiftError:
    """The error for an object that a PUT must not overwrite, and that a HEAD does not find.

    :raises SwiftProviderError: if Swift fails for good.
    """
    target = Target("PUT", container, name)
    try:
        await requester.perform(link_itself(container, name), drained)
    except ObjectNotFoundError:
        return target.error(
            ObjectExistsError,
            "Swift says that the object exists already, and does not find it: if that lasts, "
            "delete it, for example with 'openstack object delete'",
        )
    return target.error(
        ObjectExistsError,
        "a link (X-Symlink-Target) to an object that is gone has this name: delete the link, for "
        "example with 'openstack object delete'",
    )


async def expires_as_link(requester: Requester, container: str, info: ObjectInfo) -> bool:
    """Whether Swift will delete an object whose facts do not show that.

    In a container with versions (``X-Versions-Enabled``) an object is a link to its newest
    version. A HEAD shows the version, and it is the link that expires: see Swift's middleware
    ``versioned_writes/object_versioning.py``.

    :param info: from a HEAD just before.
    :raises ObjectNotFoundError: if it is gone.
    :raises SwiftProviderError: if Swift fails for good.
    """

    async def expires(exchange: Exchange) -> bool:
        await drained(exchange)
        return exchange.headers.hasHeader(b"X-Delete-At")

    if not info.content_location:
        return False
    return await requester.perform(link_itself(container, info.name), expires)


def link_itself(container: str, name: str) -> Request:
    """Asks for an object. If it is a link, Swift does not follow it."""
    return Request("HEAD", container, name, query="symlink=get", headers=NEWEST)
