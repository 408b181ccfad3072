"""Retries, tokens, the meaning of a 404, and what an error shows."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from swift_provider.client import FileSource, Observer, Patience, Place, Progress, SwiftClient
from swift_provider.client.request import Request
from swift_provider.client.slots import Lane
from swift_provider.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    ContainerNotFoundError,
    InsufficientStorageError,
    NewerObjectError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    ObjectUnclearError,
    RequestRefusedError,
    ServerBusyError,
    SwiftError,
    SwiftProviderError,
    TemporaryError,
    TimedOutError,
)
from tests.client.conftest import Faulty, PutObject, Sink
from tests.client.identity.keystone_standin import endpoint, running_standin
from tests.client.trouble import (
    HUGE,
    LARGE,
    LONG_PATIENCE,
    MIB,
    NO_PATIENCE,
    SHORT_PATIENCE,
    MakeFile,
    begin,
    cancelled,
    content_of,
    fetch,
    gets,
    nothing_in_flight,
    puts,
    soon,
    started,
    stored,
    until,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Cut,
    Delay,
    Reset,
    Stall,
    Then,
    in_request,
    in_response,
)
from tests.servers.keystone import Credentials, Keystone
from tests.servers.swift import Swift

# Retries


@pytest.mark.parametrize("status", [408, 429, 498, 499, 500, 502, 503, 504])
async def test_a_busy_server_is_asked_again(
    faulty: Faulty, container: str, make_file: MakeFile, status: int
) -> None:
    """These statuses are retried, for uploads and for other requests."""
    store = faulty.store(container, patience=LONG_PATIENCE)
    faulty.proxy.add(Answer(status, times=2, match=("PUT", "")))
    faulty.proxy.add(Answer(status, times=2, match=("HEAD", "")))
    await store.put("name", make_file(b"content"))
    assert (await store.head("name")).size == 7
    assert [seen.method for seen in faulty.proxy.requests] == ["PUT"] * 3 + ["HEAD"] * 3


async def test_refused_connections_are_tried_again(faulty: Faulty, container: str) -> None:
    """Refused connections are retried within the patience."""
    store = faulty.store(container, patience=LONG_PATIENCE)
    await faulty.proxy.refuse(0.3)
    await store.check()
    await faulty.proxy.refuse()
    lost = faulty.store(container, patience=NO_PATIENCE)
    with pytest.raises(ConnectionFailedError, match="refused"):
        await lost.check()
    faulty.proxy.accept_again()


@pytest.mark.parametrize(("status", "same"), [(408, False), (499, False), (503, True)])
async def test_a_connection_that_lost_its_place_is_not_used_again(
    faulty: Faulty, container: str, status: int, same: bool
) -> None:
    """After 408 and 499 the retry uses a new connection."""
    faulty.proxy.add(Answer(status, match=("HEAD", "")))
    await faulty.store(container, patience=LONG_PATIENCE).check()
    first, second = faulty.proxy.requests
    assert (first.connection == second.connection) is same


FINAL = [
    (400, b"", RequestRefusedError, "refuses the request"),
    (403, b"", AccessDeniedError, "needs a role"),
    (407, b"", RequestRefusedError, "put them into the variable http_proxy"),
    (405, b"", RequestRefusedError, "refuses the request"),
    (411, b"", RequestRefusedError, "refuses the request"),
    (301, b"", RequestRefusedError, "check the URL"),
    (400, b"<Code>EntityTooLarge</Code>", ObjectTooLargeError, "segment_size"),
    (413, b"", ObjectTooLargeError, "segment_size"),
    (413, b"QuotaExceeded", InsufficientStorageError, "quota"),
    (507, b"", InsufficientStorageError, "no space left"),
]


@pytest.mark.parametrize(("status", "body", "kind", "advice"), FINAL)
async def test_a_refusal_is_final(
    faulty: Faulty,
    container: str,
    make_file: MakeFile,
    status: int,
    body: bytes,
    kind: type[SwiftError],
    advice: str,
) -> None:
    """These statuses are not retried, and the error says what to change."""
    headers = {"X-Trans-Id": "tx-of-the-test"}
    faulty.proxy.add(Answer(status, body, headers, times=None, match=("PUT", "")))
    with pytest.raises(SwiftError, match=advice) as raised:
        await faulty.store(container, patience=LONG_PATIENCE).put("a/b", make_file(b"x"))
    error = raised.value
    assert type(error) is kind
    assert not error.temporary
    assert len(puts(faulty)) == 1
    assert (error.status, error.operation) == (status, "PUT")
    assert (error.container, error.name) == (container, "a/b")
    assert error.transaction_id == "tx-of-the-test"
    for part in (f"HTTP {status}", "PUT", f"{container}/a/b", "tx-of-the-test"):
        assert part in str(error)


@pytest.mark.parametrize(("size", "tries"), [(LARGE, 2), (10, 1)])
async def test_sending_a_large_body_takes_no_patience(
    faulty: Faulty, container: str, make_file: MakeFile, size: int, tries: int
) -> None:
    """The time for sending a large body does not count against the patience."""
    patience = Patience(
        total_seconds=1.0, first_delay=0.01, longest_delay=0.01, operation_seconds=30.0
    )
    faulty.proxy.add(Answer(503, b"late", after=None, body_delay=1.5, match=("PUT", "")))
    upload = faulty.store(container, patience=patience).put("name", make_file(content_of(size)))
    if tries == 1:
        with pytest.raises(ServerBusyError):
            await upload
    else:
        await upload
    assert len(puts(faulty)) == tries


async def test_413_with_a_wait_is_a_rate_limit(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """A 413 with ``Retry-After`` is a rate limit and is retried."""
    faulty.proxy.add(Answer(413, headers={"Retry-After": "0"}, match=("PUT", "")))
    await faulty.store(container, patience=LONG_PATIENCE).put("name", make_file(b"x"))
    assert [seen.status for seen in puts(faulty)] == [413, 201]


async def test_a_wait_beyond_patience_ends_it(faulty: Faulty, container: str) -> None:
    """If Swift asks for a longer wait than the patience allows, the request fails at once."""
    faulty.proxy.add(Answer(429, headers={"Retry-After": "3600"}))
    with pytest.raises(ServerBusyError, match="asks to wait 3600 seconds") as raised:
        await faulty.store(container, patience=LONG_PATIENCE).check()
    assert raised.value.retry_after == 3600
    assert len(faulty.proxy.requests) == 1


async def test_an_operation_is_limited_as_a_whole(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """An operation has a time limit as a whole, which is longer for a large body."""
    patience = Patience(
        total_seconds=0.0,
        first_delay=0.01,
        longest_delay=0.01,
        operation_seconds=4.0,
        slowest_bytes_per_second=16_000_000,
    )
    limits = {"connect_timeout": 1, "response_timeout": 1}
    store = faulty.store(container, patience=patience, threadpool_size=1, **limits)
    await store.check()
    faulty.proxy.add(stall := Stall(in_request(0), match=("PUT", "/name$")))
    upload = begin(store.put("name", make_file(content_of(HUGE))))
    await soon(stall.happened())
    with pytest.raises(TimedOutError, match="not done within 4 seconds"):
        await store.check()  # the upload has the only slot
    with pytest.raises(TimedOutError, match="not done within 5 seconds"):
        await upload
    await nothing_in_flight(faulty)


async def test_the_limit_on_a_read_is_no_shorter_than_its_answer_may_take(
    faulty: Faulty, container: str
) -> None:
    """``response_timeout`` counts, also if it is longer than an operation usually takes."""
    patience = Patience(
        total_seconds=0.0, first_delay=0.01, longest_delay=0.01, operation_seconds=0.5
    )
    store = faulty.store(container, patience=patience, response_timeout=30)
    faulty.proxy.add(Delay(1.5))
    await store.check()


@pytest.mark.parametrize("match", ["/name$", "/name[?]multipart-manifest=put"])
async def test_the_limit_on_an_upload_is_no_shorter_than_its_answer_may_take(
    faulty: Faulty, container: str, make_file: MakeFile, match: str
) -> None:
    """The same for a small file, and for a manifest, whose segments Swift checks first."""
    patience = Patience(
        total_seconds=0.0, first_delay=0.01, longest_delay=0.01, operation_seconds=0.5
    )
    store = faulty.store(container, patience=patience, response_timeout=30, segment_size=MIB)
    large = "manifest" in match
    if large:
        await store.segments.create()
    faulty.proxy.add(slow := Delay(1.5, match=("PUT", match)))
    await store.put("name", make_file(content_of(MIB + 1 if large else 1000)))
    assert slow.fired == 1


def test_uploads_share_a_thin_line(make_client: Callable[..., SwiftClient]) -> None:
    """An upload has the time that all uploads of its size would take one after the other."""
    patience = Patience(
        total_seconds=0.0,
        first_delay=0.01,
        longest_delay=0.01,
        operation_seconds=0.1,
        slowest_bytes_per_second=10_000,
    )
    client = make_client(patience=patience, threadpool_size=4)
    upload = Request("PUT", "media", "name", lane=Lane.WRITE, size=5000)
    one_attempt = client.requester._operation_limit(replace(upload, size=0))
    limit = client.requester._operation_limit(upload)
    assert client.slots.for_uploads > 1
    assert limit == one_attempt + client.slots.for_uploads * 0.5


async def test_a_proof_comes_from_no_cache(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """What a local file is deleted for, all of Swift's replicas say, and no cache between."""
    await put_object(b"x")
    store = faulty.store(container)
    await store.head("object", newest=True)
    await store.head("object")
    proof, usual = (seen.headers for seen in faulty.proxy.requests if seen.method == "HEAD")
    assert (proof["x-newest"], proof["cache-control"]) == ("true", "no-cache")
    assert "x-newest" not in usual


# Stale connections


async def test_a_stale_connection_costs_one_try_for_nothing(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """A kept connection that turns out to be dead is replaced without delay."""
    sending = faulty.store(container, patience=NO_PATIENCE)
    faulty.proxy.add(stall := Stall(ON_REQUEST, times=3, match=("PUT", "/first")))
    firsts = [begin(sending.put(f"first-{number}", make_file(b"x"))) for number in range(3)]
    await until(lambda: stall.fired == 3)
    stall.release()
    for first in firsts:
        await soon(first)
    assert faulty.proxy.connections_open == 3
    faulty.proxy.add(Reset(ON_REQUEST, reused=True, times=None))
    await sending.put("second", make_file(b"content"))
    assert len(puts(faulty)) == 5
    assert await stored(store, "second") == b"content"


async def test_a_new_connection_that_is_lost_is_an_error(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """The loss of a new connection counts as a failure."""
    faulty.proxy.add(Reset(ON_REQUEST))
    with pytest.raises(ConnectionFailedError):
        await faulty.store(container, patience=NO_PATIENCE).put("n", make_file(b"x"))
    assert len(puts(faulty)) == 1


async def test_a_free_try_is_free_once(faulty: Faulty, container: str, make_file: MakeFile) -> None:
    """The immediate retry after a stale connection happens once for an operation."""
    sending = faulty.store(container, patience=NO_PATIENCE)
    await sending.put("first", make_file(b"x"))
    faulty.proxy.add(Reset(ON_REQUEST, times=None))
    with pytest.raises(ConnectionFailedError):
        await sending.put("second", make_file(b"x"))
    assert len(puts(faulty)) == 3


# 404


async def test_a_missing_object_is_final(faulty: Faulty, container: str) -> None:
    """A 404 is not retried, and its error has Swift's transaction id."""
    store = faulty.store(container, patience=LONG_PATIENCE)
    await store.check()
    with pytest.raises(ObjectNotFoundError, match="there is no such object") as raised:
        await store.head("nothing")
    assert (raised.value.transaction_id or "").startswith("tx")
    assert len(faulty.proxy.requests) == 2


@pytest.mark.parametrize("then", [Then.READ_ON, Then.CLOSE])
@pytest.mark.parametrize("delay", [None, 0.05])
async def test_bodies_of_404_are_read_or_dropped(
    faulty: Faulty, container: str, then: Then, delay: float | None
) -> None:
    """A 404 is final however its body comes, and its connection is not left open."""
    client = faulty.client()
    store = Place(client, container)
    await store.check()
    faulty.proxy.add(
        *(Answer(404, b"<html>" * n, then=then, body_delay=delay) for n in (0, 1, 10_000))
    )
    for _ in range(3):
        with pytest.raises(ObjectNotFoundError):
            await store.get("object")
    assert len(gets(faulty)) == 3
    assert client.slots.in_flight == 0
    await until(lambda: faulty.proxy.connections_open <= 1)


async def test_a_container_that_is_gone_is_named(
    store: Place,
    container: str,
    make_file: MakeFile,
    swift: Swift,
    keystone: Keystone,
    account: Credentials,
) -> None:
    """A container that was deleted meanwhile is named as missing."""
    await store.put("name", make_file(b"x"))
    await store.delete("name")
    url = f"{swift.account_url(account.project_id)}/{container}"
    gone = requests.delete(url, headers={"X-Auth-Token": keystone.token(account)}, timeout=30)
    assert gone.status_code == 204
    with pytest.raises(ContainerNotFoundError, match=container):
        await store.put("name", make_file(b"x"))


async def test_what_was_seen_at_one_storage_url_proves_nothing_at_another(faulty: Faulty) -> None:
    """When the catalogue's URL changes, a 404 of the new place may be about the container."""
    old, new = faulty.storage_url, f"{faulty.storage_url}-new"
    with running_standin() as keystone:
        keystone.endpoints = [endpoint(old)]
        auth = {"auth_url": keystone.url, "user_id": "u", "password": "pa55"}
        store = faulty.store("media", storage_url=None, auth_type="v3password", auth=auth)
        faulty.proxy.add(
            Answer(404, b"NoSuchKey", match=("GET", "/media")),
            Answer(401, match=("GET", "/media")),
            Answer(404, b"<html>", match=(None, "-new/media"), times=3),
            Answer(403, match=("HEAD", "-new$")),
        )
        with pytest.raises(ObjectNotFoundError):
            await store.get("object")
        keystone.endpoints = [endpoint(new)]
        with pytest.raises(ContainerNotFoundError):
            await store.get("object")
    seen = [(seen.method, "-new" in seen.path) for seen in faulty.proxy.requests]
    # The container, the account, and the container again.
    assert seen == [("GET", False), ("GET", False), ("GET", True), *[("HEAD", True)] * 3]


async def test_a_404_of_a_proxy_that_could_not_ask_the_container(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """It says nothing about the object: the container is asked, then the object again."""
    await store.put("name", make_file(b"content"))
    asking = faulty.store(container, patience=SHORT_PATIENCE)
    await asking.head("name")
    faulty.proxy.add(Answer(404, b"<html>", match=("GET", "/name$")))
    assert await stored(asking, "name") == b"content"
    methods = [(one.method, one.path.rpartition("/")[2]) for one in faulty.proxy.requests]
    assert methods[1:] == [("GET", "name"), ("HEAD", container), ("GET", "name")]


async def test_a_404_that_is_older_than_the_answer_of_the_container(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """Swift may not have known the container when the request was sent."""
    asking = faulty.store(container)
    faulty.proxy.add(stall := Stall(BEFORE_RESPONSE, match=("GET", "/name$")))
    getting = begin(stored(asking, "name"))
    await stall.happened()
    await asking.check()
    await store.put("name", make_file(b"content"))
    stall.release()
    assert await getting == b"content"


async def test_a_404_after_a_failure(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """What the container said before says nothing after a retry."""
    await store.put("name", make_file(b"content"))
    for status in (404, 503, 404):
        faulty.proxy.add(Answer(status, b"<html>", match=("DELETE", "/name$")))
    assert await faulty.store(container, patience=LONG_PATIENCE).delete("name")
    assert await stored(store, "name") is None


async def test_a_404_while_the_container_cannot_be_asked(faulty: Faulty, container: str) -> None:
    """The error says that it is not known whether the object is there."""
    faulty.proxy.add(Answer(503, times=None, match=("HEAD", f"/{container}$")))
    with pytest.raises(ObjectUnclearError, match=r"HEAD .*: Swift failed on its side") as raised:
        await faulty.store(container, patience=SHORT_PATIENCE).get("name")
    assert raised.value.temporary


async def test_an_account_that_cannot_be_asked(
    swift: Swift, faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """Swift answers then as if there were no container: nothing is believed of it."""
    await store.put("name", make_file(b"content"))
    asking = faulty.store(container, patience=SHORT_PATIENCE)
    why = "cannot be asked whether the account is there: HEAD the account: Swift failed"
    with swift.without("account"):
        assert await stored(asking, "name") == b"content"
        with pytest.raises(ServerBusyError, match=why):
            await asking.check()
        with pytest.raises(ServerBusyError, match=why):
            async for _ in asking.list():
                pass
        with pytest.raises(ServerBusyError, match=why):
            await asking.put("name", make_file(b"other"))
        with pytest.raises(ObjectUnclearError, match=why):
            await asking.delete("name")
    assert await stored(asking, "name") == b"content"


@pytest.mark.parametrize("answers", [False, True])
async def test_an_account_that_can_be_asked_again(
    faulty: Faulty, container: str, answers: bool
) -> None:
    """What was not known is asked once more."""
    asking = faulty.store(container, patience=LONG_PATIENCE)
    faulty.proxy.add(Answer(404, match=("HEAD", f"/{container}$")))
    if not answers:
        faulty.proxy.add(Answer(503, match=("HEAD", r"/AUTH_\w+$")))
    await asking.check()


class Told(Observer):
    """Notes which operations failed."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def failed(self, error: Exception) -> None:
        self.failures.append(error)


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405])
async def test_an_account_that_nobody_may_look_at(
    faulty: Faulty, status: int, foreign: bool
) -> None:
    """As with rights for one container only, or behind a proxy: then Swift's word has to do."""
    watched = Told()
    faulty.proxy.add(Answer(status, match=("HEAD", r"/AUTH_\w+$"), foreign=foreign))
    with pytest.raises(ContainerNotFoundError):
        await faulty.store("nowhere", observer=watched).check()
    assert [type(error) for error in watched.failures] == [ContainerNotFoundError]


@pytest.mark.parametrize("recovers", [False, True])
async def test_a_404_to_a_deletion(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, recovers: bool
) -> None:
    """Swift answers so if it cannot ask the container. Nothing was deleted then."""
    await store.put("name", make_file(b"content"))
    deleting = faulty.store(container, patience=SHORT_PATIENCE)
    await deleting.check()
    times = 1 if recovers else None
    faulty.proxy.add(
        Answer(404, b"<html>", times=times, match=("DELETE", "/name$")),
        Answer(503, times=times, match=("HEAD", f"/{container}$")),
    )
    if recovers:
        assert await deleting.delete("name")
        assert await stored(store, "name") is None
    else:
        with pytest.raises(ObjectUnclearError):
            await deleting.delete("name")
        assert await stored(store, "name") == b"content"


async def test_a_deletion_that_comes_too_early(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """409: the proxy that stored the object has a clock that is ahead."""
    await store.put("name", make_file(b"content"))
    faulty.proxy.add(Answer(409, match=("DELETE", "/name$")))
    assert await faulty.store(container).delete("name")
    assert await stored(store, "name") is None
    await store.put("name", make_file(b"content"))
    faulty.proxy.add(Answer(409, times=None, match=("DELETE", "/name$")))
    with pytest.raises(NewerObjectError, match="with a later time") as raised:
        await faulty.store(container, patience=SHORT_PATIENCE).delete("name")
    assert not isinstance(raised.value, TemporaryError), "it is no failure of Swift"


async def test_an_odd_404_is_worth_another_try(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """A 404 to an upload is retried if the container exists."""
    faulty.proxy.add(Answer(404, b"NoSuchKey", match=("PUT", "")))
    await faulty.store(container).put("name", make_file(b"content"))
    assert await stored(store, "name") == b"content"
    faulty.proxy.add(Answer(404, b"NoSuchKey", match=("PUT", ""), times=None))
    with pytest.raises(ServerBusyError, match="404"):
        await faulty.store(container, patience=SHORT_PATIENCE).put("name", make_file(b"content"))


# 401


class SignIns(Observer):
    """Counts sign-ins."""

    def __init__(self) -> None:
        self.count = 0

    def signed_in(self, error: Exception | None) -> None:
        self.count += 1


@pytest.mark.parametrize("after", [0, None])
async def test_many_401_are_one_sign_in(
    faulty: Faulty, container: str, make_file: MakeFile, after: int | None
) -> None:
    """Many requests whose token has ended share one sign-in."""
    sign_ins = SignIns()
    store = faulty.store(container, observer=sign_ins, patience=NO_PATIENCE, threadpool_size=80)
    await store.check()
    first = faulty.proxy.requests[0].headers["x-auth-token"]
    assert sign_ins.count == 1
    faulty.proxy.add_optional(stall := Stall(ON_REQUEST, times=20, match=("HEAD", "")))
    faulty.proxy.add(Answer(401, times=20, after=after, match=("PUT", "")))
    uploads = [begin(store.put(f"name-{number}", make_file(b"content"))) for number in range(20)]
    for upload in uploads:
        await soon(upload)
    assert stall.fired == 0
    assert sign_ins.count == 2
    tokens = [seen.headers["x-auth-token"] for seen in puts(faulty)]
    assert len(tokens) == 40
    assert tokens.count(first) == 20
    assert len(set(tokens)) == 2


async def test_a_second_401_is_final(faulty: Faulty, container: str, make_file: MakeFile) -> None:
    """A 401 to a new token is final."""
    sign_ins = SignIns()
    store = faulty.store(container, observer=sign_ins, patience=LONG_PATIENCE)
    faulty.proxy.add(Answer(401, times=None, match=("PUT", "")))
    with pytest.raises(AccessDeniedError, match="just issued") as raised:
        await store.put("name", make_file(b"x"))
    assert raised.value.status == 401
    assert len(puts(faulty)) == 2
    assert sign_ins.count == 2


async def test_a_401_for_an_old_token_drops_no_new_one(
    faulty: Faulty, container: str, tmp_path: Path
) -> None:
    """A late 401 for a token that was replaced already causes no sign-in."""
    sign_ins = SignIns()
    store = faulty.store(container, observer=sign_ins, patience=LONG_PATIENCE)
    await store.check()
    gate = threading.Event()

    class Gated(FileSource):
        """A file that cannot be sent before the gate is open."""

        def read_at(self, offset: int, length: int) -> bytes:
            assert "swift-read" not in threading.current_thread().name or gate.wait(20)
            return super().read_at(offset, length)

    (tmp_path / "large").write_bytes(content_of(LARGE))
    late = Answer(401, after=None, match=("PUT", ""))
    faulty.proxy.add(late, Answer(401, match=("HEAD", "")))
    with Gated.open(tmp_path / "large") as source:
        upload = begin(store.put("name", source))
        await until(lambda: late.taken)
        await store.check()
        assert (late.fired, sign_ins.count) == (0, 2)
        gate.set()
        await soon(upload)
    assert (late.fired, sign_ins.count) == (1, 2)
    assert [seen.status for seen in puts(faulty)] == [401, 201]


# Cancelling


async def test_cancelled_in_the_queue(faulty: Faulty, container: str, make_file: MakeFile) -> None:
    """A cancelled upload leaves the queue, and the next one gets the slot."""
    client = faulty.client(threadpool_size=1)
    store = Place(client, container)
    faulty.proxy.add(stall := Stall(ON_REQUEST, match=("PUT", "")))
    holder = begin(store.put("holder", make_file(b"x")))
    await soon(stall.happened())
    gone = begin(store.put("gone", make_file(b"x")))
    next_one = begin(store.put("next", make_file(b"x")))
    assert client.slots.waiting == 2
    await cancelled(gone)
    assert client.slots.waiting == 1
    stall.release()
    await soon(holder)
    await soon(next_one)
    assert [seen.path.rpartition("/")[2] for seen in puts(faulty)] == ["holder", "next"]


async def test_cancelled_while_signing_in(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Cancelling ends the wait for the token, and the next request gets that token."""
    sign_ins = SignIns()
    client = faulty.client(observer=sign_ins)
    store = Place(client, container)
    upload = begin(store.put("name", make_file(b"x")))
    await until(lambda: client.slots.in_flight)
    assert (sign_ins.count, faulty.proxy.connections_ever) == (0, 0)
    await cancelled(upload)
    assert client.slots.in_flight == 0
    await store.check()
    assert sign_ins.count == 1
    assert puts(faulty) == []


async def test_cancelled_between_two_tries(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """A wait for a retry holds no slot and no connection, and can be cancelled."""
    patience = Patience(
        total_seconds=100.0, first_delay=50.0, longest_delay=50.0, operation_seconds=200.0
    )
    client = faulty.client(patience=patience)
    store = Place(client, container)
    faulty.proxy.add(Answer(503, times=None))
    upload = begin(store.put("name", make_file(b"x")))
    await until(lambda: puts(faulty) and not client.slots.in_flight)
    await cancelled(upload)
    await nothing_in_flight(faulty)
    assert len(puts(faulty)) == 1


# In a hurry

#: Retries begin after half a minute at the earliest.
SLOW = Patience(total_seconds=500, first_delay=60, longest_delay=60, operation_seconds=900)


async def test_a_hurry_ends_the_wait_of_a_download(
    faulty: Faulty, container: str, put_object: PutObject
) -> None:
    """A download that waits to be resumed fails at once, with the error that broke it."""
    await put_object(content_of(LARGE))
    client = faulty.client(patience=SLOW)
    store = Place(client, container)
    faulty.proxy.add(Cut(in_response(100_000)))
    sink = Sink()
    _, outcome = started(fetch(store, sink))
    await until(lambda: sink.content and client.slots.in_flight == 0)
    assert outcome == []
    store.hurry()
    assert isinstance(outcome[0], ConnectionFailedError)
    assert "in the middle of its answer" in outcome[0].reason
    assert sink.content == content_of(LARGE)[:100_000]
    assert sink.events == ["registered", "unregistered"]
    assert len(gets(faulty)) == 1
    await nothing_in_flight(faulty)


async def test_a_hurry_ends_the_wait_of_an_upload(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """An upload that waits for its next attempt fails at once, with the last error."""
    client = faulty.client(patience=SLOW)
    store = Place(client, container)
    faulty.proxy.add(Answer(503, match=("PUT", "")))
    _, outcome = started(store.put("name", make_file(b"x")))
    await until(lambda: puts(faulty) and client.slots.in_flight == 0)
    assert outcome == []
    store.hurry()
    assert isinstance(outcome[0], ServerBusyError)
    assert outcome[0].status == 503
    await nothing_in_flight(faulty)


async def test_nothing_is_retried_in_a_hurry(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """After ``hurry`` what succeeds succeeds, and what fails is not retried."""
    store = faulty.store(container, patience=SLOW)
    store.hurry()
    await store.put("name", make_file(b"x"))
    faulty.proxy.add(Answer(503, match=("HEAD", "")))
    with pytest.raises(ServerBusyError):
        await store.head("name")
    assert len(faulty.proxy.requests) == 2


# Secrets


async def test_no_form_of_a_token_is_shown(faulty: Faulty) -> None:
    """Neither percent-encoded, nor without its padding."""
    token = "gAAAAABmS3cret+Token/S3cret=="
    with running_standin() as keystone:
        keystone.token, keystone.endpoints = token, [endpoint(faulty.storage_url)]
        auth = {"auth_url": keystone.url, "user_id": "u", "password": "pa55"}
        store = faulty.store("media", storage_url=None, auth_type="v3password", auth=auth)
        echo = f"token={quote(token, safe='')} or {token.rstrip('=')}  refused"
        faulty.proxy.add(Answer(400, echo.encode()))
        with pytest.raises(RequestRefusedError) as raised:
            await store.get("object")
    assert "token=***%3D%3D or *** refused" in str(raised.value)
    assert "S3cret" not in shown(raised.value)


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """All log lines, of both logging systems, at the finest level."""
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))
        if "log_failure" in event:
            lines.append(event["log_failure"].getTraceback())

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)
    lines += [record.getMessage() for record in caplog.records]


def shown(error: BaseException) -> str:
    """Everything that an error shows."""
    chain = "".join(traceback.format_exception(error))
    return f"{error} {error!r} {vars(error)} {chain}"


async def test_no_secret_is_shown(
    faulty: Faulty,
    container: str,
    make_file: MakeFile,
    account: Credentials,
    everything_logged: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No error and no log line shows token or password, even if Swift sends them back."""
    client = faulty.client(patience=SHORT_PATIENCE, response_timeout=1)
    store = Place(client, container)
    await store.put("name", make_file(b"x"))
    tokens = {faulty.proxy.requests[0].headers["x-auth-token"]}
    said = [repr(client), repr(client.settings), str(vars(client))]
    for fault in (
        Answer(403, times=None),
        Answer(503, times=None),
        Stall(BEFORE_RESPONSE, times=None),
        Answer(0, raw=b"what is this\r\n\r\n", times=None),
        Answer(401, times=None),
    ):
        faulty.proxy.clear()
        if isinstance(fault, Answer) and fault.status != 401:  # which has the token replaced
            fault.body = " ".join(tokens).encode()
        faulty.proxy.add(fault)
        for operation in (
            store.put("name", make_file(b"x")),
            store.head("name"),
        ):
            with pytest.raises(SwiftProviderError) as raised:
                await operation
            said.append(shown(raised.value))
    tokens |= {seen.headers["x-auth-token"] for seen in faulty.proxy.requests}
    said += everything_logged
    said += [record.getMessage() for record in caplog.records]
    assert any("retrying in" in line for line in said)
    assert any("Swift failed on its side: ***" in line for line in said), "no secret was sent back"
    # What is shown of an answer is cut, so a piece of a token counts as well.
    pieces = [token[10:40] for token in tokens]
    for text in said:
        assert account.password not in text
        assert not any(piece in text for piece in pieces)


class Steps(Progress):
    """What is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def attempt_begins(self) -> None:
        self.told.append("attempt")

    def retry_waits(self, error: SwiftProviderError) -> None:
        self.told.append("retry")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_progress(faulty: Faulty, container: str, make_file: MakeFile, method: str) -> None:
    """An attempt begins when it has a slot, and ends when a retry follows."""
    store = faulty.store(container, patience=LONG_PATIENCE, threadpool_size=1)
    await store.put("name", make_file(b"content"))
    steps, first = Steps(), Steps()
    faulty.proxy.add(stall := Stall(BEFORE_RESPONSE))
    before = begin(store.head("name", progress=first))
    await stall.happened()
    ask = store.head if method == "HEAD" else store.get
    asked = begin(ask("name", progress=steps))
    await until(lambda: store.client.slots.waiting)
    assert (first.told, steps.told) == (["attempt"], [])
    faulty.proxy.add(Answer(503, match=(method, "/name$")))
    stall.release()
    await before
    await asked
    assert steps.told == ["attempt", "retry", "attempt"]
