"""What is tried again, how, and what an error says in the end."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from swift_provider.client import FileSource, Observer, Patience, SwiftClient
from swift_provider.client.retry import Tries
from swift_provider.errors import (
    AccessDeniedError,
    AuthUnavailableError,
    ConfigError,
    ConnectionFailedError,
    InsufficientStorageError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    RequestRefusedError,
    ServerBusyError,
    SwiftError,
    TimedOutError,
)
from tests.client.conftest import Faulty
from tests.client.trouble import (
    HUGE,
    LARGE,
    LONG_PATIENCE,
    NO_PATIENCE,
    SHORT_PATIENCE,
    MakeFile,
    begin,
    content_of,
    nothing_under_way,
    puts,
    soon,
    stored,
    turn,
    until,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Stall,
    in_request,
)
from tests.servers.keystone import Credentials

BUSY = ServerBusyError("busy", operation="GET")
PATIENCE = Patience(total_seconds=100, first_delay=1, longest_delay=8, operation_seconds=1000)


# The tries of one operation


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pauses_double_up_to_a_limit(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is between half of, and all of, a limit that doubles up to the longest."""
    monkeypatch.setattr("random.uniform", lambda low, high: low + share * (high - low))
    tries = Tries(PATIENCE, Clock())
    delays = [tries.delay_after(BUSY) for _ in range(6)]
    whole = [1, 2, 4, 8, 8, 8]
    assert delays == [(0.5 + share / 2) * delay for delay in whole]


def test_pauses_are_drawn() -> None:
    """Two clients that failed together do not come back together."""
    delays = {Tries(PATIENCE, Clock()).delay_after(BUSY) for _ in range(20)}
    assert len(delays) > 1


def test_no_try_begins_too_late() -> None:
    """It ends once the next pause would go beyond the time allowed."""
    clock = Clock()
    tries = Tries(PATIENCE, clock)
    clock.advance(98.9)
    assert tries.delay_after(BUSY) is not None
    clock.advance(1.0)
    assert tries.delay_after(BUSY) is None


def test_progress_begins_anew_and_waiting_does_not_count() -> None:
    """Neither an operation that gets further nor one that had to queue is punished."""
    clock = Clock()
    tries = Tries(PATIENCE, clock)
    clock.advance(150)
    tries.excuse(100)
    assert tries.delay_after(BUSY) is not None
    clock.advance(100)
    assert tries.delay_after(BUSY) is None
    tries.refill()
    assert 0.5 <= (tries.delay_after(BUSY) or 0) <= 1


@pytest.mark.parametrize(("asked", "expected"), [(0.0, None), (30.0, 30.0), (101.0, "final")])
def test_swift_may_ask_for_a_pause(asked: float, expected: object) -> None:
    """``Retry-After`` is kept to, unless there is not so much time."""
    delay = Tries(PATIENCE, Clock()).delay_after(
        ServerBusyError("busy", operation="GET", retry_after=asked)
    )
    if expected == "final":
        assert delay is None
    elif expected is None:
        assert delay is not None
        assert 0.5 <= delay <= 1
    else:
        assert delay == expected


def test_keystone_may_ask_for_a_pause() -> None:
    """Its error carries the same wish."""
    assert Tries(PATIENCE, Clock()).delay_after(AuthUnavailableError("busy", 20.0)) == 20.0


def test_final_errors_are_final() -> None:
    """What cannot get better is not tried again."""
    tries = Tries(PATIENCE, Clock())
    assert tries.delay_after(AccessDeniedError("no", operation="GET")) is None
    assert tries.delay_after(ConfigError("no")) is None


# Statuses


@pytest.mark.parametrize("status", [408, 429, 498, 499, 500, 502, 503, 504])
async def test_a_busy_server_is_asked_again(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile, status: int
) -> None:
    """These statuses are worth another try, for uploads and for questions."""
    trying = faulty.client(patience=LONG_PATIENCE)
    faulty.proxy.add(Answer(status, times=2, match=("PUT", "")))
    faulty.proxy.add(Answer(status, times=2, match=("HEAD", "")))
    await trying.put_object(container, "name", make_file(b"content"))
    assert (await trying.head_object(container, "name")).size == 7
    assert [seen.method for seen in faulty.proxy.requests] == ["PUT"] * 3 + ["HEAD"] * 3


@pytest.mark.parametrize(("status", "same"), [(408, False), (499, False), (503, True)])
async def test_a_connection_that_lost_its_place_is_not_used_again(
    faulty: Faulty, container: str, status: int, same: bool
) -> None:
    """After 408 and 499 the next try has a new connection."""
    faulty.proxy.add(Answer(status, match=("HEAD", "")))
    await faulty.client(patience=LONG_PATIENCE).head_container(container)
    first, second = faulty.proxy.requests
    assert (first.connection == second.connection) is same


FINAL = [
    (400, b"", RequestRefusedError, "refuses the request"),
    (403, b"", AccessDeniedError, "needs a role"),
    (407, b"", RequestRefusedError, "put them into the http_proxy variable"),
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
    """No other try, and an error that says what to change."""
    headers = {"X-Trans-Id": "tx-of-the-test"}
    faulty.proxy.add(Answer(status, body, headers, times=None, match=("PUT", "")))
    with pytest.raises(SwiftError, match=advice) as raised:
        await faulty.client(patience=LONG_PATIENCE).put_object(container, "a/b", make_file(b"x"))
    error = raised.value
    assert type(error) is kind
    assert not error.temporary
    assert len(puts(faulty)) == 1
    assert (error.status, error.operation) == (status, "PUT")
    assert (error.container, error.name) == (container, "a/b")
    assert error.transaction_id == "tx-of-the-test"
    for part in (f"HTTP {status}", "PUT", f"{container}/a/b", "tx-of-the-test"):
        assert part in str(error)


async def test_a_missing_object_is_final(faulty: Faulty, container: str) -> None:
    """404 is asked for once, and its error carries Swift's transaction."""
    asking = faulty.client(patience=LONG_PATIENCE)
    await asking.head_container(container)
    with pytest.raises(ObjectNotFoundError, match="there is no such object") as raised:
        await asking.head_object(container, "nothing")
    assert (raised.value.transaction_id or "").startswith("tx")
    assert len(faulty.proxy.requests) == 2


@pytest.mark.parametrize(("size", "tries"), [(LARGE, 2), (10, 1)])
async def test_sending_a_large_body_takes_no_patience(
    faulty: Faulty, container: str, make_file: MakeFile, size: int, tries: int
) -> None:
    """A large upload that fails late, but not for being slow, is worth another try."""
    patience = Patience(
        total_seconds=1.0, first_delay=0.01, longest_delay=0.01, operation_seconds=30.0
    )
    faulty.proxy.add(Answer(503, b"late", after=None, body_delay=1.5, match=("PUT", "")))
    upload = faulty.client(patience=patience).put_object(
        container, "name", make_file(content_of(size))
    )
    if tries == 1:
        with pytest.raises(ServerBusyError):
            await upload
    else:
        await upload
    assert len(puts(faulty)) == tries


async def test_413_with_a_wait_is_a_rate_limit(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Old rate limiting answers 413 and says when to come back."""
    faulty.proxy.add(Answer(413, headers={"Retry-After": "0"}, match=("PUT", "")))
    await faulty.client(patience=LONG_PATIENCE).put_object(container, "name", make_file(b"x"))
    assert [seen.status for seen in puts(faulty)] == [413, 201]


async def test_a_wait_beyond_patience_ends_it(faulty: Faulty, container: str) -> None:
    """Who is to come back in an hour gives up now, and says why."""
    faulty.proxy.add(Answer(429, headers={"Retry-After": "3600"}))
    with pytest.raises(ServerBusyError, match="asks to wait 3600 seconds") as raised:
        await faulty.client(patience=LONG_PATIENCE).head_container(container)
    assert raised.value.retry_after == 3600
    assert len(faulty.proxy.requests) == 1


# Tokens


class SignIns(Observer):
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0

    def signed_in(self, error: Exception | None) -> None:
        self.count += 1


@pytest.mark.parametrize("after", [0, None])
async def test_many_401_are_one_sign_in(
    faulty: Faulty, container: str, make_file: MakeFile, after: int | None
) -> None:
    """However many requests a token's end meets, one new token is asked for, by one."""
    sign_ins = SignIns()
    trying = faulty.client(observer=sign_ins, patience=NO_PATIENCE, threadpool_size=80)
    await trying.head_container(container)
    first = faulty.proxy.requests[0].headers["x-auth-token"]
    assert sign_ins.count == 1
    faulty.proxy.add(stall := Stall(ON_REQUEST, times=20, match=("HEAD", "")))
    faulty.proxy.add(Answer(401, times=20, after=after, match=("PUT", "")))
    uploads = [
        begin(trying.put_object(container, f"name-{number}", make_file(b"content")))
        for number in range(20)
    ]
    for upload in uploads:
        await soon(upload)
    assert stall.fired == 0
    assert sign_ins.count == 2
    tokens = [seen.headers["x-auth-token"] for seen in puts(faulty)]
    assert len(tokens) == 40
    assert tokens.count(first) == 20
    assert len(set(tokens)) == 2


async def test_a_second_401_is_final(faulty: Faulty, container: str, make_file: MakeFile) -> None:
    """With a token just issued 401 means that this user is refused."""
    sign_ins = SignIns()
    trying = faulty.client(observer=sign_ins, patience=LONG_PATIENCE)
    faulty.proxy.add(Answer(401, times=None, match=("PUT", "")))
    with pytest.raises(AccessDeniedError, match="just now") as raised:
        await trying.put_object(container, "name", make_file(b"x"))
    assert raised.value.status == 401
    assert len(puts(faulty)) == 2
    assert sign_ins.count == 2


async def test_a_401_for_an_old_token_drops_no_new_one(
    faulty: Faulty, container: str, tmp_path: Path
) -> None:
    """An answer that comes late, for a token already replaced, costs no sign-in."""
    sign_ins = SignIns()
    trying = faulty.client(observer=sign_ins, patience=LONG_PATIENCE)
    await trying.head_container(container)
    gate = threading.Event()

    class Gated(FileSource):
        """Lets nobody read until the gate is open."""

        def read_at(self, offset: int, length: int) -> bytes:
            assert gate.wait(20)
            return super().read_at(offset, length)

    (tmp_path / "large").write_bytes(content_of(LARGE))
    late = Answer(401, after=None, match=("PUT", ""))
    faulty.proxy.add(late, Answer(401, match=("HEAD", "")))
    with Gated.open(tmp_path / "large") as source:
        upload = begin(trying.put_object(container, "name", source))
        await until(lambda: late.taken)
        await trying.head_container(container)
        assert (late.fired, sign_ins.count) == (0, 2)
        gate.set()
        await soon(upload)
    assert (late.fired, sign_ins.count) == (1, 2)
    assert [seen.status for seen in puts(faulty)] == [401, 201]


# Secrets


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
    """All that an error can show."""
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
    """Neither token nor password is in any error or log line, even if Swift sends it back."""
    trying = faulty.client(patience=SHORT_PATIENCE, response_timeout=1)
    await trying.put_object(container, "name", make_file(b"x"))
    tokens = {faulty.proxy.requests[0].headers["x-auth-token"]}
    said = [repr(trying), repr(trying.settings), str(vars(trying))]
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
            trying.put_object(container, "name", make_file(b"x")),
            trying.head_object(container, "name"),
        ):
            with pytest.raises(Exception) as raised:  # noqa: PT011
                await operation
            said.append(shown(raised.value))
    tokens |= {seen.headers["x-auth-token"] for seen in faulty.proxy.requests}
    said += everything_logged
    said += [record.getMessage() for record in caplog.records]
    assert any("next try" in line for line in said)
    # What is shown of an answer is cut, so a piece of a token counts as well.
    pieces = [token[10:40] for token in tokens]
    for text in said:
        assert account.password not in text
        assert not any(piece in text for piece in pieces)


# Limits


async def test_connecting_is_limited(make_client: Any, container: str, make_file: MakeFile) -> None:
    """A host that does not take the connection ends in an error that says so."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            trying = make_client(
                storage_url=f"http://127.0.0.1:{port}/v1/AUTH_x",
                connect_timeout=0.3,
                patience=NO_PATIENCE,
            )
            with pytest.raises(TimedOutError, match=r"no connection was made for 0\.3 seconds"):
                await trying.put_object(container, "name", make_file(b"x"))
            assert trying.slots.in_flight == 0


@pytest.mark.parametrize("size", [0, 60_000, LARGE])
async def test_waiting_for_the_answer_is_limited(
    faulty: Faulty, container: str, make_file: MakeFile, size: int
) -> None:
    """A server that takes the upload and says nothing ends in an error that says so."""
    trying = faulty.client(patience=NO_PATIENCE, response_timeout=0.5)
    faulty.proxy.add(Stall(BEFORE_RESPONSE, match=("PUT", "")))
    with pytest.raises(TimedOutError, match=r"no answer came for 0\.5 seconds"):
        await trying.put_object(container, "name", make_file(content_of(size)))
    await nothing_under_way(faulty, trying)


async def test_a_stalled_upload_is_limited(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """A server that stops taking the body ends in an error that says so."""
    trying = faulty.client(patience=NO_PATIENCE, idle_timeout=0.5)
    # At the beginning: the more a peer has taken, the more its kernel makes room for.
    faulty.proxy.add(Stall(in_request(0), match=("PUT", "")))
    with pytest.raises(TimedOutError, match=r"no byte could be sent for 0\.5 seconds"):
        await trying.put_object(container, "name", make_file(content_of(HUGE)))
    await nothing_under_way(faulty, trying)


async def test_an_operation_is_limited_as_a_whole(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """However little each step takes, an operation ends; a large body has longer."""
    patience = Patience(
        total_seconds=0.0,
        first_delay=0.01,
        longest_delay=0.01,
        operation_seconds=4.0,
        slowest_bytes_per_second=16_000_000,
    )
    trying = faulty.client(patience=patience)
    await trying.head_container(container)
    faulty.proxy.add(Stall(BEFORE_RESPONSE, times=None))
    with pytest.raises(TimedOutError, match="not done within 4 seconds"):
        await trying.head_container(container)
    with pytest.raises(TimedOutError, match="not done within 5 seconds"):
        await trying.put_object(container, "name", make_file(content_of(HUGE)))
    await nothing_under_way(faulty, trying)


# Cancelling


async def test_cancelled_in_the_queue(faulty: Faulty, container: str, make_file: MakeFile) -> None:
    """Who leaves the queue leaves nothing, and the next one gets the slot."""
    trying = faulty.client(threadpool_size=1)
    faulty.proxy.add(stall := Stall(ON_REQUEST, match=("PUT", "")))
    holder = begin(trying.put_object(container, "holder", make_file(b"x")))
    await soon(stall.happened())
    gone = begin(trying.put_object(container, "gone", make_file(b"x")))
    next_one = begin(trying.put_object(container, "next", make_file(b"x")))
    assert trying.slots.waiting == 2
    await cancelled(gone)
    assert trying.slots.waiting == 1
    stall.release()
    await soon(holder)
    await soon(next_one)
    assert [seen.path.rpartition("/")[2] for seen in puts(faulty)] == ["holder", "next"]


async def test_cancelled_while_signing_in(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Waiting for the token ends, and the token is there for the next one."""
    sign_ins = SignIns()
    trying = faulty.client(observer=sign_ins)
    upload = begin(trying.put_object(container, "name", make_file(b"x")))
    await until(lambda: trying.slots.in_flight)
    assert (sign_ins.count, faulty.proxy.connections_ever) == (0, 0)
    await cancelled(upload)
    assert trying.slots.in_flight == 0
    await trying.head_container(container)
    assert sign_ins.count == 1
    assert puts(faulty) == []


async def test_cancelled_while_connecting(
    make_client: Any, container: str, make_file: MakeFile
) -> None:
    """A connection that is not there yet is given up."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            trying = make_client(storage_url=f"http://127.0.0.1:{port}/v1/AUTH_x")
            upload = begin(trying.put_object(container, "name", make_file(b"x")))
            await until(lambda: _connecting(port))
            await cancelled(upload)
            assert trying.slots.in_flight == 0
            await until(lambda: not _connecting(port))


def _connecting(port: int) -> bool:
    """Whether a socket of this machine is in SYN_SENT to the port."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows[1:])


@pytest.mark.parametrize(
    ("place", "size"),
    [
        (ON_REQUEST, 60_000),
        (in_request(0), HUGE),
        (in_request(HUGE // 2), HUGE),
        (BEFORE_RESPONSE, 60_000),
        (BEFORE_RESPONSE, LARGE),
    ],
)
async def test_cancelled_under_way(
    faulty: Faulty,
    client: SwiftClient,
    container: str,
    make_file: MakeFile,
    place: Any,
    size: int,
) -> None:
    """Cancelled while sending, or waiting for the answer, everything is let go at once."""
    trying = faulty.client()
    faulty.proxy.add(stall := Stall(place, match=("PUT", "")))
    upload = begin(trying.put_object(container, "name", make_file(content_of(size))))
    await soon(stall.happened())
    await cancelled(upload)
    assert (trying.slots.in_flight, trying.slots.waiting) == (0, 0)
    await soon(begin(faulty.proxy.wait_closed()))
    await nothing_under_way(faulty, trying)
    if place != BEFORE_RESPONSE:
        assert await stored(client, container, "name") is None


async def test_cancelled_between_two_tries(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """A pause holds no slot and no connection, and ends at once."""
    patience = Patience(
        total_seconds=100.0, first_delay=50.0, longest_delay=50.0, operation_seconds=200.0
    )
    trying = faulty.client(patience=patience)
    faulty.proxy.add(Answer(503, times=None))
    upload = begin(trying.put_object(container, "name", make_file(b"x")))
    await until(lambda: puts(faulty) and not trying.slots.in_flight)
    await cancelled(upload)
    await nothing_under_way(faulty, trying)
    assert len(puts(faulty)) == 1


async def cancelled(operation: Deferred[Any]) -> None:
    """Cancel it; it must end at once, as one that was cancelled."""
    ended: list[Any] = []
    operation.addErrback(lambda failure: failure.trap(CancelledError)).addBoth(ended.append)
    operation.cancel()
    await turn()
    assert ended == [CancelledError]


async def test_refused_connections_are_tried_again(faulty: Faulty, container: str) -> None:
    """A server that is not there yet may be there soon."""
    trying = faulty.client(patience=LONG_PATIENCE)
    await faulty.proxy.refuse(0.3)
    await trying.head_container(container)
    await faulty.proxy.refuse()
    lost = faulty.client(patience=NO_PATIENCE)
    with pytest.raises(ConnectionFailedError, match="refused"):
        await lost.head_container(container)
    faulty.proxy.accept_again()
