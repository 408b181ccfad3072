"""Checks that temporary URLs work for browsers, which have no token.

The check sends what a browser would send, over connections without the module's client
certificate. It asks for an object that does not exist: Swift answers 404 if the signature
is right, and 401 or 403 if it is wrong.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from twisted.web.http_headers import Headers

from swift_provider.client.answers import BUSY_STATUSES, clock_skew, error_for, header
from swift_provider.client.client import SwiftClient
from swift_provider.client.http.transport import Transport
from swift_provider.client.temp_url import DIGESTS, Signer, TempUrl, common_digests
from swift_provider.config import RedirectSettings
from swift_provider.errors import SwiftError, SwiftProviderError, Target

#: A browser sends this in place of the page's origin once a redirect has led it from one
#: origin to another (Fetch standard, "HTTP-redirect fetch").
_ORIGIN_AFTER_REDIRECT = "null"

#: Stands for the origin of any web client.
_SOME_ORIGIN = "https://client.invalid"

#: Statuses of a Swift, or of a front, that may answer properly a little later.
BUSY_FOR_NOW = BUSY_STATUSES | {500, 502, 503, 504}

#: The same for OPTIONS, which a front without CORS may answer by 500 for good.
_BUSY_PREFLIGHT = frozenset({429, 498, 503})

#: Seconds. Swift tells the time in whole seconds, and its answer takes a little. Less than
#: this does not matter: a URL lives for five minutes at least.
MOST_SKEW = 60.0


@dataclass(frozen=True)
class Links:
    """Makes temporary URLs that were seen to work. Stays usable after later checks.

    :ivar allows_cors: whether a web page may read the answers by ``fetch``.
    :ivar clock: tells the time on this machine, in seconds since 1970.
    :ivar skew: add these seconds to get Swift's time.
    """

    signer: Signer
    storage_url: str
    container: str
    base_url: str | None
    allows_cors: bool
    clock: Callable[[], float] = time.time
    skew: float = 0.0

    def now(self) -> float:
        """Swift's time, in seconds since 1970."""
        return self.clock() + self.skew

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
    """What a check found.

    :ivar links: makes URLs; ``None`` if a condition is not met.
    :ivar flaws: conditions that are not met, each with its remedy.
    :ivar warnings: what works with restrictions, likewise.
    """

    links: Links | None
    flaws: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class _Unmet(Exception):
    """A condition is not met; the message names it, with its remedy."""


class DirectCheck:
    """One check. Make a new one for the next.

    :param prefix: of the objects.
    :param keys: the first that Swift takes signs.
    :param clock: tells the time, in seconds since 1970.
    """

    def __init__(
        self,
        client: SwiftClient,
        container: str,
        prefix: str,
        settings: RedirectSettings,
        keys: tuple[bytes, ...],
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._container = container
        self._prefix = prefix
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._warnings: list[str] = []

    async def verdict(self) -> Verdict:
        """Ask whether temporary URLs work.

        :raises SwiftProviderError: if Swift cannot tell now.
        """
        storage_url = await self._client.requester.storage_url()
        try:
            self._check_place(storage_url)
            front = self._settings.base_url
            if front is not None and _origin(front) == _origin(storage_url):
                front = None
            digests = await self._digests()
            links, headers = await self._links_that_work(storage_url, digests, front)
            if front is not None:
                links = replace(links, base_url=front)
                headers = await self._check_front(links)
        except _Unmet as unmet:
            self._client.cluster.ask_again()
            return Verdict(None, (str(unmet),), tuple(self._warnings))
        allows_cors = await self._allows_cors(links, headers)
        return Verdict(replace(links, allows_cors=allows_cors), (), tuple(self._warnings))

    # Where to

    def _check_place(self, storage_url: str) -> None:
        """Whether clients can be sent there at all."""
        url = self._settings.base_url or storage_url
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise _Unmet("storage URL: it cannot be read. Set redirect.base_url") from None
        if self._settings.base_url is None:
            self._check_reach(parts.netloc, host, storage_url)
        if parts.scheme != "https" and not _is_loopback(host):
            raise _Unmet(
                f"https: clients would be sent to {parts.scheme}://{parts.netloc}, from which no "
                "page of an https site may load. Set redirect.base_url to an https front of "
                "Swift, or storage_url to Swift's https URL"
            )

    def _check_reach(self, netloc: str, host: str, storage_url: str) -> None:
        if _is_loopback(host):
            raise _Unmet(
                f"loopback: Swift's URL is at {netloc}, which only this machine reaches. Set "
                "redirect.base_url to the address at which clients reach Swift (for a test on "
                f"this machine: {'://'.join(_origin(storage_url))})"
            )
        cloud = self._client.cloud
        interface = cloud.interface if isinstance(cloud.interface, str) else cloud.interface[0]
        if cloud.storage_url is None and not interface.startswith("public"):
            raise _Unmet(
                f"interface: Swift's URL is that of the interface {interface}, which clients "
                "usually cannot reach. Set redirect.base_url to the address at which they reach "
                f"Swift (if it is this one: {'://'.join(_origin(storage_url))})"
            )

    # The signature

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
        self, storage_url: str, digests: tuple[str, ...], front: str | None
    ) -> tuple[Links, Headers]:
        """:returns: links that Swift itself takes, and the headers of an answer to one."""
        # A front may stand between clients and a Swift that wants a client certificate.
        transport = self._client.outside() if front is None else None
        status = 0
        for key in self._keys:
            for digest in digests:
                signer = Signer(key, digest, self._settings.window)
                links = Links(signer, storage_url, self._container, None, False, self._clock)
                name = self._name()
                status, headers = await self._ask_swift(links, name, transport)
                skew = clock_skew(headers, self._clock())
                if abs(skew) > MOST_SKEW:
                    links = replace(links, skew=skew)
                    status, headers = await self._ask_swift(links, name, transport)
                if status == 404:
                    # By the same name: a cache that ignores the query string repeats the 404.
                    refused, _ = await self._ask_swift(_with_wrong_key(links), name, transport)
                    if refused not in (401, 403):
                        raise _Unmet(
                            f"tempurl: HTTP {refused} to a temporary URL with a wrong signature. "
                            "Something answers that does not look at signatures, such as a cache "
                            "that ignores the query string"
                        )
                    self._warn_of_skew(skew)
                    if key != self._keys[0]:
                        self._warnings.append(
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

    async def _ask_swift(
        self, links: Links, name: str, transport: Transport | None
    ) -> tuple[int, Headers]:
        """:raises _Unmet: if Swift wants the client certificate, which browsers do not have."""
        may_want_certificate = self._client.cloud.cert is not None and transport is not None
        try:
            status, headers = await self._ask(links, name, transport)
        except SwiftError as error:
            if not may_want_certificate or error.status is not None:
                raise
            reason = error.reason
        else:
            if not may_want_certificate or status != 400:
                return status, headers
            reason = "HTTP 400"
        # Ask with the certificate. If that fails too, Swift is unreachable.
        status, headers = await self._ask(links, name, None)
        if status == 400:
            return status, headers
        raise _Unmet(f"{_CERTIFICATE} ({reason})")

    def _warn_of_skew(self, skew: float) -> None:
        if abs(skew) > MOST_SKEW:
            self._warnings.append(
                f"clock: this machine's clock is {abs(skew):.0f} seconds "
                f"{'behind' if skew > 0 else 'ahead of'} Swift's. URLs are made by Swift's clock. "
                "Set the clock: timedatectl set-ntp true"
            )

    async def _check_front(self, links: Links) -> Headers:
        """:returns: the headers of an answer that came through the front."""
        name = self._name()
        outside = self._client.outside()
        try:
            status, headers = await self._ask(links, name, outside)
            refused, _ = await self._ask(_with_wrong_key(links), name, outside)
        except SwiftProviderError as error:
            if isinstance(error, SwiftError) and error.status is not None:
                raise
            reason = str(error)
        else:
            if status == 404 and refused in (401, 403):
                return headers
            reason = f"HTTP {status} to a right signature and {refused} to a wrong one"
        raise _Unmet(
            f"base_url: temporary URLs do not work through {links.base_url}: {reason}. The front "
            "must pass path and query string on to Swift as they are, and cache nothing without "
            "the query string"
        )

    # CORS

    async def _allows_cors(self, links: Links, headers: Headers) -> bool:
        """:param headers: of an answer to a GET."""
        to_change = (
            "so for requests by JavaScript files are streamed. To change that: "
            f"swift post -m 'Access-Control-Allow-Origin:*' {self._container}"
        )
        if not _allows(headers, _ORIGIN_AFTER_REDIRECT):
            self._warnings.append(
                f"CORS: Swift does not let web pages read its answers, {to_change} (Ceph RGW has "
                "no such header: there, set redirect.base_url to a front that adds it)"
            )
            return False
        refusal = await self._preflight(links)
        if refusal is None:
            return True
        self._warnings.append(
            "CORS preflight: Firefox asks by OPTIONS first, with the page's origin, and is "
            f"refused ({refusal}), {to_change} (no list of origins is enough). A front has to "
            "answer OPTIONS by 200 and Access-Control-Allow-Origin: *"
        )
        return False

    async def _preflight(self, links: Links) -> str | None:
        """Send the preflight request that Firefox sends, from a page of some other site.

        Chromium sends none: it asks by GET at once.

        :returns: why Firefox would give up; ``None`` if it would not.
        """
        try:
            status, headers = await self._ask(
                links, self._name(), self._client.outside(), "OPTIONS", _SOME_ORIGIN
            )
        except SwiftError as error:
            if error.status is not None:
                raise
            return error.reason
        if not 200 <= status < 300:
            return f"HTTP {status}"
        return None if _allows(headers, _SOME_ORIGIN) else "no Access-Control-Allow-Origin: *"

    # A request

    def _name(self) -> str:
        """The name of an object that does not exist."""
        return f"{self._prefix}temporary-url-check/{secrets.token_hex(8)}"

    async def _ask(
        self,
        links: Links,
        name: str,
        transport: Transport | None,
        method: str = "GET",
        origin: str = _ORIGIN_AFTER_REDIRECT,
    ) -> tuple[int, Headers]:
        """:param transport: ``None`` for the module's own connections.
        :raises SwiftError: if no answer came; with its status, if Swift is only busy.
        """
        target = Target(method, self._container, name)
        asked = {"Origin": [origin]}
        if method == "OPTIONS":
            asked["Access-Control-Request-Method"] = ["GET"]
        url = links.url(name, "check").url.encode("ascii")
        status, headers = await self._client.requester.ask_without_token(
            url, target, Headers(asked), transport
        )
        if status in (_BUSY_PREFLIGHT if method == "OPTIONS" else BUSY_FOR_NOW):
            raise error_for(target, status, headers, b"")
        return status, headers


_CERTIFICATE = (
    "client certificate: Swift wants one, which browsers do not have. Set redirect.base_url to a "
    "front that clients reach without one"
)


def _with_wrong_key(links: Links) -> Links:
    return replace(links, signer=Signer(secrets.token_bytes(16), links.signer.digest, 3600))


def _allows(headers: Headers, origin: str) -> bool:
    """Whether a browser lets a page of this origin read the answer."""
    return header(headers, b"Access-Control-Allow-Origin") in ("*", origin)


def _origin(url: str) -> tuple[str, str]:
    """Scheme, and host with port."""
    scheme, _, rest = url.partition("://")
    return scheme.lower(), rest.partition("/")[0].lower()


def _is_loopback(host: str) -> bool:
    """Whether an address, or a name, only leads to the own machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
