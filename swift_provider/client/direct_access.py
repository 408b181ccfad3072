"""Lets others read objects from Swift themselves, by temporary URLs.

Owns the checks that come before: whether the cluster has temporary URLs and takes the
key (:meth:`DirectAccess.check`), and whether an object is one that Swift can be trusted
to deliver without this client's checks (:meth:`DirectAccess.allows`). The signing is in
:mod:`swift_provider.client.temp_url`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from twisted.web.http_headers import Headers

from swift_provider.client.answers import ObjectInfo, header
from swift_provider.client.client import SwiftClient
from swift_provider.client.temp_url import DIGESTS, Signer, TempUrl, common_digests
from swift_provider.config import RedirectSettings
from swift_provider.errors import SwiftProviderError, Target

#: A browser sends this in place of the page's origin once a redirect has led it from one
#: origin to another (Fetch standard, "HTTP-redirect fetch").
_ORIGIN_AFTER_REDIRECT = b"null"

#: Each segment costs a HEAD before the first URL.
MOST_SEGMENTS = 64

#: How long it is believed whether a large object's segments are there, and for how many
#: objects.
SEGMENTS_KNOWN_SECONDS = 600.0
_MOST_KNOWN = 1000


@dataclass(frozen=True)
class Links:
    """Makes temporary URLs that were seen to work. Stays usable after later checks.

    :ivar allows_cors: whether a web page may read the answers by ``fetch``.
    """

    signer: Signer
    storage_url: str
    container: str
    base_url: str | None
    allows_cors: bool
    now: Callable[[], float] = time.time

    def url(self, name: str, filename: str, variant: str = "") -> TempUrl:
        """A URL for an object.

        :param name: the object's full name.
        :param filename: the name for the saved file.
        :param variant: see :meth:`Signer.url`.
        """
        return self.signer.url(
            self.storage_url,
            self.container,
            name,
            self.now(),
            filename=filename,
            variant=variant,
            base_url=self.base_url,
        )


@dataclass(frozen=True)
class Verdict:
    """What :meth:`DirectAccess.check` found.

    :ivar links: makes URLs; ``None`` if a condition is not met.
    :ivar flaws: conditions that are not met, each with its remedy.
    :ivar warnings: what works with restrictions, likewise.
    """

    links: Links | None
    flaws: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class _Unmet(Exception):
    """A condition is not met; the message names it, with its remedy."""


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

    # The conditions

    async def check(self) -> Verdict:
        """Ask Swift whether temporary URLs work. May be called again.

        :raises SwiftProviderError: if Swift cannot tell now.
        """
        storage_url = await self._client.requester.storage_url()
        warnings: list[str] = []
        try:
            self._check_scheme(self._settings.base_url or storage_url)
            digests = await self._digests()
            links, headers = await self._links_that_work(storage_url, digests, warnings)
            if links.base_url is not None:
                headers = await self._check_front(links)
        except _Unmet as unmet:
            self._client.cluster.forget()
            return Verdict(None, (str(unmet),), tuple(warnings))
        allows_cors = header(headers, b"Access-Control-Allow-Origin") in ("*", "null")
        if not allows_cors:
            warnings.append(
                "CORS: Swift does not let web pages read its answers, so for requests by "
                "JavaScript files are streamed. To change that: "
                f"swift post -m 'Access-Control-Allow-Origin:*' {self._container} (Ceph RGW has "
                "no such header: there, set redirect.base_url to a front that adds it)"
            )
        return Verdict(replace(links, allows_cors=allows_cors), (), tuple(warnings))

    def _check_scheme(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
            raise _Unmet(
                f"https: clients would be sent to {parts.scheme}://{parts.netloc}, from which no "
                "page of an https site may load. Set redirect.base_url to an https front of "
                "Swift, or storage_url to Swift's https URL"
            )

    async def _digests(self) -> tuple[str, ...]:
        allowed = (await self._client.cluster.limits()).temp_url_digests
        if allowed == ():
            raise _Unmet(
                "tempurl: this Swift has no temporary URLs (/info does not list tempurl). Ask the "
                "cluster's operators for the middleware tempurl, or remove redirect"
            )
        digests = common_digests(allowed)
        if not digests:
            raise _Unmet(
                f"tempurl: this Swift allows the digests {', '.join(allowed or ())}, and this "
                f"module knows {', '.join(DIGESTS)}"
            )
        return digests

    async def _links_that_work(
        self, storage_url: str, digests: tuple[str, ...], warnings: list[str]
    ) -> tuple[Links, Headers]:
        """:returns: links that Swift takes, and the headers of an answer to one."""
        status = 0
        for key in self._keys:
            for digest in digests:
                signer = Signer(key, digest, self._settings.window)
                links = Links(
                    signer, storage_url, self._container, self._settings.base_url, False, self._now
                )
                status, headers = await self._ask(replace(links, base_url=None))
                if status == 404:
                    refused, _ = await self._ask(replace(_with_wrong_key(links), base_url=None))
                    if refused not in (401, 403):
                        raise _Unmet(
                            f"tempurl: HTTP {refused} to a temporary URL with a wrong signature. "
                            "Something answers that does not look at signatures"
                        )
                    if key != self._keys[0]:
                        warnings.append(
                            "key: Swift refuses the first of the two keys and takes the second, "
                            "so the second signs"
                        )
                    return links, headers
        if status not in (401, 403):
            raise _Unmet(
                f"key: HTTP {status} to a temporary URL of an object that does not exist, where "
                "Swift answers 404 if the signature is right"
            )
        path = self._settings.key_path
        key_text = "KEY" if path is None else f"$(head -n 1 {path})"
        raise _Unmet(
            f"key: Swift refuses a URL that is signed with this key (HTTP {status}). Set the key: "
            f'swift post -m "Temp-URL-Key:{key_text}" {self._container} (Ceph RGW has keys of the '
            f"account only: there, leave out {self._container}). Swift may take a minute to notice"
        )

    async def _check_front(self, links: Links) -> Headers:
        """:returns: the headers of an answer that came through the front."""
        try:
            status, headers = await self._ask(links)
            refused, _ = await self._ask(_with_wrong_key(links))
        except SwiftProviderError as error:
            reason = str(error)
        else:
            if status == 404 and refused in (401, 403):
                return headers
            reason = f"HTTP {status} to a right signature and {refused} to a wrong one"
        raise _Unmet(
            f"base_url: temporary URLs do not work through {links.base_url}: {reason}. The front "
            "must pass path and query string on to Swift as they are"
        )

    async def _ask(self, links: Links) -> tuple[int, Headers]:
        """Fetch an object that does not exist."""
        name = f"{self._prefix}temporary-url-check/{secrets.token_hex(8)}"
        return await self._client.requester.ask_without_token(
            links.url(name, "check").url.encode("ascii"),
            Target("GET", self._container, name),
            Headers({b"Origin": [_ORIGIN_AFTER_REDIRECT]}),
        )

    # The objects

    async def allows(self, info: ObjectInfo, links: Links) -> bool:
        """Whether others may be sent to an object.

        :param info: the object's facts, from a HEAD just before.
        :param links: would make the URL.
        :returns: ``False`` if it is small, was not stored by the owner, will be deleted by
            Swift, or is a large object that Swift would not deliver.
        :raises SwiftProviderError: if Swift fails for good.
        """
        if info.size is None or info.size <= self._settings.above:
            return False
        if info.owner != self._owner or info.expires or info.dynamic_large:
            return False
        return await self._has_segments(info, links) if info.static_large else info.is_plain

    async def _has_segments(self, info: ObjectInfo, links: Links) -> bool:
        assert info.size is not None
        if not info.segment_size or -(-info.size // info.segment_size) > MOST_SEGMENTS:
            return False
        key = (info.name, info.etag, links.signer)
        until, answer = self._known.get(key, (0.0, False))
        if until <= self._now():
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
        """
        url = replace(links, base_url=None).url(info.name, "check").url
        status, _ = await self._client.requester.ask_without_token(
            url.encode("ascii"),
            Target("GET", self._container, info.name),
            Headers({b"Range": [b"bytes=0-0"]}),
        )
        return status == 206


def _with_wrong_key(links: Links) -> Links:
    return replace(links, signer=Signer(secrets.token_bytes(16), links.signer.digest, 3600))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
