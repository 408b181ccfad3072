"""Answers that do not bring an object's bytes, though Swift has made or passed them."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Callable

import pytest

from swift_provider.errors import DamagedError, ServerBusyError, SwiftError
from tests.client.conftest import Faulty, PutObject, Sink
from tests.client.trouble import SHORT_PATIENCE, fetch, gets
from tests.servers.faults import Answer, Cut, Then, in_response

CONTENT = random.Random(6).randbytes(100_000) * 2
MD5 = hashlib.md5(CONTENT).hexdigest()
ZIPPED = gzip.compress(CONTENT)
#: Of a dynamic large object: its ETag proves nothing.
DYNAMIC = {"X-Object-Manifest": "box/segments", "ETag": f'"{"0" * 32}"'}
END = {"Content-Range": "bytes 150000-199999/200000"}


def chunked(body: bytes, **headers: str) -> Answer:
    """A 200 without a length, as a proxy sends it that changes a body on its way."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = ["HTTP/1.1 200 OK", "X-Trans-Id: tx1", *lines, "Transfer-Encoding: chunked", "", ""]
    raw = "\r\n".join(head).encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return Answer(200, raw=raw)


UNPROVEN: dict[str, Callable[[], Answer]] = {
    "204": lambda: Answer(204, headers={"ETag": MD5}),
    "205": lambda: Answer(205, headers={"ETag": MD5}),
    "203": lambda: Answer(203, CONTENT, {"ETag": MD5}),
    "206 of a plain object": lambda: Answer(206, CONTENT[150_000:], {"ETag": MD5, **END}),
    "206 of a dynamic one": lambda: Answer(206, CONTENT[150_000:], {**DYNAMIC, **END}),
    "several parts": lambda: Answer(
        206, b"--b--", {**DYNAMIC, "Content-Type": "multipart/byteranges; boundary=b"}
    ),
    "no ETag": lambda: Answer(200, bytes(200_000)),
    "gzip, Apache's ETag": lambda: chunked(ZIPPED, ETag=f'"{MD5}-gzip"', Content_Encoding="gzip"),
    "gzip, nginx's ETag": lambda: chunked(ZIPPED, ETag=f'W/"{MD5}"', Content_Encoding="gzip"),
    "gzip, no ETag": lambda: chunked(ZIPPED, Content_Encoding="gzip"),
    "gzip, a dynamic one": lambda: chunked(
        ZIPPED, X_Object_Manifest="box/x", ETag=f'"{MD5}"', Content_Encoding="gzip"
    ),
}


@pytest.mark.parametrize("answer", UNPROVEN)
async def test_an_answer_that_proves_nothing_is_asked_for_again(
    faulty: Faulty, container: str, put_object: PutObject, answer: str
) -> None:
    """It is retried before anything is delivered; the next answer may be Swift's own."""
    await put_object(CONTENT)
    faulty.proxy.add(UNPROVEN[answer]())
    assert await fetch(faulty.store(container, patience=SHORT_PATIENCE)) == CONTENT
    assert len(gets(faulty)) == 2


async def test_an_answer_that_never_proves_anything(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """The error says that something on the way may change the answers."""
    await put_object(CONTENT)
    faulty.proxy.add(Answer(200, CONTENT, times=None, match=("GET", "/object$")))
    with pytest.raises(ServerBusyError, match="nothing proves the bytes: something between"):
        await faulty.store(container, patience=SHORT_PATIENCE).get("object")


async def test_gzip_that_keeps_the_etag(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """Bytes that are not those of the MD5 never look whole."""
    await put_object(CONTENT)
    faulty.proxy.add(chunked(ZIPPED, ETag=f'"{MD5}"', Content_Encoding="gzip"))
    sink = Sink()
    with pytest.raises(DamagedError):
        await fetch(faulty.store(container), sink)
    assert len(sink.content) < len(ZIPPED)


async def test_a_stored_encoding_without_a_length(faulty: Faulty, container: str) -> None:
    """A proxy may pass a compressed object on in chunks; the MD5 proves it."""
    etag = hashlib.md5(ZIPPED).hexdigest()
    faulty.proxy.add(chunked(ZIPPED, ETag=etag, Content_Encoding="gzip"))
    assert await fetch(faulty.store(container)) == ZIPPED


@pytest.mark.parametrize(
    "headers",
    [
        None,
        DYNAMIC,
        {"ETag": f'"{"0" * 32}"', "X-Static-Large-Object": "True"},
        {"ETag": f"{'0' * 32}-17"},
    ],
    ids=["plain", "dynamic", "static", "in parts through S3"],
)
@pytest.mark.parametrize("body", [ZIPPED, ZIPPED[:1000]], ids=["large", "small"])
async def test_a_stored_encoding(
    faulty: Faulty, container: str, headers: dict[str, str] | None, body: bytes
) -> None:
    """What another tool stored compressed is served as it is stored."""
    headers = headers or {"ETag": hashlib.md5(body).hexdigest()}
    faulty.proxy.add(Answer(200, body, {**headers, "Content-Encoding": "gzip"}, times=None))
    assert await fetch(faulty.store(container, patience=SHORT_PATIENCE)) == body


@pytest.mark.parametrize("status", [203, 204, 205])
async def test_the_rest_of_a_body_has_two_statuses(
    faulty: Faulty, container: str, put_object: PutObject, status: int
) -> None:
    """An answer to ``Range`` that is neither 200 nor 206 is asked for again."""
    await put_object(CONTENT)
    faulty.proxy.add(Cut(in_response(100_000)), Answer(status, headers={"ETag": MD5}))
    assert await fetch(faulty.store(container)) == CONTENT
    assert [seen.status for seen in gets(faulty)] == [200, status, 206]


async def test_a_part_is_no_answer_to_a_request_for_the_whole(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """After a break before the first byte the whole is requested, so 206 is odd again."""
    await put_object(CONTENT)
    whole = {"ETag": MD5, "Content-Range": "bytes 0-199999/200000"}
    faulty.proxy.add(Cut(in_response(0)), Answer(206, CONTENT, whole))
    assert await fetch(faulty.store(container)) == CONTENT
    assert [seen.status for seen in gets(faulty)] == [200, 206, 200]


async def test_a_foreign_416_ends_nothing(faulty: Faulty, container: str) -> None:
    """A page with status 416 does not complete a body that broke off."""
    whole = chunked(CONTENT, X_Object_Manifest="box/x", ETag=f'"{MD5}"')
    assert whole.raw is not None
    broken = Answer(200, raw=whole.raw[:100_000], then=Then.CLOSE)
    faulty.proxy.add(broken, Answer(416, b"<html>", times=None, foreign=True))
    with pytest.raises(SwiftError, match="416"):
        await fetch(faulty.store(container, patience=SHORT_PATIENCE))
