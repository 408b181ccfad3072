"""Uploads over a bad network: what is in Swift in the end is the file, or nothing."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from swift_provider.client import FileSource, SwiftClient
from swift_provider.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    ContainerNotFoundError,
    DamagedError,
    FileChangedError,
    InsufficientStorageError,
    ObjectExistsError,
    ObjectTooLargeError,
    ServerBusyError,
)
from tests.client.conftest import Faulty
from tests.client.trouble import (
    HUGE,
    LARGE,
    LONG_PATIENCE,
    NO_PATIENCE,
    SHORT_PATIENCE,
    SMALL,
    MakeFile,
    begin,
    content_of,
    nothing_under_way,
    puts,
    soon,
    stored,
    until,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Cut,
    Fault,
    FlipBit,
    Reset,
    Stall,
    Then,
    in_request,
)
from tests.servers.keystone import Credentials, Keystone
from tests.servers.swift import Swift

# A fresh body for each try


FAULTS: dict[str, Callable[[int], Fault]] = {
    "401": lambda size: Answer(401),
    "401 after the body": lambda size: Answer(401, after=None),
    "503": lambda size: Answer(503),
    "503 after the body": lambda size: Answer(503, after=None),
    "408": lambda size: Answer(408, then=Then.CLOSE),
    "499": lambda size: Answer(499, after=size // 2),
    "lost before": lambda size: Reset(ON_REQUEST),
    "lost within": lambda size: Reset(in_request(size // 2)),
    "ended within": lambda size: Cut(in_request(size // 2)),
    "answer lost": lambda size: Reset(BEFORE_RESPONSE),
    "no answer": lambda size: Stall(BEFORE_RESPONSE),
    "stalled": lambda size: Stall(in_request(size // 2)),
}


@pytest.mark.parametrize(
    ("fault", "size"),
    [
        (fault, size)
        for fault in FAULTS
        for size in (0, SMALL, LARGE)
        if size or fault != "stalled"  # what has no bytes has no middle
    ],
)
async def test_each_try_sends_all_of_the_file(
    faulty: Faulty,
    client: SwiftClient,
    container: str,
    make_file: MakeFile,
    fault: str,
    size: int,
) -> None:
    """Whatever the first try ended in, the second one sends the file from its beginning."""
    limit = 1.0 if fault in ("no answer", "stalled") else 30.0
    failing = faulty.client(patience=LONG_PATIENCE, response_timeout=limit, idle_timeout=limit)
    faulty.proxy.add(happens := FAULTS[fault](size))
    happens.match = ("PUT", "")
    content = content_of(size)
    info = await failing.put_object(container, "name", make_file(content))
    assert info.etag == hashlib.md5(content).hexdigest()
    assert await stored(client, container, "name") == content
    first, *_, second = puts(faulty)
    assert first.headers["content-length"] == second.headers["content-length"] == str(size)
    assert "transfer-encoding" not in second.headers
    assert (second.status, second.request_bytes) == (201, size)
    assert happens.taken == 1
    await nothing_under_way(faulty, failing)


async def test_small_bodies_are_declared(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """The MD5 of what is read at once is sent along, so that Swift refuses what is damaged."""
    await faulty.client().put_object(container, "name", make_file(b"content"))
    assert puts(faulty)[0].headers["etag"] == hashlib.md5(b"content").hexdigest()


async def test_what_has_no_body_says_so(faulty: Faulty, container: str) -> None:
    """A PUT without a body has a length, too."""
    await faulty.client().create_container(container)
    assert puts(faulty)[0].headers["content-length"] == "0"


# Damage on the way


async def test_damage_in_a_small_body_is_refused_and_sent_again(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """Swift refuses a small body that is not what was declared; the next try is whole."""
    faulty.proxy.add(FlipBit(in_request(SMALL // 2), match=("PUT", "")))
    await faulty.client().put_object(container, "name", make_file(content_of(SMALL)))
    assert [seen.status for seen in puts(faulty)] == [422, 201]
    assert await stored(client, container, "name") == content_of(SMALL)


@pytest.mark.parametrize("if_absent", [False, True])
async def test_damage_in_a_large_body_is_seen_in_the_answer(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile, if_absent: bool
) -> None:
    """The damaged object of the first try is overwritten, also by who does not overwrite."""
    faulty.proxy.add(FlipBit(in_request(LARGE // 2), match=("PUT", "")))
    source = make_file(content_of(LARGE))
    await faulty.client().put_object(container, "name", source, if_absent=if_absent)
    assert [seen.status for seen in puts(faulty)] == [201, 201]
    assert await stored(client, container, "name") == content_of(LARGE)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_lasting_damage_is_an_error_and_leaves_nothing(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile, size: int
) -> None:
    """An object that never came through whole is not left in Swift."""
    failing = faulty.client(patience=SHORT_PATIENCE)
    await failing.head_container(container)  # signing in takes no patience then
    faulty.proxy.add(FlipBit(in_request(size // 2), match=("PUT", ""), times=None))
    with pytest.raises(DamagedError):
        await failing.put_object(container, "name", make_file(content_of(size)))
    assert len(puts(faulty)) > 1
    assert await stored(client, container, "name") is None
    await nothing_under_way(faulty, failing)


@pytest.mark.parametrize("after", [Answer(403, times=None), Answer(503, times=None)])
async def test_damage_followed_by_another_failure_leaves_nothing(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile, after: Answer
) -> None:
    """A damaged object is removed also if the later tries fail in another way."""
    after.match = ("PUT", "")
    faulty.proxy.add(FlipBit(in_request(LARGE // 2), match=("PUT", "")), after)
    with pytest.raises((AccessDeniedError, ServerBusyError)):
        await faulty.client(patience=SHORT_PATIENCE).put_object(
            container, "name", make_file(content_of(LARGE))
        )
    assert await stored(client, container, "name") is None


async def test_a_wrong_answer_about_a_right_object_removes_nothing(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """If the object turns out to be the file after all, it stays, and the upload succeeded."""
    content = content_of(LARGE)
    await client.put_object(container, "name", make_file(content))
    wrong = {"ETag": hashlib.md5(b"something else").hexdigest()}
    faulty.proxy.add(Answer(201, headers=wrong, after=None, times=None, match=("PUT", "")))
    failing = faulty.client(patience=SHORT_PATIENCE)
    info = await failing.put_object(container, "name", make_file(content))
    assert info.etag == hashlib.md5(content).hexdigest()
    assert await stored(client, container, "name") == content


# Reading the file


class Watched(FileSource):
    """Notes what is read, and in which thread."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.bytes_read = 0
        self.threads: set[threading.Thread] = set()

    def read_at(self, offset: int, length: int) -> bytes:
        self.bytes_read += length
        self.threads.add(threading.current_thread())
        return super().read_at(offset, length)


async def test_a_server_that_takes_nothing_stops_the_reading(
    faulty: Faulty, client: SwiftClient, container: str, tmp_path: Path
) -> None:
    """What is read but not sent stays small; a large file is read in threads only."""
    (tmp_path / "huge").write_bytes(content_of(HUGE))
    sending = faulty.client()
    faulty.proxy.add(stall := Stall(in_request(0), match=("PUT", "")))
    with Watched.open(tmp_path / "huge") as source:
        upload = begin(sending.put_object(container, "name", source))
        await soon(stall.happened())
        seen = -1
        while source.bytes_read != seen:
            seen = source.bytes_read
            await soon(sending.run_in_thread(threading.Event().wait, 0.2))
        assert source.bytes_read < HUGE * 2 / 3
        stall.release()
        await soon(upload)
        assert source.bytes_read == HUGE
        assert threading.main_thread() not in source.threads
    head = await client.head_object(container, "name")
    assert head.etag == hashlib.md5(content_of(HUGE)).hexdigest()


def grow(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def shrink(path: str) -> None:
    os.truncate(path, 1000)


def rewrite(path: str) -> None:
    with open(path, "r+b") as file:
        file.write(b"something else")


@pytest.mark.parametrize("change", [grow, shrink, rewrite])
async def test_a_file_that_changes_while_it_is_sent_is_not_stored(
    faulty: Faulty,
    client: SwiftClient,
    container: str,
    make_file: MakeFile,
    change: Callable[[str], None],
) -> None:
    """Swift never gets the last bytes of a file that is not what it was."""
    sending = faulty.client()
    faulty.proxy.add(stall := Stall(in_request(100_000), match=("PUT", "")))
    source = make_file(content_of(HUGE))
    upload = begin(sending.put_object(container, "name", source))
    await soon(stall.happened())
    change(source.path)
    stall.release()
    with pytest.raises(FileChangedError, match=source.path):
        await soon(upload)
    await nothing_under_way(faulty, sending)
    assert await stored(client, container, "name") is None
    assert len(puts(faulty)) == 1


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("change", [grow, shrink, rewrite])
async def test_a_file_that_changed_since_it_was_opened_is_not_stored(
    faulty: Faulty,
    client: SwiftClient,
    container: str,
    make_file: MakeFile,
    size: int,
    change: Callable[[str], None],
) -> None:
    """The file as it was when it was opened is what is promised to be stored."""
    sending = faulty.client()
    source = make_file(content_of(size))
    change(source.path)
    with pytest.raises(FileChangedError):
        await sending.put_object(container, "name", source)
    await nothing_under_way(faulty, sending)
    assert await stored(client, container, "name") is None


# Answers that come early


FINAL = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    413: ObjectTooLargeError,
    422: DamagedError,
    507: InsufficientStorageError,
}


@pytest.mark.parametrize(("status", "size"), [(403, SMALL), *((status, HUGE) for status in FINAL)])
@pytest.mark.parametrize("then", list(Then))
@pytest.mark.parametrize("body_delay", [None, 0.1])
async def test_an_early_answer_is_taken(
    faulty: Faulty,
    container: str,
    make_file: MakeFile,
    status: int,
    size: int,
    then: Then,
    body_delay: float | None,
) -> None:
    """An answer in the middle of the body is the answer, whatever the server does after it."""
    sending = faulty.client(patience=NO_PATIENCE, response_timeout=5, idle_timeout=5)
    faulty.proxy.add(
        Answer(
            status,
            b"<h1>because</h1>",
            after=size // 3,
            then=then,
            body_delay=body_delay,
            times=None,
            match=("PUT", ""),
        )
    )
    with pytest.raises(FINAL[status], match=f"because.*HTTP {status}"):
        await sending.put_object(container, "name", make_file(content_of(size)))
    await nothing_under_way(faulty, sending)


# Connections that went stale


async def test_a_stale_connection_costs_one_try_for_nothing(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """Kept connections that turn out to be dead cost neither time nor patience."""
    sending = faulty.client(patience=NO_PATIENCE)
    faulty.proxy.add(stall := Stall(ON_REQUEST, times=3, match=("PUT", "/first")))
    firsts = [
        begin(sending.put_object(container, f"first-{number}", make_file(b"x")))
        for number in range(3)
    ]
    await until(lambda: stall.fired == 3)
    stall.release()
    for first in firsts:
        await soon(first)
    assert faulty.proxy.connections_open == 3
    faulty.proxy.add(Reset(ON_REQUEST, reused=True, times=None))
    await sending.put_object(container, "second", make_file(b"content"))
    assert len(puts(faulty)) == 5
    assert await stored(client, container, "second") == b"content"


async def test_a_new_connection_that_is_lost_is_an_error(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Only a kept connection may fail for nothing."""
    faulty.proxy.add(Reset(ON_REQUEST))
    with pytest.raises(ConnectionFailedError):
        await faulty.client(patience=NO_PATIENCE).put_object(container, "n", make_file(b"x"))
    assert len(puts(faulty)) == 1


async def test_a_free_try_is_free_once(faulty: Faulty, container: str, make_file: MakeFile) -> None:
    """The try that a stale connection gives is not given again for the next failure."""
    sending = faulty.client(patience=NO_PATIENCE)
    await sending.put_object(container, "first", make_file(b"x"))
    faulty.proxy.add(Reset(ON_REQUEST, times=None))
    with pytest.raises(ConnectionFailedError):
        await sending.put_object(container, "second", make_file(b"x"))
    assert len(puts(faulty)) == 3


# Outcome unknown


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_lost_answer_is_not_somebody_elses_object(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile, size: int
) -> None:
    """412 to the second try is a success if the first try's object is there."""
    faulty.proxy.add(Cut(BEFORE_RESPONSE, match=("PUT", "")))
    content = content_of(size)
    info = await faulty.client().put_object(container, "name", make_file(content), if_absent=True)
    assert (info.etag, info.size) == (hashlib.md5(content).hexdigest(), size)
    assert [seen.status for seen in puts(faulty)] == [201, 412]
    assert await stored(client, container, "name") == content


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_somebody_elses_object_is_told_from_ours(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile, size: int
) -> None:
    """412 to the second try is what it says if another object is there."""
    await client.put_object(container, "name", make_file(b"theirs"))
    faulty.proxy.add(Answer(503, match=("PUT", "")))
    with pytest.raises(ObjectExistsError):
        await faulty.client().put_object(
            container, "name", make_file(content_of(size)), if_absent=True
        )
    assert await stored(client, container, "name") == b"theirs"


# 404


async def test_a_container_that_is_gone_is_named(
    client: SwiftClient,
    container: str,
    make_file: MakeFile,
    swift: Swift,
    keystone: Keystone,
    account: Credentials,
) -> None:
    """A container that was there a moment ago is asked for again."""
    await client.put_object(container, "name", make_file(b"x"))
    await client.delete_object(container, "name")
    url = f"{swift.account_url(account.project_id)}/{container}"
    gone = requests.delete(url, headers={"X-Auth-Token": keystone.token(account)}, timeout=30)
    assert gone.status_code == 204
    with pytest.raises(ContainerNotFoundError, match=container):
        await client.put_object(container, "name", make_file(b"x"))


async def test_an_odd_404_is_worth_another_try(
    faulty: Faulty, client: SwiftClient, container: str, make_file: MakeFile
) -> None:
    """Ceph RGW says 404 to an upload that was cut short, though the container exists."""
    faulty.proxy.add(Answer(404, b"NoSuchKey", match=("PUT", "")))
    await faulty.client().put_object(container, "name", make_file(b"content"))
    assert await stored(client, container, "name") == b"content"
    faulty.proxy.add(Answer(404, b"NoSuchKey", match=("PUT", ""), times=None))
    with pytest.raises(ServerBusyError, match="404"):
        await faulty.client(patience=SHORT_PATIENCE).put_object(
            container, "name", make_file(b"content")
        )
