"""Reads Swift's responses: turns statuses into errors and headers into facts.

Made for OpenStack Swift and for Ceph RGW's Swift API. They differ in quotes around
ETags, in the bodies of errors, and in the headers that they send. See the "Object
Storage API" of OpenStack, section "Objects".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote

from twisted.web.http_headers import Headers

from swift_provider.client.retry import retry_after_seconds
from swift_provider.errors import (
    AccessDeniedError,
    DamagedError,
    InsufficientStorageError,
    NewerObjectError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectTooLargeError,
    RequestRefusedError,
    ServerBusyError,
    SwiftError,
    Target,
)

#: Any of these shows that Swift, and not a proxy in front of it, made a response. Swift
#: and Ceph RGW send both ids with every response. Some proxies remove one of them; the
#: timestamp of an object and the count of a container are left then.
_SIGNS_OF_SWIFT = (
    b"X-Trans-Id",
    b"X-Openstack-Request-Id",
    b"X-Timestamp",
    b"X-Container-Object-Count",
)

#: How much of an error's body is read, and how much of it an error message shows.
ERROR_BODY_BYTES = 4096
_SHOWN_CHARACTERS = 160

#: Metadata that this client sets on a manifest, so that the manifest's ETag can
#: be computed again from a local file or from the bytes of a download.
SEGMENT_SIZE_HEADER = b"X-Object-Meta-Segment-Size"

#: Metadata that marks a manifest as that of one attempt to upload it.
ATTEMPT_HEADER = b"X-Object-Meta-Upload-Attempt"

#: Metadata of every object and segment: the homeserver that stored it.
OWNER_HEADER = b"X-Object-Meta-Matrix-Server"

#: Metadata of a segment: the container of its manifest. Several containers may share one
#: segment container.
MANIFEST_CONTAINER_HEADER = b"X-Object-Meta-Manifest-Container"

#: Metadata of every object but segments: the CRC-32 of the whole content.
CONTENT_CRC32_HEADER = b"X-Object-Meta-Content-Crc32"

#: Swift's default limit on the bytes of one metadata value.
_LONGEST_MARK = 256

#: The least ``segment_size`` of the configuration. A smaller one in an object's metadata is not
#: this client's, and thousands of segments would have to be hashed.
LEAST_SEGMENT_BYTES = 1024 * 1024

_MD5 = re.compile(r"[0-9a-f]{32}")

#: In Swift's answer to the PUT of a manifest, as text or JSON: what it got for a segment.
_SEGMENT_NOT_SEEN = re.compile(rb'[,"] ?(?:5\d\d|404|408|429|498|499) [A-Z]')
_CRC32 = re.compile(r"[0-9a-f]{8}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
#: Well above any size; ``int`` refuses some thousand digits.
_NUMBER = re.compile(r"[0-9]{1,30}")

#: A terminal would obey control characters.
_NOT_IN_AN_ID = re.compile(r"[^!-~]+")

#: Statuses of a busy server. 498 comes from Swift's ratelimit middleware once a request
#: would have to wait too long. 499 is Swift's "client disconnect": here it means that the
#: framing broke.
BUSY_STATUSES = frozenset({408, 429, 498, 499})


@dataclass(frozen=True)
class ObjectInfo:
    """What Swift's headers say about an object.

    :ivar size: bytes; ``None`` if Swift does not say (a very long dynamic large object).
    :ivar etag: without quotes, in lower case; ``""`` if there is none. The MD5 of the
        content only if :attr:`is_plain`.
    :ivar segment_size: bytes of each segment but the last, where this client uploaded it.
    :ivar attempt: the attempt to upload it, which its segments' names contain; ``""`` if
        it has no segments, or this client did not upload it.
    :ivar expires: Swift will delete it at a given time (``X-Delete-At``).
    :ivar owner: the homeserver that stored it; ``""`` if it has no mark.
    :ivar manifest_container: of a segment; ``""`` if it is none, or has no mark.
    :ivar content_crc32: of the whole content, as its uploader noted it; Swift does not check
        it. ``None`` if it is not there or cannot be read.
    :ivar content_location: the path of the object whose facts these are, where Swift says it:
        for a link (``X-Symlink-Target``) its target, in a versioned container this object
        itself; ``""`` otherwise.
    :ivar timestamp: when it was stored, in seconds since 1970, to the microsecond
        (``X-Timestamp``); ``None`` if Swift does not say.
    :ivar version: its id in a container that keeps versions (``X-Object-Version-Id``, Swift's
        middleware object_versioning); ``""`` otherwise.
    :ivar mirror: which of several mirrors answered, if it is not the first; ``""`` otherwise.
    """

    name: str
    size: int | None
    etag: str
    content_type: str
    last_modified: str
    static_large: bool = False
    dynamic_large: bool = False
    segment_size: int | None = None
    attempt: str = ""
    expires: bool = False
    owner: str = ""
    manifest_container: str = ""
    content_crc32: int | None = None
    content_location: str = ""
    timestamp: float | None = None
    version: str = ""
    mirror: str = ""

    @property
    def is_plain(self) -> bool:
        """One object, not a manifest of segments, and its ETag is its MD5."""
        large = self.static_large or self.dynamic_large
        return not large and _MD5.fullmatch(self.etag) is not None


@dataclass(frozen=True)
class ListedObject:
    """A row of a container's listing: a hint, never a proof.

    :ivar etag: the listing's ``hash``; of a large object it is not the content's.
    :ivar last_modified: ISO 8601, UTC, as Swift writes it.
    """

    name: str
    size: int
    etag: str
    last_modified: str

    def without_prefix(self, length: int) -> ListedObject:
        """The same row, its name without the first ``length`` characters."""
        return replace(self, name=self.name[length:])


def marks(owner: str | None) -> dict[bytes, bytes]:
    """The metadata that names an object's owner; empty without one."""
    return _mark(OWNER_HEADER, owner) if owner else {}


def segment_marks(marks: Mapping[bytes, bytes], container: str) -> dict[bytes, bytes]:
    """The same for a segment of a manifest in ``container``."""
    return {**marks, **_mark(MANIFEST_CONTAINER_HEADER, container)}


def crc32_mark(content_crc32: int) -> dict[bytes, bytes]:
    """The metadata with which a download of the object is checked."""
    return {CONTENT_CRC32_HEADER: b"%08x" % content_crc32}


def _mark(header: bytes, text: str) -> dict[bytes, bytes]:
    # A container's name may have any characters; a header cannot hold all of them.
    value = quote(text, safe=":[]").encode("ascii")
    return {header: value} if len(value) <= _LONGEST_MARK else {}


def header(headers: Headers, name: bytes) -> str:
    """A header's first value; ``""`` if it is not there."""
    values = headers.getRawHeaders(name)
    return values[0].decode("latin-1") if values else ""


def is_from_swift(headers: Headers) -> bool:
    """Whether a response shows any sign of Swift.

    A maintenance page or a captive portal answers 200 as well. An ETag is no sign, not
    even if it is an MD5: Amazon S3 and MinIO send such ETags with the pages that they host.
    """
    return any(headers.hasHeader(name) for name in _SIGNS_OF_SWIFT)


def normal_etag(etag: str) -> str:
    """An ETag without quotes and ``W/``, in lower case."""
    return etag.strip().removeprefix("W/").strip('"').lower()


def are_same(one: ObjectInfo, other: ObjectInfo) -> bool:
    """Whether two objects in different places surely have the same content.

    By Swift's own ETags. If one of them is large, by the CRC-32 that their uploader noted, too:
    the ETag of a large object depends on how it was cut.
    """
    if one.dynamic_large or other.dynamic_large:
        return False
    # A proxy that sends a body in chunks leaves its length out.
    known = None not in (one.size, other.size)
    if known and one.size != other.size:
        return False
    if one.etag and one.etag == other.etag and one.static_large == other.static_large:
        return True
    if not known or (one.is_plain and other.is_plain):
        return False
    return one.content_crc32 is not None and one.content_crc32 == other.content_crc32


def object_info(name: str, headers: Headers, size: int | None = None) -> ObjectInfo:
    """The facts in the headers of a GET, HEAD or PUT.

    :param size: bytes, where ``Content-Length`` is not among the headers (Twisted keeps
        it back unless the request was a HEAD) or says something else (a PUT).
    """
    if size is None:
        size = _number(headers, b"Content-Length")
    crc32 = header(headers, CONTENT_CRC32_HEADER)
    return ObjectInfo(
        name=name,
        size=size,
        etag=normal_etag(header(headers, b"ETag")),
        content_type=header(headers, b"Content-Type"),
        last_modified=header(headers, b"Last-Modified"),
        static_large=header(headers, b"X-Static-Large-Object").lower() == "true",
        dynamic_large=bool(header(headers, b"X-Object-Manifest")),
        segment_size=_segment_size(headers),
        attempt=header(headers, ATTEMPT_HEADER),
        expires=headers.hasHeader(b"X-Delete-At"),
        owner=unquote(header(headers, OWNER_HEADER)),
        manifest_container=unquote(header(headers, MANIFEST_CONTAINER_HEADER)),
        content_crc32=int(crc32, 16) if _CRC32.fullmatch(crc32) else None,
        # A query names the version.
        content_location=unquote(header(headers, b"Content-Location").partition("?")[0]),
        timestamp=_timestamp(headers),
        version=header(headers, b"X-Object-Version-Id"),
    )


def _timestamp(headers: Headers) -> float | None:
    found = header(headers, b"X-Timestamp")
    return float(found) if _TIMESTAMP.fullmatch(found) else None


def _segment_size(headers: Headers) -> int | None:
    size = _number(headers, SEGMENT_SIZE_HEADER)
    return None if size is None or size < LEAST_SEGMENT_BYTES else size


def _number(headers: Headers, name: bytes) -> int | None:
    found = header(headers, name)
    return int(found) if _NUMBER.fullmatch(found) else None


def transaction_id(headers: Headers) -> str | None:
    """The id under which the cluster's operators find this request in their logs."""
    found = header(headers, b"X-Trans-Id") or header(headers, b"X-Openstack-Request-Id")
    return _NOT_IN_AN_ID.sub("", found)[:100] or None


def retry_after(headers: Headers) -> float | None:
    """Seconds to wait, from ``Retry-After``; ``None`` if it is absent or unreadable."""
    return retry_after_seconds(header(headers, b"Retry-After"))


def clock_skew(headers: Headers, now: float) -> float:
    """How many seconds Swift's clock is ahead of ``now``; 0 if the answer does not say."""
    try:
        return parsedate_to_datetime(header(headers, b"Date")).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return 0.0


def missing_container(body: bytes) -> bool | None:
    """What is missing, by the body of a 404: ``True`` for the container, ``False`` for
    the object, ``None`` if it does not say. Ceph RGW says it, Swift does not.
    """
    if b"NoSuchBucket" in body:
        return True
    if b"NoSuchKey" in body:
        return False
    return None


def error_for(
    target: Target, status: int, headers: Headers, body: bytes, is_conditional: bool = False
) -> SwiftError:
    """The error for a status other than 2xx and 404.

    :param is_conditional: the request had ``If-Match`` or ``If-None-Match``.
    """
    wait = retry_after(headers)
    # Swift answers so to a URL whose path is not /v1/ACCOUNT/…, too.
    if status == 412 and is_conditional and b"Bad URL" not in body:
        kind, reason = _condition_failed(target.operation)
    elif status == 409 and target.operation == "DELETE":
        # DELETE in Swift's obj/server.py. The clocks of two proxies differ a little.
        kind = NewerObjectError
        reason = "Swift has the object, or its deletion, with a later time"
    elif status == 400 and target.operation == "PUT" and _SEGMENT_NOT_SEEN.search(body):
        # validate_seg_dict in Swift's middleware slo.py. The segment may be found a little later.
        kind, reason = ServerBusyError, "Swift could not look at each segment"
    else:
        kind, reason = _meaning(status, wait, body)
    return target.error(
        kind,
        reason + excerpt(body),
        status=status,
        transaction_id=transaction_id(headers),
        retry_after=wait,
    )


def _condition_failed(method: str) -> tuple[type[SwiftError], str]:
    if method == "PUT":
        return ObjectExistsError, "the object exists already"
    return ObjectChangedError, "the object was replaced meanwhile"


def _meaning(status: int, wait: float | None, body: bytes) -> tuple[type[SwiftError], str]:
    if status in BUSY_STATUSES or (status == 413 and wait is not None):
        asks = "" if wait is None else f", and asks to wait {wait:g} seconds"
        return ServerBusyError, f"Swift is busy or limits the rate{asks}"
    if status == 507:
        return InsufficientStorageError, (
            "Swift has no space left: remove something, or ask the cloud's operator"
        )
    if status >= 500:
        return ServerBusyError, "Swift failed on its side"
    if status == 401:
        return AccessDeniedError, (
            "Swift refuses a token that Keystone has just issued: check the roles of this user in "
            "this project, and whether Swift itself can reach Keystone"
        )
    if status == 403:
        return AccessDeniedError, (
            "access denied: this user needs a role, or a read and write ACL, on the container "
            "(if storage_url is set: check the account in it)"
        )
    if status == 407:
        return RequestRefusedError, (
            "the HTTP proxy wants a user and a password: put them into the variable http_proxy"
        )
    if status == 412:
        return RequestRefusedError, (
            "Swift knows no such URL: check storage_url, which ends in /v1/ and the account, as in "
            "https://swift.example.org/v1/AUTH_project"
        )
    if status == 413 and b"quota" in body.lower():
        return InsufficientStorageError, "the quota is used up: remove something, or have it raised"
    if status == 413 or b"EntityTooLarge" in body:
        return ObjectTooLargeError, (
            "larger than this cluster takes in one object: set segment_size to less"
        )
    if status == 422:
        return DamagedError, "what Swift received is not what was sent"
    if 300 <= status < 400:
        return RequestRefusedError, "Swift redirects, which is not followed: check the URL"
    return RequestRefusedError, "Swift refuses the request"


def means_what_it_says(status: int, headers: Headers) -> bool:
    """Whether an error's status can be believed: by a sign of Swift, or because it is no
    final error, or is one that a proxy in between may send on its own account.

    A firewall's 403 and a portal's 302 say nothing about the user or the object. A 401 is
    checked by signing in again, and a 404 by asking for the container.
    """
    a_proxys_own = status in (401, 404, 407, 413)
    temporary = status in BUSY_STATUSES or (status >= 500 and status != 507)
    return a_proxys_own or temporary or is_from_swift(headers)


def excerpt(body: bytes) -> str:
    """The text of a body, as the end of an error's message; ``""`` if there is none."""
    text = re.sub(r"<[^>]*>", " ", body.decode("utf-8", "replace"))
    text = " ".join(text.split())
    text = "".join(character for character in text if character.isprintable())
    return f": {text[:_SHOWN_CHARACTERS]}" if text else ""
