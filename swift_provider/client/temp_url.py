"""Signs temporary URLs: links to one object that work without a token until they expire.

Follows Swift's "Temporary URL middleware" (tempurl). Ceph RGW has the same, with SHA-1
only and with keys of the account only. Computes only; no request is sent. A temporary
URL is a secret while it lives: it must not get into a log or an error.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from swift_provider.client.request import Request

#: The digests that this client can sign with, the strongest first.
DIGESTS = ("sha512", "sha256", "sha1")

#: A longer file name loses its beginning, so that its ending stays. Percent-encoded, this
#: is at most 2400 bytes; Swift refuses request lines above 8192.
LONGEST_FILE_NAME = 200


@dataclass(frozen=True)
class TempUrl:
    """A link that works until it expires.

    :ivar url: a secret until then, so it is not in the ``repr``.
    :ivar expires: seconds since 1970.
    """

    url: str = field(repr=False)
    expires: int


def common_digests(allowed: Iterable[str] | None) -> tuple[str, ...]:
    """The digests that Swift allows and this client knows, the strongest first.

    :param allowed: ``allowed_digests`` of ``/info``; ``None`` if Swift does not say.
    """
    if allowed is None:
        return DIGESTS
    known = set(allowed)
    return tuple(digest for digest in DIGESTS if digest in known)


class Signer:
    """Makes temporary URLs with one key and one digest.

    :param key: what Swift has in ``X-Container-Meta-Temp-URL-Key``, or the account's.
    :param digest: one of :data:`DIGESTS`.
    :param window: seconds. The URL of an object stays the same for one window, so that a
        browser finds the object in its cache. A URL lives between one and two windows.
    """

    def __init__(self, key: bytes, digest: str, window: int) -> None:
        self.digest = digest
        self._key = key
        self._window = window

    def expires(self, path: str, now: float) -> int:
        """When a URL for ``path`` that is made now expires, in seconds since 1970.

        Each path has windows of its own. Otherwise all URLs would change at the same
        moment, and all clients would fetch everything again.
        """
        shift = zlib.crc32(path.encode("utf-8")) % self._window
        return (int(now - shift) // self._window + 2) * self._window + shift

    def url(
        self,
        storage_url: str,
        container: str,
        name: str,
        now: float,
        *,
        filename: str,
        variant: str = "",
        base_url: str | None = None,
    ) -> TempUrl:
        """A URL for GET and HEAD of an object.

        :param storage_url: of the account, percent-encoded.
        :param now: seconds since 1970.
        :param filename: the name for the saved file. With it Swift answers
            ``Content-Disposition: attachment``, so a browser never shows the object as a
            page, whose scripts would run on Swift's origin.
        :param variant: makes URLs different for caches; Swift ignores it.
        :param base_url: replaces the storage URL's scheme, host and port.
        """
        url = Request("GET", container, name).url(storage_url).decode("ascii")
        path = signed_path(url)
        expires = self.expires(path, now)
        message = f"GET\n{expires}\n{path}".encode()
        signature = hmac.new(self._key, message, getattr(hashlib, self.digest)).hexdigest()
        query = f"temp_url_sig={signature}&temp_url_expires={expires}"
        query += f"&filename={quote(filename[-LONGEST_FILE_NAME:], safe='')}"
        if variant:
            query += f"&m={quote(variant, safe='')}"
        if base_url is not None:
            url = base_url + urlsplit(url).path
        return TempUrl(f"{url}?{query}", expires)


def signed_path(url: str) -> str:
    """The path that Swift signs for an object's URL: decoded, and from ``/v1/`` on.

    Some clouds have a prefix before it (``/object/v1/…``, ``/swift/v1/…``), which a proxy
    removes before Swift sees the request. Ceph RGW takes the path with and without it.
    """
    path = urlsplit(url).path
    _, version, rest = path.partition("/v1/")
    return unquote(version + rest if version else path)
