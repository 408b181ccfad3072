"""Whether an object is as long as Synapse announces it.

Synapse announces the length that its database has, as ``Content-Length``. An object of another
length would end too early or too late for its reader: a client would take a part for the whole
file, or wait for bytes that never come, and another homeserver would keep a wrong file.
"""

from __future__ import annotations

import logging
from copy import copy
from typing import Any

from twisted.web.http import Request

from swift_provider.client import ObjectInfo
from swift_provider.errors import SwiftError, Target, WrongLengthError
from swift_provider.module.client_request import request_behind

logger = logging.getLogger(__name__)

#: The folders of the media store where Synapse keeps thumbnails (its ``filepath.py``).
_THUMBNAILS = ("local_thumbnails/", "remote_thumbnail/")


def agree_on_length(consumer: Any, info: ObjectInfo, path: str) -> int | None:
    """Compare the announced length with the object's, before anything is written.

    A thumbnail is sent with its own length. Synapse may have made it anew, with another version
    of its image library, and failed before it updated its database. Synapse without local
    media always fails there. If the provider said that there is no such thumbnail, Synapse
    would make it again for every request, without an end, and Swift did not say 404.

    :param consumer: the request of a client, or what wraps that of another homeserver.
    :param path: the file's path, relative to the media store.
    :returns: the length of the file in bytes, as it is announced now; ``None`` if none is.
    :raises WrongLengthError: if the object has another.
    """
    request = request_behind(consumer)
    announced = None if request is None else _announced(consumer, request)
    if request is None or announced is None or info.size in (None, announced):
        return announced
    if not path.startswith(_THUMBNAILS):
        raise _wrong_length(info, announced)
    logger.info("%s has %d bytes, and not %d as in Synapse's database", path, info.size, announced)
    framing = _framing(consumer, request)
    request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % (info.size + framing)])
    return info.size


def required_length(consumer: Any, path: str) -> int | None:
    """The length that an object must have for :func:`agree_on_length`; ``None`` for any."""
    request = request_behind(consumer)
    if request is None or path.startswith(_THUMBNAILS):
        return None
    return _announced(consumer, request)


def check_known_length(info: ObjectInfo, length: int | None) -> None:
    """Compare the object's length with the one in Synapse's database.

    :param length: ``None`` if that does not tell.
    :raises WrongLengthError: if the object has another.
    """
    if length is not None and info.size not in (None, length):
        raise _wrong_length(info, length)


def _wrong_length(info: ObjectInfo, length: int) -> SwiftError:
    reason = f"the object has {info.size} bytes, but Synapse's database says {length}"
    return Target("GET", None, info.name).error(WrongLengthError, reason)


def is_as_announced(request: Request, info: ObjectInfo, path: str) -> bool:
    """Whether a client may be sent to the object. A thumbnail may have any length.

    :param request: the client's.
    """
    length = _announced(request, request)
    return length is None or info.size in (None, length) or path.startswith(_THUMBNAILS)


def _announced(consumer: Any, request: Request) -> int | None:
    values = request.responseHeaders.getRawHeaders(b"Content-Length")
    if values is None or (consumer is not request and consumer.length is None):
        return None
    return int(values[0]) - _framing(consumer, request)


def _framing(consumer: Any, request: Request) -> int:
    """How many bytes of the response are not the file's: those of Synapse's multipart."""
    if consumer is request:
        return 0
    # Synapse's content_length() adds the framing to the attribute, at each call again.
    empty = copy(consumer)
    empty.length = 0
    length: int = empty.content_length()
    return length
