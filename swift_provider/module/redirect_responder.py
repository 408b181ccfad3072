"""Answers a client with a redirect to Swift; streams to every other consumer.

The temporary URL is a secret while it lives: it goes into the ``Location`` header, and
nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.http import Request

from swift_provider.client import Download, Links, TempUrl
from swift_provider.module.announced_length import is_as_announced
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.matrix_errors import OF_THE_FILE
from swift_provider.module.responder import SwiftResponder

#: A browser forgets the redirect this long before the URL expires. A clock may be wrong,
#: and the request for the URL follows a little later.
MARGIN_SECONDS = 60

#: A browser forgets it after this time at most. Once the key in Swift is replaced, a redirect
#: that a browser remembers leads to a refusal.
REMEMBERED_SECONDS = 3600

#: What a browser may say about a request (Fetch standard, "Sec-Fetch-Mode").
_MODES = ("cors", "no-cors", "navigate")

#: Browsers show it in <img> only with its own type, and Swift's is application/octet-stream.
_SVG = "image/svg+xml"

# As Synapse writes it: a token, or percent-encoded UTF-8.
_FILE_NAME = re.compile(r"filename(?:=([^;\"]+)|\*=utf-8''([^;]+))", re.IGNORECASE)


class RedirectResponder(SwiftResponder):
    """One file that its client may fetch from Swift. Used as every responder.

    :param links: makes the URL.
    :param on_redirect: called when the client is redirected.
    :param download: of the same object; and the rest: see :class:`SwiftResponder`.
    """

    def __init__(
        self,
        links: Links,
        on_redirect: Callable[[], None],
        download: Download | LaterDownload,
        *rest: Any,
    ) -> None:
        super().__init__(download, *rest)
        self._links = links
        self._on_redirect = on_redirect
        self._name = download.info.name

    def write_to_consumer(self, consumer: IConsumer) -> Deferred[None]:
        """Redirect a client, or stream the file as :class:`SwiftResponder` does."""
        if not isinstance(consumer, Request) or consumer.startedWriting:
            return super().write_to_consumer(consumer)
        if not self._may_redirect(consumer):
            return super().write_to_consumer(consumer)
        # Browsers cache Swift's answer without noting the Origin, because Swift sends no
        # "Vary". A page that fetches what it has shown in <img> would get the answer to
        # the <img> from the cache, without CORS headers, and fail.
        url = self._links.url(self._name, _file_name(consumer), _mode(consumer))
        redirect(consumer, url, self._links.now())
        self._on_redirect()
        return succeed(None)

    def _may_redirect(self, request: Request) -> bool:
        # A homeserver's signature (Server-Server API, "Request Authentication").
        if _asked(request, b"Authorization").lower().startswith("x-matrix"):
            return False
        # A browser that asks in this mode gives up when it is led to another origin.
        if _asked(request, b"Sec-Fetch-Mode") == "same-origin":
            return False
        if _mode(request) == "cors" and not self._links.allows_cors:
            return False
        if _header(request, "Content-Type").lower().startswith(_SVG):
            return False
        # Otherwise the object is not the file that Synapse knows. Only if the file is
        # streamed can the client be told.
        return is_as_announced(request, self._download.info, self._path)


def redirect(request: Request, url: TempUrl, now: float) -> None:
    """Make an answer of a request that Synapse has prepared for the file. Synapse sends it.

    The headers for CORS, which Synapse has set, stay.

    :param now: Swift's time, in seconds since 1970.
    """
    for name in OF_THE_FILE:
        request.responseHeaders.removeHeader(name)
    left = max(0, url.expires - int(now) - MARGIN_SECONDS)
    request.setResponseCode(307)
    request.setHeader("Location", url.url)
    request.setHeader("Cache-Control", f"private,max-age={min(left, REMEMBERED_SECONDS)}")
    request.setHeader("Vary", "Sec-Fetch-Mode, Origin")
    request.setHeader("Referrer-Policy", "no-referrer")
    request.setHeader("Content-Length", "0")


def _header(request: Request, name: str) -> str:
    """A header that Synapse has set for the answer; empty if it has not."""
    return request.responseHeaders.getRawHeaders(name, [""])[0]


def _asked(request: Request, name: bytes) -> str:
    """A header of the request, which may hold any bytes; empty if there is none."""
    return (request.getHeader(name) or b"").decode("latin-1")


def _mode(request: Request) -> str:
    """How a browser uses the answer; empty if the client does not say.

    Older browsers send no ``Sec-Fetch-Mode``. With ``Origin`` they ask by CORS.
    """
    if _asked(request, b"Origin"):
        return "cors"
    mode = _asked(request, b"Sec-Fetch-Mode")
    return mode if mode in _MODES else ""


def _file_name(request: Request) -> str:
    """The file's name in Synapse's ``Content-Disposition``; without one, the media id."""
    match = _FILE_NAME.search(_header(request, "Content-Disposition"))
    if match is not None:
        return match[1] or unquote(match[2])
    path = request.path.decode("ascii", "replace")
    return unquote(path.rstrip("/").rpartition("/")[2])
