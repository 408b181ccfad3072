"""Which part of a file a ``Range`` header asks for, and how it is answered."""

from __future__ import annotations

import pytest
from twisted.internet.testing import StringTransport
from twisted.web.http import HTTPChannel, Request

from swift_provider.module.byte_ranges import choose_part, requested_part

SIZE = 1000
WHOLE = None
UNSATISFIABLE = range(0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # A single range.
        (b"bytes=0-", range(1000)),
        (b"bytes=0-999", range(1000)),
        (b"bytes=0-0", range(1)),
        (b"bytes=999-999", range(999, 1000)),
        (b"bytes=999-", range(999, 1000)),
        (b"bytes=500-599", range(500, 600)),
        (b"bytes=500-1000", range(500, 1000)),
        (b"bytes=0-18446744073709551615", range(1000)),
        (b"bytes=0500-00599", range(500, 600)),
        # The last bytes.
        (b"bytes=-1", range(999, 1000)),
        (b"bytes=-500", range(500, 1000)),
        (b"bytes=-1000", range(1000)),
        (b"bytes=-5000", range(1000)),
        # The unit's case does not matter, nor does white space around a range.
        (b"Bytes=0-9", range(10)),
        (b"bytes= \t0-9\t ", range(10)),
        # The file has none of these bytes.
        (b"bytes=1000-", UNSATISFIABLE),
        (b"bytes=1000-1000", UNSATISFIABLE),
        (b"bytes=99999999999999999999-", UNSATISFIABLE),
        (b"bytes=-0", UNSATISFIABLE),
        # Several ranges.
        (b"bytes=0-9,20-29", WHOLE),
        (b"bytes=0-9, 20-29", WHOLE),
        (b"bytes=0-,-1", WHOLE),
        (b"bytes=0-9,", WHOLE),
        # Other units.
        (b"items=0-9", WHOLE),
        (b"kilobytes=0-9", WHOLE),
        # Malformed.
        (b"", WHOLE),
        (b"bytes", WHOLE),
        (b"bytes=", WHOLE),
        (b"bytes=-", WHOLE),
        (b"bytes=9-0", WHOLE),
        (b"bytes=5", WHOLE),
        (b"bytes=a-b", WHOLE),
        (b"bytes=0-b", WHOLE),
        (b"bytes=--1", WHOLE),
        (b"bytes=+1-2", WHOLE),
        (b"bytes=1_0-20", WHOLE),
        (b"bytes=0x1-0x2", WHOLE),
        (b"bytes=1.5-2", WHOLE),
        (b"bytes=0 - 9", WHOLE),
        (b"bytes = 0-9", WHOLE),
        (b"bytes:0-9", WHOLE),
        (b"bytes 0-9/1000", WHOLE),
        (b"bytes=0-9\n", WHOLE),
        (b"bytes=\xd9\xa1-\xd9\xa2", WHOLE),  # digits of another script
        (b"bytes=" + b"1" * 5000 + b"-", WHOLE),  # int() refuses so many digits
    ],
)
def test_requested_part(value: bytes, expected: range | None) -> None:
    """A single range of bytes is cut to the file; everything else stands for the whole."""
    part = requested_part(value, SIZE)
    if expected is UNSATISFIABLE:
        assert part is not None
        assert not part
    else:
        assert part == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"bytes=0-", UNSATISFIABLE), (b"bytes=-0", UNSATISFIABLE), (b"bytes=-5", WHOLE)],
)
def test_parts_of_an_empty_file(value: bytes, expected: range | None) -> None:
    """An empty file has no first byte; its last five are all that it has."""
    assert requested_part(value, 0) == expected


def request(method: bytes = b"GET", **headers: bytes | list[bytes]) -> Request:
    """A request as Synapse hands it to the responder: the response's headers are set."""
    channel = HTTPChannel()
    channel.makeConnection(StringTransport())
    channel.setTimeout(None)
    made = Request(channel)
    made.method = method
    for name, value in headers.items():
        values = value if isinstance(value, list) else [value]
        made.requestHeaders.setRawHeaders(name.replace("_", "-"), values)
    made.setHeader(b"Content-Length", b"1000")
    made.setHeader(b"Content-Type", b"video/mp4")
    made.setHeader(b"Content-Disposition", b"inline")
    made.setHeader(b"Cache-Control", b"public,max-age=86400")
    made.setHeader(b"ETag", b"1")
    return made


def answered(made: Request) -> dict[str, str]:
    """The response's headers, with its status."""
    headers = made.responseHeaders.getAllRawHeaders()
    shown = {name.decode().lower(): b", ".join(values).decode() for name, values in headers}
    return {"status": str(int(made.code)), **shown}


FILE = {
    "content-type": "video/mp4",
    "content-disposition": "inline",
    "cache-control": "public,max-age=86400",
    "etag": "1",
}
AS_WHOLE = {**FILE, "status": "200", "content-length": "1000", "accept-ranges": "bytes"}


def test_part() -> None:
    """206 says which bytes come, and keeps what is said about the file."""
    made = request(Range=b"bytes=10-19")
    assert choose_part(made, SIZE) == range(10, 20)
    assert answered(made) == {
        **FILE,
        "status": "206",
        "content-length": "10",
        "content-range": "bytes 10-19/1000",
        "accept-ranges": "bytes",
    }
    assert made.code_message == b"Partial Content"


def test_unsatisfiable() -> None:
    """416 says the file's size, nothing else about the file, and is not kept by caches."""
    made = request(Range=b"bytes=1000-")
    part = choose_part(made, SIZE)
    assert part is not None
    assert not part
    assert answered(made) == {
        "status": "416",
        "content-length": "0",
        "content-range": "bytes */1000",
        "accept-ranges": "bytes",
        "cache-control": "no-store",
    }


@pytest.mark.parametrize(
    "made",
    [
        request(),
        request(Range=b"bytes=0-9,20-29"),
        request(Range=[b"bytes=0-9", b"bytes=20-29"]),
        request(b"HEAD", Range=b"bytes=0-9"),
        request(b"HEAD", Range=b"bytes=5000-"),
        request(Range=b"bytes=0-9", If_Range=b"2"),
        request(Range=b"bytes=0-9", If_Range=b'"1"'),
        request(Range=b"bytes=0-9", If_Range=b"W/1"),
        request(Range=b"bytes=0-9", If_Range=b"Wed, 21 Oct 2026 07:28:00 GMT"),
        request(Range=b"bytes=0-9", If_Range=[b"1", b"1"]),
        request(Range=b"bytes=5000-", If_Range=b"2"),
    ],
)
def test_whole(made: Request) -> None:
    """Without a usable ``Range``, or if the condition does not hold, the file is whole."""
    assert choose_part(made, SIZE) is None
    assert answered(made) == AS_WHOLE


def test_condition_holds() -> None:
    """``If-Range`` with the ETag of the response asks for the part."""
    made = request(Range=b"bytes=0-9", If_Range=b"1")
    assert choose_part(made, SIZE) == range(10)


def test_condition_without_an_etag() -> None:
    """Without an ETag in the response no condition holds."""
    made = request(Range=b"bytes=0-9", If_Range=b"1")
    made.responseHeaders.removeHeader(b"ETag")
    assert choose_part(made, SIZE) is None


def test_size_is_not_known() -> None:
    """If the size is unknown, the response stays as it is."""
    made = request(Range=b"bytes=0-9")
    before = answered(made)
    assert choose_part(made, None) is None
    assert answered(made) == before


def test_synapse_announces_no_length() -> None:
    """A part has a length also if Synapse knows none of the whole."""
    made = request(Range=b"bytes=0-9")
    made.responseHeaders.removeHeader(b"Content-Length")
    assert choose_part(made, SIZE) == range(10)
    assert answered(made)["content-length"] == "10"
