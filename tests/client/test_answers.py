"""Statuses as errors, and headers as facts."""

from __future__ import annotations

from email.utils import formatdate
from time import time

import pytest
from twisted.web.http_headers import Headers

from swift_provider.client.answers import (
    ListedObject,
    error_for,
    header,
    missing_container,
    normal_etag,
    object_info,
    retry_after,
    transaction_id,
)
from swift_provider.errors import (
    AccessDeniedError,
    DamagedError,
    InsufficientStorageError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectTooLargeError,
    RequestRefusedError,
    ServerBusyError,
    SwiftError,
    Target,
)

MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def headers_of(**values: str) -> Headers:
    return Headers({name.replace("_", "-"): [value] for name, value in values.items()})


# Statuses

#: Method, status, Retry-After, body; the error and what it says.
MEANINGS: list[tuple[str, int, str, bytes, type[SwiftError], str]] = [
    ("GET", 408, "", b"", ServerBusyError, "Swift is busy or limits the rate"),
    ("GET", 429, "", b"", ServerBusyError, "Swift is busy or limits the rate"),
    ("PUT", 498, "", b"", ServerBusyError, "Swift is busy or limits the rate"),
    ("PUT", 499, "", b"", ServerBusyError, "Swift is busy or limits the rate"),
    ("GET", 429, "7", b"", ServerBusyError, "limits the rate, and asks to wait 7 seconds"),
    ("PUT", 413, "7", b"", ServerBusyError, "limits the rate, and asks to wait 7 seconds"),
    ("PUT", 413, "0", b"quota", ServerBusyError, "limits the rate, and asks to wait 0 seconds"),
    ("PUT", 507, "", b"", InsufficientStorageError, "Swift has no space left: remove something"),
    ("GET", 500, "", b"", ServerBusyError, "Swift failed on its side"),
    ("GET", 502, "", b"", ServerBusyError, "Swift failed on its side"),
    ("GET", 503, "7", b"", ServerBusyError, "Swift failed on its side"),
    ("GET", 504, "", b"", ServerBusyError, "Swift failed on its side"),
    ("GET", 599, "", b"", ServerBusyError, "Swift failed on its side"),
    ("GET", 401, "", b"", AccessDeniedError, "just issued: check the roles of this user"),
    ("GET", 403, "", b"", AccessDeniedError, "access denied: this user needs a role"),
    ("GET", 407, "", b"", RequestRefusedError, "put them into the variable http_proxy"),
    ("PUT", 412, "", b"", RequestRefusedError, "Swift knows no such URL: check storage_url"),
    ("GET", 412, "", b"", RequestRefusedError, "Swift knows no such URL: check storage_url"),
    ("PUT", 413, "", b"Quota used", InsufficientStorageError, "the quota is used up"),
    ("PUT", 413, "", b"", ObjectTooLargeError, "set segment_size to less"),
    ("PUT", 400, "", b"EntityTooLarge", ObjectTooLargeError, "set segment_size to less"),
    ("PUT", 422, "", b"", DamagedError, "what Swift received is not what was sent"),
    ("GET", 300, "", b"", RequestRefusedError, "which is not followed: check the URL"),
    ("GET", 301, "", b"", RequestRefusedError, "which is not followed: check the URL"),
    ("GET", 307, "", b"", RequestRefusedError, "which is not followed: check the URL"),
    ("GET", 400, "", b"", RequestRefusedError, "Swift refuses the request"),
    ("GET", 405, "", b"", RequestRefusedError, "Swift refuses the request"),
    ("GET", 416, "", b"", RequestRefusedError, "Swift refuses the request"),
]


@pytest.mark.parametrize(("method", "status", "wait", "body", "kind", "reason"), MEANINGS)
def test_each_status_has_its_error(
    method: str, status: int, wait: str, body: bytes, kind: type[SwiftError], reason: str
) -> None:
    """Each status becomes one kind of error, which says what is wrong and what to do."""
    headers = headers_of(Retry_After=wait, X_Trans_Id="tx1")
    error = error_for(Target(method, "box", "name"), status, headers, body)
    assert type(error) is kind
    assert reason in error.reason
    assert (error.operation, error.container, error.name) == (method, "box", "name")
    assert (error.status, error.transaction_id) == (status, "tx1")
    assert error.retry_after == (float(wait) if wait else None)


@pytest.mark.parametrize(
    ("method", "kind", "reason"),
    [
        ("PUT", ObjectExistsError, "the object exists already"),
        ("GET", ObjectChangedError, "the object was replaced meanwhile"),
        ("HEAD", ObjectChangedError, "the object was replaced meanwhile"),
    ],
)
def test_412_to_a_condition(method: str, kind: type[SwiftError], reason: str) -> None:
    """Only a request that had a condition can fail because of it."""
    target = Target(method, "box", "name")
    error = error_for(target, 412, Headers(), b"", is_conditional=True)
    assert type(error) is kind
    assert error.reason == reason
    error = error_for(target, 412, Headers(), b"Bad URL", is_conditional=True)
    assert "check storage_url" in error.reason


def test_an_error_quotes_the_body() -> None:
    """The text of the body follows the reason: without tags, in one line, and cut."""
    body = b"<html><h1>Not  now</h1>\r\n<p>Try\x00 la\xffter</p></html>" + b"x" * 1000
    error = error_for(Target("GET", "box", None), 503, Headers(), body)
    shown = error.reason.removeprefix("Swift failed on its side: ")
    assert shown.startswith("Not now Try la�ter xxx")
    assert len(shown) == 160


# Facts


def test_the_facts_of_a_plain_object() -> None:
    """Size, ETag, type and date come from the headers."""
    headers = headers_of(
        Content_Length="12",
        ETag=MD5,
        Content_Type="image/png",
        Last_Modified="Thu, 01 Jan 1970 00:00:00 GMT",
    )
    info = object_info("name", headers)
    assert (info.name, info.size, info.etag) == ("name", 12, MD5)
    assert info.content_type == "image/png"
    assert info.last_modified == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert (info.static_large, info.dynamic_large, info.segment_size) == (False, False, None)
    assert info.is_plain


def test_a_size_that_is_given_counts() -> None:
    """The caller's size takes precedence over Content-Length, also if it is 0."""
    assert object_info("name", headers_of(Content_Length="12"), 0).size == 0


@pytest.mark.parametrize("length", ["", "-1", "many", "\xb2", "9" * 5000])
def test_an_unknown_size(length: str) -> None:
    """Without a readable Content-Length the size is not known, nor are the segments' sizes."""
    headers = headers_of(Content_Length=length, X_Object_Meta_Segment_Size=length)
    info = object_info("name", headers)
    assert info.size is info.segment_size is None


@pytest.mark.parametrize(
    ("headers", "static", "dynamic", "segment_size"),
    [
        (headers_of(X_Static_Large_Object="True"), True, False, None),
        (headers_of(X_Static_Large_Object="False"), False, False, None),
        (headers_of(X_Object_Manifest="box/parts/"), False, True, None),
        (
            headers_of(X_Static_Large_Object="true", X_Object_Meta_Segment_Size="1048576"),
            True,
            False,
            1048576,
        ),
        (
            headers_of(X_Static_Large_Object="true", X_Object_Meta_Segment_Size="1048575"),
            True,
            False,
            None,
        ),
        (
            headers_of(X_Static_Large_Object="true", X_Object_Meta_Segment_Size="x"),
            True,
            False,
            None,
        ),
        (
            headers_of(X_Static_Large_Object="true", X_Object_Meta_Segment_Size="9" * 5000),
            True,
            False,
            None,
        ),
    ],
)
def test_large_objects_are_recognised(
    headers: Headers, static: bool, dynamic: bool, segment_size: int | None
) -> None:
    """A large object is not plain, even if its ETag looks like an MD5."""
    headers.setRawHeaders("ETag", [MD5])
    info = object_info("name", headers)
    assert (info.static_large, info.dynamic_large) == (static, dynamic)
    assert info.segment_size == segment_size
    assert info.is_plain is not (static or dynamic)


@pytest.mark.parametrize("etag", ["", "short", MD5 + "-2", "g" * 32])
def test_an_etag_that_is_no_md5(etag: str) -> None:
    """An object whose ETag is no MD5 is not plain: its content cannot be proven."""
    assert not object_info("name", headers_of(ETag=etag)).is_plain


@pytest.mark.parametrize("etag", [MD5, f'"{MD5}"', f'W/"{MD5}"', MD5.upper(), f' "{MD5}" '])
def test_an_etag_in_any_form(etag: str) -> None:
    """Quotes, ``W/``, case and spaces are not part of an ETag."""
    assert normal_etag(etag) == MD5


def test_a_listed_object_without_the_prefix() -> None:
    """Only the name changes."""
    row = ListedObject("media/ab/cd", 12, MD5, "1970-01-01T00:00:00")
    assert row.without_prefix(6) == ListedObject("ab/cd", 12, MD5, "1970-01-01T00:00:00")


def test_a_header_that_is_missing() -> None:
    """A missing header is empty; of several the first counts."""
    assert header(Headers(), b"ETag") == ""
    assert header(Headers({b"ETag": [b"one", b"two"]}), b"ETag") == "one"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (headers_of(X_Trans_Id="tx1", X_Openstack_Request_Id="tx2"), "tx1"),
        (headers_of(X_Openstack_Request_Id="tx2"), "tx2"),
        (headers_of(X_Trans_Id="t" * 1000), "t" * 100),
        (Headers({b"X-Trans-Id": [b"tx\x1b[2J\x1b]0;t\x07\x9b31m \xc3\xa4"]}), "tx[2J]0;t31m"),
        (Headers({b"X-Trans-Id": [b"\x1b\x07"]}), None),
        (Headers(), None),
    ],
)
def test_the_transaction_id(headers: Headers, expected: str | None) -> None:
    """Swift's id comes before OpenStack's, and a long one is cut. A terminal would obey
    control characters.
    """
    assert transaction_id(headers) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        (" 30 ", 30.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_past_date(value: str, expected: float | None) -> None:
    """``Retry-After`` is seconds or a date; a past date means now."""
    assert retry_after(headers_of(Retry_After=value)) == expected


def test_retry_after_as_a_date() -> None:
    """A date in the future is as many seconds away."""
    value = formatdate(time() + 60, usegmt=True)
    assert 58 <= (retry_after(headers_of(Retry_After=value)) or 0) <= 60


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"Code":"NoSuchBucket"}', True),
        (b'{"Code":"NoSuchKey"}', False),
        (b"<html><h1>Not Found</h1></html>", None),
        (b"", None),
    ],
)
def test_what_a_404_says_is_missing(body: bytes, expected: bool | None) -> None:
    """Ceph RGW names what is missing, Swift does not."""
    assert missing_container(body) is expected
