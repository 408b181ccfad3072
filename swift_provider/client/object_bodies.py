"""Which responses to a GET bring an object's bytes, and from which byte on.

A status of 2xx and a sign of Swift are not enough. A proxy on the way may compress a body,
or answer with another part of the object than the one that was asked for.
"""

from __future__ import annotations

import re

from swift_provider.client.answers import ObjectInfo, header, transaction_id
from swift_provider.client.http.agent import CONTENT_ENCODING
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.errors import RequestRefusedError, ServerBusyError, SwiftError

#: RFC 9110 section 14.4. ``*`` stands for a size that is not known.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)

#: Ceph RGW's ETag of an object that was uploaded in parts through its S3 API.
_S3_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}")


def check_whole(exchange: Exchange) -> None:
    """Check the status of the answer to a request for a whole object.

    :raises ServerBusyError: if it does not bring one. Not even 206 and 203 do: nobody asked
        for a part, and 203 stands for a body that a proxy has changed.
    """
    if exchange.status != 200:
        raise _changed(exchange, "this is no answer to a GET of a whole object")


def check_unchanged(exchange: Exchange, info: ObjectInfo, provable: bool) -> None:
    """Check that no proxy has changed the answer to a GET of a whole object, as far as it shows.

    Some objects have no checksum, and only the length of their body can be checked: a dynamic
    large object; a static one whose manifest is not shown; one that was uploaded in parts
    through Ceph's S3 API. Any other object has its MD5 as ETag, so without it a proxy has
    changed the answer: Apache marks the ETag of a body that it compresses, others remove it.

    An object that was stored compressed is served as it is stored. A proxy that compresses a
    body on its way does not know the length in advance, and has to weaken the ETag (RFC 9110
    section 8.8.1), which Swift and Ceph RGW never do.

    :param provable: there is a checksum for the body.
    :raises ServerBusyError: if a proxy has changed it. The next answer may come another way.
    """
    in_parts = info.static_large or info.dynamic_large or _S3_PARTS.fullmatch(info.etag)
    if not provable and not in_parts:
        raise _changed(exchange, "the answer's ETag is no MD5, so that nothing proves the bytes")
    is_weak = header(exchange.headers, b"ETag").startswith("W/")
    is_encoded = info.size is None and exchange.headers.hasHeader(CONTENT_ENCODING)
    if is_encoded and (is_weak or not provable):
        raise _changed(exchange, "the body was compressed on its way")


def _changed(exchange: Exchange, what: str) -> SwiftError:
    # Not DamagedError: that the object itself is damaged is not what this shows.
    return exchange.target.error(
        ServerBusyError,
        f"{what}: something between here and Swift changes the answers, such as a proxy",
        status=exchange.status,
        transaction_id=transaction_id(exchange.headers),
    )


def first_byte(request: Request, exchange: Exchange, offset: int, size: int | None) -> int:
    """Where the body of the answer to a request for a part begins in the object.

    :param request: with a ``Range``, or for the whole.
    :param offset: the first byte that was asked for.
    :param size: of the object; ``None`` if it is not known.
    :returns: an offset that is not higher. A server may ignore ``Range``, and send the whole.
    :raises RequestRefusedError: if the body is another part, or one of another object.
    :raises ServerBusyError: if it is neither the whole nor a part.
    """
    if exchange.status != 206 or b"Range" not in request.headers:
        check_whole(exchange)
        return 0
    shown = header(exchange.headers, b"Content-Range")
    found = _CONTENT_RANGE.fullmatch(shown)
    if found is not None:
        first, last = int(found[1]), int(found[2])
        same_size = size is None or found[3] in ("*", str(size))
        if first <= offset <= last and same_size:
            return first
    raise request.target.error(
        RequestRefusedError, f"asked for the bytes from {offset} on, Swift sends {shown[:60]!r}"
    )
