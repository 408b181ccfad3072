"""Answers a client that asks for a part of a file: 206 and 416 (RFC 9110 section 14).

Synapse prepares every response as 200 with the whole file. Browsers ask for one range at a
time, to seek in a video or to resume a download. A server may ignore any ``Range``, so the
answer to several ranges at once is the whole file.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from twisted.web.http import Request

#: The longest number is well above any size; ``int`` refuses some thousand digits.
_ONE_RANGE = re.compile(rb"bytes=[ \t]*([0-9]{0,30})-([0-9]{0,30})[ \t]*", re.IGNORECASE)


def requested_part(value: bytes, size: int) -> range | None:
    """The part that the value of a ``Range`` header asks for.

    :param size: of the whole file, in bytes.
    :returns: the positions of its bytes, none if the file has none of them; ``None`` if the
        header has to be ignored: another unit, several ranges, or malformed.
    """
    match = _ONE_RANGE.fullmatch(value)
    if match is None:
        return None
    first, last = match.groups()
    if first:
        if last and int(last) < int(first):
            return None
        return range(int(first), min(int(last) + 1, size) if last else size)
    if not last or (size == 0 and int(last) > 0):
        # The last bytes of an empty file are the whole file, and 206 cannot express that.
        return None
    return range(max(0, size - int(last)), size)


def choose_part(request: Request, size: int | None) -> range | None:
    """Choose what a client gets, and set status and headers of its response accordingly.

    :param request: the client's. Synapse has set the headers for the whole file, and nothing
        was written.
    :param size: of the whole file in Swift; ``None`` if it is not known. The whole file is
        the answer then.
    :returns: the positions of the bytes to write; none of them in a response that has no
        body; ``None`` for the whole file.
    """
    headers = request.responseHeaders
    if size is None:
        return None
    headers.setRawHeaders(b"Accept-Ranges", [b"bytes"])
    wanted = request.requestHeaders.getRawHeaders(b"Range", [])
    # Range is defined for GET only (RFC 9110 section 14.2).
    if request.method != b"GET" or len(wanted) != 1 or not _unchanged(request):
        return None
    part = requested_part(wanted[0], size)
    if part is None:
        return None
    headers.setRawHeaders(b"Content-Length", [b"%d" % len(part)])
    if part:
        shown = b"bytes %d-%d/%d" % (part[0], part[-1], size)
        request.setResponseCode(HTTPStatus.PARTIAL_CONTENT)
    else:
        shown = b"bytes */%d" % size
        request.setResponseCode(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        for about_the_file in (b"Content-Type", b"Content-Disposition", b"ETag"):
            headers.removeHeader(about_the_file)
        # Synapse lets caches keep the file for a day. They must not keep this instead.
        headers.setRawHeaders(b"Cache-Control", [b"no-store"])
    headers.setRawHeaders(b"Content-Range", [shown])
    return part


def _unchanged(request: Request) -> bool:
    """Whether ``If-Range``, if it is there, names the file's ETag. A date never does."""
    condition = request.requestHeaders.getRawHeaders(b"If-Range")
    return condition is None or condition == request.responseHeaders.getRawHeaders(b"ETag")
