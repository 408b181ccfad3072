"""Lets others read objects from Swift themselves, by temporary URLs.

Owns which objects are ones that Swift can be trusted to deliver without this client's
checks (:meth:`DirectAccess.allows`). Whether temporary URLs work at all is in
:mod:`swift_provider.client.direct_check`, the signing in
:mod:`swift_provider.client.temp_url`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from twisted.web.http_headers import Headers

from swift_provider.client.answers import ObjectInfo, error_for
from swift_provider.client.client import SwiftClient
from swift_provider.client.direct_check import BUSY_FOR_NOW, DirectCheck, Links, Verdict
from swift_provider.client.symlinks import is_symlink
from swift_provider.client.temp_url import Signer
from swift_provider.config import RedirectSettings
from swift_provider.errors import AccessDeniedError, Target

#: Each segment costs a HEAD before the first URL.
MOST_SEGMENTS = 64

#: How long it is believed whether a large object's segments are there, and for how many
#: objects.
SEGMENTS_KNOWN_SECONDS = 600.0
_MOST_KNOWN = 1000


class DirectAccess:
    """Temporary URLs of the objects in one place.

    :param owner: whose objects; others are never allowed.
    :param keys: the first that Swift takes signs.
    :param now: tells the time, in seconds since 1970.
    """

    def __init__(
        self,
        client: SwiftClient,
        container: str,
        prefix: str,
        owner: str | None,
        settings: RedirectSettings,
        keys: tuple[bytes, ...],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._container = container
        self._prefix = prefix
        self._owner = owner
        self._settings = settings
        self._keys = keys
        self._now = now
        self._known: dict[tuple[str, str, Signer], tuple[float, bool]] = {}

    async def check(self) -> Verdict:
        """Ask Swift whether temporary URLs work. May be called again.

        :raises SwiftProviderError: if Swift cannot tell now.
        """
        check = DirectCheck(
            self._client, self._container, self._prefix, self._settings, self._keys, self._now
        )
        return await check.verdict()

    async def allows(self, info: ObjectInfo, links: Links) -> bool:
        """Whether others may be sent to an object.

        :param info: the object's facts, from a HEAD just before.
        :param links: would make the URL.
        :returns: ``False`` if it is in another mirror, is small, was not stored by the owner,
            will be deleted by Swift, is a link, or is a large object that Swift would not deliver.
        :raises SwiftProviderError: if Swift fails for good.
        """
        if info.mirror or info.size is None or info.size <= self._settings.above:
            return False
        if info.owner != self._owner or info.expires or info.dynamic_large:
            return False
        if links.storage_url != await self._client.requester.storage_url():
            return False  # The account has moved since the check.
        # A container's key opens nothing in another container.
        if is_symlink(info, self._container, links.storage_url):
            return False
        return await self._has_segments(info, links) if info.static_large else info.is_plain

    async def _has_segments(self, info: ObjectInfo, links: Links) -> bool:
        assert info.size is not None
        if not info.segment_size or -(-info.size // info.segment_size) > MOST_SEGMENTS:
            return False
        key = (info.name, info.etag, links.signer)
        until, answer = self._known.get(key, (0.0, False))
        # Not if the clock was set back.
        if not 0 < until - self._now() <= SEGMENTS_KNOWN_SECONDS:
            answer = await self._delivers(info, links) and (
                await self._client.large_objects.flaw(self._container, info) is None
            )
            self._known.pop(key, None)
            while len(self._known) >= _MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = (self._now() + SEGMENTS_KNOWN_SECONDS, answer)
        return answer

    async def _delivers(self, info: ObjectInfo, links: Links) -> bool:
        """Whether Swift delivers the first byte of a large object.

        It refuses (409) if the key is the container's and the segments are in another
        container. With a key of the account it delivers.

        :raises SwiftError: if no answer came, or one that says nothing about the object.
        """
        target = Target("GET", self._container, info.name)
        transport = self._client.outside() if links.base_url is None else None
        url = replace(links, base_url=None).url(info.name, "check").url
        asked = Headers({b"Range": [b"bytes=0-0"]})
        status, headers = await self._client.requester.ask_without_token(
            url.encode("ascii"), target, asked, transport
        )
        if status in BUSY_FOR_NOW:
            raise error_for(target, status, headers, b"")
        # Swift says this also while it cannot read the key, from a busy account or container.
        if status == 401:
            raise target.error(AccessDeniedError, "the temporary URL is refused", status=status)
        return status == 206
