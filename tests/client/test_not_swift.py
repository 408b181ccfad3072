"""What answers in Swift's place is not taken for Swift."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from twisted.web.http_headers import Headers

from swift_provider.client import Place
from swift_provider.client.answers import is_from_swift
from swift_provider.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    RequestRefusedError,
    ServerBusyError,
    SwiftError,
)
from tests.client.conftest import Faulty
from tests.client.trouble import NO_TIME, SHORT_PATIENCE, MakeFile, content_of
from tests.servers.faults import Answer

PAGE = b"<html><h1>Sorry</h1>We are maintaining our systems.</html>"
#: As a web server sends with a file of its own.
NGINX = {
    "Server": "nginx",
    "Content-Type": "text/html",
    "Last-Modified": "Thu, 26 Nov 2026 10:00:00 GMT",
    "ETag": '"65630f1a-37"',
    "Accept-Ranges": "bytes",
}
HASHED = {"ETag": '"0123456789abcdef0123456789abcdef"', "Content-Type": "text/html"}
#: As Amazon S3 and MinIO send with a page that they host.
S3 = {
    "Server": "AmazonS3",
    "Content-Type": "text/html",
    "X-Amz-Request-Id": "B4T6XJQ8",
    "Last-Modified": "Thu, 26 Nov 2026 10:00:00 GMT",
    "ETag": f'"{hashlib.md5(PAGE).hexdigest()}"',
}


@pytest.mark.parametrize("headers", [{}, NGINX, HASHED, S3], ids=["bare", "nginx", "hashed", "S3"])
@pytest.mark.parametrize("status", [200, 203])
@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.get("object"),
        lambda store: store.head("object"),
        lambda store: store.check(),
        lambda store: store.list().__anext__(),
        lambda store: store.delete("object"),
    ],
    ids=["get", "head", "check", "list", "delete"],
)
async def test_a_foreign_200_is_a_temporary_failure(
    faulty: Faulty,
    container: str,
    headers: dict[str, str],
    status: int,
    ask: Callable[[Place], Any],
) -> None:
    """A maintenance page is no object, no container and no listing."""
    faulty.proxy.add(Answer(status, PAGE, headers, times=None, foreign=True))
    store = faulty.store(container, patience=NO_TIME)
    with pytest.raises(ServerBusyError, match="not Swift's"):
        await ask(store)


async def test_a_foreign_201_stores_nothing(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """An upload is not done when something else says so."""
    faulty.proxy.add(Answer(201, after=None, times=None, match=("PUT", ""), foreign=True))
    store = faulty.store(container, patience=NO_TIME)
    with pytest.raises(ServerBusyError, match="not Swift's"):
        await store.put("name", make_file(content_of(1000)))


async def test_a_page_that_comes_once_costs_a_retry(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """The next attempt gets the object."""
    store = faulty.store(container, patience=SHORT_PATIENCE)
    await store.put("name", make_file(b"content"))
    faulty.proxy.add(page := Answer(200, PAGE, NGINX, match=("GET", "/name$"), foreign=True))
    download = await store.get("name")
    download.abandon()
    assert page.fired == 1
    assert download.info.size == 7


@pytest.mark.parametrize("headers", [NGINX, {"X-Timestamp": "1700000000"}], ids=["nginx", "dated"])
@pytest.mark.parametrize("seen", [True, False], ids=["container seen", "container not seen"])
async def test_a_foreign_404_is_not_believed(
    faulty: Faulty, container: str, seen: bool, headers: dict[str, str]
) -> None:
    """Where nothing of Swift answers, nobody knows whether the object is there."""
    store = faulty.store(container, patience=NO_TIME)
    if seen:
        await store.check()
    faulty.proxy.add(Answer(404, PAGE, headers, times=None, foreign=True))
    for ask in (store.get, store.head):
        with pytest.raises(ServerBusyError, match="not Swift's"):
            await ask("name")


@pytest.mark.parametrize("code", [b"NoSuchKey", b"NoSuchBucket"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda store, _: store.get("name"),
        lambda store, _: store.head("name"),
        lambda store, _: store.delete("name"),
        lambda store, make_file: store.put("name", make_file(b"content")),
    ],
    ids=["get", "head", "delete", "put"],
)
async def test_a_foreign_404_in_words_of_s3(
    faulty: Faulty,
    container: str,
    make_file: MakeFile,
    code: bytes,
    ask: Callable[[Place, MakeFile], Any],
) -> None:
    """What an S3 host says of its own buckets is no fact about this object or container."""
    page = b"<Error><Code>%b</Code></Error>" % code
    headers = {"Server": "AmazonS3", "X-Amz-Request-Id": "r"}
    faulty.proxy.add(Answer(404, page, headers, after=None, times=None, foreign=True))
    store = faulty.store(container, patience=NO_TIME)
    with pytest.raises(ServerBusyError, match="not Swift's"):
        await ask(store, make_file)


async def test_a_404_is_believed_if_a_proxy_removes_the_ids(faulty: Faulty, container: str) -> None:
    """Then the container's own headers are left, and its answer has no id either."""
    store = faulty.store(container, patience=SHORT_PATIENCE)
    await store.check()
    counted = {"X-Container-Object-Count": "0"}
    faulty.proxy.add(
        Answer(404, match=("GET", "/name$"), foreign=True),
        Answer(204, headers=counted, match=("HEAD", f"/{container}$"), foreign=True),
    )
    seen = len(faulty.proxy.requests)
    with pytest.raises(ObjectNotFoundError):
        await store.get("name")
    asked = [(one.method, one.path.rpartition("/")[2]) for one in faulty.proxy.requests[seen:]]
    assert asked == [("GET", "name"), ("HEAD", container), ("GET", "name")]


async def test_a_404_without_an_id_beside_answers_with_one(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """If the container answers with an id, a 404 without one is not Swift's: retry."""
    store = faulty.store(container, patience=SHORT_PATIENCE)
    await store.put("name", make_file(b"content"))
    faulty.proxy.add(Answer(404, PAGE, NGINX, match=("GET", "/name$"), foreign=True))
    download = await store.get("name")
    download.abandon()
    assert download.info.size == 7


async def test_a_foreign_404_and_a_foreign_403(faulty: Faulty, container: str) -> None:
    """A firewall that answers both says nothing about the object."""
    store = faulty.store(container, patience=NO_TIME)
    faulty.proxy.add(
        Answer(404, PAGE, NGINX, times=None, match=("GET", "/name$"), foreign=True),
        Answer(403, PAGE, NGINX, times=None, match=("HEAD", f"/{container}$"), foreign=True),
    )
    with pytest.raises(ServerBusyError, match="not Swift's"):
        await store.get("name")


async def test_a_foreign_404_beside_swifts_own_403(faulty: Faulty, container: str) -> None:
    """Swift's refusal to show the container does not make another server's 404 Swift's."""
    store = faulty.store(container, patience=NO_TIME)
    faulty.proxy.add(
        Answer(404, PAGE, NGINX, times=None, match=("GET", "/name$"), foreign=True),
        Answer(403, times=None, match=("HEAD", f"/{container}$")),
    )
    for _ in range(2):
        with pytest.raises(ServerBusyError, match="not Swift's"):
            await store.get("name")


async def test_a_404_of_swift_beside_a_403(faulty: Faulty, container: str) -> None:
    """A user who may use objects but not look at the container gets Swift's 404 as it is."""
    store = faulty.store(container, patience=SHORT_PATIENCE)
    faulty.proxy.add(
        Answer(404, times=None, match=("GET", "/name$")),
        Answer(403, match=("HEAD", f"/{container}$")),
    )
    for _ in range(2):
        with pytest.raises(ObjectNotFoundError):
            await store.get("name")


FINAL = [301, 302, 307, 400, 403, 405, 409, 412, 416, 422, 451, 507]


@pytest.mark.parametrize("status", FINAL)
async def test_a_foreign_refusal_that_comes_once_costs_a_retry(
    faulty: Faulty, container: str, make_file: MakeFile, status: int
) -> None:
    """A portal's redirect or a firewall's 403 says nothing about the object."""
    store = faulty.store(container, patience=SHORT_PATIENCE)
    for method in ("PUT", "GET"):
        elsewhere = {"Location": "http://portal.example/"}
        faulty.proxy.add(Answer(status, PAGE, elsewhere, match=(method, "/name$"), foreign=True))
    await store.put("name", make_file(b"content"), if_absent=True)
    download = await store.get("name")
    download.abandon()
    assert download.info.size == 7


@pytest.mark.parametrize("status", FINAL)
async def test_a_foreign_refusal_that_lasts(faulty: Faulty, container: str, status: int) -> None:
    """The error says that it is not Swift's, and quotes it."""
    faulty.proxy.add(Answer(status, PAGE, NGINX, times=None, foreign=True))
    store = faulty.store(container, patience=NO_TIME)
    with pytest.raises(ServerBusyError, match=f"not Swift's.*We are maintaining.*HTTP {status}"):
        await store.get("object")


async def test_a_redirect_names_the_url(faulty: Faulty, container: str) -> None:
    """A server that sends http to https answers so for every request."""
    faulty.proxy.add(Answer(301, PAGE, times=None, foreign=True))
    store = faulty.store(container, patience=NO_TIME)
    with pytest.raises(ServerBusyError, match="check the storage URL"):
        await store.check()


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AccessDeniedError), (407, RequestRefusedError), (413, ObjectTooLargeError)],
)
async def test_what_a_proxy_refuses_on_its_own_account(
    faulty: Faulty, container: str, make_file: MakeFile, status: int, error: type[SwiftError]
) -> None:
    """These are final, and their errors say what to change."""
    faulty.proxy.add(Answer(status, PAGE, NGINX, times=None, match=("PUT", ""), foreign=True))
    store = faulty.store(container, patience=SHORT_PATIENCE)
    with pytest.raises(error):
        await store.put("name", make_file(content_of(1000)))


async def test_a_404_of_swift_costs_one_request(faulty: Faulty, container: str) -> None:
    """With the container seen just before, a signed 404 is an answer."""
    store = faulty.store(container, patience=SHORT_PATIENCE)
    await store.check()
    seen = len(faulty.proxy.requests)
    with pytest.raises(ObjectNotFoundError):
        await store.get("name")
    assert len(faulty.proxy.requests) == seen + 1


@pytest.mark.parametrize(
    ("headers", "signed"),
    [
        ({}, False),
        (NGINX, False),
        (HASHED, False),
        ({"X-Trans-Id": "tx1"}, True),
        ({"X-Openstack-Request-Id": "tx1"}, True),
        ({"X-Timestamp": "1700000000.00000"}, True),
        ({"X-Container-Object-Count": "0"}, True),
        (S3, False),
    ],
)
def test_the_signs_of_swift(headers: dict[str, str], signed: bool) -> None:
    """Swift's own headers, and nothing that other servers send, too."""
    found = Headers({name: [value] for name, value in headers.items()})
    assert is_from_swift(found) == signed
