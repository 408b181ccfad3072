"""Answers a client with a redirect to Swift; streams to every other consumer.

The temporary URL is a secret while it lives: it goes into the ``Location`` header, and
nowhere else.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from synapse.module_api.errors import Codes, SynapseError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.http import Request

from swift_provider.client import Download, Links, TempUrl
from swift_provider.errors import ConsumerStoppedError, ObjectNotFoundError, SwiftProviderError
from swift_provider.module.later_download import LaterDownload
from swift_provider.module.matrix_errors import error_for_client
from swift_provider.module.responder import SwiftResponder

#: A browser forgets the redirect this long before the URL expires. A clock may be wrong,
#: and the request for the URL follows a little later.
MARGIN_SECONDS = 60

#: What a browser may say about a request (Fetch standard, "Sec-Fetch-Mode").
_MODES = ("cors", "no-cors", "same-origin", "navigate")

#: Browsers show it in <img> only with its own type, and Swift's is application/octet-stream.
_SVG = "image/svg+xml"

#: Headers that describe the file, and must not be on an answer without it.
_OF_THE_FILE = ("Content-Type", "Content-Disposition", "Content-Range", "Accept-Ranges", "ETag")

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
        mode = _mode(consumer)
        if _header(consumer, "Content-Type").lower().startswith(_SVG):
            return super().write_to_consumer(consumer)
        if mode == "cors" and not self._links.allows_cors:
            return super().write_to_consumer(consumer)
        # Browsers cache Swift's answer without noting the Origin, because Swift sends no
        # "Vary". A page that fetches what it has shown in <img> would get the answer to
        # the <img> from the cache, without CORS headers, and fail.
        redirect(consumer, self._links.url(self._name, _file_name(consumer), mode))
        self._on_redirect()
        return succeed(None)

    def _fail(self, failure: Failure, consumer: Any) -> Failure:
        """Nothing was written, so the client can be told. The object may have vanished since
        its HEAD.
        """
        error = failure.value
        if (
            isinstance(consumer, Request)
            and consumer.channel is not None
            and not consumer.startedWriting
            and isinstance(error, SwiftProviderError)
            and not isinstance(error, ConsumerStoppedError)
        ):
            if isinstance(error, ObjectNotFoundError):
                told = SynapseError(404, "Not found", Codes.NOT_FOUND)
            else:
                told = error_for_client(error, "deliver", self._path)
            _refuse(consumer, told)
            raise told from error
        return super()._fail(failure, consumer)


def redirect(request: Request, url: TempUrl) -> None:
    """Make an answer of a request that Synapse has prepared for the file. Synapse sends it.

    The headers for CORS, which Synapse has set, stay.
    """
    for name in _OF_THE_FILE:
        request.responseHeaders.removeHeader(name)
    left = max(0, url.expires - int(time.time()) - MARGIN_SECONDS)
    request.setResponseCode(307)
    request.setHeader("Location", url.url)
    request.setHeader("Cache-Control", f"private,max-age={left}")
    request.setHeader("Vary", "Sec-Fetch-Mode, Origin")
    request.setHeader("Referrer-Policy", "no-referrer")
    request.setHeader("Content-Length", "0")


def _header(request: Request, name: str) -> str:
    """A header that Synapse has set for the answer; empty if it has not."""
    return request.responseHeaders.getRawHeaders(name, [""])[0]


def _mode(request: Request) -> str:
    """How a browser uses the answer; empty if the client does not say.

    Older browsers send no ``Sec-Fetch-Mode``. With ``Origin`` they ask by CORS.
    """
    if request.getHeader("Origin"):
        return "cors"
    mode = request.getHeader("Sec-Fetch-Mode") or ""
    return mode if mode in _MODES else ""


def _file_name(request: Request) -> str:
    """The file's name in Synapse's ``Content-Disposition``; without one, the media id."""
    match = _FILE_NAME.search(_header(request, "Content-Disposition"))
    if match is not None:
        return match[1] or unquote(match[2])
    path = request.path.decode("ascii", "replace")
    return unquote(path.rstrip("/").rpartition("/")[2])


def _refuse(request: Request, error: SynapseError) -> None:
    """Answer with an error, in place of the file that Synapse has announced."""
    body = json.dumps({"errcode": error.errcode, "error": error.msg}).encode("ascii")
    for name in _OF_THE_FILE:
        request.responseHeaders.removeHeader(name)
    request.setResponseCode(error.code)
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("Content-Length", str(len(body)))
    request.write(body)
